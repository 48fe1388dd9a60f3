"""Moving in from files: each format as its framework reads it, streamed, once."""

from __future__ import annotations

import contextlib
import io
import json
import random
from dataclasses import replace

import pytest

from langmem_plugin import Memory
from langmem_plugin.cli import main
from langmem_plugin.errors import InvalidMessage, InvalidSetting
from langmem_plugin.formats import langchain, llama_index, openai
from langmem_plugin.formats.files import conversations
from langmem_plugin.messages import Reasoning, ToolCall, assistant, tool_result, user

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Never suggest flights."},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "add"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Now we wait."},
]


@pytest.fixture
def memory():
    with Memory.open() as memory:
        yield memory


def texts(session):
    return [entry.message.text for entry in session.history()]


def langchain_messages():
    core = pytest.importorskip("langchain_core.messages")
    human, ai, tool = core.HumanMessage, core.AIMessage, core.ToolMessage
    usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}}
    return [
        core.SystemMessage("Be kind."),
        human("Hello \ud83d\ude42", id="m1", name="ann", additional_kwargs={"of": [1, None]}),
        ai("", id="a1", tool_calls=[{"name": "add", "args": {"a": "é"}, "id": "c1"}], usage_metadata=usage),
        tool("2", tool_call_id="c1", artifact={"rows": [1]}, status="error"),
        ai(
            "Two.", response_metadata={"model_name": "m"}, usage_metadata={**usage, "input_token_details": {"audio": 1}}
        ),
        human([{"type": "text", "text": "Look."}, picture, "and here"]),
        ai([{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "A cat."}]),
        ai("", additional_kwargs={"tool_calls": [CALL], "refusal": None}),
        ai("", invalid_tool_calls=[{"name": "add", "args": "{broken", "id": "c2", "error": "no JSON"}]),
        ai(
            [{"type": "tool_use", "id": "c3", "name": "f", "input": {}}],
            tool_calls=[{"name": "f", "args": {}, "id": "c3"}],
        ),
        core.ChatMessage("Me too.", role="user"),
        core.ChatMessage("Who?", role="narrator"),
        core.FunctionMessage("3", name="add"),
        core.AIMessageChunk("Chunk.", id="k"),
        human("", response_metadata={"x": 1}),
        ai("x", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}),
    ]


def test_langchain_messages_are_what_its_adapter_makes_of_them():
    """Each dict of `messages_to_dict` gives the message that LangChain's own conversion gives, payload and all."""
    messages = langchain_messages()
    from langchain_core.messages import messages_from_dict, messages_to_dict

    from langchain_langmem_plugin.convert import from_core, to_core

    for data in json.loads(json.dumps(messages_to_dict(messages))):
        (own,) = messages_from_dict([data])
        assert langchain.message_of(data) == to_core(own)
        again = from_core(langchain.message_of(data))
        assert again == from_core(to_core(own))


def test_older_forms_of_langchain_are_read():
    """A serialised constructor, a message's own dump, and calls that stand in additional_kwargs alone."""
    from langchain_core.load import dumpd
    from langchain_core.messages import AIMessage, HumanMessage, messages_from_dict

    from langchain_langmem_plugin.convert import to_core

    said = HumanMessage("Hello.", id="m1", additional_kwargs={"a": 1})
    assert langchain.message_of(dumpd(said)) == to_core(said)
    assert langchain.message_of(json.loads(said.model_dump_json())) == to_core(said)
    old = {"type": "ai", "data": {"content": "", "additional_kwargs": {"tool_calls": [CALL]}, "example": False}}
    (own,) = messages_from_dict([old])
    assert isinstance(own, AIMessage)
    assert langchain.message_of(old).tool_calls == to_core(own).tool_calls
    assert langchain.message_of(old).tool_calls[0].arguments == '{"a": 1}'


def test_a_summary_of_langchains_middleware_is_a_note():
    """What stands in the user's role and was written by a model is nobody's word."""
    data = {"type": "human", "data": {"content": "Never fly.", "additional_kwargs": {"lc_source": "summarization"}}}
    assert langchain.message_of(data).role == "system"


