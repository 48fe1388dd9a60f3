"""The buffer by itself: what `ChatMemoryBuffer` promises, and what it does not."""

import asyncio
import copy
import json
import pickle
import threading
import time

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.llms import MockLLM
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer
from llama_index.core.schema import QueryBundle
from llama_index.core.storage.chat_store import SimpleChatStore

from langmem_plugin import BudgetTooSmall, Memory, MemoryConfig
from langmem_plugin.errors import InvalidMessage, InvalidSetting, StoreClosed, StoreUnavailable
from langmem_plugin.testing.validity import problems
from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, TokenLimitExceeded, to_core


def user(text):
    return ChatMessage(role="user", content=text)


def assistant(text):
    return ChatMessage(role="assistant", content=text)


# -- what ChatMemoryBuffer does ---------------------------------------------------------------


def test_put_then_get(buffer, said):
    """What was put is what is got."""
    buffer.put(user("hello"))
    buffer.put(assistant("hi"))
    assert said(buffer.get()) == [("user", "hello"), ("assistant", "hi")]
    assert isinstance(buffer, ChatMemoryBuffer | BaseMemory)


def test_get_under_the_limit_gives_all(buffer):
    """Initial tokens below the limit leave the history whole."""
    buffer.put(user("hello"))
    assert [m.content for m in buffer.get(initial_token_count=500)] == ["hello"]


def test_initial_tokens_over_the_limit_raise_value_error(buffer):
    """An engine's own messages over the limit are an error with both numbers."""
    buffer.put(user("hello"))
    with pytest.raises(ValueError, match=r"2\d\d\d tokens, the budget is 2000") as caught:
        buffer.get(initial_token_count=2_001)
    assert isinstance(caught.value, TokenLimitExceeded | BudgetTooSmall)


@pytest.mark.parametrize("limit", [300, 600, 1_200])
def test_get_stays_within_the_limit(open_buffer, limit):
    """However long the history, what is got counts at most the limit and begins with the user (G1, G3)."""
    buffer = open_buffer(token_limit=limit)
    for number in range(40):
        buffer.put(user(f"Question {number}: what is the plan for part {number} of the garden?"))
        buffer.put(assistant(f"Part {number} gets {number} rows of beans and a path of {number} stones."))
    got = buffer.get()
    counter = buffer.memory.counter
    assert counter.count_request(buffer_messages(got)) <= limit
    assert next(m.role.value for m in got if m.role != "system") == "user"
    assert len(buffer.get_all()) == 80


def buffer_messages(chats):
    from llama_index.memory.langmem_plugin import to_core

    return [to_core(chat) for chat in chats]


def test_an_initial_count_shrinks_the_history(open_buffer):
    """Tokens that the engine takes are not there for history."""
    buffer = open_buffer(token_limit=800)
    for number in range(30):
        buffer.put(user(f"Question {number}: what is the plan for part {number} of the garden?"))
        buffer.put(assistant(f"Part {number} gets {number} rows of beans."))
    counter = buffer.memory.counter
    got = buffer.get(initial_token_count=400)
    assert counter.count_request(buffer_messages(got)) <= 400


def test_set_replaces_the_transcript(buffer, said):
    """After `set` the transcript is what was set."""
    buffer.put(user("old"))
    buffer.set([user("a"), assistant("b")])
    assert said(buffer.get_all()) == [("user", "a"), ("assistant", "b")]
    buffer.set([])
    assert buffer.get_all() == []


def test_string_save_and_load(buffer, said):
    """`to_string` and `from_string` give a buffer on the same session."""
    buffer.put(user("hello"))
    buffer.put(assistant("hi"))
    again = HybridChatMemoryBuffer.from_string(buffer.to_string())
    assert said(again.get()) == [("user", "hello"), ("assistant", "hi")]
    again.put(user("more"))
    assert len(buffer.get_all()) == 3


