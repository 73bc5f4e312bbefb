"""Labeled reviews from the usual files, and the rule that keeps a part of them out of training."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

logger = logging.getLogger(__name__)

NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2
Part = Literal["train", "validation", "test"]


class UnreadableReviews(ValueError):
    """A file holds no labeled reviews; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class LabeledReview:
    """A text with its sentiment; `binary`: the labels knew no neutral."""

    text: str
    label: int
    binary: bool


def read_reviews(path: Path, text_field: str, label_field: str) -> list[LabeledReview]:
    """Read reviews from JSONL, CSV or TSV (plain or .gz).

    Labels are 0/1, or stars from 1 to 5 (1-2 negative, 3 neutral, 4-5 positive). A file whose
    labels are all 0 or 1 is binary. Raises UnreadableReviews.
    """
    try:
        rows = [(row[text_field], row[label_field]) for row in _rows(path)]
        values = [float(label) for _, label in rows]
    except KeyError as error:
        raise UnreadableReviews(f"{path} has no column {error}") from error
    except (OSError, ValueError) as error:
        raise UnreadableReviews(f"{path} cannot be read as labeled reviews: {error}") from error
    if not rows:
        raise UnreadableReviews(f"{path} holds no reviews")
    binary = set(values) <= {0.0, 1.0}
    if not binary and not all(1 <= value <= 5 for value in values):
        raise UnreadableReviews(f"the labels of {path} are neither 0/1 nor stars from 1 to 5")
    return [
        LabeledReview(str(text).strip(), _label(value, binary), binary)
        for (text, _), value in zip(rows, values, strict=True)
        if str(text or "").strip()
    ]


def sampled_reviews(folder: Path) -> list[LabeledReview]:
    """Return the reviews of a folder of samples, by their stars; raises UnreadableData."""
    from training.dataset import SampleFolder

    samples = SampleFolder(folder, "review")
    for line in samples.report.sentences():
        logger.warning("%s", line)
    return [
        LabeledReview(row["text"].strip(), _label(row["stars"], binary=False), binary=False)
        for row in samples.rows()
        if row["stars"] is not None and (row["text"] or "").strip()
    ]


def part_of(text: str) -> Part:
    """Return the part a text belongs to, by a hash of the text: 70 % train, 10 % validation.

    The same text, repeated anywhere, always falls into the same part.
    """
    place = hashlib.sha256(" ".join(text.split()).encode("utf-8", "replace")).digest()[0]
    return "train" if place < 179 else "validation" if place < 205 else "test"


def _label(value: float, binary: bool) -> int:
    if binary:
        return POSITIVE if value else NEGATIVE
    return NEGATIVE if value <= 2 else NEUTRAL if value < 4 else POSITIVE


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    name = path.name.lower().removesuffix(".gz")
    with _open(path) as file:
        if name.endswith((".jsonl", ".json")):
            for line in file:
                if line.strip():
                    yield json.loads(line)
        elif name.endswith(".tsv"):
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            yield from csv.DictReader(file)


def _open(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