def llama_messages():
    types = pytest.importorskip("llama_index.core.base.llms.types")
    chat, text, call = types.ChatMessage, types.TextBlock, types.ToolCallBlock
    return [
        chat(role="system", content="Be kind."),
        chat(role="user", content="Hello.", additional_kwargs={"of": {"x": 1}}),
        chat(role="assistant", blocks=[text(text="a"), call(tool_call_id="c1", tool_name="f", tool_kwargs={"x": "é"})]),
        chat(role="tool", content="2", additional_kwargs={"tool_call_id": "c1", "name": "f"}),
        chat(role="assistant", blocks=[types.ThinkingBlock(content="t", additional_information={"signature": "s"})]),
        chat(role="assistant", blocks=[types.ThinkingBlock(content="t", num_tokens=4), text(text="b")]),
        chat(role="assistant", blocks=[call(tool_call_id="c", tool_name="f", tool_kwargs="{x"), text(text="late")]),
        chat(role="assistant", content=None, additional_kwargs={"tool_calls": [CALL]}),
        chat(role="assistant", content="", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}),
        chat(role="developer", content="Short."),
        chat(role="chatbot", content="Old."),
        chat(role="user", blocks=[types.ImageBlock(url="http://127.0.0.1/a.png"), types.ImageBlock(image=b"abc")]),
        chat(
            role="user",
            blocks=[types.AudioBlock(audio=b"a", format="mp3"), types.VideoBlock(url="http://127.0.0.1/v.mp4")],
        ),
        chat(
            role="user", blocks=[types.DocumentBlock(data=b"zz", title="t.pdf"), text(text="two"), text(text="texts")]
        ),
    ]


def test_llama_index_messages_are_what_its_adapter_makes_of_them():
    """Each dumped message has the neutral parts of the adapter's conversion, and LlamaIndex gets it back as it was."""
    messages = llama_messages()
    from llama_index.memory.langmem_plugin.convert import from_core, to_core

    for chat in messages:
        data = json.loads(json.dumps(chat.model_dump(mode="json")))
        own = type(chat).model_validate(data)
        mine, theirs = llama_index.message_of(data), to_core(own)
        assert from_core(mine).model_dump() == own.model_dump()
        assert (mine.role, mine.text, mine.tool_calls, mine.tool_call_id) == (
            theirs.role,
            theirs.text,
            theirs.tool_calls,
            theirs.tool_call_id,
        )
        if theirs.payload is None:
            assert replace(mine, payload=None) == theirs


def test_chat_store_files_come_with_every_key(memory, tmp_path):
    """A `SimpleChatStore` file gives a session for each key; LlamaIndex reads the same file the same way."""
    messages = llama_messages()[:4]
    from llama_index.core.storage.chat_store import SimpleChatStore

    from llama_index.memory.langmem_plugin.convert import to_core

    dumped = [message.model_dump(mode="json") for message in messages]
    file = tmp_path / "chats.json"
    file.write_text(json.dumps({"store": {"ann": dumped, "bob/2": dumped[:2]}, "class_name": "SimpleChatStore"}))
    moved = memory.import_file(file, owner="app")
    assert (moved.sessions, moved.messages) == (2, 6)
    store = SimpleChatStore.from_persist_path(str(file))
    for key in ("ann", "bob/2"):
        held = [entry.message for entry in memory.session(key, owner="app").history()]
        assert held == [to_core(message) for message in store.get_messages(key)]
    assert memory.import_file(file, owner="app").messages == 0
    old = {"store": {"k": [{"role": "user", "content": "Hello.", "additional_kwargs": {}}]}}
    assert memory.import_file(io.StringIO(json.dumps(old)), owner="app").messages == 1
    assert texts(memory.session("k", owner="app")) == ["Hello."]


def test_openai_messages_are_what_langchain_makes_of_them():
    """Roles, texts, parts, calls and results agree with LangChain's own conversion."""
    utils = pytest.importorskip("langchain_core.messages.utils")
    from langchain_langmem_plugin.convert import to_core

    parts = [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
    said = [*TALK, {"role": "user", "content": parts}, {"role": "developer", "content": "Short."}]
    for data, own in zip(said, utils.convert_to_messages(said), strict=True):
        mine, theirs = openai.message_of(data), to_core(own)
        assert (mine.role, mine.blocks, mine.tool_call_id) == (theirs.role, theirs.blocks, theirs.tool_call_id)
        calls = [(call.id, call.name, json.loads(call.arguments)) for call in mine.tool_calls]
        assert calls == [(call.id, call.name, json.loads(call.arguments)) for call in theirs.tool_calls]


def test_other_openai_forms_are_read():
    """Items of Responses, function_call, a model's thinking; what has no place is metadata."""
    item = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    assert openai.message_of(item) == assistant("", ToolCall(id="c1", name="f", arguments="{}"))
    output = {"type": "function_call_output", "call_id": "c1", "output": "2"}
    assert openai.message_of(output) == tool_result("2", call_id="c1")
    part = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
    assert openai.message_of(part) == user("Hello.")
    old = {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}}
    assert openai.message_of(old).tool_calls == (ToolCall(id=None, name="f", arguments="{}"),)
    deep = {"role": "assistant", "content": "4", "reasoning_content": "2+2", "refusal": None, "score": 1}
    message = openai.message_of(deep)
    assert (message.blocks[0], message.text, message.metadata) == (Reasoning(text="2+2"), "4", {"score": 1})


