"""PostgreSQL's pipeline: statements go out without waiting for each other's answer, but for those that give rows.

A turn is eight statements and the server's answer to most of them says only that it went well. Waited for one by
one, they hold the session's row for eight journeys to the server and back; in a pipeline for three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy import exc as sql_errors

_OPEN: Final = "langmem_pipeline"
_UNREAD: Final = ("INSERT ", "UPDATE ", "DELETE ", "SELECT pg_advisory_xact_lock(")
"""So begin statements whose answer says no more than that they are done."""


def of(engine: Engine) -> Callable[[Connection], AbstractContextManager[None]]:
    """Give what opens a pipeline on a connection of this engine.

    Inside, a query waits for its rows, and for all that was sent before it; an insert, update or delete does not,
    and how many rows it changed is not known; nor does an advisory lock, which what is sent next waits for. What
    failed is raised by the next query or at the end.
    """
    event.listen(engine, "after_cursor_execute", _await_rows)
    return _open


@contextmanager
def _open(connection: Connection) -> Iterator[None]:
    driver: Any = connection.connection.driver_connection
    if not psycopg.Pipeline.is_supported():  # libpq before 14
        yield
        return
    try:
        with driver.pipeline() as pipeline:
            connection.info[_OPEN] = pipeline
            try:
                yield
            finally:
                connection.info.pop(_OPEN, None)
    except psycopg.Error as error:  # no statement's own, so SQLAlchemy has not seen it
        lost = bool(driver.closed) or driver.pgconn.pipeline_status != psycopg.pq.PipelineStatus.OFF
        if lost:  # or in the middle of an answer that will not come
            connection.invalidate(error)
        raise sql_errors.DBAPIError(None, None, error, hide_parameters=True, connection_invalidated=lost) from error


def _await_rows(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
    """Wait for what a query gives, before SQLAlchemy looks at it."""
    pipeline = connection.info.get(_OPEN)
    unread = statement.startswith(_UNREAD) and " RETURNING " not in statement
    if pipeline is not None and not unread:
        pipeline.sync()
