"""What the demonstration prints: all of it computed from the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from langmem_plugin.demo import standin
from langmem_plugin.demo.replay import Step
from langmem_plugin.demo.script import Day
from langmem_plugin.display import Console, Table, Text, budget_bars, constraints_table, hits_table, notes
from langmem_plugin.records import ConstraintState


class Screen:
    """Prints the replay as it goes."""

    def __init__(self, console: Console, *, budget: int) -> None:
        self._out = console
        self._budget = budget
        self._line_open = False

    def opening(self, *, days: Sequence[Day], counter: str, embedder: str, model: str, folder: str) -> None:
        """What is about to happen."""
        turns = sum(len(day.exchanges) for day in days)
        calls = sum(len(exchange.calls) for day in days for exchange in day.exchanges)
        self._out.rule("[bold]langmem-plugin: one memory, two frameworks[/]")
        self._line(
            f"{turns} turns over {len(days)} days with {calls} tool calls; days alternate between a LangChain agent "
            f"and a LlamaIndex chat engine."
        )
        self._facts(
            ("budget", f"{self._budget:,} tokens a request, tools included, counted by {counter}"),
            ("embedder", embedder),
            ("questions", f"answered by {model}"),
            ("memory", folder),
        )
        self._out.print()

    def day_begins(self, number: int, day: Day, side: str) -> None:
        """The first half of a day's line, printed while it is replayed."""
        first, last = day.exchanges[0].number, day.exchanges[-1].number
        self._out.print(f"day {number}  {day.begins:%d %b %Y}  {side:<17}  turns {first:>3} to {last:>3}", end="")
        self._out.file.flush()
        self._line_open = True

    def day_ends(self, steps: Sequence[Step]) -> None:
        """The other half; below the day's questions if there were any."""
        most = max(max(step.tokens) for step in steps)
        requests = sum(len(step.tokens) for step in steps)
        lead = "   " if self._line_open else f"{'':<18}this day had "
        self._line_open = False
        self._out.print(f"{lead}{requests:>2} requests, the largest {most:,} tokens")

    def end_line(self) -> None:
        """End a line that waits for its other half."""
        if self._line_open:
            self._out.print("\n")
        self._line_open = False

    def question(self, step: Step) -> None:
        """A question between the marks, in short."""
        self.end_line()
        self._out.print(f"  turn {step.exchange.number}, {step.side}:", style="bold")
        self._asked(step)
        self._out.print()

    def mark(self, step: Step, *, said: Mapping[int, int]) -> None:
        """Everything about one request."""
        self.end_line()
        self._out.rule(f"[bold]turn {step.exchange.number}[/], {step.when:%d %B %Y}, {step.side}", align="left")
        if step.report is None:
            return
        self._heading("The budget of this request")
        self._out.print(budget_bars(step.report, used=step.tokens[0]))
        for line in notes(step.report):
            self._line(f"- {line}", dim=True)
        self._heading("Constraints")
        self._out.print(constraints_table(step.constraints, said))
        self._heading("Recalled for this question, and why")
        if step.report.hits:
            self._out.print(hits_table(step.report.hits))
            if len(step.report.hits) > 6:
                self._line(f"... and {len(step.report.hits) - 6} more", dim=True)
        else:
            self._line("nothing")
        self._heading("The question")
        self._asked(step)
        self._out.print()

    def closing(self, steps: Sequence[Step], *, marks: Sequence[int]) -> None:
        """The two tables at the end."""
        self._out.print()
        self._out.rule("[bold]What it cost, and what it held[/]", align="left")
        self._heading("Tokens of a request")
        self._out.print(self._tokens(steps, marks))
        self._heading("In the request at each question, beside a plain sliding window of the same budget")
        self._out.print(self._held(steps))
        over = sum(tokens > self._budget for step in steps for tokens in step.tokens)
        requests = sum(len(step.tokens) for step in steps)
        self._line(f"{requests} requests reached the model; {over} of them were over the budget.")

    def farewell(self, folder: Path, *, temporary: bool, session: str, owner: str, seconds: float) -> None:
        """Where to look further."""
        self._out.print()
        self._line(f"The replay took {seconds:.0f} s. The memory stays in {folder}:")
        rows = [("memory.db", "the log in SQLite: all that was said, constraints, summaries, vectors")]
        if (folder / "memory.db.vectors").exists():
            rows.append(("memory.db.vectors", "the Chroma index, which can be rebuilt from the log"))
        self._facts(*rows)
        self._line("Look into it:")
        code = (
            "from langmem_plugin import Memory\n"
            f'with Memory.open("sqlite:///{folder}/memory.db") as memory:\n'
            f'    session = memory.session("{session}", owner="{owner}")\n'
            "    print(*session.constraints(all=True), sep='\\n')\n"
            '    print(session.context("When does the passport run out?").report)'
        )
        self._out.print(Text(code), soft_wrap=True)
        if temporary:
            self._line("It is a temporary folder: remove it when you have seen enough, or give --folder DIR.")

    # Parts

    def _asked(self, step: Step) -> None:
        who = "stand-in" if step.answer.startswith(standin.SAYS) else "model"
        rows = [("user", step.exchange.user), (who, step.answer)]
        for need, ours, window in zip(step.exchange.needs, step.ours.needs, step.window.needs, strict=True):
            rows.append(
                ("needed", f"“{need}” {_stands(ours)} in this request; {_stands(window)} in the sliding window")
            )
        self._facts(*rows)

    def _tokens(self, steps: Sequence[Step], marks: Sequence[int]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for name in ("turn", "sending everything", "this memory", "share"):
            table.add_column(name, justify="right")
        for step in steps:
            if step.exchange.number in marks:
                ours = step.tokens[0]
                table.add_row(
                    str(step.exchange.number), f"{step.everything:,}", f"{ours:,}", f"{ours / step.everything:.0%}"
                )
        whole, ours = sum(step.everything for step in steps), sum(step.tokens[0] for step in steps)
        table.add_row("all", f"{whole:,}", f"{ours:,}", f"{ours / whole:.0%}", style="bold")
        return table

    def _held(self, steps: Sequence[Step]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        table.add_column("turn", justify="right")
        table.add_column("facts needed", ratio=1)
        for name in ("facts\nthis", "facts\nwindow", "constraints\nthis", "constraints\nwindow"):
            table.add_column(name, justify="right")
        totals = [0] * 6
        for step in (step for step in steps if step.exchange.is_question):
            needs = len(step.exchange.needs)
            active = sum(one.state is ConstraintState.ACTIVE for one in step.constraints)
            row = (sum(step.ours.needs), sum(step.window.needs), step.ours.constraints, step.window.constraints)
            table.add_row(str(step.exchange.number), ", ".join(step.exchange.needs), *_parts(row, needs, active))
            totals = [a + b for a, b in zip(totals, (*row, needs, active), strict=True)]
        table.add_row("all", "", *_parts(totals[:4], totals[4], totals[5]), style="bold")
        return table

    def _facts(self, *rows: tuple[str, str]) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(ratio=1)
        for name, value in rows:
            table.add_row(f"  {name}", Text(value))
        self._out.print(table)

    def _heading(self, text: str) -> None:
        self._out.print()
        self._out.print(text, style="bold")

    def _line(self, text: str, *, dim: bool = False) -> None:
        self._out.print(Text(text, style="dim" if dim else ""))


def _stands(held: bool) -> str:
    return "stands" if held else "does NOT stand"


def _parts(row: Sequence[int], needs: int, active: int) -> tuple[str, str, str, str]:
    return f"{row[0]}/{needs}", f"{row[1]}/{needs}", f"{row[2]}/{active}", f"{row[3]}/{active}"
