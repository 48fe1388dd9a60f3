"""What happens to a message on its way into the log; no model is called (guarantee G8)."""

from __future__ import annotations

from collections.abc import Sequence

from langmem_plugin.engine import Engine, check_name
from langmem_plugin.errors import InvalidMessage
from langmem_plugin.measures import Stopwatch, TurnKept
from langmem_plugin.messages import Message, Text
from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.records import Attachment, Entry, SessionKey
from langmem_plugin.stating import announce, statements
from langmem_plugin.store.protocol import Staged, TurnWrite


def stage(engine: Engine, said: Sequence[Message]) -> tuple[Staged, ...]:
    """Count the messages and check what no store could keep.

    Raises:
        InvalidMessage: One is too long.
    """
    now = engine.clock()
    limit = engine.config.max_message_chars
    staged = []
    for message in said:
        if message.id is not None:
            check_name("id", message.id)
        size = sum(len(block.text) for block in message.blocks if isinstance(block, Text))
        if size > limit:
            raise InvalidMessage(
                f"a {message.role} message has {size} characters, the limit is {limit}",
                "split it, or raise max_message_chars",
            )
        staged.append(
            Staged(
                message=message,
                tokens=engine.counter.count_message(message),
                counter=engine.counter.name,
                created_at=now,
            )
        )
    return tuple(staged)


def commit(
    engine: Engine,
    key: SessionKey,
    turn_id: str,
    staged: tuple[Staged, ...],
    *,
    attachment: Attachment | None = None,
    attached_to: int = 0,
    history_tokens: int = 0,
    begun: bool = False,
    expected_version: int | None = None,
) -> int:
    """Derive what follows from the turn and write it all at once; gives the version."""
    watch = Stopwatch() if engine.observers else None
    found, ended = statements(engine, key, turn_id, staged)
    write = TurnWrite(
        staged=staged,
        terms=tuple(message_terms(one.message, language=engine.config.recall.language) for one in staged),
        attachment=attachment,
        attached_to=attached_to,
        history_tokens=history_tokens,
        constraints=found,
        ended=ended,
        begun=begun,
        expected_version=expected_version,
    )
    head = engine.store.commit(key, turn_id, write, now=engine.clock())
    if head.first_seq:
        engine.recaller.saw(key, [_entry(one, turn_id, head.first_seq + n) for n, one in enumerate(staged)])
    if found or ended:
        announce(engine, key, head.version)
    engine.note(key, head)
    if watch is not None:
        tokens = sum(one.tokens for one in staged)
        kept = TurnKept(key=key, took=watch.took(), version=head.version, messages=len(staged), tokens=tokens)
        engine.observers.tell([kept])
    return head.version


def _entry(staged: Staged, turn_id: str, seq: int) -> Entry:
    return Entry(
        seq=seq,
        turn=turn_id,
        message=staged.message,
        tokens=staged.tokens,
        created_at=staged.created_at,
        counter=staged.counter,
    )
