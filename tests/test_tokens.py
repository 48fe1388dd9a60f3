"""Counting tokens: exact by the vocabulary, never too few without it, whole requests."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
import warnings

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from langmem_plugin.errors import InvalidSetting, MissingExtra
from langmem_plugin.messages import Media, Message, Other, Reasoning, Role, Text, ToolCall, assistant, tool_result, user
from langmem_plugin.tokens import Overheads, TokenCounter, TokenizerWarning, as_counter, openai

ENCODINGS = ("o200k_base", "cl100k_base")
MODELS = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}

alphabets = st.sampled_from(
    [
        st.characters(exclude_categories=["Cs"]),
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
        st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF),
        st.characters(min_codepoint=0x0300, max_codepoint=0x06FF, exclude_categories=["Cs"]),
        st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="),
        st.sampled_from(" \t\n\r\u00a0\u2003"),
        st.sampled_from("a1b2,.;()[]{}<>|!'\"\\/_-=+ \n"),
        st.sampled_from("\x00\x1b\x85\ufeff\u200d\ufe0f"),
    ]
)
odd_text = alphabets.flatmap(lambda alphabet: st.text(alphabet, max_size=300))
code = st.lists(
    st.sampled_from(
        ["def f(x):", "\n    ", "return", " x", "+=1", "{", "}", "=>", '"key": ', "0x1F", "<|endoftext|>", "#"]
    )
).map("".join)


@pytest.fixture(scope="module")
def encodings():
    return {name: tiktoken.get_encoding(name) for name in ENCODINGS}


@pytest.fixture(scope="module")
def gpt4o() -> TokenCounter:
    return TokenCounter.for_model("gpt-4o")


# Exact counts


@pytest.mark.parametrize("name", ENCODINGS)
def test_patterns_are_those_of_tiktoken(encodings, name):
    """Our copy of each vocabulary's pattern is tiktoken's own."""
    ours = {v.name: v.pattern for v in (openai._O200K, openai._CL100K)}
    assert ours[name] == encodings[name]._pat_str


@given(text=odd_text | code)
def test_counts_are_exact_and_the_bound_never_under_counts(encodings, text):
    """With the vocabulary the count is tiktoken's; without it, never below either vocabulary's."""
    approximate = TokenCounter.approximate().count(text)
    for name, encoding in encodings.items():
        truth = len(encoding.encode(text, disallowed_special=()))
        assert TokenCounter.for_model(MODELS[name]).count(text) == truth
        assert approximate >= truth


def test_the_bound_cannot_be_tighter_by_length(encodings):
    """There is text with a token for every byte, so no function of the length could be lower."""
    text = "a1b2c3d4"
    assert all(len(encoding.encode(text)) == len(text) for encoding in encodings.values())
    assert TokenCounter.approximate().count(text) == len(text) + 1


@pytest.mark.parametrize(
    ("name", "vocabulary"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-2024-08-06", "o200k_base"),
        ("gpt-4o-mini", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4.1-nano-2025-04-14", "o200k_base"),
        ("gpt-4.5-preview", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("gpt-5.2-pro", "o200k_base"),
        ("gpt-6", "o200k_base"),
        ("o1", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("o4-mini-2025-04-16", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("azure/gpt-4.1", "o200k_base"),
        ("openrouter/openai/gpt-4o:extended", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "o200k_base"),
        ("gpt-oss:20b", "o200k_base"),
        ("GPT-4o", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("gpt-35-turbo-16k", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("cl100k_base", "cl100k_base"),
        ("o200k_base", "o200k_base"),
    ],
)
def test_model_names(name, vocabulary):
    """Each family, snapshot, prefix and fine-tuned name finds its vocabulary."""
    counter = TokenCounter.for_model(name)
    assert counter.name == f"tiktoken {vocabulary}"
    assert counter.exact


@pytest.mark.parametrize(
    "name", ["fake-gpt-4o", "gpt-4chan", "gpt-j", "o10k", "llama-3", "claude-sonnet-4-5", "gemini-2.5-pro"]
)
def test_unknown_names_fall_back_and_say_so(name):
    """A name without a known vocabulary gives the bound and a TokenizerWarning that names it."""
    with pytest.warns(TokenizerWarning, match=name):
        counter = TokenCounter.for_model(name)
    assert not counter.exact
    assert counter.count("Grüße") == len("Grüße".encode()) + 1


@pytest.mark.parametrize("name", ["./tokenizer.json", "/nowhere/model", "models/tokenizer.json", "~/no/such", "", "  "])
def test_a_path_to_nothing_is_refused(name):
    """What is clearly a path and leads nowhere is an InvalidSetting, not a fallback."""
    with pytest.raises(InvalidSetting):
        TokenCounter.for_model(name)


def test_special_tokens_are_ordinary_text(gpt4o):
    """Special tokens in what somebody wrote count as the characters they are."""
    assert gpt4o.count("<|endoftext|>") > 1
    assert gpt4o.count("<|im_start|>system<|im_end|>") > 3


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "ok \ud83d\ude00 ok", "\udc00\ud800" * 50])
def test_lone_surrogates_are_counted(gpt4o, minilm_path, text):
    """Half a surrogate pair never crashes a counter and never counts as nothing."""
    assert gpt4o.count(text) > 0
    assert TokenCounter.approximate().count(text) >= gpt4o.count(text)
    assert TokenCounter.from_huggingface(minilm_path).count(text) >= 0
    assert TokenCounter.from_callable(lambda t: len(t.encode())).count(text) > 0


# Long texts


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
@pytest.mark.parametrize("unit", [" ", "a", "\n", "\t ", "!", "汉", "e\u0301", "🎉"])
def test_a_megabyte_of_one_thing(encodings, model, unit):
    """A run without a break neither overflows the stack nor takes more than linear time."""
    text = unit * (1_000_000 // len(unit)) + "x"
    counted = TokenCounter.for_model(model).count(text)
    sample = text[-50_000:]
    truth = len(encodings["o200k_base" if model == "gpt-4o" else "cl100k_base"].encode_ordinary(sample))
    assert counted >= truth * (len(text) // len(sample)) * 0.9


words = st.sampled_from(
    [
        "hello",
        "World's",
        "don't",
        "x1",
        "12345",
        "foo_bar",
        "汉字",
        "。",
        "，",
        "\n",
        "\n\n",
        " ",
        "  ",
        "\t",
        "🎉",
        "e\u0301",
        *("\r\n", "'s", "/", " a", "Ä", "\u3000", "-", "\u0660", "，a"),
    ]
)


@settings(max_examples=60)
@given(parts=st.lists(words, min_size=150, max_size=600), limit=st.integers(40, 300))
def test_long_texts_are_never_under_counted(encodings, parts, limit):
    """Counting a long text in parts gives the whole count, or more where it had to cut a run."""
    text = "".join(parts)
    patch = pytest.MonkeyPatch()
    patch.setattr(openai, "_CUT_CHARS", limit)
    try:
        slack = sum(extra for _, extra in openai._parts(text))
        assert "".join(part for part, _ in openai._parts(text)) == text
        for name, encoding in encodings.items():
            truth = len(encoding.encode_ordinary(text))
            counted = TokenCounter.for_model(MODELS[name]).count(text)
            assert truth <= counted
            assert slack or counted == truth
    finally:
        patch.undo()


@settings(max_examples=40)
@given(
    text=st.sampled_from(["ab", " \t", "abcdefghijklmnopqrstuvwxyz", "汉字东西", "!?-", " \n\t\r"]).flatmap(
        lambda chars: st.text(st.sampled_from(chars), min_size=300, max_size=1_500)
    )
)
def test_runs_without_a_safe_cut_are_never_under_counted(encodings, text):
    """Where a run must be cut inside a piece, the slack covers what the cut changes."""
    patch = pytest.MonkeyPatch()
    patch.setattr(openai, "_CUT_CHARS", 100)
    try:
        for name, encoding in encodings.items():
            assert TokenCounter.for_model(MODELS[name]).count(text) >= len(encoding.encode_ordinary(text))
    finally:
        patch.undo()


# Vocabularies that cannot be had


def _fresh_counter(vocabulary=openai._O200K):
    return openai._counter.__wrapped__(vocabulary)


@pytest.fixture
def no_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(openai.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(openai, "_counter", openai._counter.__wrapped__)
    return tmp_path / "empty"


def test_offline_without_the_vocabulary(no_folders):
    """With no cached file and no network the bound stands in, with a warning that says why."""
    with pytest.warns(TokenizerWarning, match="o200k_base is in no cache folder"):
        counter = TokenCounter.for_model("gpt-4o")
    assert not counter.exact
    assert counter.count("hello") >= 5


def test_a_network_that_never_answers_does_not_hang(no_folders, monkeypatch):
    """A download that stalls is given up after its deadline."""
    stall = threading.Event()
    monkeypatch.setattr(openai, "read_file", lambda url: stall.wait(60) and b"")
    monkeypatch.setattr(openai, "DOWNLOAD_S", 0.2)
    started = time.monotonic()
    with pytest.warns(TokenizerWarning):
        TokenCounter.for_model("gpt-4o")
    assert time.monotonic() - started < 10
    stall.set()


def test_a_download_is_checked_and_kept(no_folders, monkeypatch):
    """A downloaded vocabulary is checked by its hash and written where tiktoken looks."""
    spoilt = b"AA== 0\n"
    monkeypatch.setattr(openai, "read_file", lambda url: spoilt)
    with pytest.warns(TokenizerWarning):
        TokenCounter.for_model("gpt-4")
    assert not no_folders.exists()

    monkeypatch.undo()
    good = openai._read(openai._CL100K)
    monkeypatch.setattr(openai, "read_file", lambda url: good)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(no_folders))
    monkeypatch.setattr(openai.importlib.util, "find_spec", lambda name: None)
    assert openai._read(openai._CL100K) == good
    assert [file.name for file in no_folders.iterdir()] == ["9b5ad71b2ce5302211f9c61530b329a4922fc6a4"]


def test_a_damaged_cache_file_is_left_and_passed_over(no_folders, monkeypatch):
    """A cache file with the wrong hash is neither used nor deleted."""
    no_folders.mkdir()
    damaged = no_folders / openai._O200K.file
    damaged.write_bytes(b"not a vocabulary")
    with pytest.warns(TokenizerWarning):
        TokenCounter.for_model("gpt-4o")
    assert damaged.read_bytes() == b"not a vocabulary"


def test_the_wheel_of_llama_index_serves_without_being_imported(repository, tmp_path):
    """Without TIKTOKEN_CACHE_DIR the files of llama-index-core are read; nothing of it is imported."""
    pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
    script = (
        "import os, sys, tempfile\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "before = dict(os.environ)\n"
        "from langmem_plugin.tokens import TokenCounter\n"
        "assert TokenCounter.for_model('gpt-4o').exact\n"
        "assert TokenCounter.for_model('gpt-4').exact\n"
        "assert dict(os.environ) == before\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in ('llama_index', 'langchain_core', 'transformers')]\n"
        "assert not loaded, loaded\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")}
    environment["HTTPS_PROXY"] = "http://127.0.0.1:9"  # a download would be refused at once
    environment["PYTHONPATH"] = os.pathsep.join([str(repository), *sys.path])
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Hugging Face


def test_a_local_tokenizer_counts_whole_texts(minilm_path):
    """The tokenizer of an embedding model, whose file cuts at 128 tokens, counts past that."""
    tokenizers = pytest.importorskip("tokenizers")
    for source in (
        minilm_path,
        f"{minilm_path}/tokenizer.json",
        tokenizers.Tokenizer.from_file(f"{minilm_path}/tokenizer.json"),
    ):
        counter = as_counter(source)
        assert counter.exact
        assert counter.count("word " * 1_000) == 1_000
        assert counter.count("[CLS] [SEP]") > 2  # special tokens are text


def test_a_loaded_tokenizer_stays_as_it_was(minilm_path):
    """The user's object keeps its own truncation."""
    tokenizers = pytest.importorskip("tokenizers")
    loaded = tokenizers.Tokenizer.from_file(f"{minilm_path}/tokenizer.json")
    loaded.enable_truncation(16)
    assert TokenCounter.from_huggingface(loaded).count("word " * 100) == 100
    assert loaded.truncation["max_length"] == 16


