"""Summaries that a model judges: scores kept and told, one retry, then the turns stay."""

from __future__ import annotations

import json
import re

import pytest

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.config import SummaryConfig
from langmem_plugin.errors import InvalidSetting, ModelFailed
from langmem_plugin.messages import assistant
from langmem_plugin.projections.judging import judge

CONFIG = MemoryConfig(budget=Budget(max_tokens=900, completion=100), summary=SummaryConfig(judged=3, min_judged=0.6))


class Judging:
    """Writes notes, and judges them by whether they say Lyon."""

    name = "judging"

    def __init__(self, *notes: str, answer: str = "") -> None:
        self.notes = list(notes)
        self.answer = answer
        self.prompts: list[str] = []
        self.judged: list[str] = []

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        if '"score"' not in prompt:
            self.prompts.append(prompt)
            return self.notes.pop(0) if len(self.notes) > 1 else self.notes[0]
        self.judged.append(prompt)
        notes = prompt.partition("</notes>")[0]
        said = {"score": 0.9, "missing": []} if "Lyon" in notes else {"score": 0.2, "missing": ["that it was in Lyon"]}
        return self.answer or f"Here you are:\n```json\n{json.dumps(said)}\n```"


def talk(memory, turns=14):
    session = memory.session("s", owner="ann")
    for turn in range(turns):
        session.add(f"Turn {turn}: I paid {turn} euros in Lyon. " * 3, assistant(f"Noted {turn}. " * 10))
    return session


def test_a_score_is_kept_and_told():
    """The lowest score of the parts is in the summary, the report and the page; the judge sees few messages."""
    model = Judging("They were in Lyon and paid.")
    with Memory.open(config=CONFIG, summarizer=model) as memory:
        session = talk(memory)
        assert memory.wait(30)
        report = session.context("And?").report
        assert report.judged == 0.9
        assert report.quality is not None
        assert all(len(re.findall(r"(?m)^\d+\. ", prompt)) == 3 for prompt in model.judged)
        moved = "\n".join(memory.export_lines())
        assert '"judged":0.9' in moved
        assert "judged 0.90" in session._repr_html_()


def test_notes_that_are_judged_thin_are_asked_for_again():
    """One retry names what is missing; the second notes become the summary."""
    model = Judging("They paid.", "They paid in Lyon.")
    with Memory.open(config=CONFIG, summarizer=model) as memory:
        session = talk(memory)
        assert memory.wait(30)
        assert session.context("And?").report.judged == 0.9
        assert "that it was in Lyon" in model.prompts[1]
        assert "They paid." in model.prompts[1]


def test_turns_stay_where_the_judge_is_not_content():
    """G9: two thin summaries change nothing; the failure names both numbers, and an extract stands in later."""
    model = Judging("They paid.")
    with Memory.open(config=CONFIG, summarizer=model) as memory:
        session = talk(memory)
        assert not memory.wait(30)
        status = memory.status()["behind"]["summary"]
        assert "judged 0.20, not 0.60" in status.last_error
        assert memory._store.summaries(session._key)[0] is None


@pytest.mark.parametrize("answer", ["I cannot say.", "{}", '{"score": 7}', '{"score": "high"}', "{" * 5_000, "[]"])
def test_a_judge_that_babbles_judges_nothing(answer):
    """An answer that cannot be read is no score, and stops no summary."""
    model = Judging("They paid.", answer=answer)
    with Memory.open(config=CONFIG, summarizer=model) as memory:
        session = talk(memory)
        assert memory.wait(30)
        report = session.context("And?").report
        assert report.summarised > 0
        assert report.judged is None


def test_it_is_off_unless_asked_for():
    """Without the setting no judge is asked; without messages worth it neither."""
    model = Judging("They paid.")
    config = CONFIG.model_copy(update={"summary": SummaryConfig()})
    with Memory.open(config=config, summarizer=model) as memory:
        talk(memory)
        assert memory.wait(30)
        assert model.judged == []
    assert judge(model, "{notes}{messages}", "notes", ["Hm.", ""], sample=3) is None
    with pytest.raises(InvalidSetting):
        SummaryConfig(judged=-1)
    with pytest.raises(ModelFailed):
        judge(Broken(), "{notes}{messages}", "notes", ["one two three four five"], sample=1)


class Broken:
    name = "broken"

    def complete(self, system, prompt, *, max_tokens):
        raise ModelFailed("summariser", "TimeoutError")
