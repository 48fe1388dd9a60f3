"""The steps from each earlier schema to this release's; append only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, taken in the transaction that notes it."""

    to: int
    """The schema that it leads to."""
    name: str
    statements: tuple[str, ...]
    """SQL that every backend understands."""


MIGRATIONS = (
    Migration(
        2,
        "forgetting: tombstones of messages and sessions",
        (
            "ALTER TABLE sessions ADD COLUMN erased_version INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE messages ADD COLUMN forgotten_version INTEGER",
            (
                "CREATE TABLE tombstones (subject VARCHAR(64) NOT NULL PRIMARY KEY, version INTEGER NOT NULL, "
                "last_seq INTEGER NOT NULL, forgotten_at BIGINT NOT NULL)"
            ),
        ),
    ),
    Migration(
        3,
        "constraints: pinned, understood, refined, shared",
        (
            "ALTER TABLE sessions ADD COLUMN refined_seq INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE sessions ADD COLUMN shares_constraints INTEGER NOT NULL DEFAULT 1",
            "ALTER TABLE constraints ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
            """ALTER TABLE constraints ADD COLUMN display TEXT NOT NULL DEFAULT '""'""",
        ),
    ),
    Migration(
        4,
        "audit trail: events, and who holds a pending turn",
        (
            "ALTER TABLE turns ADD COLUMN holder TEXT",
            "ALTER TABLE turns ADD COLUMN held_until BIGINT",
            (
                "CREATE TABLE events (session_id BIGINT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE, "
                "version INTEGER NOT NULL, place INTEGER NOT NULL, kind VARCHAR(16) NOT NULL, ref TEXT NOT NULL, "
                "detail VARCHAR(16) NOT NULL, writer TEXT NOT NULL, at BIGINT NOT NULL, "
                "PRIMARY KEY (session_id, version, place))"
            ),
        ),
    ),
    Migration(
        5,
        "keeping: time to live, when a session was written to, its tokens",
        (
            "ALTER TABLE sessions ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE sessions ADD COLUMN tokens BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE sessions ADD COLUMN ttl BIGINT",
            "ALTER TABLE sessions ADD COLUMN expires_at BIGINT",
            "ALTER TABLE tombstones ADD COLUMN ttl BIGINT",
            (
                "UPDATE sessions SET updated_at = COALESCE("
                "(SELECT MAX(ended_at) FROM turns WHERE turns.session_id = sessions.id), created_at), "
                "tokens = COALESCE((SELECT SUM(tokens) FROM messages WHERE messages.session_id = sessions.id), 0)"
            ),
        ),
    ),
    Migration(
        6,
        "workers: up to where a session was worked off",
        ("ALTER TABLE sessions ADD COLUMN worked_version INTEGER NOT NULL DEFAULT 0",),
    ),
    Migration(
        7,
        "session keys",
        (
            (
                "CREATE TABLE access_keys (id VARCHAR(32) NOT NULL PRIMARY KEY, owner TEXT NOT NULL, session TEXT, "
                "digest VARCHAR(64) NOT NULL, created_at BIGINT NOT NULL, expires_at BIGINT)"
            ),
            "CREATE INDEX access_keys_by_owner ON access_keys (owner, session)",
        ),
    ),
    Migration(8, "summaries: judged", ("ALTER TABLE summaries ADD COLUMN judged FLOAT",)),
)


def migrate(connection: Connection, found: int) -> Iterator[Migration]:
    """Take the steps that are missing, in order; yields each once it is taken."""
    for step in MIGRATIONS:
        if step.to > found:
            for statement in step.statements:
                connection.exec_driver_sql(statement)
            yield step
