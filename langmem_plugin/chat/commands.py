"""The commands within a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from langmem_plugin.chat.talk import Talk
from langmem_plugin.display import Console, Table, Text, budget_bars, constraints_table, hits_table, notes
from langmem_plugin.memory import Memory
from langmem_plugin.records import ConstraintState

_HELP = (
    ("/context", "what the last request held: tokens by segment, what was recalled and why"),
    ("/constraints", "the standing constraints, the ended ones too"),
    ("/constraints add TEXT", "add one by hand"),
    ("/constraints revoke ID", "end one; ID is its number in the list"),
    ("/retry", "ask the unanswered message again"),
    ("/forget", "erase this session after a confirmation"),
    ("/stats", "messages, versions, what works behind"),
    ("/quit", "leave; Ctrl-C while an answer arrives breaks it off"),
)


class Commands:
    """Runs what begins with a slash."""

    def __init__(self, talk: Talk, memory: Memory, out: Console) -> None:
        self._talk = talk
        self._memory = memory
        self._out = out

    def run(self, line: str, read: Callable[[str], str]) -> None:
        """Run one command line.

        Raises:
            ConstraintNotFound: There is no such constraint to revoke.
        """
        name, _, rest = line.partition(" ")
        match name:
            case "/help":
                self._rows(_HELP)
            case "/context":
                self._context()
            case "/constraints":
                self._constraints(rest.strip())
            case "/forget":
                self._forget(read)
            case "/stats":
                self._stats()
            case _:
                self._say(f"there is no {name}; /help lists the commands")

    def _context(self) -> None:
        report = self._talk.report
        if report is None:
            report = self._talk.session.context(system=self._talk.system).report
            self._say("nothing was asked yet; a request would begin with:")
        self._out.print(budget_bars(report))
        for line in notes(report):
            self._say(f"- {line}")
        if report.hits:
            self._out.print(hits_table(report.hits))

    def _constraints(self, rest: str) -> None:
        session = self._talk.session
        verb, _, what = rest.partition(" ")
        known = session.constraints(all=True)
        match verb:
            case "add" if what.strip():
                self._say(f"added: {session.add_constraint(what.strip()).text}")
            case "revoke" if what.strip():
                place = what.strip().removeprefix("#")
                by_number = place.isdecimal() and 1 <= int(place) <= len(known)
                revoked = session.revoke(known[int(place) - 1].id if by_number else what.strip())
                self._say(f"revoked: {revoked.text}")
            case "" if known:
                self._out.print(constraints_table(known))
            case "":
                self._say("none yet; what you demand, forbid or state for good is found as you say it")
            case _:
                self._say("use /constraints, /constraints add TEXT or /constraints revoke ID")

    def _forget(self, read: Callable[[str], str]) -> None:
        session = self._talk.session
        count = len(session.history())
        if read(f"erase all {count} messages of session {session.id!r}? (yes/no) ").strip().lower() != "yes":
            self._say("nothing was erased")
            return
        self._talk.drop()
        session.clear()
        self._talk.report = None
        self._say(f"{count} messages erased")

    def _stats(self) -> None:
        session = self._talk.session
        history = session.history()
        active = sum(one.state is ConstraintState.ACTIVE for one in session.constraints(all=True))
        status = self._memory.status()
        rows = [
            ("messages", f"{len(history)} in version {session.version}"),
            ("tokens", f"{sum(entry.tokens for entry in history):,} in all, counted by {status['counter']}"),
            ("constraints", f"{active} in force"),
            ("failed attempts", str(self._talk.failures)),
            ("database", str(status["url"])),
        ]
        rows += [(f"behind: {name}", str(value)) for name, value in status["behind"].items()]
        self._rows(rows)

    def _rows(self, rows: Iterable[tuple[str, str]]) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for left, right in rows:
            table.add_row(Text(left), Text(right, style="dim"))
        self._out.print(table)

    def _say(self, text: str) -> None:
        self._out.print(Text(text, style="dim"))
