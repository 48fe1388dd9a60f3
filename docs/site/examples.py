"""For the site: an "Example:" of a docstring is shown as code, as "Examples:" is."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class ExamplesAsCode(griffe.Extension):
    """Renames the section while the sources are read."""

    def on_instance(self, *, obj: griffe.Object, **_kwargs: Any) -> None:
        """Each object once."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub("Examples:", obj.docstring.value)
