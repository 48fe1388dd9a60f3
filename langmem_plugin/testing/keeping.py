"""What every backend must do to keep sessions for a time, list them and hand out keys; part of `StoreConformance`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from langmem_plugin.errors import KeyRefused, TurnClosed
from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant
from langmem_plugin.testing.checks import refused, said


class KeepingClauses:
    """The clauses; each opens its own memory on `url`, some several."""

    def test_a_session_ends_when_its_time_is_over(self, url: str) -> None:
        """Writing prolongs it; once over, it reads as new, swept or not, and a write begins it anew."""
        now = [datetime(2026, 1, 1, tzinfo=UTC)]
        with Memory.open(url, clock=lambda: now[0]) as memory:
            session, other = memory.session("s", owner="ann", ttl=3_600), memory.session("t", owner="ann")
            other.add("I never eat eggs.")
            for _ in range(3):
                now[0] += timedelta(minutes=50)
                session.add("The code is quagga-7731. Never suggest flights.", assistant("Noted."))
            session.add_constraint("Answer in French.", scope="owner")
            assert session.expires_at == now[0] + timedelta(hours=1)
            assert len(session.history()) == 6
            version = session.version
            turn = session.begin("Hello?")
            now[0] += timedelta(hours=1)
            assert (session.history(), session.version) == ([], 0)
            assert session.info is None
            assert session.recall("quagga-7731") == []
            assert [one.text for one in session.constraints(all=True)] == ["Answer in French."]
            assert "quagga" not in str(session.context("What is the code?").messages)
            assert memory.sessions(owner="ann") == ["t"]
            assert list(memory.export_lines(owner="ann", session="s")) == []
            refused(TurnClosed, turn.commit)
            memory.session("s", owner="ann").add("Good morning.")
            assert said(session) == ["Good morning."]
            assert session.expires_at == now[0] + timedelta(hours=1)
            assert session.version > version
            assert [one.text for one in session.constraints(all=True)] == ["Answer in French."]
            assert memory.sessions(owner="ann") == ["t", "s"]
            assert len(other.history()) == 1

    def test_a_sweep_forgets_what_is_over(self, url: str) -> None:
        """Sessions that are over go, with a receipt; those that live, and those without an end, stay whole."""
        now = [datetime(2026, 1, 1, tzinfo=UTC)]
        with Memory.open(url, clock=lambda: now[0]) as memory:
            for number in range(5):
                session = memory.session(f"s{number}", owner="ann", ttl=timedelta(hours=number + 1))
                session.add(f"I always carry the item zebra-canary-{number}.", assistant("Noted."))
            memory.session("kept", owner="bob").add("Hello.", assistant("Hi."))
            assert memory.sweep() == ()
            now[0] += timedelta(hours=3)
            (receipt,) = memory.sweep()
            assert (receipt.scope, receipt.complete, receipt.counts["sessions"]) == ("expired", True, 3)
            assert (receipt.counts["messages"], receipt.counts["constraints"]) == (6, 3)
            assert memory.sweep() == ()
            assert memory.sessions(owner="ann") == ["s3", "s4"]
            assert len(memory.session("s4", owner="ann").history()) == 2
            memory.session("s0", owner="ann").add("Hello.")
            assert memory.session("s0", owner="ann").expires_at == now[0] + timedelta(hours=1)
            memory.session("s3", owner="ann").set_ttl(None)
            now[0] += timedelta(days=1_000)
            assert memory.sessions(owner="ann") == ["s3"]
            assert memory.sessions(owner="bob") == ["kept"]

    def test_lists_say_who_has_what(self, url: str) -> None:
        """Counts of messages, tokens and constraints by session and owner; filters, orders and pages."""
        now = [datetime(2026, 1, 1, tzinfo=UTC)]
        with Memory.open(url, clock=lambda: now[0]) as memory:
            for name in ("b", "a/1", "a/2", "é"):
                now[0] += timedelta(hours=1)
                memory.session(name, owner="ann").add("I never drink coffee.", assistant("Noted."))
            memory.session("b", owner="Bob").add("Hello.")
            memory.session("b", owner="Bob").add_constraint("Answer in French.", scope="owner")
            now[0] += timedelta(hours=1)
            memory.session("b", owner="ann").add("Hello.")
            infos = {info.session: info for info in memory.list_sessions(owner="ann")}
            assert list(infos) == ["b", "a/1", "a/2", "é"]
            info = infos["b"]
            assert (info.messages, info.version, info.constraints) == (3, 2, 1)
            assert info.tokens == sum(entry.tokens for entry in memory.session("b", owner="ann").history())
            assert (info.updated_at, info.created_at) == (now[0], now[0] - timedelta(hours=4))

            def names(**query: Any) -> list[str]:
                return [info.session for info in memory.list_sessions(**query)]

            assert names(owner="ann", order="updated", newest_first=True) == ["b", "é", "a/2", "a/1"]
            assert names(owner="ann", order="name") == ["a/1", "a/2", "b", "é"]
            assert names(owner="ann", prefix="a/") == ["a/1", "a/2"]
            assert names(owner="ann", limit=2, offset=1) == ["a/1", "a/2"]
            assert names(owner="ann", since=now[0]) == ["b"]
            assert names(owner="ann", until=now[0] - timedelta(hours=1)) == ["a/1", "a/2"]
            assert (len(names()), names(owner="nobody"), names(limit=0)) == (5, [], [])
            owners = memory.owners()
            assert [(one.owner, one.sessions, one.messages, one.constraints) for one in owners] == [
                ("Bob", 1, 1, 1),
                ("ann", 4, 9, 4),
            ]
            assert owners[1].tokens == sum(one.tokens for one in infos.values())
            assert owners[1].updated_at == now[0]
            assert [one.owner for one in memory.owners(prefix="a")] == ["ann"]
            assert [one.owner for one in memory.owners(limit=1, offset=1)] == ["ann"]
            memory.session("b", owner="ann").forget(1)
            after = memory.list_sessions(owner="ann", limit=1)[0]
            assert after.tokens == sum(entry.tokens for entry in memory.session("b", owner="ann").history()[1:])
            assert after.updated_at == now[0]

    def test_a_search_finds_in_every_session_of_an_owner(self, url: str) -> None:
        """What is asked for is found wherever the owner said it, and nowhere else; an ended session holds nothing."""
        now = [datetime(2026, 1, 1, tzinfo=UTC)]
        with Memory.open(url, clock=lambda: now[0]) as memory:
            for number in range(6):
                session = memory.session(f"s{number}", owner="ann", ttl=60 if number == 5 else None)
                word = "quagga" if number in (2, 4, 5) else "garden"
                session.add(f"Topic {number} is the {word} in the yard.", assistant("I see."))
            memory.session("s", owner="bob").add("Topic 9 is the quagga in the yard.", assistant("I see."))
            found = memory.recall("quagga", owner="ann")
            assert {name for name, hit in found if "quagga" in hit.entry.message.text} == {"s2", "s4", "s5"}
            assert {name for name, _ in found} == {"s2", "s4", "s5"}
            now[0] += timedelta(minutes=2)
            assert {name for name, _ in memory.recall("quagga", owner="ann")} == {"s2", "s4"}
            assert memory.recall("xylophone", owner="ann") == memory.recall("", owner="ann") == []
            each = [
                (f"s{number}", hit)
                for number in range(5)
                for hit in memory.session(f"s{number}", owner="ann").recall("yard topic quagga")
            ]
            best = sorted(each, key=lambda one: -(one[1].score + one[1].keyword))[:3]
            assert memory.recall("yard topic quagga", owner="ann", k=3) == best

    def test_keys_open_what_they_were_issued_for(self, url: str) -> None:
        """Absent, revoked, expired and foreign keys are one error; forgetting revokes; restarts do not."""
        now = [datetime(2026, 1, 1, tzinfo=UTC)]
        with Memory.open(url, clock=lambda: now[0]) as memory:
            for owner in ("ann", "bob"):
                memory.session("s", owner=owner).add(f"I am {owner}.")
            one = memory.issue_key(owner="ann", session="s")
            every = memory.issue_key(owner="ann", expires_in=timedelta(hours=1))
            other = memory.issue_key(owner="bob", session="s")
        with Memory.open(url, clock=lambda: now[0]) as memory:
            assert said(memory.session_by_key(one.secret)) == ["I am ann."]
            assert said(memory.session_by_key(every.secret, session="s")) == ["I am ann."]
            assert memory.session_by_key(every.secret, session="new").history() == []
            assert said(memory.session_by_key(other.secret, session="s")) == ["I am bob."]
            assert [key.id for key in memory.list_keys(owner="ann")] in ([one.id, every.id], [every.id, one.id])
            assert [key.id for key in memory.list_keys(owner="ann", session="s")] == [one.id]
            wrong = [one.secret.replace("lmk_" + one.id, "lmk_" + other.id), "", "lmk_", "\ud800", one.id]
            calls: list[Callable[[], Any]] = [partial(memory.session_by_key, key) for key in (*wrong, every.secret)]
            calls.append(lambda: memory.session_by_key(one.secret, session="t"))
            assert memory.revoke_keys(owner="ann", id=other.id) == 0
            assert memory.revoke_keys(owner="bob", id=other.id) == 1
            calls.append(lambda: memory.session_by_key(other.secret))
            now[0] += timedelta(hours=1)
            calls.append(lambda: memory.session_by_key(every.secret, session="s"))
            memory.forget(owner="ann", session="s")
            calls.append(lambda: memory.session_by_key(one.secret))
            assert len({str(refused(KeyRefused, call)) for call in calls}) == 1
            assert [key.id for key in memory.list_keys(owner="ann")] == [every.id]
            memory.forget(owner="ann")
            assert memory.list_keys(owner="ann") == []
