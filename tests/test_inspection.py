"""Seeing a memory: earlier requests, timelines and explanations, in a notebook and in a terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.cli import main
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.inspection import explain, read_session, read_timeline
from langmem_plugin.inspection.held import request_at, request_of
from langmem_plugin.markup import element, joined
from langmem_plugin.messages import Media, Message, Role, Text, ToolCall, assistant, tool_result, user

EVIL = "<script>alert(1)</script><img src=x onerror='alert(2)'>\" </style> &amp; \x1b[31m \u202e \ud800"
SAID = {
    3: "Never suggest flights.",
    6: "I live in Paris.",
    14: "I live in Lyon now.",
    20: "Forget the rule about flights.",
    23: "When did museum 2 open, and how many rooms did you say it has?",
}


@pytest.fixture(scope="module")
def trip(tmp_path_factory):
    """A file with a conversation of 26 turns that was compressed, and what each version's request was."""
    url = f"sqlite:///{tmp_path_factory.mktemp('trip') / 'trip.db'}"
    now = [datetime(2026, 5, 4, 9, tzinfo=UTC)]

    def clock():
        now[0] += timedelta(minutes=1)
        return now[0]

    config = MemoryConfig(budget=Budget(max_tokens=900, completion=200))
    seen = {}
    with Memory.open(url, config=config, clock=clock) as memory:
        session = memory.session("trip", owner="ann")
        for number in range(26):
            with session.begin(user(SAID.get(number, f"Tell me about museum {number}. " * 3))) as turn:
                turn.context()
                turn.append(f"Museum {number} has {number + 2} rooms and opens at {number % 5 + 8} o'clock. " * 2)
            seen[session.version] = session.context().messages
            assert memory.wait(timeout_s=30)
            seen[session.version] = session.context().messages
        memory.session("other", owner="bob").add("Hello", assistant("Hi!"))
        memory.session("trip", owner="bob").add("Hello", assistant("Hi!"))
    return url, config, seen


@pytest.fixture
def memory(trip):
    url, config, _ = trip
    with Memory.open(url, config=config) as opened:
        yield opened


@pytest.fixture
def held(memory):
    session = memory.session("trip", owner="ann")
    return read_session(memory._engine, session._key)


class Tags(HTMLParser):
    """Every tag, attribute and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.tags and self.tags[-1] != "style":
            self.texts.append(data)


def harmless(page):
    """Holds no script, nothing that loads anything, no handler; gives what is read."""
    seen = Tags(page)
    allowed = (
        "div span style h1 h3 h4 header b i table thead tbody tr th td details summary ul li svg g title rect line text"
    )
    assert set(seen.tags) <= set(allowed.split())
    for name, value in seen.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href", "srcset", "action", "background")
        assert "url(" not in (value or "")
    assert "@import" not in page
    page.encode()
    return "".join(seen.texts)


def test_every_earlier_request_can_be_built_again(trip, memory, held):
    """G12: at each version the request is, message for message, the one that was given then."""
    _, _, seen = trip
    assert len(seen) > 26
    for version, messages in seen.items():
        assert request_at(memory._engine, held, version).messages == messages
    assert request_at(memory._engine, held, 0).messages == ()


def test_a_timeline_says_what_happened_when(memory, held):
    """Each turn, each compression and each constraint's beginning and end stands at its version, within the budget."""
    timeline = read_timeline(memory._engine, held)
    assert [m.version for m in timeline.moments] == list(range(1, timeline.version + 1))
    assert len(timeline.requests) == 26
    assert timeline.compressions
    assert all(0 < moment.tokens_used <= timeline.budget for moment in timeline.requests)
    texts = {constraint.id: constraint.text for constraint in timeline.constraints}
    born = {texts[one]: moment.version for moment in timeline.moments for one in moment.born}
    ended = {texts[one]: moment.version for moment in timeline.moments for one in moment.ended}
    assert list(born) == ["Never suggest flights.", "I live in Paris.", "I live in Lyon now."]
    assert ended["I live in Paris."] == born["I live in Lyon now."]
    assert ended["Never suggest flights."] > born["Never suggest flights."]
    assert timeline.summarised + timeline.waiting + timeline.window_messages == timeline.messages
    assert json.loads(json.dumps(timeline.to_json()))["version"] == timeline.version


