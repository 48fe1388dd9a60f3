"""Conversations with questions whose evidence is known, from the published files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Message, Role, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation to be measured on."""

    id: str
    message: Message
    created_at: datetime
    session: str
    """Which sitting of the conversation it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, and which turns hold its answer."""

    text: str
    evidence: tuple[str, ...]
    """Ids of turns; empty if the conversation holds no answer."""
    category: str = ""
    asked_at: datetime | None = None
    """None: after the last turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Turns in order, and the questions about them."""

    id: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]


def load(path: str | Path) -> list[Conversation]:
    """Read LoCoMo (both published layouts), LongMemEval, BEAM (a file or a folder) or our JSON Lines.

    The format is told by the content.

    Raises:
        InvalidSetting: The file is none of these.
    """
    path = Path(path)
    if path.is_dir():
        return [conversation for file in sorted(path.glob("*.json")) for conversation in load(file)]
    if path.suffix == ".jsonl":
        return list(_lines(path))
    data = json.loads(path.read_text(encoding="utf-8"))
    rows: Sequence[Any] = [data] if isinstance(data, dict) else data
    first = rows[0] if rows else {}
    if isinstance(first, dict):
        if "conversation" in first or "session_1" in first:
            return [_locomo(row, place) for place, row in enumerate(rows)]
        if "haystack_sessions" in first:
            return [_longmemeval(row) for row in rows]
        if "content" in first and "role" in first:
            return [_beam(path, rows)]
        if "chat" in first:
            return []  # BEAM's questions: read with the chats beside them
    raise InvalidSetting("data", path.name, "give a LoCoMo, LongMemEval, BEAM or JSON Lines file")


_LOCOMO_TIME: Final = "%I:%M %p on %d %B, %Y"
_LOCOMO_ID: Final = re.compile(r"D:?(\d+):(\d+)")


def _locomo(row: Mapping[str, Any], place: int) -> Conversation:
    """LoCoMo: sessions under "conversation" (locomo10.json) or beside the questions (the single files)."""
    sessions = row.get("conversation", row)
    roles = {sessions.get("speaker_a"): Role.USER, sessions.get("speaker_b"): Role.ASSISTANT}
    numbers = sorted(int(found[1]) for name in sessions if (found := re.fullmatch(r"session_(\d+)", name)))
    turns: list[Turn] = []
    for number in numbers:
        start = _time(sessions.get(f"session_{number}_date_time"), _LOCOMO_TIME)
        for minute, said in enumerate(sessions[f"session_{number}"] or ()):
            text = said.get("clean_text") or said["text"]
            if said.get("blip_caption"):
                text += f" [shares photo: {said['blip_caption']}]"
            name = said["speaker"]
            roles.setdefault(name, Role.ASSISTANT)
            turns.append(
                Turn(
                    id=said["dia_id"],
                    message=Message(role=roles[name], blocks=(Text(text),), name=name),
                    created_at=start + timedelta(seconds=20 * minute),
                    session=str(number),
                )
            )
    known = {turn.id for turn in turns}
    questions = tuple(
        Question(
            text=str(asked["question"]),
            evidence=tuple(turn for turn in _locomo_evidence(asked.get("evidence") or ()) if turn in known),
            category=str(asked.get("category", "")),
        )
        for asked in row.get("qa", ())
    )
    return Conversation(id=str(row.get("sample_id", place)), turns=tuple(turns), questions=questions)


def _locomo_evidence(given: Sequence[str]) -> list[str]:
    found = (f"D{int(a)}:{int(b)}" for text in given for a, b in _LOCOMO_ID.findall(str(text)))
    return list(dict.fromkeys(found))


def _longmemeval(row: Mapping[str, Any]) -> Conversation:
    dates, ids = row.get("haystack_dates", ()), row.get("haystack_session_ids", ())
    turns: list[Turn] = []
    evidence: list[str] = []
    for place, session in enumerate(row["haystack_sessions"]):
        start = _longmemeval_time(dates[place]) if place < len(dates) else _EPOCH
        name = str(ids[place]) if place < len(ids) else str(place)
        for minute, said in enumerate(session):
            turn_id = f"{place}:{name}:{minute}"
            message = Message(role=Role(said["role"]), blocks=(Text(said["content"]),))
            turns.append(
                Turn(id=turn_id, message=message, created_at=start + timedelta(seconds=20 * minute), session=name)
            )
            if said.get("has_answer"):
                evidence.append(turn_id)
    asked = Question(
        text=row["question"],
        evidence=tuple(evidence),
        category=row.get("question_type", ""),
        asked_at=_longmemeval_time(row["question_date"]) if row.get("question_date") else None,
    )
    turns.sort(key=lambda turn: turn.created_at)
    return Conversation(id=str(row.get("question_id", "")), turns=tuple(turns), questions=(asked,))


def _beam(path: Path, rows: Sequence[Mapping[str, Any]]) -> Conversation:
    """BEAM: flat messages; the questions of "instructions.json" in the same folder, if it is there."""
    turns = tuple(
        Turn(
            id=str(row["id"]),
            message=Message(role=Role(row["role"]), blocks=(Text(row["content"]),)),
            created_at=_EPOCH + timedelta(minutes=place),
            session="1",
        )
        for place, row in enumerate(rows)
    )
    tier, _, chat = path.stem.rpartition("_")
    beside = path.with_name("instructions.json")
    asked = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else []
    questions = tuple(
        Question(text=row["question"], evidence=tuple(str(i) for i in row["source_ids"]), category=row.get("kind", ""))
        for row in asked
        if str(row.get("chat")) == chat and row.get("tier") == tier
    )
    return Conversation(id=path.stem, turns=turns, questions=questions)


def _lines(path: Path) -> Iterator[Conversation]:
    """One conversation a line: {"id", "turns": [{"id", "role", "text", "name", "created_at"}], "questions": [...]}.

    A question is {"question", "evidence": [ids], "category"}; times are ISO 8601 with an offset.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                turns = tuple(
                    Turn(
                        id=str(said.get("id", place)),
                        message=Message(role=Role(said["role"]), blocks=(Text(said["text"]),), name=said.get("name")),
                        created_at=_iso(said.get("created_at"), place),
                        session=str(said.get("session", "1")),
                    )
                    for place, said in enumerate(row["turns"])
                )
                questions = tuple(
                    Question(
                        text=asked["question"],
                        evidence=tuple(str(one) for one in asked.get("evidence", ())),
                        category=str(asked.get("category", "")),
                    )
                    for asked in row.get("questions", ())
                )
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidSetting("data", f"{path.name}:{number}", "see the format in docs/evaluation.md") from error
            yield Conversation(id=str(row.get("id", number)), turns=turns, questions=questions)


_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)


def _iso(text: str | None, place: int) -> datetime:
    if text is None:
        return _EPOCH + timedelta(minutes=place)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time(text: str | None, form: str) -> datetime:
    return datetime.strptime(text.strip(), form).replace(tzinfo=UTC) if text else _EPOCH


def _longmemeval_time(text: str) -> datetime:
    """Such as "2023/05/20 (Sat) 02:21"."""
    return datetime.strptime(re.sub(r"\s*\(\w+\)\s*", " ", text).strip(), "%Y/%m/%d %H:%M").replace(tzinfo=UTC)
