"""Row-level security in PostgreSQL: a second lock beside the owner in every query (guarantee G7)."""

from __future__ import annotations

from sqlalchemy import Connection, text

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.store import schema
from langmem_plugin.store.postgres import PostgresStore

_OWNED = (schema.sessions, schema.constraints, schema.access_keys)
_BELOW = (
    schema.turns,
    schema.staged,
    schema.messages,
    schema.postings,
    schema.summaries,
    schema.embeddings,
    schema.events,
)
_ALL = (*_OWNED, *_BELOW, schema.meta, schema.tombstones)
_POLICY = "langmem_owner"
_MINE = "owner = current_setting('app.owner', true)"
_NUMBERED = (("sessions", "id"), ("constraints", "position"), ("summaries", "id"))


def protect(url: str, *, role: str) -> tuple[str, ...]:
    """Let a role see and change only the rows of the owner that its transaction names.

    A transaction names the owner by `SET LOCAL app.owner`; without it nothing is seen. A memory
    that is opened as this role does so by itself. The role that owns the tables is not held back:
    open the memory as that one for migrations, workers, sweeps and lists of all owners. Doing
    it again changes nothing.

    Args:
        url: `postgresql://...`, as the role that owns the tables.
        role: A role that exists, other than the tables' owner, and not a superuser.

    Returns:
        The statements that were run.

    Raises:
        InvalidSetting: There is no such role, or row-level security does not hold for it.
        StoreUnavailable: The server cannot be reached or refuses.
    """
    store = PostgresStore(url)
    try:
        with store.database.write() as connection:
            _check(connection, role)
            statements = _statements(connection, role)
            for statement in statements:
                connection.execute(text(statement.replace(":", "\\:")))
        return statements
    finally:
        store.close()


def _check(connection: Connection, role: str) -> None:
    query = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = :role"
    exempt = connection.scalar(text(query), {"role": role})
    if exempt is None:
        raise InvalidSetting("role", role, "there is no such role; make it with CREATE ROLE ... LOGIN")
    query = "SELECT pg_has_role(:role, relowner, 'USAGE') FROM pg_class WHERE oid = 'sessions'::regclass"
    if exempt or connection.scalar(text(query.replace("::", "\\:\\:")), {"role": role}):
        raise InvalidSetting("role", role, "row-level security does not hold for superusers and the tables' owner")


def _statements(connection: Connection, role: str) -> tuple[str, ...]:
    quoted = connection.dialect.identifier_preparer.quote_identifier
    name, place = quoted(role), quoted(str(connection.scalar(text("SELECT current_schema()"))))
    found: list[str] = []
    for table in (*_OWNED, *_BELOW):
        mine = _MINE
        if table in _BELOW:
            session = f"sessions.id = {table.name}.session_id AND sessions.{_MINE}"
            mine = f"EXISTS (SELECT 1 FROM sessions WHERE {session})"  # noqa: S608 - names of our own tables
        found += [
            f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS {_POLICY} ON {table.name}",
            f"CREATE POLICY {_POLICY} ON {table.name} USING ({mine}) WITH CHECK ({mine})",
        ]
    found += [
        "DROP POLICY IF EXISTS langmem_key ON access_keys",
        "CREATE POLICY langmem_key ON access_keys FOR SELECT USING (id = current_setting('app.key', true))",
    ]
    found.append(f"GRANT USAGE ON SCHEMA {place} TO {name}")
    found += [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table.name} TO {name}" for table in _ALL]
    for table_name, column in _NUMBERED:
        query = text("SELECT pg_get_serial_sequence(:table, :column)")
        sequence = connection.scalar(query, {"table": table_name, "column": column})
        found.append(f"GRANT USAGE, SELECT ON SEQUENCE {sequence} TO {name}")
    return tuple(found)
