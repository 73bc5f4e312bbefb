"""What every result of a batch says of itself: cause, time, release, batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from worker.pipeline.stages import Arm
from worker.pipeline.times import rfc3339
from worker.store.contract import Version
from worker.store.results import version_text


class StampFields(TypedDict):
    """The members all results share."""

    version: str
    step: int
    event_id: str
    occurred_at: str
    written_at: str
    release: str
    batch_id: str
    arm: Arm | None


@dataclass(frozen=True, slots=True)
class ResultStamp:
    """One batch's stamp; `written_at_ms` is the only wall-clock value in a result.

    Without one a result is written when its event happens: so a replay in the order of time has it.
    """

    batch_id: str
    release: str
    written_at_ms: int | None
    step: int = 0  # of the batch, on the state store
    arm: Arm | None = None

    def fields(self, version: Version) -> StampFields:
        """Return the shared members of a result caused by the event of this version."""
        written_at_ms = self.written_at_ms
        if written_at_ms is None:
            written_at_ms = version.occurred_at_ms
        return StampFields(
            version=version_text(version),
            step=self.step,
            event_id=version.event_id,
            occurred_at=rfc3339(version.occurred_at_ms),
            written_at=rfc3339(written_at_ms),
            release=self.release,
            batch_id=self.batch_id,
            arm=self.arm,
        )
