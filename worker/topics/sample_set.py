"""Samples as they come from Kafka, reduced to what training may see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from models.sample import SAMPLE_ADAPTER, ForgetSample, ReversalSample

Row = dict[str, Any]
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class SampleSet:
    """The newest sample of each id, the labels that returns took back, and who is forgotten.

    `samples` is kind and sample id -> row (the sample's fields). Rows of earlier exports are held
    to the same rules by `keep`.
    """

    samples: dict[tuple[str, str], Row] = field(default_factory=dict)
    reversed_labels: set[str] = field(default_factory=set)
    forgotten: dict[str, datetime] = field(default_factory=dict)  # pseudonym -> until when
    unreadable: int = 0

    def add(self, value: bytes) -> None:
        """Take one record of the samples topic; what is no sample is counted as unreadable."""
        try:
            sample = SAMPLE_ADAPTER.validate_json(value)
            moment = moment_of(sample.occurred_at)
        except (ValidationError, ValueError):
            self.unreadable += 1
            return
        if isinstance(sample, ReversalSample):
            self.reversed_labels.update(sample.label_keys)
        elif isinstance(sample, ForgetSample):
            self.forgotten[sample.user] = max(moment, self.forgotten.get(sample.user, _NEVER))
        else:
            row = sample.model_dump(exclude={"kind"})
            if not self.is_older(sample.kind, row):
                self.samples[sample.kind, sample.sample_id] = row

    def is_older(self, kind: str, row: Row) -> bool:
        """Return whether this set has a newer sample of the row's id."""
        known = self.samples.get((kind, row["sample_id"]))
        return known is not None and moment_of(known["occurred_at"]) > moment_of(row["occurred_at"])

    def kept(self) -> Iterator[tuple[str, Row]]:
        """Yield (kind, row) of the samples that still hold."""
        for (kind, _), row in self.samples.items():
            held = self.keep(kind, row)
            if held is not None:
                yield kind, held

    def keep(self, kind: str, row: Row) -> Row | None:
        """Return what of a row still holds after returns and forget requests; None: nothing."""
        if moment_of(row["occurred_at"]) <= self.forgotten.get(row["user"], _NEVER):
            return None
        if kind == "search":
            return None if row["label_key"] in self.reversed_labels else row
        if kind == "next-item":
            pairs = zip(row["next_products"], row["label_keys"], strict=True)
            held = [pair for pair in pairs if pair[1] not in self.reversed_labels]
            products, keys = [pair[0] for pair in held], [pair[1] for pair in held]
            return {**row, "next_products": products, "label_keys": keys} if held else None
        return row


def moment_of(occurred_at: str) -> datetime:
    """Return a sample's time; raises ValueError where it has no zone or is none."""
    moment = datetime.fromisoformat(occurred_at)
    if moment.tzinfo is None:
        raise ValueError(f"{occurred_at!r} has no zone")
    return moment.astimezone(UTC)
