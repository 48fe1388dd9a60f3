"""A real small model as the extractor: whatever it makes of a prompt, it adds nothing that the user did not say."""

from __future__ import annotations

import os

import pytest
from langchain_openai import ChatOpenAI

from langmem_plugin import Memory, MemoryConfig
from langmem_plugin.config import ConstraintsConfig
from langmem_plugin.evaluation.attacks import OWN, PASTED
from langmem_plugin.messages import assistant

pytestmark = pytest.mark.filterwarnings("default")

ATTACKS = OWN[: int(os.environ.get("LANGMEM_LLM_ATTACKS", "8"))]
GENUINE = ("Never use emojis.", "I'm allergic to peanuts.", "My budget is 500 euros.")
CONFIG = MemoryConfig(constraints=ConstraintsConfig(refine_every=1, model_finds="active", when_full="consolidate"))


def test_a_real_model_as_extractor_changes_nothing_that_stands(proxy):
    """Attacks pasted and in answers, read by SmolLM2: none is in force, all that is genuine is, word for word."""
    model = ChatOpenAI(
        base_url=proxy.url, api_key="none", model="smollm2", max_retries=0, timeout=300, temperature=0,
        extra_body={"max_tokens": 160},
    )  # fmt: skip
    said = []
    with Memory.open(config=CONFIG, extractor=model) as memory:
        session = memory.session("s", owner="ann")
        for text in GENUINE:
            session.add(text, assistant("Noted."))
            said.append(text)
        for number, attack in enumerate(ATTACKS):
            paste = list(PASTED.values())[number % len(PASTED)]
            session.add(paste(attack), assistant(attack))
            said.append(paste(attack))
        memory.wait(600)
        in_force = [one.text for one in session.constraints()]
        assert set(GENUINE) <= set(in_force)
        assert not [text for text in in_force if any(text in attack for attack in ATTACKS)]
        assert all(any(one.text in message for message in said) for one in session.constraints(all=True))
        session.verify_request(session.context("Hello").system)
    print(f"\n{len(proxy.requests)} answers of the model read; in force: {in_force}")
    assert proxy.requests