def test_a_chat_template_gives_the_framing(minilm_path):
    """For a tokenizer with a chat template no request counts less than the template renders."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{minilm_path}/tokenizer.json", unk_token="[UNK]")
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a careful assistant.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    counter = TokenCounter.from_huggingface(tokenizer)
    talk = [{"role": ("user", "assistant")[i % 2], "content": f"number {i} is said"} for i in range(7)]
    for length in range(1, 8):
        rendered = tokenizer.apply_chat_template(talk[:length], tokenize=False, add_generation_prompt=True)
        truth = len(tokenizer.encode(rendered, add_special_tokens=False))
        counted = counter.count_request([(user, assistant)[i % 2](m["content"]) for i, m in enumerate(talk[:length])])
        assert truth <= counted <= truth + 3 * length + 5


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    """A JSON file of something else, or a folder without one, is an InvalidSetting."""
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidSetting, match=r"not a tokenizer\.json"):
        as_counter(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidSetting, match="existing"):
        as_counter(tmp_path / "empty")
    with pytest.raises(InvalidSetting):
        TokenCounter.from_huggingface(object())


def test_without_tokenizers_the_extra_is_named(minilm_path, monkeypatch):
    """A path needs the package tokenizers; without it the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"tokenizers: pip install"):
        TokenCounter.from_huggingface(minilm_path)


