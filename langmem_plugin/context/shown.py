"""The part of the history that a request can show, exchange by exchange, ready to be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.context import window
from langmem_plugin.context.exchanges import Line, lines, repair
from langmem_plugin.messages import Message
from langmem_plugin.records import Entry

_NEWEST_SHARE = 0.10
"""Recall and a long tool loop leave the newest exchanges at least about this part of history's room."""
_STRIDE_SHARE = 0.15
"""In a tool loop the window is pushed back by multiples of this part, so that it moves rarely."""


class Shown:
    """The exchanges after the fold, and what each weighs.

    Positions count all exchanges that no summary covers; those before `fold.start` are
    not shown and wait for the summary.
    """

    def __init__(
        self,
        exchanges: Sequence[tuple[Entry, ...]],
        *,
        room: int,
        budget: Budget,
        config: MemoryConfig,
        size: Callable[[Line], int],
    ) -> None:
        self.exchanges = exchanges
        self.sticky = window.sticky_room(budget=budget, config=config)
        self.fold = window.fold(
            [window.weigh(exchange, sticky=self.sticky) for exchange in exchanges],
            high=window.display_high(room, budget=budget, config=config),
            low=int(room * config.window.low),
        )
        self._room = room
        self._lines: dict[int, list[Line]] = {}
        for position in range(self.fold.start, len(exchanges)):
            bare = position < self.fold.bare
            self._lines[position] = repair(lines(without_large(exchanges[position], sticky=self.sticky, bare=bare)))
        self._weights = [sum(map(size, self._lines[i])) for i in range(self.fold.start, len(exchanges))]

    def exchange_lines(self, start: int) -> list[list[Line]]:
        """The lines of each exchange from a position on."""
        return [self._lines[position] for position in range(start, len(self.exchanges))]

    def weight(self, start: int | None = None, end: int | None = None) -> int:
        """Tokens of the exchanges from one position to another, half open; of all without positions."""
        first = self.fold.start
        low = 0 if start is None else start - first
        return sum(self._weights[low : None if end is None else end - first])

    def first_shown(self, room: int, *, strided: bool) -> int:
        """The oldest exchange that the window shows in `room` tokens.

        Args:
            room: Tokens that the window may have.
            strided: Give way in strides, so that between two of them the window stays as it is.
        """
        total = self.weight()
        if total <= room:
            return self.fold.start
        if strided:
            stride = max(1, int(self._room * _STRIDE_SHARE))
            first = window.first_that_fits(self._weights, total - -(-(total - room) // stride) * stride)
            if first < len(self._weights):
                return self.fold.start + first
        return self.fold.start + window.first_that_fits(self._weights, room)

    def newest_tokens(self) -> int:
        """Tokens of the newest exchanges that recall does not push out."""
        keep = 0
        for number, tokens in enumerate(reversed(self._weights)):
            if keep + tokens > self._room * _NEWEST_SHARE and (number or tokens > self._room * 2 * _NEWEST_SHARE):
                break
            keep += tokens
        return keep

    def seqs(self, start: int, end: int | None = None) -> set[int]:
        """Entries that the window shows from one exchange to another, quoted ones included."""
        seqs: set[int] = set()
        for position in range(start, len(self.exchanges) if end is None else end):
            for entry in self.exchanges[position]:
                seqs.add(entry.seq)
                attached = entry.attachment
                if attached is not None and attached.tokens <= self.sticky and position >= self.fold.bare:
                    seqs.update(attached.seqs)
        return seqs

    def newest_waiting(self, tokens: int) -> list[Message]:
        """The newest messages that wait for the summary, oldest first: one, and more up to so many tokens.

        All of them could be a whole history, if nothing ever summarised it, and are read at each request.
        """
        read: list[Message] = []
        for exchange in reversed(self.exchanges[: self.fold.start]):
            for entry in reversed(exchange):
                tokens -= entry.tokens
                if tokens < 0 and read:
                    return read[::-1]
                read.append(entry.message)
        return read[::-1]


def without_large(exchange: Sequence[Entry], *, sticky: int, bare: bool = False) -> Sequence[Entry]:
    """The entries without recalled blocks of more than `sticky` tokens; without any if `bare`."""
    if all(entry.attachment is None for entry in exchange):
        return exchange
    return [
        replace(entry, attachment=None)
        if entry.attachment is not None and (bare or entry.attachment.tokens > sticky)
        else entry
        for entry in exchange
    ]
