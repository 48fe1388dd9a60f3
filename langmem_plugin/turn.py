"""A turn: one user message and all that follows until the answer."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from langmem_plugin.config import Budget
from langmem_plugin.context.request import Context, Document
from langmem_plugin.engine import Engine, Said, as_message
from langmem_plugin.errors import TurnClosed
from langmem_plugin.ingest import commit, stage
from langmem_plugin.messages import Message, Role
from langmem_plugin.reader import Reader
from langmem_plugin.records import Attachment, Entry, SessionKey
from langmem_plugin.store.protocol import Staged, TurnState
from langmem_plugin.store.spending import model_of
from langmem_plugin.streams import AsyncStream, Stream

if TYPE_CHECKING:
    from langmem_plugin.session import Session


class Turn:
    """What is said between one user message and the answer to it.

    As a context manager it commits at the end and aborts on an exception. Until it is
    committed only the turn itself sees its messages (guarantee G6).
    """

    def __init__(
        self,
        session: Session,
        reader: Reader,
        engine: Engine,
        key: SessionKey,
        turn_id: str,
        *,
        state: TurnState,
        staged: tuple[Staged, ...] = (),
    ) -> None:
        self.session = session
        self._reader = reader
        self._engine = engine
        self._key = key
        self.id = turn_id
        self._state: TurnState = state
        self._staged = staged
        self._attachment: Attachment | None = None
        self._attached_to: Message | None = None
        self._shown: tuple[Message | None, tuple[Document, ...]] | None = None
        self._history_tokens = 0
        self._sent = 0
        """Tokens of the request that waits for its answer, as they were counted."""
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Turn(id={self.id!r}, state={self._state!r}, messages={len(self._staged)})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()

    @property
    def state(self) -> TurnState:
        """Pending, committed or aborted."""
        return self._state

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the turn holds so far."""
        return tuple(one.message for one in self._staged)

    def append(self, *messages: Said) -> None:
        """Add messages, durably; a text is the assistant's.

        A message whose id is in the turn or in the log adds nothing; neither does anything
        in a turn that was committed, so that a retry is harmless (guarantee G5).

        Raises:
            TurnClosed: The turn was aborted.
            InvalidMessage: A message cannot be kept; none of them is.
        """
        said = [as_message(message, Role.ASSISTANT) for message in messages]
        with self._lock:
            if self._state == "committed":
                return
            if self._state == "aborted":
                raise TurnClosed(self.id, self._state)
            store = self._engine.store
            held = set(store.find(self._key, [m.id for m in said if m.id]))
            said = [m for m in said if m.id not in held]
            staged = stage(self._engine, said)
            if not staged:
                return
            store.stage(self._key, self.id, staged, position=len(self._staged), now=staged[0].created_at)
            self._staged += staged
            for message in said:
                if message.usage is not None:
                    model = model_of(message)
                    self._engine.used(self._key, message.usage, counted=self._sent, model=model, stored=True)
                    self._sent = 0

    def context(
        self,
        *,
        system: str = "",
        tools: Sequence[Mapping[str, Any]] = (),
        budget: Budget | None = None,
        documents: Sequence[Document] = (),
        other_tokens: int = 0,
    ) -> Context:
        """The request for the next model call of this turn; see `Session.context`.

        Recall runs once for the turn's newest user message and is kept with it, so the
        calls of a tool loop, and later requests, begin with the same bytes (guarantee G13).
        """
        with self._lock:
            self._engine.ledger.check_repeats(self.messages)
            entries = tuple(
                Entry(
                    seq=0,
                    turn=self.id,
                    message=one.message,
                    tokens=one.tokens,
                    created_at=one.created_at,
                    counter=one.counter,
                )
                for one in (self._staged if self._state == "pending" else ())
            )
            opening = _opening(self._staged)
            asked = None if opening is None or not entries else entries[opening].message
            attachment = self._attachment if asked == self._attached_to else None
            context = self._reader.assemble(
                pending=entries,
                query=None,
                attachment=attachment,
                system=system,
                tools=tools,
                budget=budget,
                documents=(*documents, *self._own_documents(asked)),
                turn_id=self.id,
                asked=asked,
                calls=sum(entry.message.role is Role.ASSISTANT for entry in entries),
                other_tokens=other_tokens,
            )
            self._sent = context.report.tokens_used + other_tokens
            if asked is not None:
                self._attachment, self._attached_to = context.attachment, asked
            tokens = context.report.tokens
            fixed = sum(tokens.get(part, 0) for part in ("system", "constraints", "tools"))
            self._history_tokens = context.report.budget - fixed
            return context

    def _own_documents(self, asked: Message | None) -> tuple[Document, ...]:
        """The application's, asked for once for each new message, so that a tool loop repeats its prefix."""
        if self._shown is None or self._shown[0] != asked:
            self._shown = asked, self._engine.documents_for(self._key, asked.text if asked else "")
        return self._shown[1]

    def stream(self, chunks: Iterable[str]) -> Stream:
        """Pass an answer on as it comes, and append it once it is whole (guarantee G6).

        Iterate over what this gives. If the chunks end, the text is appended, durably. If
        they break off, or nobody reads on, nothing is; `keep` of what this gives then keeps
        the part, marked as partial. The turn itself stays open: commit or abort it.
        """
        return Stream(self, chunks, limit=self._engine.config.max_message_chars)

    def astream(self, chunks: AsyncIterable[str]) -> AsyncStream:
        """The same for chunks that come asynchronously."""
        return AsyncStream(self, chunks, limit=self._engine.config.max_message_chars)

    def commit(self, *, expected_version: int | None = None) -> int:
        """Make the turn part of the session, all at once; gives the version. A second call changes nothing.

        Args:
            expected_version: Commit only if the session is still at this version; see `Session.add`.

        Raises:
            TurnClosed: The turn was aborted, or forgotten with its session.
            VersionConflict: Somebody else changed the session since; the turn stays open.
        """
        with self._lock:
            if self._state == "committed":
                return self.session.version
            if self._state == "aborted":
                raise TurnClosed(self.id, self._state)
            sticky = self._engine.config.recall.sticky
            version = commit(
                self._engine,
                self._key,
                self.id,
                self._staged,
                attachment=self._attachment if sticky else None,
                attached_to=_opening(self._staged) or 0,
                begun=bool(self._staged),
                expected_version=expected_version,
                history_tokens=self._history_tokens or self._reader.history_tokens,
            )
            self._state = "committed"
            return version

    def abort(self) -> None:
        """Drop the turn; the session never saw it. Does nothing to a committed turn."""
        with self._lock:
            if self._state != "pending":
                return
            self._engine.store.abort(self._key, self.id, now=self._engine.clock())
            self._state = "aborted"


def _opening(staged: Sequence[Staged]) -> int | None:
    """The position of the last user message before the assistant acts: where recalled text goes."""
    found = None
    for position, one in enumerate(staged):
        if one.message.role is Role.USER:
            found = position
        elif one.message.role is not Role.SYSTEM:
            break
    return found