@pytest.mark.parametrize("form", ["list", "pretty", "lines", "conversation", "conversations"])
def test_a_talk_is_moved_once_whatever_its_form(memory, tmp_path, form):
    """A list, lines, or objects with messages: the same turns, rules in force, and again adds nothing."""
    file = tmp_path / "talk.json"
    match form:
        case "list":
            file.write_text(json.dumps(TALK))
        case "pretty":
            file.write_text("\ufeff\n" + json.dumps(TALK, indent=2), encoding="utf-8")
        case "lines":
            file.write_text("".join(json.dumps(one) + "\n\n" for one in TALK))
        case "conversation":
            file.write_text(json.dumps({"id": "named", "messages": TALK}))
        case "conversations":
            file.write_text("".join(json.dumps({"messages": TALK}) + "\n" for _ in range(2)))
    moved = memory.import_file(file, owner="ann")
    count = 2 if form == "conversations" else 1
    assert (moved.sessions, moved.messages, moved.constraints) == (count, 7 * count, count)
    assert memory.import_file(file, owner="ann").messages == 0
    session = memory.session("named" if form == "conversation" else "talk", owner="ann")
    assert texts(session) == ["Be kind.", "Never suggest flights.", "", "2", "Two.", "And now?", "Now we wait."]
    assert [constraint.text for constraint in session.constraints()] == ["Never suggest flights."]
    assert memory.sessions(owner="ann")[-1] == {"conversations": "talk-2", "conversation": "named"}.get(form, "talk")


def test_more_at_the_end_is_added_and_a_forgotten_message_stays_forgotten(memory):
    """A longer list adds what is new; what was forgotten meanwhile is not brought back; another list is refused."""
    memory.import_file(io.StringIO(json.dumps(TALK[:5])), owner="ann", session="s")
    session = memory.session("s", owner="ann")
    session.forget(2)
    moved = memory.import_file(io.StringIO(json.dumps(TALK)), owner="ann", session="s")
    assert moved.messages == 2
    assert texts(session)[1] == "[forgotten]"
    for other in (TALK[2:], TALK[:3]):
        with pytest.raises(InvalidSetting, match="another conversation"):
            memory.import_file(io.StringIO(json.dumps(other)), owner="ann", session="s")


def test_a_message_id_that_comes_twice_is_two_messages(memory):
    """LangChain's messages with one id are both there, and moving them again adds nothing."""
    said = [{"type": kind, "data": {"content": f"{n}", "id": "x"}} for n, kind in enumerate(["human", "ai", "human"])]
    for added in (3, 0):
        assert memory.import_file(io.StringIO(json.dumps(said)), owner="ann", session="s").messages == added
    assert texts(memory.session("s", owner="ann")) == ["0", "1", "2"]


class Chunks:
    """A text file that notes how far it was read."""

    def __init__(self, parts):
        self.rest = iter(parts)
        self.held = ""
        self.taken = 0

    def read(self, size):
        while len(self.held) < size and (part := next(self.rest, "")):
            self.held += part
        out, self.held = self.held[:size], self.held[size:]
        self.taken += len(out)
        return out

    def readline(self, size):
        return self.read(size if size > 0 else 1)


def test_lists_are_read_as_they_are_written():
    """The first messages of a list without an end are given after a bounded part of it was read."""

    def endless():
        yield "["
        while True:
            yield json.dumps({"role": "user", "content": "x" * 1_000}) + ","

    stream = Chunks(endless())
    ((name, messages),) = [next(conversations(stream, "auto"))]
    assert name is None
    for _ in range(500):
        assert next(messages).text == "x" * 1_000
    assert stream.taken < 1_000_000


