"""The terminal of the chat: reads lines, shows answers as they arrive, runs the commands."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from langmem_plugin.chat.commands import Commands
from langmem_plugin.chat.server import ChatServer
from langmem_plugin.chat.talk import Talk
from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.display import Console, Text, console
from langmem_plugin.errors import LangmemPluginError, ServerFailed
from langmem_plugin.keyring import KeyRing
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Role

_LAST_LINES = 6
_RESERVE = 4
"""One part in so many of the budget is kept free for the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line said."""

    base_url: str
    model: str
    api_key: str | None = None
    session: str = "chat"
    owner: str = "user"
    database: str = "sqlite://"
    budget: int = 4_000
    system: str = ""
    timeout_s: float = 60.0
    retries: int = 3
    summarize: bool = False
    tokenizer: str | None = None
    """Whose tokens are counted; the model's by its name if None."""
    embedder: str | None = None
    encryption: KeyRing | None = None


def run(settings: Settings, *, read: Callable[[str], str] = input, out: Console | None = None) -> int:
    """Chat until /quit or the end of the input; gives the exit code.

    Raises:
        InvalidSetting: A setting cannot work.
        StoreUnavailable: The database cannot be opened or written.
    """
    out = out or console()
    server = ChatServer(settings.base_url, settings.model, api_key=settings.api_key, timeout_s=settings.timeout_s)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            memory = _open(settings, server)
        with memory:
            session = memory.session(settings.session, owner=settings.owner)
            talk = Talk(session, server, system=settings.system, retries=settings.retries)
            terminal = _Terminal(talk, Commands(talk, memory, out), out, read)
            terminal.greet(settings, memory, notes=[str(warning.message) for warning in caught])
            terminal.run()
    finally:
        server.close()
    return 0


def _open(settings: Settings, server: ChatServer) -> Memory:
    budget = Budget(max_tokens=settings.budget, completion=settings.budget // _RESERVE)
    return Memory.open(
        settings.database,
        config=MemoryConfig(budget=budget),
        model=settings.tokenizer or settings.model,
        summarizer=server if settings.summarize else None,
        embedder=settings.embedder,
        encryption=settings.encryption,
    )


class _Terminal:
    """Where an answer appears; a `Display`."""

    def __init__(self, talk: Talk, commands: Commands, out: Console, read: Callable[[str], str]) -> None:
        self._talk = talk
        self._commands = commands
        self._out = out
        self._read = read
        self._column_zero = True

    def greet(self, settings: Settings, memory: Memory, *, notes: list[str]) -> None:
        """Where we are, and the last lines of a session that goes on."""
        self._out.print(Text(f"{settings.model} at {settings.base_url}, session {settings.session!r}", style="bold"))
        counted = memory.counter.name
        self._say(
            f"kept in {memory.url}; requests of at most {memory.config.budget.prompt:,} tokens by {counted}; /help"
        )
        for note in notes:
            self._say(f"note: {note}")
        if not memory.counter.exact:
            self._say("note: --tokenizer NAME (gpt-4o, or a tokenizer.json) counts closer")
        version = self._talk.session.version
        if version:
            history = [e for e in self._talk.session.history() if e.message.role in (Role.USER, Role.ASSISTANT)]
            self._say(f"goes on after {len(history)} messages:")
            for entry in history[-_LAST_LINES:]:
                who = "you" if entry.message.role is Role.USER else "it"
                text = " ".join(entry.message.text.split())
                self._say(f"  {who:>3}: {text if len(text) <= 85 else text[:84] + '…'}")
        if (waiting := self._talk.unanswered()) is not None:
            self._say(f"your last message was not answered: “{waiting[:80]}”; /retry asks again, a new one drops it")

    def run(self) -> None:
        """Read and answer until the end."""
        while True:
            try:
                line = self._read("\nyou> ").strip()
            except EOFError:
                self._out.print()
                return
            except KeyboardInterrupt:
                self._out.print()
                self._say("/quit or Ctrl-D leaves")
                continue
            if line in ("/quit", "/exit"):
                return
            if line:
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            if line == "/retry":
                if self._talk.again(self) is None:
                    self._say("nothing waits for an answer")
            elif line.startswith("/"):
                self._commands.run(line, self._read)
            else:
                self._talk.ask(line, self)
            self._new_line()
        except ServerFailed as error:
            self._void(str(error))
            self._say("your message is kept; /retry asks again, a new message drops it")
        except LangmemPluginError as error:
            self._void(str(error))
        except (KeyboardInterrupt, EOFError):
            self._new_line()
            self._say("broken off; nothing of this turn is kept")

    def piece(self, text: str) -> None:
        """The next piece of the answer, at once."""
        self._out.file.write(text)
        self._out.file.flush()
        self._column_zero = text.endswith("\n")

    def broken(self, why: ServerFailed, *, wait_s: float) -> None:
        """Marks what stands above as void."""
        self._void(f"{why.why}; asking again in {wait_s:.1f} s")

    def _void(self, text: str) -> None:
        """An error; if a part of an answer stands above, that it is void."""
        void = "" if self._column_zero else "the answer above is void: "
        self._new_line()
        self._out.print(Text(f"! {void}{text}", style="red"))

    def _new_line(self) -> None:
        if not self._column_zero:
            self._out.file.write("\n")
            self._column_zero = True

    def _say(self, text: str) -> None:
        self._out.print(Text(text, style="dim"))