def test_dict_save_and_load_is_plain_json(buffer):
    """`to_dict` is JSON and `from_dict` re-attaches to the same session, also with an open turn."""
    buffer.put(user("hello"))
    data = json.loads(json.dumps(buffer.to_dict()))
    again = HybridChatMemoryBuffer.from_dict(data)
    assert again.session is buffer.session
    again.put(assistant("hi"))
    assert len(buffer.get_all()) == 2
    assert buffer.session.version == 1


def test_pickle(buffer):
    """A pickled buffer comes back on the same session."""
    buffer.put(user("hello"))
    again = pickle.loads(pickle.dumps(buffer))
    assert again.session is buffer.session
    assert again.token_limit == buffer.token_limit


def test_reset(buffer):
    """After `reset` nothing is left of the session."""
    buffer.put(user("Never call me before noon."))
    buffer.put(assistant("ok"))
    buffer.put(user("open"))
    buffer.reset()
    assert buffer.get_all() == buffer.get() == []
    assert buffer.session.constraints() == ()


def test_unknown_arguments_are_refused():
    """Like the parent, `from_defaults` refuses what it does not know."""
    with pytest.raises(ValueError, match="Unexpected kwargs"):
        HybridChatMemoryBuffer.from_defaults(colour="red")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_be_positive(limit):
    """Like the parent's, a token limit below one is a ValueError."""
    with pytest.raises(ValueError, match="greater than 0"):
        HybridChatMemoryBuffer.from_defaults(token_limit=limit)


def test_defaults_of_the_parent(open_buffer):
    """3000 tokens, or three quarters of the LLM's context window, or what is given."""
    assert open_buffer().token_limit == 3_000
    llm = MockLLM()
    assert open_buffer(llm=llm).token_limit == int(llm.metadata.context_window * 0.75)
    assert open_buffer(llm=llm, token_limit=77).token_limit == 77
    assert open_buffer(config=MemoryConfig()).token_limit == MemoryConfig().budget.prompt


def test_a_tokenizer_counts(open_buffer):
    """A `tokenizer_fn` is what counts, for the engine and for the memory."""
    buffer = open_buffer(token_limit=500, tokenizer_fn=str.split)
    assert buffer.memory.counter.count("one two three") == 3
    assert len(buffer.tokenizer_fn("one two three")) == 3


def test_the_engine_counts_as_the_memory_does(open_buffer):
    """`tokenizer_fn` of a buffer without one counts as its memory's counter."""
    buffer = open_buffer()
    assert len(buffer.tokenizer_fn("one two three")) == buffer.memory.counter.count("one two three")


def test_no_truth_value(buffer):
    """An empty buffer is true, because LlamaIndex tests it with `or`."""
    assert bool(buffer)
    assert not hasattr(buffer, "__len__")


# -- reading ----------------------------------------------------------------------------------


def test_get_changes_nothing_and_gives_copies(buffer):
    """Two gets are equal, and what a caller does to one reaches nobody (upstream issue 23055)."""
    buffer.put(user("hello"))
    first = buffer.get()
    first[-1].blocks[0].text = "changed"
    first.append(user("more"))
    assert [m.content for m in buffer.get()] == [m.content for m in buffer.get_all()] == ["hello"]
    assert buffer.session.version == 0


def test_get_all_is_the_raw_transcript(open_buffer):
    """`get_all` has neither constraints nor recall nor summary in it."""
    buffer = open_buffer(token_limit=600)
    buffer.put(user("Never call me before noon."))
    for number in range(30):
        buffer.put(assistant("Noted."))
        buffer.put(user(f"The code of door {number} is {number * 7}, and it opens on day {number} only."))
    buffer.put(assistant("Noted."))
    assert buffer.get()[0].role == "system"
    everything = buffer.get_all()
    assert len(everything) == 62
    assert {m.role.value for m in everything} == {"user", "assistant"}


