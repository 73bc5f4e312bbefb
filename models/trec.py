"""Runs and judgments in TREC's formats, as trec_eval and ir_measures read and write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


class TrecFormatError(ValueError):
    """A file is not in TREC's format; the message names the line."""


def read_qrels(path: str | Path) -> dict[str, dict[str, float]]:
    """Read judgments: `query 0 item gain` a line; gains may be decimals.

    Raises:
        TrecFormatError: a line has another number of fields, or a gain that is no number.
    """
    qrels: dict[str, dict[str, float]] = {}
    for place, (query_id, _, item, gain) in _fields(path, 4):
        qrels.setdefault(query_id, {})[item] = _number(gain, place)
    return qrels


def write_qrels(path: str | Path, qrels: Mapping[str, Mapping[str, float]]) -> None:
    """Write judgments as `query 0 item gain`."""
    with Path(path).open("w", encoding="utf-8") as file:
        for query_id, gains in qrels.items():
            for item, gain in gains.items():
                file.write(f"{_id(query_id)} 0 {_id(item)} {gain:g}\n")


def read_run(path: str | Path) -> dict[str, list[tuple[str, float]]]:
    """Read a run: `query Q0 item rank score tag` a line; best first by score, as trec_eval does.

    Equal scores stand by item id, the later id first, which is trec_eval's order too.

    Raises:
        TrecFormatError: a line has another number of fields, or a score that is no number.
    """
    run: dict[str, list[tuple[str, float]]] = {}
    for place, (query_id, _, item, _rank, score, _tag) in _fields(path, 6):
        run.setdefault(query_id, []).append((item, _number(score, place)))
    for hits in run.values():
        hits.sort(key=lambda hit: hit[0], reverse=True)
        hits.sort(key=lambda hit: hit[1], reverse=True)
    return run


def write_run(
    path: str | Path, run: Mapping[str, Sequence[tuple[str, float]]], tag: str = "shopstream"
) -> None:
    """Write ranked (item, score) lists, best first, as `query Q0 item rank score tag`."""
    with Path(path).open("w", encoding="utf-8") as file:
        for query_id, hits in run.items():
            for rank, (item, score) in enumerate(hits, 1):
                file.write(f"{_id(query_id)} Q0 {_id(item)} {rank} {score:.6f} {_id(tag)}\n")


def _fields(path: str | Path, count: int) -> Iterator[tuple[str, list[str]]]:
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            if not fields:
                continue
            place = f"{path}, line {number}"
            if len(fields) != count:
                raise TrecFormatError(f"{place}: {len(fields)} fields where {count} are expected")
            yield place, fields


def _number(text: str, place: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise TrecFormatError(f"{place}: {text!r} is not a number") from None


def _id(text: str) -> str:
    if not text or len(text.split()) != 1 or text != text.strip():
        raise TrecFormatError(f"the id {text!r} cannot stand in a TREC file: it holds blanks")
    return text
