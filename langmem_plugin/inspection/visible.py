"""What a session can show of itself."""

from __future__ import annotations

from langmem_plugin.engine import Engine
from langmem_plugin.inspection.explain import Explanation, explain
from langmem_plugin.inspection.held import read_session, request_at
from langmem_plugin.inspection.pages import session_html
from langmem_plugin.inspection.timeline import Timeline, read_timeline
from langmem_plugin.markup import notebook
from langmem_plugin.records import SessionKey


class Visible:
    """The part of a session that is for people: its timeline, its stories, its view in a notebook."""

    _engine: Engine
    _key: SessionKey

    def timeline(self) -> Timeline:
        """What each turn's request weighed, when the window was compressed, what began and ceased to bind.

        Requests are built again from the log, without system prompt and tools; of a long
        session, evenly chosen ones.
        """
        return read_timeline(self._engine, read_session(self._engine, self._key))

    def explain(self, name: str) -> Explanation:
        """The story of a constraint (by its id) or a message (by its number in the log, as "12").

        Raises:
            InvalidSetting: The session has neither.
        """
        held = read_session(self._engine, self._key)
        window_from = request_at(self._engine, held, held.head.version).report.window_from
        return explain(held, name, window_from=window_from)

    def _repr_html_(self) -> str:
        """The session for a notebook: its timeline, window and constraints."""
        held = read_session(self._engine, self._key)
        return notebook(session_html(read_timeline(self._engine, held), held))
