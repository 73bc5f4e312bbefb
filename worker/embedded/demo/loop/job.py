"""One `shopstream retrain` as a process of low priority: what it does now, and what it said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from models.releases.gate_record import GateDecision
from worker.embedded.demo.loop.places import LoopPlaces
from worker.embedded.demo.surroundings import SHOPSTREAM, worker_environment
from worker.embedded.guarded_process import GuardedProcess
from worker.settings import Settings

PART = "sentiment"
NICENESS = 10
STOP_S = 5.0
# Below the command's own, for a minute of a shop: a gain must be large to show in so few.
MIN_TRAIN, MIN_TEST, MIN_NEW = 120, 60, 20


class JobStage(IntEnum):
    """What a job does, in this order."""

    EXPORTING = 0
    TRAINING = 1
    JUDGING = 2
    RELEASING = 3


# The files of a job's run that say how far it is, as in training/job/files.py.
_STAGE_FILES = {
    JobStage.RELEASING: f"gate.{PART}.json",
    JobStage.JUDGING: f"parts.{PART}.json",
    JobStage.TRAINING: "plan.json",
}


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What a job that ended said; `fault`: why it ended without a decision."""

    release_id: str | None = None
    decision: GateDecision | None = None
    fault: str | None = None


class RetrainJob:
    """A started job. Starting blocks for some 50 ms, stopping for as long as it takes to end."""

    def __init__(self, settings: Settings, places: LoopPlaces, number: int) -> None:
        """Start job `number` on the demo's broker and Redis."""
        self._run = places.samples / ".retrain" / "run"
        self._stage = JobStage.EXPORTING
        log = places.logs / f"retrain-{number}.log"
        log.unlink(missing_ok=True)  # of an earlier demo, whose report must not be taken for ours
        self._process = GuardedProcess(
            "The retraining job",
            (*SHOPSTREAM, "retrain", *_options(places.samples)),
            log_path=log,
            environment=worker_environment(settings)
            | {"OMP_NUM_THREADS": "1", "TMPDIR": str(places.room)},
            remove_folder=places.logs if places.temporary else None,
            stop_s=STOP_S,
            niceness=NICENESS,
        )

    @property
    def running(self) -> bool:
        """Whether the job still works."""
        return self._process.running

    @property
    def stage(self) -> JobStage:
        """How far the job is, never less than before."""
        for stage, name in _STAGE_FILES.items():
            if stage > self._stage and (self._run / name).exists():
                self._stage = stage
        return self._stage

    def outcome(self) -> JobOutcome:
        """Return what the job said at its end."""
        if self._process.status != 0:
            return JobOutcome(fault=self._process.log_tail(1).removeprefix("shopstream: "))
        return read_outcome(self._process.log_path)

    def stop(self) -> None:
        """End the job, wherever it is; again is harmless."""
        self._process.stop()


def read_outcome(log: Path) -> JobOutcome:
    """Return what a job's log says: its last line that is a JSON object is the report."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    found = next((line for line in reversed(lines) if line.startswith("{")), None)
    if found is None:
        return JobOutcome(fault="the job printed no report")
    report: dict[str, Any] = json.loads(found)
    if not report["parts"]:
        return JobOutcome(fault=report["skipped"].get(PART, "nothing was trained"))
    decision = GateDecision.model_validate(report["parts"][0])
    return JobOutcome(report["release_id"], decision)


def _options(samples: Path) -> tuple[str, ...]:
    limits = {"--min-train": MIN_TRAIN, "--min-test": MIN_TEST, "--min-new": MIN_NEW}
    values = [text for name, count in limits.items() for text in (name, str(count))]
    return (
        *("--samples", str(samples), "--part", PART, "--threads", "1"),
        *("--nice", str(NICENESS), "--json", *values),
    )
