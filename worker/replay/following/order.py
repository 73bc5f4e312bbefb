"""The order of batches in a recorded live run: the sequence of their steps on the state store."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from worker.pipeline.records import BatchRecord
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.recording import Recording

_MAX_GAPS_NAMED = 20


@dataclass(slots=True)
class _Found:
    """Columns over all readable records; 25 bytes a batch are all that is kept in memory."""

    sequence: array[int] = field(default_factory=lambda: array("q"))
    confirmed: array[int] = field(default_factory=lambda: array("b"))
    partition: array[int] = field(default_factory=lambda: array("q"))
    offset: array[int] = field(default_factory=lambda: array("q"))


class BatchOrder:
    """Yields batch records by sequence, each batch once."""

    def __init__(self, recording: Recording) -> None:
        """Read all records once, keeping only their places. Faults go to the recording's."""
        self._recording = recording
        self._topic = recording.layout.batches
        self.last_of: dict[str, int] = {}  # process start -> sequence of its last batch
        self.events = 0
        self._places = self._ordered(self._scan())

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._places)

    def __iter__(self) -> Iterator[BatchRecord]:
        """Yield the records in the order of their steps."""
        for partition, offset in self._places.tolist():
            yield self._read(partition, offset)

    def _read(self, partition: int, offset: int) -> BatchRecord:
        stored = next(self._recording.log(self._topic, partition).read(offset, offset))
        return BatchRecord.model_validate_json(stored.value or b"")

    def _scan(self) -> _Found:
        found = _Found()
        faults = self._recording.faults
        for partition in self._recording.partitions(self._topic):
            for stored in self._recording.log(self._topic, partition).read(0):
                try:
                    record = BatchRecord.model_validate_json(stored.value or b"")
                except ValidationError as error:
                    place = f"{self._topic}:{partition}:{stored.offset}"
                    reason = error.errors()[0]["msg"]
                    faults.add("unreadable-batch-record", f"{place} ({reason})")
                    continue
                found.sequence.append(record.sequence)
                found.confirmed.append(record.confirmed)
                found.partition.append(partition)
                found.offset.append(stored.offset)
                process, last = record.process_id, record.sequence
                self.last_of[process] = max(last, self.last_of.get(process, 0))
        return found

    def _ordered(self, found: _Found) -> NDArray[np.int64]:
        sequence = np.array(found.sequence, dtype=np.int64)
        confirmed = np.array(found.confirmed, dtype=bool)
        places = np.array([found.partition, found.offset], dtype=np.int64).T.reshape(-1, 2)
        # By sequence; of two records of one batch the confirmed one stands last and is taken.
        order = np.lexsort((places[:, 1], confirmed, sequence))
        sequence, confirmed, places = sequence[order], confirmed[order], places[order]
        taken = np.append(sequence[1:] != sequence[:-1], True) if len(sequence) else confirmed
        self._check_doubles(sequence, confirmed, places, self._recording.faults)
        _check_gaps(sequence[taken], self._recording.faults)
        chosen: NDArray[np.int64] = places[taken]
        return chosen

    def _check_doubles(
        self,
        sequence: NDArray[np.int64],
        confirmed: NDArray[np.bool_],
        places: NDArray[np.int64],
        faults: Faults,
    ) -> None:
        """Two different batches of one sequence: the store was emptied between two runs."""
        for row in np.flatnonzero(sequence[1:] == sequence[:-1]).tolist():
            first = self._read(*places[row].tolist())
            second = self._read(*places[row + 1].tolist())
            if first.batch_id != second.batch_id:
                faults.add(
                    "emptied-store",
                    f"{first.batch_id} and {second.batch_id} are both step {first.sequence}",
                )


def _check_gaps(sequence: NDArray[np.int64], faults: Faults) -> None:
    if not len(sequence):
        return
    if sequence[0] > 1:
        faults.add(
            "missing-batches", f"the records begin with step {sequence[0]}", int(sequence[0]) - 1
        )
    jumps = np.flatnonzero(np.diff(sequence) > 1)
    for number, row in enumerate(jumps.tolist()):
        missing = int(sequence[row + 1] - sequence[row] - 1)
        place = f"between the steps {sequence[row]} and {sequence[row + 1]}"
        faults.add("missing-batches", place if number < _MAX_GAPS_NAMED else "further on", missing)
