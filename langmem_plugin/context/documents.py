"""The application's own documents, by segment, made to fit their shares of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from langmem_plugin.config import Budget, SegmentConfig
from langmem_plugin.context import rendering
from langmem_plugin.context.cutting import cut_end
from langmem_plugin.context.exchanges import Line
from langmem_plugin.context.request import Document
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import assistant, user

_LEAST = 24
"""A document that would be cut to fewer tokens is left out."""
_HEADING = 16
"""What a document has besides its text."""
_PAIR = 40
"""What the pair before the conversation has besides its blocks."""
_RETRIEVED = "documents"
"""The segment that every request may have; its share is the budget's."""


@dataclass(slots=True)
class _Block:
    name: str
    priority: int
    stable: bool
    text: str
    tokens: int


class Provided:
    """What of the application's documents is in a request; made smaller until it fits."""

    def __init__(
        self,
        documents: Sequence[Document],
        *,
        segments: Mapping[str, SegmentConfig],
        budget: Budget,
        room: int,
        count: Callable[[str], int],
        anchored: bool,
    ) -> None:
        """Fit the documents: the segments with the highest priority have their share first.

        Args:
            documents: In the order in which they stand within their segment.
            segments: Besides "documents", which every request may have.
            budget: Whose shares hold.
            room: Tokens for all of them.
            count: Tokens of a text.
            anchored: There is a new message to put documents before.

        Raises:
            InvalidSetting: A document names a segment that there is not.
        """
        self.cut: list[str] = []
        self._blocks: list[_Block] = []
        self._lines: list[Line] | None = None
        known = {**segments, _RETRIEVED: SegmentConfig(budget=budget.documents, stable=False)}
        self.names = tuple(name for name in known if any(one.segment == name for one in documents))
        for one in documents:
            if one.segment not in known:
                raise InvalidSetting("Document.segment", one.segment, f"use one of {', '.join(known)}")
        paid = False
        for name in sorted(self.names, key=lambda name: -known[name].priority):
            settings = known[name]
            here = [one for one in documents if one.segment == name]
            if not settings.stable and not anchored:
                self.cut.append(f"{len(here)} {name} left out: there is no new message to put them before")
                continue
            extra = 0 if not settings.stable or paid else _PAIR
            most = min(budget.share(settings.budget), room - extra)
            text, cut = fit_documents(here, room=most, count=count, name=name)
            self.cut += cut
            if text:
                tokens = count(text)
                self._blocks.append(_Block(name, settings.priority, settings.stable, text, tokens))
                room -= tokens + extra
                paid = paid or settings.stable
        self._blocks.sort(key=lambda block: self.names.index(block.name))

    def before(self) -> str:
        """What stands just before the new message."""
        return "".join(block.text for block in self._blocks if not block.stable)

    def lines(self) -> list[Line]:
        """The pair before the conversation; none if nothing is stable."""
        if self._lines is None:
            text = "".join(block.text for block in self._blocks if block.stable).rstrip()
            self._lines = [Line(user(text)), Line(assistant("Noted."))] if text else []
        return self._lines

    def drop(self) -> bool:
        """Leave out the block with the lowest priority; False if there is none."""
        if not self._blocks:
            return False
        least = min(self._blocks, key=lambda block: (block.priority, block.stable))
        self._blocks.remove(least)
        self._lines = None
        self.cut.append(f"{least.name} left out ({least.tokens} tokens)")
        return True

    def tokens(self, whole: int) -> dict[str, int]:
        """Tokens by segment; what is around the blocks counts with the first."""
        found = {name: sum(block.tokens for block in self._blocks if block.name == name) for name in self.names}
        if self._blocks and (rest := whole - sum(found.values())):
            found[self._blocks[0].name] += rest
        return found


def fit_documents(
    documents: Sequence[Document], *, room: int, count: Callable[[str], int], name: str = _RETRIEVED
) -> tuple[str, list[str]]:
    """One segment's block with as many documents as `room` tokens take, the last perhaps cut; and what was cut."""

    def block(of: Sequence[Document]) -> str:
        return rendering.documents_block(of) if name == _RETRIEVED else rendering.segment_block(name, of)

    shown: list[Document] = []
    cut: list[str] = []
    used = count(block(()))
    for document in documents:
        tokens = count(document.text)
        if used + tokens + _HEADING > room:
            text = cut_end(document.text, max_tokens=room - used - _HEADING - 8, count=count)
            if (kept := count(text) if text else 0) > _LEAST:
                shown.append(replace(document, text=text))
                cut.append(f"document {len(shown)} of {name} cut from {tokens} to {kept} tokens")
            break
        shown.append(document)
        used += tokens + _HEADING
    if rest := len(documents) - len(shown):
        cut.append(f"{rest} {name} left out, past the {room} tokens that they may have")
    return block(shown) if shown else "", cut
