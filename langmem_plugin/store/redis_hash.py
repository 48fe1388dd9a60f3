"""One Redis hash as a transaction sees it: what it held, and what it is to become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langmem_plugin.messages import dump_json, load_json
from langmem_plugin.store.sealing import MARK, HashSeal

REV, FIELDS, HEAD = b"rev", b"fields", b"head"
"""Of every hash: a random mark of its last change, how many fields it has, what it is."""


class RedisHash:
    """A hash; reads see what was put in before, and nothing is written before the transaction ends."""

    def __init__(
        self,
        name: bytes,
        read: Mapping[bytes, bytes | None],
        *,
        whole: bool,
        fetch: Callable[[RedisHash, Sequence[bytes]], Sequence[bytes | None]],
        seal: HashSeal,
    ) -> None:
        """Nothing is changed yet.

        Args:
            name: Its key.
            read: Fields that were read already; None for one that is not there.
            whole: Every field was read.
            fetch: Reads fields; the hash has not changed since `read`.
            seal: Opens and seals what fields say.
        """
        self.name = name
        self.rev = read.get(REV) or b""
        self.marked = False
        """Whether others that read this hash have to begin again."""
        self.dropped = False
        self.sets: dict[bytes, bytes] = {}
        self.gone: set[bytes] = set()
        self.lives: str | int = ""
        """Milliseconds from now after which the server may drop it; "on" for without end, "" to leave that."""
        self.blind = False
        """Whether what no key opens reads as absent: for whoever only deletes it."""
        self._hidden = False
        self._seal = seal
        self._read = dict(read)
        self._whole = whole or not self.rev
        self._fetch = fetch

    @property
    def exists(self) -> bool:
        """Whether it was there when the transaction began."""
        return bool(self.rev)

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.sets or self.gone or self.dropped or self.lives)

    def raw(self, fields: Iterable[str]) -> list[bytes | None]:
        """The fields' bytes, in order; None for one that is not there."""
        names = [field.encode() for field in fields]
        if not self._whole and not self.dropped and not self._hidden:
            missing = [name for name in dict.fromkeys(names) if name not in self._read and name not in self.sets]
            if missing:
                self._read.update(zip(missing, self._fetch(self, missing), strict=True))
        return [self._now(name) for name in names]

    def many(self, fields: Iterable[str]) -> list[Any]:
        """The fields' values, in order; None for one that is not there."""
        names = list(fields)
        texts = [self._text(name, held) for name, held in zip(names, self.raw(names), strict=True)]
        return [None if text is None else load_json(text) for text in texts]

    def get(self, field: str) -> Any:
        """A field's value; None if it is not there."""
        return self.many((field,))[0]

    def put(self, field: str, value: Any, *, mark: bool = True) -> None:
        """Set a field; without `mark`, whoever read the hash meanwhile is not disturbed."""
        self.put_raw(field, self._seal.seal(field, dump_json(value)), mark=mark)

    def reseal(self, *, limit: int) -> int:
        """Seal at most so many fields anew that are not sealed with the newest key; gives how many."""
        fields = [
            (name, value)
            for name in self.names()
            for value in self.raw([name])
            if value is not None and self._seal.is_old(name, value)
        ][:limit]
        for name, value in fields:
            self.put_raw(name, self._seal.seal(name, self._seal.open(name, value)))
        return len(fields)

    def is_behind(self) -> bool:
        """Whether something was put in that is sealed with another key than the owner's newest."""
        return any(
            value.startswith(MARK.encode()) and self._seal.is_old(name.decode(), value)
            for name, value in self.sets.items()
        )

    def put_raw(self, field: str, value: bytes, *, mark: bool = True) -> None:
        """Set a field to these bytes."""
        name = field.encode()
        self.gone.discard(name)
        self.sets[name] = value
        self.marked |= mark

    def remove(self, fields: Iterable[str]) -> int:
        """Take fields out; gives how many were there."""
        names = [field.encode() for field in fields]
        count = sum(held is not None for held in self.raw(name.decode() for name in names))
        for name in names:
            self.sets.pop(name, None)
            self.gone.add(name)
        self.marked = True
        return count

    def drop(self) -> None:
        """Take the whole hash out; what is put in afterwards makes a new one."""
        self.dropped = self.marked = True
        self.sets.clear()
        self.gone.clear()

    def hide(self) -> None:
        """Read as if nothing stood in it."""
        self._hidden = True

    def fill(self, read: Mapping[bytes, bytes | None]) -> None:
        """Take every field as it was read."""
        self._read = dict(read)
        self._whole = True

    def names(self) -> list[str]:
        """Every field that is there; the hash must have been read as a whole."""
        if not self._whole:
            raise LookupError("the hash was not read as a whole")
        held = {} if self.dropped else {name for name, value in self._read.items() if value is not None}
        return [name.decode() for name in sorted({*held, *self.sets} - self.gone)]

    def _text(self, field: str, held: bytes | None) -> str | None:
        if held is None:
            return None
        return self._seal.readable(field, held) if self.blind else self._seal.open(field, held)

    def _now(self, name: bytes) -> bytes | None:
        if name in self.sets:
            return self.sets[name]
        return None if self.dropped or self._hidden or name in self.gone else self._read.get(name)
