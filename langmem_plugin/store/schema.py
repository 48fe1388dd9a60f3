"""The tables as this release writes them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA = 8
"""The schema that this release writes; `migrations` leads to it from every earlier one."""

metadata = MetaData()

# Message text, constraints and attachments are JSON texts, so that every string
# (NUL and lone surrogates too) is kept exactly. Times are microseconds since 1970, UTC.
_BIG = BigInteger().with_variant(Integer, "sqlite")


def _session_id(*, primary: bool = False) -> Column[int]:
    return Column(
        "session_id", _BIG, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=primary, nullable=False
    )


meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

sessions = Table(
    "sessions",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("version", Integer, nullable=False, default=0),
    Column("last_seq", Integer, nullable=False, default=0),
    Column("history_tokens", Integer, nullable=False, default=0),
    Column("documents", Integer, nullable=False, default=0),
    Column("terms", Integer, nullable=False, default=0),
    # The version at which something of the session was last forgotten.
    Column("erased_version", Integer, nullable=False, server_default="0", default=0),
    # Up to which entry a model looked for constraints, and whether the owner's hold here.
    Column("refined_seq", Integer, nullable=False, server_default="0", default=0),
    Column("shares_constraints", Integer, nullable=False, server_default="1", default=1),
    # The version at which a worker last found nothing left to do. Without an index: a turn's commit
    # would have to keep it, and a worker that looks at every session's row is quick enough.
    Column("worked_version", Integer, nullable=False, server_default="0", default=0),
    Column("created_at", BigInteger, nullable=False),
    # When somebody last wrote to it, and what its messages count together.
    Column("updated_at", BigInteger, nullable=False, server_default="0", default=0),
    Column("tokens", BigInteger, nullable=False, server_default="0", default=0),
    # Microseconds that it lives on after each write, and until when; both empty if it has no end.
    Column("ttl", BigInteger),
    Column("expires_at", BigInteger),
    UniqueConstraint("owner", "session"),
    sqlite_autoincrement=True,
)

turns = Table(
    "turns",
    metadata,
    _session_id(primary=True),
    Column("turn_id", Text, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("version", Integer),
    Column("first_seq", Integer),
    Column("attached_seq", Integer),
    Column("attachment", Text),
    # Which process has the turn open, and until when it need not be asked whether it lives.
    Column("holder", Text),
    Column("held_until", BigInteger),
    Index("turns_by_state", "session_id", "state"),
)

staged = Table(
    "staged",
    metadata,
    _session_id(primary=True),
    Column("turn_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("message_id", Text),
    Column("body", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("counter", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

messages = Table(
    "messages",
    metadata,
    _session_id(primary=True),
    Column("seq", Integer, primary_key=True),
    Column("turn_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("message_id", Text),
    Column("body", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("counter", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # The version at which the message was forgotten: the row is its tombstone.
    Column("forgotten_version", Integer),
    Index("messages_by_id", "session_id", "message_id"),
)

postings = Table(
    "postings",
    metadata,
    _session_id(primary=True),
    Column("term", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    sqlite_with_rowid=False,
)

constraints = Table(
    "constraints",
    metadata,
    Column("position", _BIG, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    # Empty once the session was forgotten and the constraint was kept.
    Column("session", Text, nullable=False),
    Column("scope", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("source", String(16), nullable=False),
    Column("seq", Integer),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("created_version", Integer, nullable=False),
    Column("ended_version", Integer),
    Column("superseded_by", String(40)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("pinned", Integer, nullable=False, server_default="0", default=0),
    # JSON text like `text`; what it is understood to mean.
    Column("display", Text, nullable=False, server_default='""', default='""'),
    Index("constraints_by_owner", "owner", "session"),
    sqlite_autoincrement=True,
)

summaries = Table(
    "summaries",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    _session_id(),
    Column("upto_seq", Integer, nullable=False),
    Column("method", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("quality", Float),
    Column("judged", Float),
    Column("version", Integer, nullable=False),
    Index("summaries_by_session", "session_id", "upto_seq"),
    sqlite_autoincrement=True,
)

embeddings = Table(
    "embeddings",
    metadata,
    _session_id(primary=True),
    Column("model", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    # Little-endian float32; empty for an entry that gets no vector.
    Column("vector", LargeBinary, nullable=False),
    Index("embeddings_by_model", "model"),
)

# Who changed what, and when: one row a change, written in its transaction.
events = Table(
    "events",
    metadata,
    _session_id(primary=True),
    Column("version", Integer, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    # A turn's or constraint's id, or a number: never what was said.
    Column("ref", Text, nullable=False),
    Column("detail", String(16), nullable=False),
    Column("writer", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

# What is left of a session that was forgotten: no name, no text.
tombstones = Table(
    "tombstones",
    metadata,
    # Of owner and session, keyed with the database's instance id.
    Column("subject", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("forgotten_at", BigInteger, nullable=False),
    # Its time to live: an id that begins anew has the one that it had.
    Column("ttl", BigInteger),
)

# Keys that applications hand out; the secret itself is nowhere.
access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", Text, nullable=False),
    # Empty (NULL) for a key to all of the owner's sessions.
    Column("session", Text),
    Column("digest", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Index("access_keys_by_owner", "owner", "session"),
)