# Framework models


class Named:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def test_models_by_name_tokenizer_and_own_count():
    """A model's known name comes first, then its tokenizer, then its own get_num_tokens."""
    assert as_counter(Named(model_name="gpt-4o-mini", get_num_tokens=len)).name == "tiktoken o200k_base"
    assert as_counter(Named(metadata=Named(model_name="gpt-4"))).name == "tiktoken cl100k_base"
    own = as_counter(Named(model_name="my-model", get_num_tokens=lambda text: len(text) * 2))
    assert own.exact
    assert own.count("abc") == 6
    encoding = tiktoken.get_encoding("cl100k_base")
    assert as_counter(Named(model_name="my-model", tokenizer=encoding)).count("hello there") == 2


def test_a_bound_langchain_model_is_seen_through():
    """What bind_tools gives counts as the model inside."""
    inner = Named(model_name="gpt-4o", invoke=print)
    assert as_counter(Named(bound=inner)).name == "tiktoken o200k_base"


def test_langchain_guesses_are_not_trusted():
    """LangChain's GPT-2 default and its cl100k guess for unknown names are not used; a custom count is."""
    fakes = pytest.importorskip("langchain_core.language_models.fake_chat_models")
    with pytest.warns(TokenizerWarning, match="FakeListChatModel"):
        assert not as_counter(fakes.FakeListChatModel(responses=["x"])).exact
    custom = fakes.FakeListChatModel(responses=["x"], custom_get_token_ids=lambda text: list(range(len(text))))
    assert as_counter(custom).count("four") == 4


