"""What one thread reads of sessions in Redis at one moment."""

from __future__ import annotations

import threading

from langmem_plugin.records import SessionKey
from langmem_plugin.store.redis_transaction import Transaction


class SharedReads(threading.local):
    """The transactions that a thread's reads share for a while."""

    def __init__(self) -> None:
        self.depth = 0
        self.transactions: dict[SessionKey, Transaction] = {}

    def get(self, key: SessionKey) -> Transaction | None:
        """The one that this thread read of the session; None if it read none."""
        return self.transactions.get(key)

    def put(self, key: SessionKey, transaction: Transaction) -> None:
        """Keep it while the thread reads."""
        if self.depth:
            self.transactions[key] = transaction

    def let_go(self, key: SessionKey) -> None:
        """Read the session anew."""
        self.transactions.pop(key, None)
