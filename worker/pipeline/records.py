"""The record every batch leaves: which events, in which order, by which release, on which state.

A replay that follows these records reproduces the live run; people ask them which batch, which
model and which events made a result.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from pydantic import BaseModel, ConfigDict, Field

from worker.pipeline.batch import TakenEvent


class Run(BaseModel):
    """Neighbouring events of one partition, as they stand in the batch."""

    model_config = ConfigDict(frozen=True)

    topic: str
    partition: int
    first: int = Field(description="Offset of the first event.")
    last: int = Field(description="Offset of the last event.")
    count: int = Field(
        description="Events taken; less than last - first + 1 where Kafka compacted."
    )


class TrialRecord(BaseModel):
    """The candidate of an A/B trial, and the share of the shoppers it served."""

    model_config = ConfigDict(frozen=True)

    release: str
    trunk: str
    share: float


class BatchReleases(BaseModel):
    """What a batch was bound to when it was taken."""

    model_config = ConfigDict(frozen=True)

    release: str
    trunk: str = ""
    trial: TrialRecord | None = None


class BatchRecord(BaseModel):
    """One batch, as it stands in the topic of batches (key: batch id)."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    process_id: str = Field(description="The process start that ran it.")
    release: str = Field(description="The release that made its results.")
    trunk: str = Field(
        default="",
        description="The text trunk of that release, as product vectors name it; empty: `release`.",
    )
    trial: TrialRecord | None = Field(
        default=None,
        description="The candidate that served a share of the shoppers; null outside a trial.",
    )
    runs: list[Run] = Field(description="The events in the order they were worked on.")
    sequence: int = Field(description="The batch's place among all steps on the state store.")
    index_position: list[int] = Field(
        description="Next offset of each partition of the product vectors at ranking."
    )
    confirmed: bool = Field(
        default=True,
        description="False: found after a crash; its results may never have been written.",
    )


def runs_of(events: Sequence[TakenEvent]) -> list[Run]:
    """Return the events' positions, neighbours of one partition joined."""
    runs: list[Run] = []
    for event in events:
        topic, partition, offset = event.position
        if runs and (runs[-1].topic, runs[-1].partition) == (topic, partition):
            last = runs[-1]
            if offset > last.last:
                runs[-1] = last.model_copy(update={"last": offset, "count": last.count + 1})
                continue
        runs.append(Run(topic=topic, partition=partition, first=offset, last=offset, count=1))
    return runs


def encode_intent(
    batch_id: str, process_id: str, releases: BatchReleases, runs: Sequence[Run]
) -> bytes:
    """Return what is known of a batch before its step; the store keeps it until confirmed."""
    return orjson.dumps(
        {
            "batch_id": batch_id,
            "process_id": process_id,
            **releases.model_dump(),
            "runs": [run.model_dump() for run in runs],
        }
    )


def record_of_intent(stored: bytes) -> BatchRecord:
    """Return the record of a batch applied and never confirmed, as the store keeps its intent.

    The store keeps `{"sequence": …, "intent": …}`: the sequence is known only inside its own step.
    """
    kept = orjson.loads(stored)
    return BatchRecord.model_validate(
        {
            **kept["intent"],
            "sequence": kept["sequence"],
            "index_position": [],
            "confirmed": False,
        }
    )
