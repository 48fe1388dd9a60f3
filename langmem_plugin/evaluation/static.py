"""A static embedder in a folder, to measure beside a transformer: a text's vector is the mean of its tokens' vectors.

    python -m langmem_plugin.evaluation.static FOLDER [--tokens-of MODEL]

`--tokens-of` names a sentence-transformers model or its folder, whose table of token
vectors is taken; nothing of its transformer is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langmem_plugin.errors import MissingExtra
from langmem_plugin.local_models import locate, no_progress_bars


def write(folder: Path, *, tokens_of: str) -> tuple[int, int]:
    """Write a sentence-transformers model that only looks up and averages; the table's rows and columns.

    Args:
        folder: Where to; made if it is not there.
        tokens_of: A sentence-transformers model's folder or name.

    Raises:
        InvalidSetting: No such model.
        MissingExtra: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("a static embedder", "sentence-transformers", "sentence-transformers") from error
    try:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    except ImportError:  # older releases
        from sentence_transformers.models import StaticEmbedding
    tokenizer, table = _of_model(tokens_of)
    with no_progress_bars():
        SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu").save(
            str(folder)
        )
    rows, columns = table.shape
    return int(rows), int(columns)


def _of_model(name: str) -> tuple[Any, Any]:
    from sentence_transformers import SentenceTransformer

    found = locate("--tokens-of", name, organisation="sentence-transformers", example='"all-MiniLM-L6-v2"')
    with no_progress_bars():
        model = SentenceTransformer(found.where, local_files_only=found.local, device="cpu")
    inner: Any = model[0]
    return model.tokenizer.backend_tokenizer, inner.auto_model.get_input_embeddings().weight.detach().numpy()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder."""
    parser = argparse.ArgumentParser(prog="python -m langmem_plugin.evaluation.static", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens-of", default="all-MiniLM-L6-v2", metavar="MODEL", help="(all-MiniLM-L6-v2)")
    given = parser.parse_args(arguments)
    rows, columns = write(given.folder, tokens_of=given.tokens_of)
    sys.stdout.write(f"{rows} tokens of {columns} numbers in {given.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
