"""Settings: what is refused and how it is said, budgets by share and by tokens, models, presets."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langmem_plugin.config import Budget, MemoryConfig, WindowConfig
from langmem_plugin.errors import InvalidSetting, LangmemPluginError
from langmem_plugin.windows import get_context_window

PRESETS = ("customer_support", "coding_assistant", "roleplay", "knowledge_assistant", "multi_agent")


@pytest.mark.parametrize(
    ("settings", "name", "given"),
    [
        ({"max_tokens": 0}, "max_tokens", 0),
        ({"max_tokens": "8000"}, "max_tokens", "8000"),
        ({"max_tokens": True}, "max_tokens", True),
        ({"completion": 8_000}, "completion", 8_000),
        ({"recall": 1.5}, "recall", 1.5),
        ({"recall": -1}, "recall", -1),
        ({"recall": float("nan")}, "recall", None),
        ({"documents": "half"}, "documents", "half"),
        ({"summary": 7_001}, "summary", 7_001),
        ({"recall": 0.95}, "recall", 0.95),
        ({"constraints": 0.9, "summary": 0.2}, "constraints", 0.9),
        ({"reserve": 10}, "reserve", 10),
    ],
)
def test_a_budget_that_cannot_work_is_refused(settings, name, given):
    """A setting that cannot work is an InvalidSetting with its name, its value and what would do."""
    with pytest.raises(InvalidSetting) as caught:
        Budget(**settings)
    assert caught.value.name == name
    assert given is None or caught.value.given == given
    assert caught.value.want
    assert name in str(caught.value)
    assert isinstance(caught.value, LangmemPluginError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("make", [lambda s: MemoryConfig(**s), MemoryConfig.model_validate])
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"budget": {"max_tokens": -1}}, "budget.max_tokens"),
        ({"budget": {"completion": 9_000}}, "budget.completion"),
        ({"window": {"low": 0.9}}, "window.low"),
        ({"budget": 3}, "budget"),
        ({"constraints": {"scope": "world"}}, "constraints.scope"),
        ({"windows": {}}, "windows"),
    ],
)
def test_an_inner_setting_is_named_by_its_path(make, settings, name):
    """A setting inside another is named with the way to it, however the configuration is made."""
    with pytest.raises(InvalidSetting) as caught:
        make(settings)
    assert caught.value.name == name


def test_low_water_stands_below_high_water():
    """A window whose low mark is not below the high one is refused."""
    with pytest.raises(InvalidSetting, match=r"low is 0\.5; give less than high \(0\.5\)"):
        WindowConfig(high=0.5, low=0.5)


def test_json_text_is_checked_as_well():
    """JSON comes back as it was written, and bad JSON is an InvalidSetting."""
    config = MemoryConfig.preset("coding_assistant", max_message_chars=10)
    assert MemoryConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(InvalidSetting):
        MemoryConfig.model_validate_json("{")
    with pytest.raises(InvalidSetting, match=r"budget\.max_tokens"):
        MemoryConfig.model_validate_json('{"budget": {"max_tokens": 0}}')


def test_configurations_copy_and_pickle():
    """A configuration is a value: equal after pickling and copying."""
    config = MemoryConfig.preset("multi_agent")
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.model_copy() == config


def test_segments_as_shares_or_tokens():
    """A decimal number is a share of the prompt, a whole number is tokens."""
    budget = Budget(max_tokens=5_000, completion=1_000, constraints=700, summary=0.25, recall=1, recall_max=1.0)
    assert budget.prompt == 4_000
    assert budget.tokens("constraints") == 700
    assert budget.tokens("summary") == 1_000
    assert budget.tokens("recall") == 1
    assert budget.tokens("recall_max") == 4_000


share = st.floats(0, 1) | st.integers(0, 20_000)


@given(st.integers(1, 20_000), st.integers(0, 20_000), share, share, share, share, share)
def test_an_accepted_budget_always_adds_up(total, completion, constraints, summary, recall, recall_max, documents):
    """Whatever is accepted leaves a prompt, and no segment's limit is above it."""
    try:
        budget = Budget(
            max_tokens=total,
            completion=completion,
            constraints=constraints,
            summary=summary,
            recall=recall,
            recall_max=recall_max,
            documents=documents,
        )
    except InvalidSetting:
        return
    assert budget.prompt > 0
    for portion in ("constraints", "summary", "recall", "recall_max", "documents"):
        assert 0 <= budget.tokens(portion) <= budget.prompt
    assert budget.tokens("constraints") + budget.tokens("summary") <= budget.prompt
    assert budget.tokens("recall") <= budget.tokens("recall_max")


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("gpt-4o", 128_000),
        ("openai/gpt-4o-2024-08-06", 128_000),
        ("azure:gpt-4.1-mini", 1_047_576),
        ("ft:gpt-4o-mini-2024-07-18:org::id", 128_000),
        ("gpt-4-0613", 8_192),
        ("gpt-4-turbo", 128_000),
        ("gpt-35-turbo", 16_385),
        ("gpt-5-mini", 272_000),
        ("o3-mini", 200_000),
        ("gpt-oss:20b", 131_072),
        ("claude-sonnet-4-5", 200_000),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", 200_000),
        ("models/gemini-2.5-pro", 1_048_576),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8_192),
        ("llama3.1:8b", 131_072),
        ("mistral-large-latest", 131_072),
        ("mistralai/Mistral-7B-Instruct-v0.3", 32_768),
        ("Qwen/Qwen2.5-7B-Instruct", 32_768),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 8_192),
    ],
)
def test_known_context_windows(name, window):
    """Names as the providers, Azure, Bedrock, Ollama and Hugging Face write them are understood."""
    assert get_context_window(name) == window
    budget = Budget.for_model(name)
    assert budget.max_tokens == window
    assert 0 < budget.completion <= 4_096


def test_an_unknown_model_asks_for_the_number():
    """A model that is not in the table is refused, naming max_tokens, unless that is given."""
    with pytest.raises(InvalidSetting, match="max_tokens="):
        Budget.for_model("my-own-model")
    assert Budget.for_model("my-own-model", max_tokens=4_000).completion == 500
    assert Budget.for_model("gpt-4o", max_tokens=9_000, completion=100, recall=50).prompt == 8_900
    with pytest.raises(InvalidSetting, match="max_tokens"):
        Budget.for_model("gpt-4o", max_tokens="many")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_take_overrides(name):
    """Each preset is a valid configuration, and an override replaces its field."""
    config = MemoryConfig.preset(name)
    assert config != MemoryConfig()
    assert MemoryConfig.preset(name, budget=Budget(max_tokens=999, completion=9)).budget.max_tokens == 999


def test_presets_do_what_they_promise():
    """Each preset sets what its documentation says it is for."""
    support = MemoryConfig.preset("customer_support")
    assert support.budget.tokens("constraints") > MemoryConfig().budget.tokens("constraints")
    coding = MemoryConfig.preset("coding_assistant")
    assert coding.summary.max_tokens > MemoryConfig().summary.max_tokens
    play = MemoryConfig.preset("roleplay")
    assert not play.recall.enabled
    assert play.window.low > MemoryConfig().window.high
    knowledge = MemoryConfig.preset("knowledge_assistant")
    assert knowledge.budget.tokens("documents") * 2 == knowledge.budget.prompt
    assert MemoryConfig.preset("multi_agent").constraints.scope == "owner"


def test_an_unknown_preset_names_the_known_ones():
    """A misspelt preset is refused with the list of those that exist."""
    with pytest.raises(InvalidSetting, match="customer_support, coding_assistant"):
        MemoryConfig.preset("support")  # type: ignore[arg-type]