@pytest.mark.parametrize("size", [1, 7, 64])
def test_any_cut_of_the_input_gives_the_same(size):
    """However a file arrives in pieces, the same messages come out."""
    whole = json.dumps(TALK, ensure_ascii=False)
    stream = io.StringIO(whole)
    cut = Chunks([whole[start : start + size] for start in range(0, len(whole), size)])
    one, other = (list(next(conversations(source, "openai"))[1]) for source in (stream, cut))
    assert one == other
    assert len(one) == len(TALK)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("", "jsonl"),
        ("hello", "auto"),
        ("[", "auto"),
        ('[{"role": "user"', "auto"),
        ("[1, 2]", "auto"),
        ('{"kind": "message"}', "auto"),
        ('[{"role": "owner", "content": "x"}]', "openai"),
        ('[{"role": "user", "content": 7}]', "openai"),
        ('[{"type": "remove", "data": {"content": ""}}]', "langchain"),
        ('[{"type": "human", "data": {"content": {}}}]', "langchain"),
        ('[{"role": "user", "blocks": [{}]}]', "llama-index"),
        ("[" * 50_000, "auto"),
        ('{"a":' * 50_000, "auto"),
        ('[{"role": "user", "content": "a"}] x', "auto"),
        ('[{"role": "assistant", "content": "", "tool_calls": [{}]}]', "auto"),
    ],
)
def test_what_is_no_conversation_is_refused(memory, text, format):
    """Anything else is a typed error that names what is wrong, never a crash."""
    with pytest.raises(InvalidMessage):
        memory.import_file(io.StringIO(text), owner="ann", session="s", format=format)


def test_mutations_of_good_files_are_read_or_refused(memory):
    """Two hundred files with random damage: each gives messages or a typed error."""
    rng = random.Random(5)
    sources = [json.dumps(TALK), json.dumps([{"type": "human", "data": {"content": "Hello.", "id": "m"}}] * 3)]
    for number in range(500):
        text = list(rng.choice(sources))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(text))
            text[place] = rng.choice('{}[]",:0\\ntruefals\x00\ud800')
        with contextlib.suppress(InvalidMessage, InvalidSetting):
            memory.import_file(io.StringIO("".join(text)), owner="ann", session=f"s{number}")


def test_settings_that_cannot_work_are_refused(memory, tmp_path):
    """An unknown format, no owner, no session's name, no file, no UTF-8."""
    good = json.dumps(TALK)
    with pytest.raises(InvalidSetting, match="format"):
        memory.import_file(io.StringIO(good), owner="ann", session="s", format="xml")
    with pytest.raises(InvalidSetting, match="owner"):
        memory.import_file(io.StringIO(good), session="s")
    with pytest.raises(InvalidSetting, match="session"):
        memory.import_file(io.StringIO(good), owner="ann")
    with pytest.raises(InvalidSetting, match="file"):
        memory.import_file(tmp_path / "none.json", owner="ann")
    (tmp_path / "latin.json").write_bytes(b'[{"role": "user", "content": "\xe9"}]')
    with pytest.raises(InvalidMessage, match="UTF-8"):
        memory.import_file(tmp_path / "latin.json", owner="ann")


def test_the_commands_move_in_and_out(tmp_path, capsys):
    """`import` tells the format; `export --format openai` gives lines that `import` reads; progress is said."""
    url, other = f"sqlite:///{tmp_path / 'm.db'}", f"sqlite:///{tmp_path / 'n.db'}"
    (tmp_path / "talk.json").write_text(json.dumps(TALK * 100))
    assert main(["import", "--database", url, str(tmp_path / "talk.json"), "--owner", "ann", "--session", "s"]) == 0
    captured = capsys.readouterr()
    assert "1 sessions: 700 messages" in captured.out
    assert "500 messages" in captured.err
    out = tmp_path / "out.jsonl"
    assert main(["export", "--database", url, str(out), "--format", "openai"]) == 0
    assert json.loads(out.read_text())["messages"][2]["tool_calls"] == [CALL]
    assert main(["import", "--database", other, str(out), "--owner", "ann", "--format", "openai"]) == 0
    with Memory.open(url) as one, Memory.open(other) as two:
        assert texts(one.session("s", owner="ann")) == texts(two.session("s", owner="ann"))
    assert main(["import", "--database", url, str(tmp_path / "talk.json")]) == 1