def test_chat_openai_of_another_model():
    """ChatOpenAI in front of a model of somebody else falls back; with OpenAI's own it is exact."""
    langchain_openai = pytest.importorskip("langchain_openai")
    with pytest.warns(TokenizerWarning, match=r"qwen2\.5"):
        assert not as_counter(langchain_openai.ChatOpenAI(model="qwen2.5", api_key="none")).exact
    llm = langchain_openai.ChatOpenAI(model="gpt-4o", api_key="none")
    assert as_counter(llm).name == "tiktoken o200k_base"
    assert as_counter(llm.bind(stop=["x"])).name == "tiktoken o200k_base"


def test_llama_index_models():
    """LlamaIndex's models are known by metadata.model_name; OpenAI's class may refuse to say."""
    llms = pytest.importorskip("llama_index.core.llms")
    with pytest.warns(TokenizerWarning):
        assert not as_counter(llms.MockLLM()).exact
    openai_like = pytest.importorskip("llama_index.llms.openai_like")
    llm = openai_like.OpenAILike(
        model="local", api_base="http://127.0.0.1:9", tokenizer=tiktoken.get_encoding("o200k_base")
    )
    assert as_counter(llm).count("hello there") == 2


def test_what_as_counter_takes_and_refuses():
    """Counters, encodings, functions and callable objects count; anything else is refused by its type."""
    counter = TokenCounter.approximate()
    assert as_counter(counter) is counter
    assert as_counter(tiktoken.get_encoding("o200k_base")).count("<|endoftext|>") > 1
    assert as_counter(lambda text: len(text.split())).count("three short words") == 3
    for wrong in (None, 7, object()):
        with pytest.raises(InvalidSetting, match=type(wrong).__name__):
            as_counter(wrong)
    with pytest.raises(InvalidSetting, match="whole number"):
        as_counter(lambda text: 1.5).count("x")  # type: ignore[arg-type,return-value]


