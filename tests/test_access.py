"""Session keys: 256 random bits, kept as a digest, one answer to whatever does not open."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from pathlib import Path

import pytest

from langmem_plugin import Memory
from langmem_plugin.errors import InvalidSetting, KeyRefused, StoreClosed


def test_the_secret_is_nowhere(tmp_path, caplog):
    """Neither a file, nor a list, nor a log, nor what a key shows of itself holds the secret; its digest is kept."""
    with Memory.open(f"sqlite:///{tmp_path / 'm.db'}") as memory:
        with caplog.at_level("DEBUG"):
            key = memory.issue_key(owner="ann", session="s")
            memory.session_by_key(key.secret)
            with pytest.raises(KeyRefused) as refused:
                memory.session_by_key(key.secret, session="t")
        random = re.fullmatch(r"lmk_[0-9a-f]{24}_([A-Za-z0-9_-]{43})", key.secret)[1]
        (kept,) = memory.list_keys(owner="ann")
        assert kept.digest == hashlib.sha256(random.encode()).hexdigest()
        for seen in (repr(key), repr(kept), caplog.text, str(refused.value)):
            assert random not in seen
    assert not any(random.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_keys_are_random():
    """A thousand keys of one session differ in id and secret, and guesses open nothing."""
    with Memory.open() as memory:
        keys = [memory.issue_key(owner="ann", session="s") for _ in range(1_000)]
        assert len({key.secret for key in keys}) == len({key.id for key in keys}) == 1_000
        for key in keys[:100]:
            with pytest.raises(KeyRefused):
                memory.session_by_key(f"lmk_{key.id}_{secrets.token_urlsafe(32)}")
            with pytest.raises(KeyRefused):
                memory.session_by_key(key.secret[:-1] + ("A" if key.secret[-1] != "A" else "B"))


def test_a_forgotten_owner_leaves_no_name_in_the_keys(tmp_path):
    """G11: keys go with their owner, and the owner's name leaves the file."""
    with Memory.open(f"sqlite:///{tmp_path / 'm.db'}") as memory:
        memory.issue_key(owner="ann-the-wombat", session="visit-to-the-wombats")
        receipt = memory.forget(owner="ann-the-wombat")
        assert receipt.complete
        assert receipt.counts == {"access_keys": 1}
    assert not any(b"wombat" in path.read_bytes() for path in Path(tmp_path).rglob("*") if path.is_file())


def test_expired_keys_go_with_the_sweep():
    """A sweep that finds a session to forget deletes expired keys."""
    with Memory.open() as memory:
        memory.issue_key(owner="ann", expires_in=0.001)
        lasting = memory.issue_key(owner="ann", expires_in=3_600)
        memory.session("s", owner="ann", ttl=0.001).add("Hello.")
        time.sleep(0.01)
        assert len(memory.sweep()) == 1
        assert [key.id for key in memory.list_keys(owner="ann")] == [lasting.id]


@pytest.mark.parametrize(
    "arguments", [{"owner": ""}, {"owner": "a", "session": "\0"}, {"owner": "a", "expires_in": 0}, {"owner": None}]
)
def test_bad_arguments_are_refused(arguments):
    """A name that cannot be one, or a time that is none, is a typed error, and no key is issued."""
    with Memory.open() as memory, pytest.raises(InvalidSetting):
        memory.issue_key(**arguments)


@pytest.mark.parametrize("secret", [None, 7, b"lmk_", "x" * 100_000, "lmk_" + "0" * 24 + "_" + "A" * 43])
def test_anything_that_is_no_key_is_refused_alike(secret):
    """Whatever comes from outside in place of a key is the one error; a closed memory says that it is closed."""
    with Memory.open() as memory, pytest.raises(KeyRefused, match="opens no such session"):
        memory.session_by_key(secret)
    with pytest.raises(StoreClosed):
        memory.session_by_key(secret)