@pytest.mark.parametrize("form", ["text", "message", "bundle"])
def test_every_form_of_input(open_buffer, form):
    """A text, a message and a query bundle recall alike, before the message is in memory."""
    buffer = open_buffer(token_limit=500)
    buffer.put(user("The code of the garden door is 7351."))
    buffer.put(assistant("Noted."))
    for number in range(30):
        buffer.put(user(f"Tell me a long story about ship number {number} and its crew of {number} men."))
        buffer.put(assistant(f"Ship {number} sailed for {number} days and met a whale and a storm."))
    assert buffer.memory.wait(10)
    question = "What is the code of the garden door?"
    given = {"text": question, "message": user(question), "bundle": QueryBundle(question)}[form]
    got = buffer.get(input=given)
    assert "7351" in "\n".join(m.content for m in got)
    assert all(m.content != question for m in got)
    assert buffer.report.hits
    buffer.get()
    assert not buffer.report.hits


def test_recall_stands_before_the_open_message_and_stays(open_buffer):
    """Within a turn every get gives the same bytes, recall before the user's own text (G13)."""
    buffer = open_buffer(token_limit=900)
    buffer.put(user("The code of the garden door is 7351."))
    buffer.put(assistant("Noted."))
    for number in range(45):
        buffer.put(user(f"Tell me a long story about ship number {number} and its crew of {number} men."))
        buffer.put(assistant(f"Ship {number} sailed for {number} days and met a whale and a storm."))
    assert buffer.memory.wait(10)
    question = "What is the code of the garden door?"
    buffer.put(user(question))
    first = buffer.get()
    assert first[-1].content.endswith(question)
    assert "7351" in first[-1].content
    assert [m.content for m in buffer.get(input=question)] == [m.content for m in first]
    buffer.put(ChatMessage(role="assistant", blocks=[], additional_kwargs={"tool_calls": openai_call("c1", "look")}))
    buffer.put(ChatMessage(role="tool", content="found", additional_kwargs={"tool_call_id": "c1"}))
    assert [m.content for m in buffer.get(input=question)][: len(first)] == [m.content for m in first]
    assert buffer.get_all()[-3].content == question


