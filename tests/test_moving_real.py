"""What langmem and mem0 keep, written by those packages themselves, comes along as the guides say.

Skipped where they are not installed: `pip install langmem mem0ai`.
"""

from __future__ import annotations

import pytest

from langmem_plugin import Memory
from langmem_plugin.moving import add_facts

pytestmark = pytest.mark.filterwarnings("ignore")  # what two other packages warn of as they are imported


@pytest.fixture
def session():
    with Memory.open() as memory:
        yield memory.session("dinner", owner="ann")


def held(session):
    return [constraint.text for constraint in session.constraints()]


def text_of(value):
    """As in docs/migrating.md."""
    content = value["content"]
    return content["content"] if isinstance(content, dict) else content


def test_what_langmems_tool_stored(session):
    """A memory that langmem's own tool put into LangGraph's store stands in the requests afterwards."""
    langmem = pytest.importorskip("langmem")
    memory = pytest.importorskip("langgraph.store.memory")
    store = memory.InMemoryStore()
    tool = langmem.create_manage_memory_tool(namespace=("memories", "{user}"), store=store)
    tool.invoke({"content": "Ann lives in Lyon.", "action": "create"}, {"configurable": {"user": "ann"}})

    found = [text_of(item.value) for item in store.search(("memories", "ann"), limit=1_000)]
    assert found == ["Ann lives in Lyon."]
    add_facts(session, found)
    assert held(session) == found
    assert "Ann lives in Lyon." in session.context("Where do I live?").system


def test_what_langmems_manager_stored(session):
    """Its memory manager keeps a memory as `{"kind": ..., "content": {...}}`; that form comes along too."""
    langmem = pytest.importorskip("langmem")
    memory = pytest.importorskip("langgraph.store.memory")
    kinds = pytest.importorskip("langmem.knowledge.extraction")
    models = pytest.importorskip("langchain_core.language_models")

    class Model(models.FakeListChatModel):
        """It finds nothing new, so that what is stored is the default."""

        def bind_tools(self, *given, **options):
            return self

    store = memory.InMemoryStore()
    manager = langmem.create_memory_store_manager(
        Model(responses=["nothing"]),
        namespace=("memories", "{user}"),
        default=kinds.Memory(content="Ann is a vegetarian."),
        store=store,
    )
    said = {"messages": [{"role": "user", "content": "Hello"}]}
    manager.invoke(said, config={"configurable": {"user": "ann"}})
    (item,) = store.search(("memories", "ann"), limit=1_000)
    assert item.value == {"kind": "Memory", "content": {"content": "Ann is a vegetarian."}}
    add_facts(session, [text_of(item.value)])
    assert held(session) == ["Ann is a vegetarian."]


def test_what_mem0_stored(session, tmp_path, monkeypatch):
    """A memory that mem0 itself added, embedded and gave back stands in the requests afterwards; offline."""
    monkeypatch.setenv("MEM0_TELEMETRY", "False")
    monkeypatch.setenv("MEM0_DIR", str(tmp_path))
    mem0 = pytest.importorskip("mem0")
    pytest.importorskip("qdrant_client")
    embeddings = pytest.importorskip("langchain_core.embeddings")
    models = pytest.importorskip("langchain_core.language_models")
    store = {"collection_name": "c", "path": str(tmp_path / "vectors"), "embedding_model_dims": 16}
    old = mem0.Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "llm": {"provider": "langchain", "config": {"model": models.FakeListChatModel(responses=["{}"])}},
            "embedder": {
                "provider": "langchain",
                "config": {"model": embeddings.DeterministicFakeEmbedding(size=16)},
            },
            "history_db_path": str(tmp_path / "history.db"),
        }
    )
    facts = [f"Knows the song number {number}" for number in range(22)]
    for fact in facts:
        old.add([{"role": "user", "content": fact}], user_id="ann", infer=False)
    old.add([{"role": "user", "content": "Plays the cello"}], user_id="bob", infer=False)
    assert len(old.get_all(filters={"user_id": "ann"})["results"]) == 20  # why the guide names top_k
    exported = old.get_all(filters={"user_id": "ann"}, top_k=10_000)
    add_facts(session, [row["memory"] for row in exported["results"]])
    assert sorted(held(session)) == sorted(facts)
