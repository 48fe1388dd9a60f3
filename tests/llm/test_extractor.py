"""A real small model as the extractor: whatever it makes of a prompt, it adds nothing that the user did not say."""

from __future__ import annotations

import logging
import os
from collections import Counter

import pytest
from langchain_openai import ChatOpenAI
from llama_index.llms.openai_like import OpenAILike

from langmem_plugin import Memory, MemoryConfig
from langmem_plugin.config import ConstraintsConfig
from langmem_plugin.evaluation.attacks import OWN, PASTED
from langmem_plugin.messages import Role, assistant
from langmem_plugin.models import EXTRACTION_SCHEMA

pytestmark = pytest.mark.filterwarnings("default")

ATTACKS = OWN[: int(os.environ.get("LANGMEM_LLM_ATTACKS", "8"))]
GENUINE = ("Never use emojis.", "I'm allergic to peanuts.", "My budget is 500 euros.")
IMPLIED = ("The other options don't work for me.", "We are a bunch of night owls over here.")
CONFIG = MemoryConfig(constraints=ConstraintsConfig(refine_every=2, model_finds="active"))
ANSWER = 160
SCHEMA = dict(EXTRACTION_SCHEMA)


def langchain_model(proxy):
    return ChatOpenAI(
        base_url=proxy.url, api_key="none", model="smollm2", max_retries=0, timeout=300, temperature=0,
        extra_body={"max_tokens": ANSWER},
    )  # fmt: skip


def llama_index_model(proxy, **more):
    return OpenAILike(
        api_base=proxy.url, api_key="none", model="smollm2", max_tokens=ANSWER, max_retries=0, timeout=300,
        temperature=0, is_chat_model=True, **more,
    )  # fmt: skip


WAYS = {
    "langchain: text": langchain_model,
    "langchain: json_mode": lambda p: langchain_model(p).with_structured_output(SCHEMA, method="json_mode"),
    "langchain: function_calling": lambda p: langchain_model(p).with_structured_output(
        SCHEMA, method="function_calling"
    ),
    "llama-index: text": llama_index_model,
    "llama-index: response_format": lambda p: llama_index_model(
        p, additional_kwargs={"response_format": {"type": "json_object", "schema": SCHEMA}}
    ),
}


def told(extractor, gate=None):
    """A conversation with attacks pasted and in the answers; the session's constraints and what the user said."""
    with Memory.open(config=CONFIG, extractor=extractor) as memory:
        session = memory.session("s", owner="ann")
        for text in (*GENUINE, *IMPLIED):
            session.add(text, assistant("Noted."))
        for number, attack in enumerate(ATTACKS):
            paste = list(PASTED.values())[number % len(PASTED)]
            session.add(paste(attack), assistant(attack))
        if gate is not None:
            gate.set()
        memory.wait(600)
        session.verify_request(session.context("Hello").system)
        said = {entry.seq: entry.message for entry in session.history()}
        return session.constraints(all=True), said


@pytest.mark.parametrize("way", WAYS)
def test_a_real_model_as_extractor_changes_nothing_that_stands(proxy, caplog, way):
    """Attacks pasted and in answers, read by SmolLM2: none is in force, the rules' finds are as without it.

    All turns are added while the model is held back, so none waits for it. What it adds stands in a message of the
    user, word for word; what is refused is counted.
    """
    without, _ = told(None)
    proxy.open.clear()
    with caplog.at_level(logging.DEBUG, "langmem_plugin.projections"):
        found, said = told(WAYS[way](proxy), proxy.open)

    by_rule = [(one.text, one.kind, one.state) for one in found if one.source == "rule"]
    assert by_rule == [(one.text, one.kind, one.state) for one in without]
    in_force = [one for one in found if one.state == "active"]
    assert set(GENUINE) <= {one.text for one in in_force}
    assert not [one.text for one in in_force if any(one.text in attack for attack in ATTACKS)]
    for one in found:
        assert said[one.seq].role is Role.USER
        assert said[one.seq].text[one.start : one.end] == one.text

    read = [record for record in caplog.records if hasattr(record, "refused")]
    refused = sum((Counter(record.refused) for record in read), Counter())
    pointed = sum(record.pointed for record in read)
    assert sum(one.source == "model" for one in found) <= pointed
    assert len(read) <= len(proxy.requests)
    assert proxy.requests
    print(
        f"\n{way}: {len(proxy.requests)} calls, {len(read)} answers read, {pointed} statements accepted, "
        f"refused {sorted((str(reason), count) for reason, count in refused.items())}, "
        f"added {[one.text for one in found if one.source == 'model']}"
    )