def openai_call(call_id, name):
    return [{"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}]


def test_a_message_over_the_limit_is_a_typed_error(open_buffer):
    """A user's message that cannot fit gives both numbers and is not lost."""
    buffer = open_buffer(token_limit=100)
    buffer.put(user("word " * 500))
    with pytest.raises(BudgetTooSmall, match="the budget is 100"):
        buffer.get()
    assert len(buffer.get_all()) == 1


def test_unknown_keywords_of_get_are_ignored(buffer):
    """Engines and blocks pass what they like."""
    buffer.put(user("hello"))
    assert len(buffer.get(something=1)) == 1


def test_report_says_where_the_tokens_went(buffer):
    """The last get's report is at hand."""
    assert buffer.report is None
    buffer.put(user("hello"))
    buffer.get()
    assert 0 < buffer.report.tokens_used <= 2_000


# -- writing ----------------------------------------------------------------------------------


def test_a_turn_is_committed_by_the_answer(buffer):
    """The session's version counts answered turns."""
    buffer.put(user("a"))
    assert buffer.session.version == 0
    buffer.put(assistant("b"))
    assert buffer.session.version == 1
    assert len(buffer.session.history()) == 2


def test_a_retry_after_the_tools_broke_off_can_be_sent(buffer):
    """G3, G5: the question put again adds nothing, and the call that was never answered has a result that says so."""
    calls = [ToolCallBlock(tool_call_id="a", tool_name="add", tool_kwargs={})]
    for message in (user("2+2?"), ChatMessage(role="assistant", blocks=calls), user("2+2?")):
        buffer.put(message)
    assert problems([to_core(message) for message in buffer.get()]) == []
    assert [message.role for message in buffer.get()] == ["user", "assistant", "tool"]
    assert len(buffer.get_all()) == 2


def test_the_same_message_after_an_error_adds_nothing(buffer, said):
    """A retry of the open turn's message is not a second message (G5)."""
    buffer.put(user("a"))
    buffer.put(user("a"))
    buffer.put(assistant("b"))
    assert said(buffer.get_all()) == [("user", "a"), ("assistant", "b")]


def test_another_message_after_an_error_keeps_both(buffer, said):
    """What the user said before an error stays, and the request is valid (G3, G9)."""
    buffer.put(user("a"))
    buffer.put(user("b"))
    assert [m.role.value for m in buffer.get()] == ["user"]
    buffer.put(assistant("c"))
    assert said(buffer.get_all()) == [("user", "a"), ("user", "b"), ("assistant", "c")]


def test_an_agents_batch_is_one_turn(buffer, call):
    """Call, result and answer of one batch are committed together with the question."""
    buffer.put(user("2+2?"))
    buffer.put_messages(
        [
            call("add", "c1", a=2, b=2),
            ChatMessage(role="tool", content="4", additional_kwargs={"tool_call_id": "c1"}),
            assistant("four"),
        ]
    )
    assert buffer.session.version == 1
    assert len({entry.turn for entry in buffer.session.history()}) == 1
    buffer.put_messages([])
    assert len(buffer.get_all()) == 4


def test_a_batch_of_exchanges_is_one_turn_each(buffer):
    """An imported history is split where the user speaks."""
    buffer.put_messages([user("a"), assistant("b"), user("c"), assistant("d"), user("e")])
    assert buffer.session.version == 2
    assert len(buffer.get_all()) == 5


def test_a_batch_that_repeats_the_open_message(buffer, said):
    """Whoever puts the question and then the whole exchange gets one question."""
    buffer.put(user("a"))
    buffer.put_messages([user("a"), assistant("b")])
    assert said(buffer.get_all()) == [("user", "a"), ("assistant", "b")]


def test_set_of_the_same_list_writes_nothing(buffer):
    """A client that sends its whole history each time adds only what is new (G5)."""
    history = [user("a"), assistant("b")]
    buffer.set(history)
    version = buffer.session.version
    buffer.set(history)
    assert buffer.session.version == version
    buffer.set([*history, user("c"), assistant("d")])
    assert buffer.session.version == version + 1
    assert [entry.seq for entry in buffer.session.history()] == [1, 2, 3, 4]


def test_set_drops_an_unanswered_message_that_the_list_lacks(buffer, said):
    """A client that never saw the failed turn is followed; the committed ones are not rewritten."""
    buffer.put(user("a"))
    buffer.put(assistant("b"))
    buffer.put(user("failed"))
    buffer.set([user("a"), assistant("b")])
    assert said(buffer.get_all()) == [("user", "a"), ("assistant", "b")]
    assert buffer.session.version == 1


def test_set_of_another_list_rewrites(buffer, said):
    """What the application added by hand survives a rewrite, what the old messages said does not."""
    buffer.put(user("Never call me before noon."))
    buffer.put(assistant("ok"))
    buffer.session.add_constraint("Answer in French.")
    buffer.set([user("x"), assistant("y")])
    assert said(buffer.get_all()) == [("user", "x"), ("assistant", "y")]
    assert [c.text for c in buffer.session.constraints()] == ["Answer in French."]


def test_images_and_odd_text_come_back(buffer):
    """Blocks and broken text are kept exactly."""
    odd = ChatMessage(
        role="user", blocks=[TextBlock(text="a\x00\x85 \U0001f600"), ImageBlock(image=b"\x89PNG\r\n\x1a\n0")]
    )
    buffer.put(odd)
    assert buffer.get_all()[0].model_dump() == odd.model_dump()


def test_what_is_no_message_is_refused(buffer):
    """A text in place of a ChatMessage is a typed error and nothing is kept."""
    with pytest.raises(InvalidMessage):
        buffer.put("hello")
    assert buffer.get_all() == []


def test_concurrent_writers_lose_nothing(buffer):
    """Twenty threads put one exchange each: forty messages (upstream loses 18 of 20)."""
    threads = [
        threading.Thread(target=lambda n=n: buffer.put_messages([user(f"q{n}"), assistant(f"a{n}")])) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [m.content for m in buffer.get_all()]
    assert len(got) == 40
    assert all(got[got.index(f"q{n}") + 1] == f"a{n}" for n in range(20))


async def test_concurrent_async_writers_lose_nothing(buffer):
    """The async methods do not block the loop and lose nothing."""
    await asyncio.gather(*(buffer.aput_messages([user(f"q{n}"), assistant(f"a{n}")]) for n in range(10)))
    assert len(await buffer.aget_all()) == 20
    await buffer.aset([])
    await buffer.aput(user("x"))
    assert [m.content for m in await buffer.aget()] == ["x"]
    await buffer.areset()
    assert await buffer.aget_all() == []


# -- sessions and where they live -------------------------------------------------------------


def test_two_buffers_are_two_sessions(open_buffer, tmp_path):
    """Without a session id each buffer has its own conversation, in one database too (G7)."""
    url = f"sqlite:///{tmp_path}/a.db"
    one, two = open_buffer(url=url), open_buffer(url=url)
    one.put(user("secret"))
    assert two.get_all() == two.get("secret") == []
    assert one.memory is two.memory
    assert one.session_id != two.session_id


def test_owners_are_apart(open_buffer, tmp_path):
    """The same session id of two owners is two conversations (G7)."""
    url = f"sqlite:///{tmp_path}/a.db"
    one, two = (open_buffer(url=url, session_id="s", owner=owner) for owner in ("ann", "bob"))
    one.put(user("secret"))
    assert two.get_all() == []


def test_a_chat_store_key_names_the_session(open_buffer, tmp_path):
    """Who told users apart by `chat_store_key` gets a session each."""
    url = f"sqlite:///{tmp_path}/a.db"
    open_buffer(url=url, chat_store_key="ann").put(user("x"))
    assert len(open_buffer(url=url, chat_store_key="ann").get_all()) == 1
    assert open_buffer(url=url, chat_store_key="bob").get_all() == []


def test_restart_from_the_same_file(tmp_path, said):
    """After the process is gone the session goes on, constraints and open turn included (G4)."""
    url = f"sqlite:///{tmp_path}/a.db"
    first = HybridChatMemoryBuffer.from_defaults(url=url, session_id="s")
    first.put(user("Never call me before noon."))
    first.put(assistant("Noted."))
    first.put(user("unanswered"))
    data = first.to_dict()
    first.memory.close()
    second = HybridChatMemoryBuffer.from_dict(data)
    assert said(second.get_all()) == [
        ("user", "Never call me before noon."),
        ("assistant", "Noted."),
        ("user", "unanswered"),
    ]
    assert "Never call me before noon." in second.get()[0].content
    second.put(user("unanswered"))
    second.put(assistant("here"))
    assert len(second.get_all()) == 4
    second.memory.close()


def test_an_answered_turn_is_committed_after_a_crash(open_buffer):
    """A process that died between answer and commit leaves a whole turn, not half of one (G6)."""
    buffer = open_buffer()
    buffer.session.begin(*_neutral(user("a"), assistant("b")))
    assert len(buffer.get_all()) == 2
    assert buffer.session.version == 1


def _neutral(*chats):
    return buffer_messages(chats)


def test_an_in_memory_session_survives_json(open_buffer, said):
    """Where the memory is gone with its process, the data itself carries the session."""
    first = open_buffer(token_limit=900, system="Be kind.")
    first.put(user("hello"))
    first.put(assistant("hi"))
    first.session.add_constraint("Answer in French.", kind="requirement")
    data = json.loads(first.to_string())
    first.memory.close()
    second = HybridChatMemoryBuffer.from_dict(data)
    assert said(second.get_all()) == [("user", "hello"), ("assistant", "hi")]
    assert second.token_limit == 900
    assert "Be kind." in second.get()[0].content
    assert "Answer in French." in second.get()[0].content
    second.memory.close()


def test_a_copy_is_the_same_buffer(buffer):
    """Copies share the session, because a workflow copies what its context holds."""
    assert copy.deepcopy(buffer) is buffer
    assert copy.copy(buffer) is buffer
    assert copy.deepcopy({"memory": buffer})["memory"] is buffer


def test_data_of_a_chat_memory_buffer_is_taken_over(said):
    """What the class that this one replaces wrote can be read."""
    history = [user("a").model_dump(), assistant("b").model_dump()]
    old = {
        "token_limit": 500,
        "chat_store_key": "k",
        "chat_store": {"class_name": "SimpleChatStore", "store": {"k": history}},
    }
    buffer = HybridChatMemoryBuffer.from_dict(old)
    assert said(buffer.get_all()) == [("user", "a"), ("assistant", "b")]
    assert buffer.token_limit == 500
    assert buffer.session_id == "k"
    older = HybridChatMemoryBuffer.from_dict({"token_limit": 500, "chat_history": history})
    assert len(older.get_all()) == 2
    for one in (buffer, older):
        one.memory.close()


def test_chat_history_seeds_a_session_once(open_buffer, tmp_path, caplog):
    """A history given at each start is not added again, and never replaces what was said since."""
    settings = {"url": f"sqlite:///{tmp_path}/a.db", "session_id": "s", "chat_history": [user("a"), assistant("b")]}
    open_buffer(**settings)
    again = open_buffer(**settings)
    assert len(again.get_all()) == 2
    again.put(user("c"))
    again.put(assistant("d"))
    assert len(open_buffer(**settings).get_all()) == 4
    longer = {**settings, "chat_history": [*again.get_all(), user("e"), assistant("f")]}
    assert len(open_buffer(**longer).get_all()) == 6
    other = open_buffer(**{**settings, "chat_history": [user("another")]})
    assert len(other.get_all()) == 6
    assert "keeps what it holds" in caplog.text
    assert "another" not in caplog.text


def test_a_chat_store_is_taken_over(open_buffer, said):
    """Messages that a chat store holds under the key are in the session."""
    store = SimpleChatStore()
    store.set_messages("k", [user("a"), assistant("b")])
    buffer = open_buffer(chat_store=store, chat_store_key="k")
    assert said(buffer.get_all()) == [("user", "a"), ("assistant", "b")]


def test_the_chat_store_of_a_buffer(buffer, said):
    """Code that reads `memory.chat_store` sees the transcript, and what it writes is kept."""
    store, key = buffer.chat_store, buffer.chat_store_key
    store.add_message(key, user("a"))
    store.add_message(key, assistant("b"))
    assert said(store.get_messages(key)) == said(buffer.get_all())
    assert store.get_messages("other") == []
    assert store.get_keys() == [key]
    assert store.delete_last_message(key).content == "b"
    assert store.delete_message(key, 5) is None
    assert len(buffer.get_all()) == 1
    assert len(store.delete_messages(key)) == 1
    assert buffer.get_all() == []
    with pytest.raises(KeyError):
        store.add_message("other", user("x"))


def test_memory_of_ones_own(tmp_path):
    """An open memory can be shared, and settings that contradict it are refused."""
    with Memory.open(f"sqlite:///{tmp_path}/a.db") as memory:
        buffer = HybridChatMemoryBuffer.from_defaults(memory=memory, session_id="s")
        assert buffer.memory is memory
        assert buffer.token_limit == memory.config.budget.prompt
        for setting in ({"url": "sqlite:///b.db"}, {"config": MemoryConfig()}, {"tokenizer_fn": str.split}):
            with pytest.raises(InvalidSetting):
                HybridChatMemoryBuffer.from_defaults(memory=memory, **setting)


def test_store_errors_are_typed(open_buffer, tmp_path):
    """A folder that cannot be, and a memory that was closed, give this package's errors."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable):
        HybridChatMemoryBuffer.from_defaults(url=f"sqlite:///{tmp_path}/file/a.db")
    buffer = open_buffer()
    buffer.memory.close()
    with pytest.raises(StoreClosed):
        buffer.put(user("x"))


def test_a_closed_memory_is_opened_again(tmp_path):
    """After close, a buffer on the same address opens the database anew."""
    url = f"sqlite:///{tmp_path}/a.db"
    one = HybridChatMemoryBuffer.from_defaults(url=url, session_id="s")
    one.put(user("x"))
    one.memory.close()
    two = HybridChatMemoryBuffer.from_defaults(url=url, session_id="s")
    assert len(two.get_all()) == 1
    two.memory.close()


def test_a_dropped_buffer_leaves_nothing_running():
    """An in-memory session ends with the last buffer on it: no thread and no database stays."""
    import gc
    import weakref

    buffer = HybridChatMemoryBuffer.from_defaults()
    buffer.put(user("x"))
    buffer.put(assistant("y"))
    again = HybridChatMemoryBuffer.from_dict(buffer.to_dict())
    memory, session = weakref.ref(buffer.memory), again.session
    del buffer
    gc.collect()
    assert len(again.get_all()) == 2
    del again
    gc.collect()
    with pytest.raises(StoreClosed):
        session.history()
    del session
    for _ in range(50):
        gc.collect()
        if memory() is None:
            return
        time.sleep(0.02)
    pytest.fail("the memory is still held")


def test_an_answer_after_another_process_closed_the_turn(tmp_path, said):
    """Two processes on one session: no answer is lost, whoever closed the turn (G4)."""
    url = f"sqlite:///{tmp_path}/a.db"
    with Memory.open(url) as one, Memory.open(url) as two:
        first = HybridChatMemoryBuffer.from_defaults(memory=one, session_id="s")
        second = HybridChatMemoryBuffer.from_defaults(memory=two, session_id="s")
        first.put(user("a"))
        second.put(user("b"))
        first.put(assistant("to a"))
        second.put(assistant("to b"))
        assert sorted(text for _, text in said(first.get_all())) == ["a", "b", "to a", "to b"]
        assert said(first.get_all()) == said(second.get_all())


def test_rewriting_a_session_is_seen_by_other_buffers(buffer, said):
    """`set` through one buffer is what another on the session reads."""
    other = HybridChatMemoryBuffer.from_dict(buffer.to_dict())
    buffer.put(user("a"))
    other.set([user("b")])
    assert said(buffer.get_all()) == [("user", "b")]
    buffer.put(assistant("c"))
    assert said(other.get_all()) == [("user", "b"), ("assistant", "c")]


def test_a_system_prompt_in_the_history_stays_one(open_buffer, said):
    """A leading system message of the history is sent as system text, once, however long the conversation gets."""
    history = [ChatMessage(role="system", content="Talk like a pirate."), user("hello"), assistant("ahoy")]
    buffer = open_buffer(token_limit=600, chat_history=history)
    assert said(buffer.get()) == [("system", "Talk like a pirate.\n"), ("user", "hello"), ("assistant", "ahoy")]
    assert said(buffer.get_all()) == said(history)
    for number in range(25):
        buffer.put(user(f"Tell me of ship {number} and its crew of {number} men."))
        buffer.put(assistant(f"Ship {number} met {number} whales and a storm."))
    assert buffer.get()[0].content.startswith("Talk like a pirate.")
    assert buffer.get()[0].role == "system"


def test_a_system_prompt_of_an_open_turn(buffer, said):
    """The same before the first answer."""
    buffer.put_messages([ChatMessage(role="system", content="Talk like a pirate."), user("hello")])
    assert said(buffer.get()) == [("system", "Talk like a pirate.\n"), ("user", "hello")]