def test_a_long_timeline_builds_few_requests_again(memory, held, monkeypatch):
    """Of a long session evenly chosen requests are built, the first and the newest among them."""
    monkeypatch.setattr("langmem_plugin.inspection.timeline.MOST_REQUESTS", 5)
    requests = read_timeline(memory._engine, held).requests
    assert len(requests) == 5
    assert requests[0].version == 1
    assert requests[-1].first_seq == 51


def test_the_request_of_a_turn_has_its_recall(memory, held):
    """The block that recall put before a turn's message is in the request that is built again."""
    commit = next(c for c in reversed(held.past.commits) if any(e.attachment for e in held.turn(c)))
    attachment = next(e.attachment for e in held.turn(commit) if e.attachment)
    assert request_of(memory._engine, held, commit).messages[-1].text.startswith(attachment.text)


def test_a_constraint_is_explained(held):
    """Where it was said, by which words, what ended it, and what it outlived."""
    paris = next(c for c in held.constraints if c.text == "I live in Paris.")
    told = "\n".join(explain(held, paris.id).lines)
    assert f"message #{paris.seq}" in told
    assert ">>I live in Paris.<<" in told
    assert "I live in Lyon now." in told
    assert explain(held, paris.id).data["compressions_survived"] >= 1


def test_a_message_is_explained(held):
    """Where it is now, what it states, what was recalled for it."""
    assert explain(held, "1", window_from=40).data["place"] == "summary"
    newest = explain(held, f"#{len(held.entries)}", window_from=len(held.entries) - 3)
    assert newest.data["place"] == "window"
    assert "states" in "\n".join(explain(held, "7").lines)
    for absent in ("0", "999", "c000", "١"):
        with pytest.raises(InvalidSetting, match="from 1 to 52"):
            explain(held, absent)


def test_a_session_and_a_memory_show_themselves(memory):
    """Their views are HTML without scripts and name what they hold."""
    text = harmless(memory.session("trip", owner="ann")._repr_html_())
    assert "Never suggest flights." in text
    assert "revoked at version" in text
    assert "covered by the summary" in text
    assert "bob" in harmless(memory._repr_html_())
    assert "0 messages" in harmless(memory.session("new", owner="ann")._repr_html_())


def test_a_request_shows_itself(memory):
    """Segments with tokens, what was recalled with scores and why, constraints with their source, notes."""
    context = memory.session("trip", owner="ann").context("When did museum 2 open?", system="You plan trips.")
    text = harmless(context._repr_html_())
    assert context.report.hits
    for part in (
        "You plan trips.",
        "constraints ",
        "recall ",
        "matches",
        "message #29, characters 0-19",
        "window holds",
    ):
        assert part in text


@pytest.mark.parametrize("where", ["text", "name", "media", "call", "constraint", "session", "summary"])
def test_markup_in_data_stays_text(where):
    """Whatever carries markup, script or marks that steer a display is shown as text."""
    message = user("Hello")
    if where == "text":
        message = user(EVIL)
    elif where == "name":
        message = user("Hello", name=EVIL)
    elif where == "media":
        message = Message(role=Role.USER, blocks=(Text("Look"), Media(kind="image", url=f"https://x/{EVIL}")))
    with Memory.open() as memory:
        session = memory.session("s" if where != "session" else EVIL.replace("\ud800", ""), owner="ann")
        if where == "constraint":
            session.add_constraint(EVIL)
        calls = (ToolCall(id="1", name=EVIL, arguments=EVIL),) if where == "call" else ()
        answer = assistant("Hi", *calls)
        session.add(message, answer, *((tool_result(EVIL, call_id="1"), assistant("Done.")) if calls else ()))
        shown = harmless(session.context(user(EVIL) if where == "text" else None)._repr_html_())
        shown += harmless(session._repr_html_()) + harmless(memory._repr_html_())
    if where in ("text", "constraint", "session"):
        assert "<script>alert(1)</script>" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@given(st.text(), st.text())
@settings(max_examples=200)
def test_any_text_survives_escaping(text, attribute):
    """Text and attribute come back from a parser as they were, but for what no document can hold."""
    seen = Tags(joined(element("div", text, title=attribute)))
    assert seen.tags == ["div"]
    assert [name for name, _ in seen.attributes] == ["title"]
    if text.isprintable():
        assert "".join(seen.texts) == text


