"""Which recalled turns are sent, within a number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from langmem_plugin.config import Budget
from langmem_plugin.context import rendering
from langmem_plugin.context.cutting import keep_relevant, words
from langmem_plugin.records import Attachment, Hit

NEED_NOTHING = 0.15
"""A smaller need recalls nothing, so that the request repeats the one before it (G13)."""
NEED_SHRINK = 0.65
"""From this need on the window gives room to what is recalled; that breaks the prefix, so not for a little."""
NEED_ALL = 0.9
"""From this need on recall may have all that it may ever have."""
LINE_TOKENS = 6
"""What a line has besides its text: the number, the speaker and a part of the date's line."""
BLOCK_TOKENS = 40
"""What a block has besides its lines."""
_LONG = 0.34
"""A message may take this part of the room; a longer one is cut to its relevant sentences."""
_SAME = 0.9
"""Texts that share this part of their words say the same ..."""
_FEW_WORDS = 6
"""... unless they have fewer words than this; then only equal ones do."""
_LEAST_TEXT = 48
"""Tokens of a line that is never cut."""
_WORTH_FILLING = 24
"""Fewer tokens than this are left unused."""


_ODDS = 0.05
"""Right to wrong among the candidates of a session, beside those that scores are fitted with (fit.NEGATIVES)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The recalled block and what is in it."""

    attachment: Attachment | None = None
    hits: tuple[Hit, ...] = ()
    """Best first."""
    cut: tuple[str, ...] = ()
    left_out: int = 0
    """Hits worth sending that found no room."""


def recall_room(need: float, *, budget: Budget, free: int, most: int) -> int:
    """Tokens that recall may have.

    Nothing for small talk; with some need what is free anyway, a growing part of
    recall's share; with more need from that share up to `recall_max`, taken from the window.

    Args:
        need: 0 (small talk) .. 1 (nothing but the past).
        budget: Whose shares hold.
        free: Tokens that nobody uses.
        most: Tokens that may be used without touching what may not be cut.
    """
    if need < NEED_NOTHING:
        return 0
    share = budget.tokens("recall")
    if need < NEED_SHRINK:
        part = (need - NEED_NOTHING) / (NEED_SHRINK - NEED_NOTHING)
        return max(0, min(int(share * part), free, most))
    ramp = min(1.0, (need - NEED_SHRINK) / (NEED_ALL - NEED_SHRINK))
    wanted = share + max(0, budget.tokens("recall_max") - share) * ramp
    return max(0, min(int(wanted), most))


def pack(
    hits: Sequence[Hit],
    *,
    room: int,
    threshold: float,
    present: AbstractSet[int],
    query: str,
    count: Callable[[str], int],
) -> Packed:
    """The most valuable hits that fit, by score for their tokens, written oldest first.

    Args:
        hits: Candidates, best first.
        room: Tokens that the block may have.
        threshold: Hits with a lower score are not sent.
        present: Entries that the request shows anyway.
        query: The new message; long hits are cut to the sentences that share its words.
        count: Tokens of a text.
    """
    wanted = [
        hit
        for hit in hits
        if hit.score >= threshold and hit.entry.seq not in present and hit.entry.message.text.strip()
    ]
    selection = _Selection(room - BLOCK_TOKENS, words(query), count)
    if selection.left <= 0:
        return Packed(left_out=len(wanted))
    best = sorted(wanted, key=lambda hit: -worth(hit))
    block, tokens = "", 0
    for _ in range(3):  # lines are estimated; what the block leaves in truth is filled again
        best = [hit for hit in best if not selection.take(hit)]
        block, tokens = selection.block()
        if room - tokens < _WORTH_FILLING or not best or not selection.chosen:
            break
        selection.left = room - tokens
    while selection.chosen and tokens > room:
        excess = tokens - room
        while selection.chosen and excess > 0:
            excess -= selection.chosen.pop().tokens
        block, tokens = selection.block()
    sent = {line.hit.entry.seq for line in selection.chosen}
    left_out = sum(hit.entry.seq not in sent and hit.entry.seq not in selection.repeated for hit in wanted)
    if not sent:
        return Packed(left_out=left_out)
    return Packed(
        attachment=Attachment(text=block, seqs=tuple(sorted(sent)), tokens=tokens),
        hits=tuple(hit for hit in wanted if hit.entry.seq in sent),
        cut=tuple(line.cut for line in selection.chosen if line.cut),
        left_out=left_out,
    )


@dataclass(frozen=True, slots=True)
class _Chosen:
    hit: Hit
    text: str
    tokens: int
    cut: str = ""


class _Selection:
    """What was chosen so far, and the tokens that are left."""

    def __init__(self, left: int, query: frozenset[str], count: Callable[[str], int]) -> None:
        self.left = left
        self.longest = max(_LEAST_TEXT, int(left * _LONG))
        self.query = query
        self.count = count
        self.chosen: list[_Chosen] = []
        self.repeated: set[int] = set()
        self.said: dict[str, list[frozenset[str]]] = {}

    def take(self, hit: Hit) -> bool:
        """Choose the hit if it fits; True if it needs no further thought."""
        text, cut = hit.entry.message.text, ""
        tokens = hit.entry.tokens + LINE_TOKENS
        most = min(self.left, self.longest)
        if tokens > max(most, _LEAST_TEXT):
            if most < _LEAST_TEXT:
                return False
            short = keep_relevant(text, query=self.query, max_tokens=most - LINE_TOKENS, count=self.count)
            kept = self.count(short)
            if short != text:
                cut = f"recalled message #{hit.entry.seq} cut from {hit.entry.tokens} to {kept} tokens"
            text, tokens = short, kept + LINE_TOKENS
        if tokens > self.left:
            return False
        vocabulary = words(text)
        if self._repeats(vocabulary):
            self.repeated.add(hit.entry.seq)
            return True
        self.chosen.append(_Chosen(hit, text, tokens, cut))
        self.left -= tokens
        return True

    def block(self) -> tuple[str, int]:
        """The block as it is sent, oldest message first, and its tokens."""
        in_time = sorted(self.chosen, key=lambda line: line.hit.entry.seq)
        block = rendering.recalled_block([(line.hit.entry, line.text) for line in in_time])
        return block, self.count(block)

    def _repeats(self, vocabulary: frozenset[str]) -> bool:
        """Whether a chosen text says the same; remembers the words if none does.

        Texts with nearly all words in common have the first or the last in common.
        """
        if not vocabulary:
            return False
        near = (self.said.setdefault(min(vocabulary), []), self.said.setdefault(max(vocabulary), []))
        if any(_same(vocabulary, other) for others in near for other in others):
            return True
        for others in near:
            others.append(vocabulary)
        return False


def _same(a: frozenset[str], b: frozenset[str]) -> bool:
    if a == b:
        return True
    if len(a) < _FEW_WORDS:
        return False
    shared = len(a & b)
    return shared >= _SAME * (len(a) + len(b) - shared)


def worth(hit: Hit) -> float:
    """How likely it helps for its tokens, which count a little less than in proportion.

    Scores are fitted as if one candidate in four were right. With the odds that a session
    really has, near certain hits stand further above the rest. What a line has besides its
    text keeps very short ones from winning.
    """
    odds = _ODDS * hit.score / max(1e-6, 1.0 - hit.score)
    return float(odds / (1.0 + odds) / (hit.entry.tokens + LINE_TOKENS) ** 0.75)
