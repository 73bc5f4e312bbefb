"""What is wrong with a recording: counted by kind, the first of each kind with its place."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Literal

from worker.errors import ShopstreamError

OnError = Literal["stop", "skip"]
SHOWN_PER_KIND = 20

WHAT_TO_DO = {
    "corrupt-file": "what it held is left out; record it again",
    "gap": "Kafka compacted or dropped these records before they were recorded",
    "missing-records": "files of the recording lack records that it once held: record again",
    "missing-events": "a batch took events that the recording lacks, so its results will differ",
    "missing-batches": "batches without a record changed the state: results after them may differ",
    "unreadable-batch-record": "it was written by another version; its batch is left out",
    "unreadable-product-vector": "the live worker left it out too",
    "invalid-event": "the live worker makes a dead letter of it; so does the replay",
    "release-gone": "its batches only change the state",
    "emptied-store": "the state store was emptied while it was recorded: record each run alone",
    "other-settings": "the recording was made with other settings: results may differ",
    "late-event": "it happened before what was replayed already and takes its turn late",
}


class ReplayStopped(ShopstreamError):
    """A fault that the caller chose to stop at; the message says where and what to do."""


@dataclass(slots=True)
class Faults:
    """Collects faults; with `on_error` "stop" the first grave one raises `ReplayStopped`."""

    on_error: OnError = "stop"
    counts: Counter[str] = field(default_factory=Counter)
    places: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, kind: str, place: str, count: int = 1) -> None:
        """Count what makes no result wrong that was right live (a gap, a dead letter)."""
        self.counts[kind] += count
        if len(self.places[kind]) < SHOWN_PER_KIND:
            self.places[kind].append(place)

    def add(self, kind: str, place: str, count: int = 1) -> None:
        """Count a fault that makes results differ or lack; raises ReplayStopped when asked to."""
        self.note(kind, place, count)
        if self.on_error == "stop":
            raise ReplayStopped(
                f"{kind}: {place}: {WHAT_TO_DO[kind]}; --on-error skip goes on and counts them"
            )

    def as_json(self) -> dict[str, dict[str, object]]:
        """Return kind -> count, what it means, and the first places."""
        return {
            kind: {
                "count": count,
                "meaning": WHAT_TO_DO.get(kind, ""),
                "places": self.places[kind],
            }
            for kind, count in sorted(self.counts.items())
        }
