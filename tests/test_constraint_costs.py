"""What finding constraints asks for: no read of those in force, and few patterns, where nothing is stated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from langmem_plugin import Memory
from langmem_plugin.evaluation.constraints import read_labelled
from langmem_plugin.projections.constraints import Findings, find_constraints, rules
from langmem_plugin.projections.constraints.cues import Sentences, lower, possible_in, telling_words
from langmem_plugin.projections.constraints.statements import sentences
from langmem_plugin.records import Constraint, SessionKey
from langmem_plugin.testing.checks import in_force

LINES = [
    line for path in sorted((Path(__file__).parent / "data").glob("constraints*.jsonl")) for line in read_labelled(path)
]
LABELLED = tuple(dict.fromkeys(str(line["text"]) for line in LINES))
HELD = in_force(
    "Never suggest peanuts.", "I live in Paris.", "My budget is 500 euros.", "I'm vegetarian.", "Don't use emojis."
)
SMALL_TALK = (
    "How do I sort a list of words by their length?",
    "Thanks, that was helpful! What about the second one?",
    "We went to the lake yesterday and it rained all day long.",
    "Ok. And now the same for the other file, please, but a bit shorter.",
    "Can you explain once more what the first part of the answer means?",
    "Danke, das hat geholfen. Was ist mit dem zweiten Teil?",
    "Merci ! Et maintenant la deuxième partie, s'il te plaît.",
    "ありがとう。次は何ですか？",
    "",
)


class Asked:
    """Constraints in force that count how often they are read."""

    def __init__(self, held: Sequence[Constraint]) -> None:
        self.held = held
        self.times = 0

    def __call__(self) -> Sequence[Constraint]:
        self.times += 1
        return self.held


@pytest.mark.parametrize("held", [HELD, ()], ids=["some in force", "none in force"])
def test_what_is_in_force_is_read_at_most_once_and_changes_no_finding(held: Sequence[Constraint]) -> None:
    """A message gives the same findings with the constraints at hand as with what reads them, at most once."""
    read = 0
    for text in LABELLED:
        asked = Asked(held)
        findings = find_constraints(text, active=asked)
        assert findings == find_constraints(text, active=held)
        assert asked.times <= 1
        assert asked.times or findings == Findings()
        read += asked.times
    assert read < 0.75 * len(LABELLED)  # and half of these were written to state something


@pytest.mark.parametrize("text", SMALL_TALK)
def test_small_talk_reads_nothing(text: str) -> None:
    """For a message that can neither state nor end anything, nobody asks what is in force."""
    asked = Asked(HELD)
    assert find_constraints(text, active=asked) == Findings()
    assert not asked.times


@pytest.mark.parametrize("text", SMALL_TALK[:3])
def test_small_talk_is_not_looked_at_closely(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message without a word that tells anything is neither searched for pastes nor cut into sentences."""

    def never(text: str) -> None:
        raise AssertionError(text)

    monkeypatch.setattr(rules, "spoken", never)
    monkeypatch.setattr(rules, "sentences", never)
    assert find_constraints(text, active=HELD) == Findings()


def test_few_rules_are_tried_where_nothing_is_stated() -> None:
    """Of the hundreds of rules, few are tried on a sentence that nearly states something but does not."""
    tried = cut = 0
    for text in [str(line["text"]) for line in LINES if not line["labels"]]:
        low = lower(text)
        telling = telling_words(low)
        parts = Sentences(low, sentences(low))
        heard = possible_in(telling, text, ending=True).heard(parts, telling)
        cut += len(parts.spans)
        tried += sum(len(fits) for by_place in heard.rules.values() for cues in by_place.values() for fits in cues)
    assert cut > 500
    assert tried < 3 * cut


def test_a_turn_that_states_nothing_reads_no_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is asked for the constraints of a session by a turn that states or ends something, by no other."""
    with Memory.open() as memory:
        store = type(memory._engine.store)
        times: list[SessionKey] = []
        original = store.active_constraints

        def counted(self: object, key: SessionKey) -> tuple[Constraint, ...]:
            times.append(key)
            return original(self, key)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "active_constraints", counted)
        session = memory.session("s", owner="ann")
        for text in SMALL_TALK:
            session.add(text or "?")
        assert not times
        session.add("Never suggest peanuts.")
        assert len(times) == 1
        session.add("Forget what I said about peanuts.")
        assert len(times) == 2
        assert not [one for one in session.constraints() if one.state == "active"]
