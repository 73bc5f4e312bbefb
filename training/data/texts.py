"""A shop's own texts, to learn its language from: product texts, reviews, queries, in any language.

A text is one document: a line of a text file (or, where blank lines divide the file, the block
between two of them, which is BERT's own format), or a row's columns joined.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.rows import ReadReport, UnreadableData, is_table, read_lines, read_rows

DEFAULT_FIELDS = ("text",)
# What is shorter says nothing about a language.
MIN_CHARS = 2
_CONTROLS = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]")
_BLANKS = re.compile(r"[ \t\u3000]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|(?<=[。！？；…])[”’」』）]*|\n+")
_LETTER = re.compile(r"\w")


@dataclass(slots=True)
class TextReport(ReadReport):
    """What was read from the files; `texts` of them are left to learn from."""

    texts: int = 0
    characters: int = 0
    files: list[str] = field(default_factory=list)


def read_texts(
    paths: Sequence[Path], fields: Sequence[str] = DEFAULT_FIELDS, report: TextReport | None = None
) -> Iterator[str]:
    """Yield each distinct text of the files, cleaned, in their order; a few are held at a time.

    Args:
        paths: .txt (or any other ending: plain lines), .jsonl, .csv, .tsv, all also .gz, .parquet.
        fields: the columns of a row whose texts are joined by line ends; one at least must exist.
        report: counts what was read, and what was skipped and why.

    Raises:
        UnreadableData: a file cannot be read, or its rows have none of the columns.
    """
    report = report if report is not None else TextReport()
    seen: set[bytes] = set()
    for path in paths:
        report.files.append(path.name)
        source = _row_texts(path, fields, report) if is_table(path) else _plain(path, report)
        for place, raw in source:
            text = clean_text(raw)
            if len(text) < MIN_CHARS or not _LETTER.search(text):
                report.skip("empty or without a letter", place)
                continue
            digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
            if digest in seen:
                report.skip("the same text again", place)
                continue
            seen.add(digest)
            report.texts += 1
            report.characters += len(text)
            yield text


def clean_text(text: str) -> str:
    """Return the text in NFC without control characters and with single blanks; line ends stay."""
    plain = _CONTROLS.sub(" ", unicodedata.normalize("NFC", text.replace("\r\n", "\n")))
    lines = (_BLANKS.sub(" ", line).strip() for line in plain.split("\n"))
    return "\n".join(line for line in lines if line)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, Chinese or English; a line end ends one too."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()]


def _row_texts(path: Path, fields: Sequence[str], report: TextReport) -> Iterator[tuple[str, str]]:
    for place, row in read_rows(path, report):
        if not any(name in row for name in fields):
            columns = ", ".join(map(str, row)) or "none"
            raise UnreadableData(
                f"{place} has no column {' or '.join(fields)} (its columns: {columns}); name one "
                "with --text-field"
            )
        parts = [_text_of(row.get(name)) for name in fields]
        yield place, "\n".join(part for part in parts if part)


def _text_of(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, list):
        return " ".join(_text_of(part) for part in value)
    return str(value)


def _plain(path: Path, report: TextReport) -> Iterator[tuple[str, str]]:
    """Yield lines, or blocks of lines where blank lines divide the file."""
    blocks = _has_inner_blank_line(path)
    block: list[str] = []
    began = ""
    for place, line in read_lines(path, report):
        if not blocks:
            if line.strip():
                yield place, line
            continue
        if line.strip():
            began = began or place
            block.append(line)
        elif block:
            yield began, "\n".join(block)
            block, began = [], ""
    if block:
        yield began, "\n".join(block)


def _has_inner_blank_line(path: Path) -> bool:
    """Say whether a blank line stands between two that are not."""
    text_before = blank_after_text = False
    for _, line in read_lines(path, ReadReport()):
        if not line.strip():
            blank_after_text = text_before
        elif blank_after_text:
            return True
        else:
            text_before = True
    return False
