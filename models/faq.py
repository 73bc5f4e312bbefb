"""The shop's frequently asked questions, from a JSON or JSONL file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class FaqError(ValueError):
    """The FAQ file cannot be read; the message says which entry and why."""


@dataclass(frozen=True, slots=True)
class FaqEntry:
    """One question with its answer; `id` is the file's own, or follows from the question."""

    id: str
    question: str
    answer: str


def load_faq(path: str | Path) -> list[FaqEntry]:
    """Read an FAQ in UTF-8.

    Args:
        path: JSON (`{"questions": [{"question": …, "answer": …}]}` or the bare list) or JSONL (one
            such object a line). An entry may carry its own `id`.

    Raises:
        FaqError: the file is missing, is no such JSON, or an entry lacks a question or an answer.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FaqError(f"the FAQ file {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FaqError(f"the FAQ file {path} is not UTF-8 text; save it as UTF-8") from error
    entries: dict[str, FaqEntry] = {}
    for place, value in _values(text, path):
        entry = _entry(value, f"{path}, {place}")
        if entry.id in entries and entries[entry.id] != entry:
            raise FaqError(
                f"{path}, {place}: the id {entry.id!r} is already taken by another entry;"
                " give each question its own id"
            )
        entries[entry.id] = entry
    return list(entries.values())


def _values(text: str, path: Path) -> Iterable[tuple[str, Any]]:
    """Yield each entry's place and JSON value."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if path.suffix == ".json":
            raise FaqError(f"{path} is not JSON: {error}") from error
        yield from _lines(text, path)
        return
    if isinstance(whole, dict) and "questions" in whole:
        whole = whole["questions"]
    elif isinstance(whole, dict):
        whole = [whole]  # a JSONL file of one line
    if not isinstance(whole, list):
        raise FaqError(f'{path} must hold a list of entries, or {{"questions": [entries]}}')
    yield from ((f"entry {number}", value) for number, value in enumerate(whole, 1))


def _lines(text: str, path: Path) -> Iterable[tuple[str, Any]]:
    # not splitlines(): U+2028 and its like may stand inside a JSON string
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise FaqError(f"{path}, line {number} is not JSON: {error}") from error


def _entry(value: Any, place: str) -> FaqEntry:
    if not isinstance(value, dict):
        raise FaqError(f"{place}: an entry must be an object with a question and an answer")
    fields = {}
    for name in ("question", "answer"):
        text = value.get(name)
        if not isinstance(text, str) or not text.strip():
            raise FaqError(f"{place}: {name!r} must be a text that is not empty")
        fields[name] = text.strip()
    own_id = value.get("id")
    if own_id is None:
        digest = hashlib.blake2b(fields["question"].encode(), digest_size=6).hexdigest()
        own_id = f"faq-{digest}"
    elif not isinstance(own_id, str | int) or isinstance(own_id, bool) or own_id == "":
        raise FaqError(f"{place}: 'id' must be a text or a whole number")
    return FaqEntry(str(own_id), **fields)
