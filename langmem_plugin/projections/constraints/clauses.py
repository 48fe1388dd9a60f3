"""Where within a sentence the user states, and where the request begins that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

from langmem_plugin.projections.constraints.pasted import Spoken
from langmem_plugin.projections.constraints.vocabulary import Language

_SHORT = 160
"""A sentence up to this length is kept whole; a longer one is cut at the clauses of its statement."""


@dataclass(slots=True)
class Sentence:
    """A sentence and the places where its clauses begin."""

    said: Spoken
    low: str
    start: int
    end: int
    language: Language
    lead: int
    clause: str
    """The text from `lead` to the end, in small letters."""
    _leads: list[int] | None = None
    _requests: list[int] | None = None
    _resumes: list[int] | None = None
    _joints: list[tuple[int, int]] | None = None

    @property
    def cased(self) -> str:
        """The text from `lead` to the end, as written."""
        return self.said.text[self.lead : self.end]

    @property
    def leads(self) -> list[int]:
        """Where its clauses begin but the first, in order."""
        if self._leads is None:
            self._leads = sorted({*self.resumes, *(after for _, after in self.joints)})
        return self._leads

    @property
    def requests(self) -> list[int]:
        """Where it begins to ask for something."""
        if self._requests is None:
            clause = self.low[self.start : self.end]
            self._requests = [self.start + item.start() for item in self.language.request.finditer(clause)]
            if not self._requests and clause[-1] in "?？":
                # "I don't eat pork, what now?": whatever the words, the last clause asks.
                comma = max(clause.rfind(","), clause.rfind(";"), clause.rfind("，"), clause.rfind("、"))
                self._requests = [self.start + comma] if comma > 0 else []
        return self._requests

    @property
    def resumes(self) -> list[int]:
        """Where a clause about the speaker begins."""
        if self._resumes is None:
            self._resumes = [item.end() for item in self.language.resume.finditer(self.low, self.start, self.end)]
        return self._resumes

    @property
    def joints(self) -> list[tuple[int, int]]:
        """Where one statement ends and the next begins."""
        if self._joints is None:
            self._joints = [item.span() for item in self.language.joint.finditer(self.low, self.start, self.end)]
        return self._joints

    def left(self, place: int) -> int:
        """Where the clause begins that holds `place`."""
        request = max((at for at in self.requests if at <= place), default=-1)
        resume = max((at for at in self.resumes if at <= place), default=-1)
        if request < 0 and self.end - self.start <= _SHORT:
            return self.lead
        if request < 0 and (resume < 0 or place - self.lead <= _SHORT):
            return self.lead
        return max(request, resume, self.lead)

    def right(self, place: int) -> int:
        """Where the clause ends: before the next request."""
        request = min((at for at in self.requests if at >= place), default=self.end)
        if request - place > 2 * _SHORT:
            request = min((at for at, _ in self.joints if at >= place), default=request)
        return request


def sentence_at(said: Spoken, low: str, start: int, end: int, language: Language) -> Sentence:
    """The sentence of a span, with its opener left out."""
    opener = language.lead.match(low, start, end)
    lead = opener.end() if opener and opener.end() < end else start
    return Sentence(said, low, start, end, language, lead, low[lead:end])
