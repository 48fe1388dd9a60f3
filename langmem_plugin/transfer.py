"""Sessions as JSON Lines: out of one database, into another, line by line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from langmem_plugin.engine import Engine, session_key
from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import Message, dump_json
from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.records import Constraint, ConstraintKind, ConstraintState, Entry, SessionKey, Summary
from langmem_plugin.store.protocol import Staged, TurnWrite

FORMAT = 1
"""Of the lines; a later one is refused."""

Progress = Callable[[int], object]
"""Called with how many messages are done."""

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """What was read from lines."""

    sessions: int = 0
    messages: int = 0
    """Those that were new; what is there already is left as it is."""
    constraints: int = 0


def export_lines(engine: Engine, keys: Iterable[SessionKey], *, progress: Progress | None = None) -> Iterator[str]:
    """Each session as lines: its head, its messages in order, the summary, the constraints; without line ends."""
    done = 0
    for key in keys:
        head = engine.store.head(key)
        yield _line(kind="session", format=FORMAT, owner=key.owner, session=key.session, version=head.version)
        after = 0
        while entries := engine.store.entries(key, after=after, upto=head.last_seq, limit=_BATCH):
            for entry in entries:
                yield _line(
                    kind="message",
                    turn=entry.turn,
                    at=entry.created_at.isoformat(),
                    tokens=entry.tokens,
                    counter=entry.counter,
                    message=entry.message.to_json(),
                )
            after = entries[-1].seq
            done += len(entries)
            if progress is not None:
                progress(done)
        shown = engine.store.summaries(key)[1]
        if shown is not None and shown.upto_seq <= head.last_seq:
            yield _line(kind="summary", **{name: getattr(shown, name) for name in _SUMMARY})
        for constraint in engine.store.constraints(key):
            if constraint.session == key.session:
                yield _line(kind="constraint", **_constraint_json(constraint))


def import_lines(
    engine: Engine, lines: Iterable[str], *, owner: str | None = None, progress: Progress | None = None
) -> Transferred:
    """Write sessions from lines; repeating it adds nothing, so that one that broke off is begun again.

    Args:
        engine: Where to.
        lines: As `export_lines` gives them.
        owner: Whose they become; as they were, if not given.
        progress: Called with how many messages were read.

    Raises:
        InvalidMessage: A line is none of this format; what came before it is there.
    """
    reader = _Import(engine, owner)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            reader.take(data["kind"], data)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, InvalidMessage):
                raise
            raise InvalidMessage(f"line {number} is no exported session", "give a file that `export` wrote") from error
        if progress is not None and number % _BATCH == 0:
            progress(reader.read)
    reader.finish()
    return Transferred(sessions=reader.sessions, messages=reader.messages, constraints=reader.constraints)


class _Import:
    """Turns are written when the next one begins."""

    def __init__(self, engine: Engine, owner: str | None) -> None:
        self._engine = engine
        self._owner = owner
        self._key: SessionKey | None = None
        self._turn = ""
        self._staged: list[Staged] = []
        self.sessions = self.messages = self.constraints = self.read = 0

    def take(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "session":
            self.finish()
            if data["format"] != FORMAT:
                raise InvalidMessage(f"the export has format {data['format']}", "read it with a newer release")
            self._key = session_key(data["session"], self._owner or data["owner"])
            self.sessions += 1
            return
        if self._key is None:
            raise ValueError(kind)
        if kind == "message":
            self._message(data)
            return
        self._flush(self._key)
        if kind == "summary":
            summary = Summary(**{name: data[name] for name in _SUMMARY})
            head = self._engine.store.head(self._key)
            if self._engine.store.summaries(self._key)[1] is None and summary.upto_seq <= head.last_seq:
                self._engine.store.save_summary(
                    self._key, replace(summary, created_version=head.version), expected=None
                )
        elif kind == "constraint":
            self._constraint(self._key, data)
        else:
            raise ValueError(kind)

    def finish(self) -> None:
        if self._key is not None:
            self._flush(self._key)
            self._engine.note(self._key, None)
            self._key = None

    def _message(self, data: dict[str, Any]) -> None:
        if data["turn"] != self._turn and self._key is not None:
            self._flush(self._key)
        self._turn = data["turn"]
        self._staged.append(
            Staged(
                message=Message.from_json(data["message"]),
                tokens=int(data["tokens"]),
                counter=str(data["counter"]),
                created_at=datetime.fromisoformat(data["at"]),
            )
        )
        self.read += 1

    def _flush(self, key: SessionKey) -> None:
        staged, self._staged = tuple(self._staged), []
        if not staged or self._engine.store.turn_state(key, self._turn) == "committed":
            return
        language = self._engine.config.recall.language
        write = TurnWrite(staged=staged, terms=tuple(message_terms(one.message, language=language) for one in staged))
        self._engine.store.commit(key, self._turn, write, now=staged[-1].created_at)
        self.messages += len(staged)

    def _constraint(self, key: SessionKey, data: dict[str, Any]) -> None:
        constraint = _constraint_of(data)
        known = {held.id for held in self._engine.store.constraints(key)}
        moved = f"{constraint.id}\0{key.owner}\0{key.session}"
        for id in (constraint.id, "c" + hashlib.sha256(moved.encode()).hexdigest()[:10]):
            if id in known:
                return
        if self._owner is not None:  # beside the one that it was exported from
            constraint = replace(constraint, id="c" + hashlib.sha256(moved.encode()).hexdigest()[:10])
        self._engine.store.add_constraint(key, constraint)
        self.constraints += 1


_SUMMARY = ("text", "upto_seq", "tokens", "method", "model", "prompt_version", "quality", "judged")


def _constraint_json(constraint: Constraint) -> dict[str, Any]:
    return {
        "id": constraint.id,
        "text": constraint.text,
        "constraint_kind": constraint.kind.value,
        "state": constraint.state.value,
        "scope": constraint.scope,
        "source": constraint.source,
        "seq": constraint.seq,
        "start": constraint.start,
        "end": constraint.end,
        "confidence": constraint.confidence,
        "at": constraint.created_at.isoformat(),
        "expires_at": constraint.expires_at.isoformat() if constraint.expires_at else None,
        "pinned": constraint.pinned,
        "display": constraint.display,
    }


def _constraint_of(data: dict[str, Any]) -> Constraint:
    expires = data["expires_at"]
    return Constraint(
        id=str(data["id"]),
        text=str(data["text"]),
        kind=ConstraintKind(data["constraint_kind"]),
        state=ConstraintState(data["state"]),
        scope=data["scope"],
        source=data["source"],
        seq=data["seq"],
        start=int(data["start"]),
        end=int(data["end"]),
        confidence=float(data["confidence"]),
        created_version=0,
        created_at=datetime.fromisoformat(data["at"]),
        expires_at=None if expires is None else datetime.fromisoformat(expires),
        pinned=bool(data["pinned"]),
        display=str(data["display"]),
    )


def export_conversations(
    engine: Engine, keys: Iterable[SessionKey], *, progress: Progress | None = None
) -> Iterator[str]:
    """Each session as a line: a JSON object with `owner`, `session` and OpenAI-style `messages`; without line ends."""
    done = 0
    for key in keys:
        entries = engine.store.entries(key)
        yield _line(owner=key.owner, session=key.session, messages=openai_messages(entries))
        done += len(entries)
        if progress is not None:
            progress(done)


def openai_messages(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """A log as the message list that OpenAI-style servers take: role, content, tool calls."""
    out: list[dict[str, Any]] = []
    for entry in entries:
        message = entry.message
        one: dict[str, Any] = {"role": message.role.value, "content": message.text}
        if message.tool_calls:
            one["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            one["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            one["name"] = message.name
        out.append(one)
    return out


def _line(**fields: Any) -> str:
    return dump_json(fields)