# The command


def run(capsys, *arguments):
    code = main(("inspect", *arguments))
    return code, capsys.readouterr()


def test_the_command_lists_sessions(trip, capsys):
    """Without a session all of them are listed, of one owner if that is asked for."""
    code, said = run(capsys, trip[0])
    assert code == 0
    assert said.out.count("bob") == 2
    code, said = run(capsys, trip[0], "--owner", "ann", "--json")
    assert [(row["session"], row["messages"]) for row in json.loads(said.out)["sessions"]] == [("trip", 52)]


def test_the_command_shows_a_session(trip, capsys):
    """Bars, what changed, constraints and the window as text; the timeline as JSON."""
    code, said = run(capsys, trip[0], "trip", "--owner", "ann", "--budget", "700")
    assert code == 0
    for part in ("compressions", "of 700 tokens", "I live in Lyon now.", "- Never suggest flights.", "#52 assistant"):
        assert part in said.out
    code, said = run(capsys, trip[0], "trip", "--owner", "ann", "--json")
    assert json.loads(said.out)["messages"] == 52


def test_the_command_shows_a_version(trip, capsys):
    """--at gives the request of that version, with its messages."""
    arguments = (trip[0], "trip", "--owner", "ann", "--budget", "700", "--at", "4")
    code, said = run(capsys, *arguments)
    assert code == 0
    assert "Never suggest flights." in said.out
    code, said = run(capsys, *arguments, "--json")
    assert [item["seq"] for item in json.loads(said.out)["messages"]][-1] == 8


def test_the_command_says_why(trip, capsys):
    """--why tells a message's story as text and as JSON."""
    code, said = run(capsys, trip[0], "trip", "--owner", "ann", "--why", "7")
    assert code == 0
    assert "It states" in said.out
    code, said = run(capsys, trip[0], "trip", "--owner", "ann", "--why", "7", "--json")
    assert json.loads(said.out)["role"] == "user"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sqlite:////nowhere/x.db",), "no such file"),
        (("sqlite://",), "name a file"),
        (("{url}", "absent"), "no such session"),
        (("{url}", "trip"), "several owners"),
        (("{url}", "trip", "--owner", "ann", "--at", "999"), "is at version"),
        (("{url}", "trip", "--owner", "ann", "--why", "x"), "from 1 to 52"),
        (("{url}", "--why", "x"), "need a session"),
        (("{url}", "trip", "--owner", "ann", "--budget", "20", "--at", "9"), "revoke a constraint"),
    ],
)
def test_the_commands_errors(trip, capsys, arguments, message):
    """What cannot be shown is one line on standard error."""
    code, said = run(capsys, *(argument.replace("{url}", trip[0]) for argument in arguments))
    assert code == 1
    assert message in said.err
    assert said.err.count("\n") == 1


def test_looking_changes_nothing(trip, capsys):
    """No version, no summary and no file comes of looking."""
    url, config, _ = trip
    with Memory.open(url, config=config) as memory:
        before = [memory.session("trip", owner=owner).version for owner in ("ann", "bob")]
    run(capsys, url, "trip", "--owner", "ann")
    run(capsys, url)
    with Memory.open(url, config=config) as memory:
        assert [memory.session("trip", owner=owner).version for owner in ("ann", "bob")] == before


def test_a_terminal_is_not_steered(tmp_path, capsys):
    """Escape sequences and line breaks in names and messages do not reach the terminal."""
    url = f"sqlite:///{tmp_path / 'odd.db'}"
    with Memory.open(url) as memory:
        session = memory.session("s\x1b[2J", owner="a\x1b[2J")
        session.add("Never \x1b[31m suggest flights.\x07", assistant("\x1b]0;title\x07 ok [red]not red[/red]"))
        session.add_constraint("No \x1b[31m red")
    for arguments in ((url,), (url, "s\x1b[2J"), (url, "s\x1b[2J", "--at", "1"), (url, "s\x1b[2J", "--why", "1")):
        code, said = run(capsys, *arguments)
        assert code == 0
        assert "\x1b" not in said.out
        assert "\x07" not in said.out
    code, said = run(capsys, url, "s\x1b[2J")
    assert "[red]not red[/red]" in said.out
