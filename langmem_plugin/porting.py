"""Out of a memory, and in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from langmem_plugin.engine import Engine
from langmem_plugin.errors import InvalidMessage, InvalidSetting
from langmem_plugin.formats.files import FileFormat, Readable, check_format, conversations, own_lines
from langmem_plugin.moving import add_history
from langmem_plugin.session import Session
from langmem_plugin.transfer import Progress, Transferred, export_conversations, export_lines, import_lines


class Porting:
    """The part of a memory that moves sessions."""

    _engine: Engine

    if TYPE_CHECKING:

        def session(self, session_id: str, *, owner: str) -> Session:
            """See `Memory.session`."""
            ...

    def export_lines(
        self, *, owner: str | None = None, session: str | None = None, progress: Progress | None = None
    ) -> Iterator[str]:
        """Sessions as JSON Lines: messages, the summary, constraints; vectors are made anew where they are read.

        Args:
            owner: Whose; everybody's if not given.
            session: One session of that owner.
            progress: Called with how many messages are out.

        Example:
            >>> from langmem_plugin import Memory
            >>> with Memory.open() as old, Memory.open() as new:
            ...     version = old.session("trip", owner="ann").add("I live in Lyon.")
            ...     moved = new.import_lines(old.export_lines())
            ...     moved.messages
            1
        """
        return export_lines(self._engine, self._engine.keys(owner, session), progress=progress)

    def import_lines(
        self, lines: Iterable[str], *, owner: str | None = None, progress: Progress | None = None
    ) -> Transferred:
        """Write sessions that `export_lines` gave; a turn that is there already adds nothing.

        Args:
            lines: An open file, for example; read as they are written.
            owner: Whose they become; as they were, if not given.
            progress: Called with how many messages were read.

        Raises:
            InvalidMessage: A line is no such line; what came before it is there. Repair it and read all again.
        """
        return import_lines(self._engine, lines, owner=owner, progress=progress)

    def export_conversations(
        self, *, owner: str | None = None, session: str | None = None, progress: Progress | None = None
    ) -> Iterator[str]:
        """Sessions as OpenAI-style message lists, a JSON line each, for whatever else reads those.

        Args:
            owner: Whose; everybody's if not given.
            session: One session of that owner.
            progress: Called with how many messages are out.
        """
        return export_conversations(self._engine, self._engine.keys(owner, session), progress=progress)

    def import_file(
        self,
        file: str | Path | Readable,
        *,
        owner: str | None = None,
        session: str | None = None,
        format: FileFormat = "auto",
        progress: Progress | None = None,
    ) -> Transferred:
        """Write the conversations of another memory's file into sessions; what is there already adds nothing.

        * `jsonl`: what `export_lines` gave.
        * `langchain`: a list, or a line each, of what `messages_to_dict` gives.
        * `llama-index`: what `SimpleChatStore.persist` wrote, each key a session; or a list of its messages.
        * `openai`: a list, or a line each, of messages with `role`, `content` and `tool_calls`; or
          objects with a list of them as `messages`, each a session.

        Lists and lines are read a message at a time, an object as a whole. The rules read the user's
        messages, so that standing statements of the past are in force afterwards.

        Args:
            file: A path, or an open text file.
            owner: Whose they become; may be left out for `jsonl` alone.
            session: What a conversation without a name of its own becomes; by default the file's name
                without its ending. Several of them are numbered.
            format: Which of these it is; "auto" tells it from the first value.
            progress: Called with how many messages were read.

        Raises:
            InvalidMessage: The file, or a message of it, has another form; what came before it is there.
                Repair it and read all again.
            InvalidSetting: The file cannot be read, an argument cannot work, or a session holds another
                conversation.
        """
        check_format(format)
        if not isinstance(file, str | Path):
            return self._read(file, owner, session, format, progress)
        path = Path(file)
        try:
            with path.open(encoding="utf-8") as stream:
                return self._read(stream, owner, session or path.stem, format, progress)
        except OSError as error:
            raise InvalidSetting("file", str(file), f"it cannot be read ({error.strerror})") from error

    def _read(
        self, stream: Readable, owner: str | None, session: str | None, format: FileFormat, progress: Progress | None
    ) -> Transferred:
        try:
            lines, head = own_lines(stream) if format in ("auto", "jsonl") else (None, "")
            if lines is not None:
                return import_lines(self._engine, lines, owner=owner, progress=progress)
            if format == "jsonl":
                raise InvalidMessage("the file is no export of this package", "name its format")
            if owner is None:
                raise InvalidSetting("owner", owner, "name whose the sessions become")
            done = Transferred()
            for number, (name, messages) in enumerate(conversations(stream, format, head=head), start=1):
                wanted = name or (session if number == 1 or session is None else f"{session}-{number}")
                if wanted is None:
                    raise InvalidSetting("session", session, "name the session that the conversation becomes")
                opened = self.session(wanted, owner=owner)
                before = len(opened.constraints(all=True))
                read = done.messages
                added = add_history(opened, messages, progress=progress and _from(progress, read))
                done = Transferred(
                    sessions=done.sessions + 1,
                    messages=read + added,
                    constraints=done.constraints + len(opened.constraints(all=True)) - before,
                )
        except UnicodeDecodeError as error:
            raise InvalidMessage("the file is no UTF-8", "write it anew as UTF-8") from error
        return done


def _from(progress: Progress, done: int) -> Progress:
    return lambda messages: progress(done + messages)