# Messages and requests


def test_messages_count_every_part(gpt4o):
    """Each part of a message adds its tokens: text, name, calls, ids, reasoning, unknown blocks."""
    base = gpt4o.count_message(user(""))
    assert base == 4
    assert gpt4o.count_message(user("hello")) == 5
    assert gpt4o.count_message(user("hello", name="Ann")) == 5 + 1 + gpt4o.count("Ann")
    call = ToolCall(id="call_1", name="search", arguments='{"q": "tea"}')
    expected = 4 + 8 + sum(map(gpt4o.count, ("call_1", "search", '{"q": "tea"}')))
    assert gpt4o.count_message(assistant("", call)) == expected
    assert gpt4o.count_message(tool_result("42", call_id="call_1")) == 4 + gpt4o.count("42") + gpt4o.count("call_1")
    thought = Message(role=Role.ASSISTANT, blocks=(Reasoning(text="so", signature="s" * 400),))
    assert gpt4o.count_message(thought) == 4 + 100
    other = Message(role=Role.USER, blocks=(Other(framework="langchain", data={"type": "x", "value": "y" * 50}),))
    assert gpt4o.count_message(other) > 10


def test_a_calls_arguments_count_as_frameworks_write_them(gpt4o):
    """G1: arguments that a framework writes anew, none of them as an empty object, never have more tokens."""

    def counted(arguments):
        return gpt4o.count_message(assistant("", ToolCall(id="a", name="f", arguments=arguments)))

    assert counted("") == counted(" ") == counted("{}")
    for compact in ('{"a":[1,2],"b":"é"}', '{"n":1}', '{"city":"Rome","unit":"c"}', '{"a":"\\u00e9"}'):
        assert counted(compact) >= counted(json.dumps(json.loads(compact), ensure_ascii=False))
    assert counted("not JSON") == counted("{}") - gpt4o.count("{}") + gpt4o.count("not JSON")


JARGON = (
    (
        "system",
        "",
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    ),
    ("system", "example_user", "New synergies will help drive top-line growth."),
    ("system", "example_assistant", "Things working well together will increase revenue."),
    (
        "system",
        "example_user",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
    ("user", "", "This late pivot means we don't have time to boil the ocean for the client deliverable."),
)


@pytest.mark.parametrize(("model", "billed"), [("gpt-4", 129), ("gpt-4o", 124)])
def test_the_cookbook_example_of_messages(model, billed):
    """The cookbook's example request counts as the API bills it: 129 tokens for gpt-4, 124 for gpt-4o."""
    request = [Message(role=Role(role), name=name or None, blocks=(Text(content),)) for role, name, content in JARGON]
    assert TokenCounter.for_model(model).count_request(request) == billed


def test_media_is_counted_without_being_opened(gpt4o):
    """Images take their configured figure, text files their text, the rest by size."""

    def size(**fields):
        return gpt4o.count_message(Message(role=Role.USER, blocks=(Media(**fields),))) - 4

    assert size(kind="image", url="https://example.org/a.png") == 1_445
    assert size(kind="image", data="AAAA", detail="low") == 85
    cheap = gpt4o.with_overheads(image=1_105)
    assert cheap.count_message(Message(role=Role.USER, blocks=(Media(kind="image", url="x"),))) == 1_109
    text = base64.b64encode(b"hello there").decode()
    assert size(kind="file", data=text, mime_type="text/plain") == 2
    assert size(kind="file", data="A", mime_type="text/plain") >= 1  # not base64
    assert size(kind="audio", data="A" * 400_000) == 10_000
    assert size(kind="file", url="https://example.org/a.pdf") == 2_048


def test_overheads_are_checked(gpt4o):
    """Figures that do not exist or are negative are refused."""
    with pytest.raises(InvalidSetting, match="use one of"):
        gpt4o.with_overheads(picture=1)
    with pytest.raises(InvalidSetting, match="image"):
        gpt4o.with_overheads(image=-1)
    assert TokenCounter.for_model("gpt-4o-mini").overheads.image > Overheads().image


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {
                    "type": "string",
                    "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"],
                },
            },
            "required": ["location"],
        },
    },
}


