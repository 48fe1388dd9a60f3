"""The memory: opens the stores, hands out sessions, works behind, closes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from langmem_plugin.access import Access, opened_by
from langmem_plugin.background import projections_of, worked_with
from langmem_plugin.chat_models import as_chat_model
from langmem_plugin.config import MemoryConfig
from langmem_plugin.context.request import DocumentSource
from langmem_plugin.embedders import as_embedder
from langmem_plugin.engine import Engine, check_name, session_key
from langmem_plugin.erasure import Eraser
from langmem_plugin.errors import InvalidSetting, StoreClosed
from langmem_plugin.expiring import Expiring, Hearing
from langmem_plugin.keeping import Keeping
from langmem_plugin.keyring import KeyRing
from langmem_plugin.lasting import as_ttl
from langmem_plugin.measures import Measure, observers
from langmem_plugin.models import ChatModel, Embedder, Reranker
from langmem_plugin.porting import Porting
from langmem_plugin.projections.runner import Runner
from langmem_plugin.projections.summary import SummaryProjection
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.projections.vectors import VectorProjection
from langmem_plugin.projections.worker import Worker
from langmem_plugin.rebuilding import Rebuilding
from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.records import ConstraintEvent, Head, Hit, Receipt, SessionKey
from langmem_plugin.rerankers import as_reranker
from langmem_plugin.rotating import Rotating
from langmem_plugin.searching import search
from langmem_plugin.session import Session
from langmem_plugin.spending import Ledger, Spent, remembered, spent
from langmem_plugin.stating import settle
from langmem_plugin.store.opening import open_store
from langmem_plugin.store.protocol import Store
from langmem_plugin.store.sql import SqlStore
from langmem_plugin.tokens import TokenCounter, as_counter
from langmem_plugin.watching import Confirm, Watchers

_SYNC_WAIT_S = 60.0
"""How long a commit waits for the work behind where that was asked for."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Memory(Hearing, Keeping, Access, Porting, Rebuilding, Rotating):
    """Conversations in one database, with what is derived from them.

    Open it once per process with `Memory.open` and share it: it is thread-safe. Use it
    as a context manager, or call `close`, so that work behind is finished.
    """

    def __init__(
        self,
        store: Store,
        *,
        config: MemoryConfig,
        counter: TokenCounter,
        summarizer: ChatModel | None,
        embedder: Embedder | None,
        reranker: Reranker | None = None,
        vectors: VectorIndex | None,
        folder: Path | None = None,
        clock: Callable[[], datetime],
        confirm: Confirm | None = None,
        extractor: ChatModel | None = None,
        sync: bool = False,
        background: bool = True,
        documents: DocumentSource | None = None,
    ) -> None:
        self.config = config
        self.counter = counter
        self._store = store
        self._vectors = vectors
        self._lock = threading.Lock()
        self._closed = False
        self._sessions: OrderedDict[SessionKey, Session] = OrderedDict()
        told = observers()
        self._projections = projections_of(
            store,
            config=config,
            counter=counter,
            summarizer=summarizer,
            embedder=embedder,
            vectors=vectors,
            extractor=extractor,
            clock=clock,
            refined=self._refined,
            told=told,
        )
        self._done_with = worked_with(summarizer, embedder, extractor)
        self._background = background
        self._told = told
        self._runner = Runner(self._projections if background else (), told=told)
        eraser = Eraser(store, vectors, folder, clock=clock, let_go=self._let_go)
        self._engine = Engine(
            store=store,
            counter=counter,
            config=config,
            clock=clock,
            recaller=Recaller(store, config.recall, vectors=vectors, embedder=embedder, reranker=reranker),
            calibration=remembered(store, counter),
            ledger=Ledger(config.spend, store),
            note=self._note_and_wait if sync else self._runner.note,
            erase=self._erase,
            eraser=eraser,
            watchers=(watchers := Watchers(confirm)),
            observers=told,
            documents=documents,
        )
        self._expiring = Expiring(store, watchers, clock)
        watchers.heard = self._expiring.heard

    @classmethod
    def open(
        cls,
        url: str = "sqlite://",
        *,
        config: MemoryConfig | None = None,
        model: str | TokenCounter | Callable[[str], int] | object = "gpt-4o",
        summarizer: ChatModel | object | None = None,
        embedder: Embedder | str | object | None = None,
        reranker: Reranker | str | object | None = None,
        extractor: ChatModel | object | None = None,
        vectors: str | Path | None = None,
        writer: str = "",
        clock: Callable[[], datetime] = _utc_now,
        confirm: Confirm | None = None,
        sync: bool = False,
        background: bool = True,
        documents: DocumentSource | None = None,
        encryption: KeyRing | None = None,
    ) -> Self:
        """Open a memory, and make its database if there is none.

        Args:
            url: `sqlite:///file.db` (relative), `sqlite:////absolute/file.db`, or
                `sqlite://` for one that lives as long as the process, or
                `postgresql://user:password@host/database`, or `redis://host:6379/0?prefix=app`.
            config: Budgets and switches; `MemoryConfig.preset(...)` has ready ones.
            model: Whose tokens are counted: a model's name, a path of a Hugging Face
                tokenizer, a framework's model, a callable, or a `TokenCounter`.
            summarizer: Writes the rolling summary, behind: a LangChain chat model, a
                LlamaIndex LLM, a callable from prompt to text. Without one, a
                deterministic extract stands for what left the window.
            embedder: For recall by meaning: a sentence-transformers name or local path,
                "chroma", a LangChain or LlamaIndex embedding, a callable. Without one,
                recall is by keyword.
            reranker: A cross-encoder that judges the best finds of recall once more: a sentence-transformers
                name or local path, a loaded `CrossEncoder`, a callable of question and texts.
            extractor: Looks behind for constraints that the rules missed: any model that
                `summarizer` takes. It can only point at the user's own words, and what it finds
                is proposed unless `ConstraintsConfig.model_finds` says otherwise. None by default.
            vectors: The folder of the Chroma index, or the http address of a Chroma
                server; beside the database file if not given. "exact" for none: every search
                looks at all vectors of its session.
            writer: Who changes sessions through this memory, for `Session.events`.
            clock: The present moment, aware, in UTC.
            confirm: Asked about each constraint that is only proposed, right after the turn
                is committed and in its thread: True makes it active, False revokes it, None
                leaves it proposed, and so does an exception.
            sync: For scripts: a turn's commit returns when what is behind it is done, summaries by
                a model included (at most a minute). A conversation should never wait for that.
            background: Whether this process works behind its conversations. Without, it starts no
                thread and calls no summarizer; workers (`langmem-plugin worker`) do it all.
            documents: Your own texts for each request, in every adapter: called with the message
                and `owner=`, `session=`; see `Document.segment`. They are never stored.
            encryption: Seal what is said under a key of its owner: a `FolderKeyRing`, or another `KeyRing`.

        Raises:
            InvalidSetting: An argument cannot work.
            MissingExtra: A package that the embedder needs is not installed.
            StoreUnavailable: The database cannot be opened or written.
            StoreCorrupt: The file is not a database of this package.
            KeyUnavailable: It is written with a key ring, and none is given.
            StoreLost: A Redis server has sessions and no longer their directory.
            SchemaTooNew: A newer release wrote it.
            VectorsLocked: Another process writes the vector index.
        """
        if sync and not background:
            raise InvalidSetting("sync", sync, "there is nothing to wait for with background=False")
        config = config or MemoryConfig()
        if background and extractor is None and config.constraints.when_full == "consolidate":
            raise InvalidSetting("constraints.when_full", "consolidate", "give the memory an extractor")
        counter = as_counter(model)
        chat_model, embed, judge = as_chat_model(summarizer), as_embedder(embedder), as_reranker(reranker)
        store = open_store(url, writer=writer, clock=clock, ttl=as_ttl(config.ttl_s), ring=encryption)
        try:
            index = None
            where = _place(store, vectors)
            if embed is not None and config.recall.enabled:
                index = VectorIndex(store, embed.name, where, namespace=store.database.instance)
            return cls(
                store,
                config=config,
                counter=counter,
                summarizer=chat_model,
                embedder=embed if index is not None else None,
                reranker=judge,
                vectors=index,
                folder=None if where is None or "://" in str(where) else Path(where).expanduser(),
                clock=clock,
                confirm=confirm,
                extractor=as_chat_model(extractor),
                sync=sync,
                background=background,
                documents=documents,
            )
        except BaseException:
            store.close()
            raise

    @property
    def url(self) -> str:
        """The database's address, its password hidden."""
        return self._store.database.url

    def session(self, session_id: str, *, owner: str, ttl: timedelta | float | None = None) -> Session:
        """The session with this id of this owner; without `ttl` nothing is written until something is said.

        Args:
            session_id: 1 to 512 characters; unique for its owner.
            owner: Whose conversation it is; nobody else's data is ever read with it.
            ttl: How long the session lives on after each write, as a timedelta or in seconds; see
                `Session.set_ttl`. Not given: what it has, and `MemoryConfig.ttl_s` for a new one.

        Raises:
            InvalidSetting: A name is empty, too long or cannot be stored; or a time that cannot be one.
            StoreClosed: The memory was closed.
        """
        key = session_key(session_id, owner)
        with self._lock:
            if self._closed:
                raise StoreClosed
            session = self._sessions.get(key)
            known = session is not None
            if session is None:
                session = self._sessions[key] = Session(self._engine, key)
                if len(self._sessions) > self.config.open_sessions:
                    self._sessions.popitem(last=False)
            else:
                self._sessions.move_to_end(key)
        if not known and session.version:
            self._runner.note(key)  # work that an earlier process left undone
            self._expiring.look(key)
        if ttl is not None:
            session.set_ttl(ttl)
        return session

    def session_by_key(self, secret: str, *, session: str | None = None) -> Session:
        """The session that a key opens; see `issue_key`.

        Args:
            secret: What `issue_key` gave, as it came back.
            session: The session that is wanted; needed for a key to all of an owner's sessions.

        Raises:
            KeyRefused: The key was never issued, was revoked, has expired, or opens another session. The
                error is the same for all of them.
        """
        if self._closed:
            raise StoreClosed
        key = opened_by(self._engine, secret, session)
        return self.session(key.session, owner=key.owner)

    def observe(self, observer: Callable[[Measure], object]) -> Callable[[], None]:
        """Have a function called with what the memory measures of its work: see `langmem_plugin.measures`.

        It is called in the thread that did the work, when that is done, and should be quick; for work
        behind that is a thread of the memory's. What it raises is logged by its class and changes nothing.

        Returns:
            A function that ends it.
        """
        return self._engine.observers.add(observer)

    def forget(
        self, *, owner: str, session: str | None = None, message: str | int | None = None, whole_turn: bool = False
    ) -> Receipt:
        """Forget an owner, a session or a message for good, and look for its bytes in every file.

        Rows, keywords, vectors and recalled blocks go; so do constraints said in it and
        summaries that saw it, which are written anew without it. The vector index is removed
        and built again behind. A forgotten message leaves a tombstone with its number, its
        role and its id; a session leaves its version, under a digest. What others said stays,
        the answer that repeats a forgotten question among it: see `whole_turn`.

        Args:
            owner: Whose. With nothing else, all sessions and constraints of that owner.
            session: One session. Constraints with scope `owner` stay.
            message: A message's id, or its `seq`, in that session.
            whole_turn: Forget the message's whole turn.

        Returns:
            A receipt with counts, digests and what the scan found. If `complete` is false,
            something was found that should be gone, such as in the write-ahead log while
            another process reads: forget again later. Forgetting what is gone changes nothing.

        Raises:
            InvalidSetting: A name cannot be one; a message without its session.
            MessageNotFound: The session's log has no such message.
            TurnOpen: The message's turn is pending; commit or abort it first.
            VectorsLocked: Another process has the index open; nothing was forgotten.
        """
        if self._closed:
            raise StoreClosed
        check_name("owner", owner)
        if session is not None:
            check_name("session", session)
        if message is not None and session is None:
            raise InvalidSetting("session", session, "name the session that the message is in")
        return self._engine.eraser.forget(owner, session, message, whole_turn=whole_turn)

    def recall(self, query: str, *, owner: str, k: int = 10, only: RecallFilter | None = None) -> list[tuple[str, Hit]]:
        """What matters for a question in any session of an owner: (session id, hit), best first, at most `k`.

        Sessions in which none of the question's words stands are passed over, unless there is an
        embedder or the question names a time. Each of the others is searched by itself. Between
        sessions hits are compared by their score and by how much of the question they hold.

        Raises:
            InvalidSetting: The owner's name cannot be one.
        """
        return search(self._engine, query, owner=owner, k=k, only=only)

    def spent(self, *, owner: str, session: str | None = None, since: datetime | None = None) -> Spent:
        """Tokens that providers reported for an owner or a session, read from the log: all, or after a moment.

        Reports without a message (`Session.report_usage`) are not in it, nor are aborted turns.
        """
        return spent(self._store.reported(owner, session=session, since=since))

    def worker(self, *, poll_s: float = 1.0, at_once: int = 32) -> Worker:
        """What works behind the conversations of all processes that have this database open.

        Args:
            poll_s: How often to look for sessions that changed, seconds.
            at_once: Sessions that it claims at one time, at most.

        Raises:
            InvalidSetting: This memory was opened with its own background work on, or in memory.
            WorkerRunning: The database is a SQLite file and has a worker; PostgreSQL takes many.
        """
        if self._background:
            raise InvalidSetting("background", True, "open the memory of a worker with background=False")
        return Worker(
            self._store,
            self._projections,
            done_with=self._done_with,
            poll_s=poll_s,
            at_once=at_once,
            told=self._told,
        )

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until everything behind has caught up: summaries and vectors.

        Returns:
            False if it has not within `timeout_s`, or if a model keeps failing; see `status`.
            True at once with `background=False`: what workers do is not waited for.
        """
        return self._runner.wait(timeout_s)

    def status(self) -> dict[str, Any]:
        """What works behind: queue, counts, the last failure of each projection (no message text)."""
        status: dict[str, Any] = {"url": self.url, "counter": self.counter.name, "exact": self.counter.exact}
        status["behind"] = self._runner.status()
        status["corrections"] = dict(self._engine.calibration.corrections())
        if self._vectors is not None:
            status["vectors"] = self._vectors.status()
        return status

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish what is behind within `timeout_s`, then close the stores; what is left goes on at the next open."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._expiring.close()
        self._runner.close(timeout_s)
        if self._vectors is not None:
            self._vectors.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Memory({self.url!r})"

    def _repr_html_(self) -> str:
        """The memory for a notebook: its sessions, and what works behind."""
        from langmem_plugin.inspection import memory_html
        from langmem_plugin.markup import notebook

        behind = [f"{name}: {work.done} done, {work.queued} queued" for name, work in self._runner.status().items()]
        keys = self._store.keys()
        return notebook(memory_html(self._engine, url=self.url, keys=keys, behind=behind))

    def _let_go(self, key: SessionKey) -> None:
        """Clear what is held in memory of a session of which something was forgotten."""
        with self._lock:
            session = self._sessions.get(key)
        if session is not None:
            session.let_go()
        self._engine.recaller.forget()
        for projection in self._projections:
            if isinstance(projection, SummaryProjection):
                projection.forget(key)
            elif isinstance(projection, VectorProjection):
                projection.forget()
        self._runner.note(key)

    def _refined(self, key: SessionKey, events: list[ConstraintEvent]) -> None:
        self._engine.watchers.tell(events)
        settle(self._engine, key, [one.constraint for one in events if one.change == "proposed"])

    def _note_and_wait(self, key: SessionKey, head: Head | None) -> None:
        self._runner.note(key, head)
        self._runner.wait(_SYNC_WAIT_S)

    def _erase(self, key: SessionKey) -> None:
        if self._vectors is not None:
            self._vectors.erase([key])


def _place(store: Store, vectors: str | Path | None) -> str | Path | None:
    """Where the index is; None for none but exact search."""
    if vectors == "exact":
        return None
    if vectors is not None and isinstance(store, SqlStore) and store.database.by_owner:
        raise InvalidSetting("vectors", str(vectors), 'row-level security hides what an index is built from: "exact"')
    beside = store.database.path
    return vectors or (None if beside is None else beside.with_name(beside.name + ".vectors"))