def _cookbook(tools, count, init):
    """The published formula, as OpenAI's cookbook states it for flat schemas."""
    total = 0
    for tool in tools:
        function = tool["function"]
        total += init + count(f"{function['name']}:{function['description'].rstrip('.')}")
        properties = function["parameters"]["properties"]
        if properties:
            total += 3
            for key, value in properties.items():
                total += 3
                if "enum" in value:
                    total += -3 + sum(3 + count(item) for item in value["enum"])
                total += count(f"{key}:{value['type']}:{value['description'].rstrip('.')}")
    return total + 12


@pytest.mark.parametrize(("model", "init", "billed"), [("gpt-4o", 7, 101), ("gpt-4", 10, 105)])
def test_the_cookbook_example_of_tools(model, init, billed):
    """The cookbook's example request, billed at 101 and 105 tokens, is never counted lower."""
    counter = TokenCounter.for_model(model)
    messages = [
        Message(
            role=Role.SYSTEM,
            blocks=(Text("You are a helpful assistant that can answer to questions about the weather."),),
        ),
        user("What's the weather like in Pittsburgh?"),
    ]
    assert counter.count_tools([WEATHER]) >= _cookbook([WEATHER], counter.count, init)
    assert counter.count_request(messages, [WEATHER]) >= billed


names = st.text(st.sampled_from("abcdefgh_"), min_size=1, max_size=12)
properties = st.dictionaries(
    names,
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "number"]), "description": st.text(max_size=40)},
        optional={"enum": st.lists(names, min_size=1, max_size=5)},
    ),
    max_size=5,
)
tools = st.lists(
    st.builds(
        lambda name, description, props: {
            "type": "function",
            "function": {
                "name": name,
                "description": description,
                "parameters": {"type": "object", "properties": props},
            },
        },
        names,
        st.text(max_size=60),
        properties,
    ),
    min_size=1,
    max_size=4,
)


@given(schemas=tools)
def test_tools_never_count_less_than_the_published_formula(gpt4o, schemas):
    """For any flat schemas the count reaches the cookbook's formula and the JSON's own tokens."""
    counted = gpt4o.count_tools(schemas)
    assert counted >= _cookbook(schemas, gpt4o.count, 10)
    assert counted >= sum(gpt4o.count(json.dumps(schema, ensure_ascii=False)) for schema in schemas)


def test_tool_schemas_of_any_shape(gpt4o):
    """No tools cost nothing; Anthropic's form, nested and endless schemas, and odd values are counted."""
    assert gpt4o.count_tools([]) == 0
    assert gpt4o.count_tools([{"name": "f", "input_schema": WEATHER["function"]["parameters"]}]) > 60
    assert gpt4o.count_tools([{"type": "web_search", "odd": object()}]) > 0
    deep: dict = {"type": "string", "description": "end"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    assert gpt4o.count_tools([{"name": "f", "parameters": deep}]) > 2_000
    endless: dict = {"name": "f"}
    endless["parameters"] = endless
    with pytest.raises(InvalidSetting, match="tools"):
        gpt4o.count_tools([endless])


# The cache


def test_counts_are_cached_and_bounded(monkeypatch):
    """A text is counted once while it is in the cache, the cache stays bounded, and 0 is for the empty text."""
    from langmem_plugin.tokens import counter as module

    monkeypatch.setattr(module, "_CACHED", 10)
    asked: list[str] = []
    counter = TokenCounter.from_callable(lambda text: asked.append(text) or len(text))  # type: ignore[func-returns-value]
    assert counter.count("") == 0
    assert [counter.count("abc") for _ in range(5)] == [3] * 5
    assert asked == ["abc"]
    for number in range(50):
        counter.count(str(number))
    assert len(counter._cache) == 10
    assert all(isinstance(key, bytes) and len(key) == 16 for key in counter._cache)


def test_ten_threads_count_the_same(gpt4o):
    """Threads that count at once get the right numbers."""
    texts = [f"text number {n} " * (n % 7) for n in range(200)]
    encoding = tiktoken.get_encoding("o200k_base")
    truth = [len(encoding.encode(text)) for text in texts]
    counter = TokenCounter.for_model("gpt-4o")
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append([counter.count(t) for t in texts])) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [truth] * 10


def test_the_warning_is_shown_once():
    """By Python's default filter the same fallback warns once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            TokenCounter.for_model("model-nobody-knows")
    assert len(caught) == 1
