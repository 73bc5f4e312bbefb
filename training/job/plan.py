"""Which parts the job trains anew, and at which time their samples are cut into learnt and tested.

The test slice is the newest share of a part's samples, by count. A part is trained when enough new
samples came since the last job, or at once where the current release was trained on a shopper who
was forgotten since. What reads a part that is trained (a head on its trunk) is planned with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from models.releases.manifest import ReleaseManifest
from training.data.rows import UnreadableData
from training.job.options import JobOptions
from training.parts.part import TrainablePart
from training.parts.samples import PartSamples


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Rows before `cut_us` are learnt, rows from there to `end_us` tested (µs since 1970)."""

    cut_us: int
    end_us: int
    from_nothing: bool = False  # the standing part knows a forgotten shopper
    reason: str = ""
    bound: Mapping[str, PartPlan] | None = None  # what must follow it; None: nothing ever reads it

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> PartPlan:
        """Return the plan of what `to_json` gave."""
        bound = values.get("bound")
        if bound is not None:
            bound = {name: cls.of_json(one) for name, one in bound.items()}
        return cls(**{**values, "bound": bound})


@dataclass(frozen=True, slots=True)
class Standing:
    """What the job finds: the current release, what the last job did, who was forgotten."""

    release: Path
    manifest: ReleaseManifest
    last: Mapping[str, Any]
    tainted: Mapping[str, Sequence[str]]


def plan_parts(
    options: JobOptions, parts: Sequence[TrainablePart], standing: Standing
) -> tuple[dict[str, PartPlan], dict[str, str], list[str]]:
    """Return part -> plan, part -> why it is skipped, and what the samples leave out."""
    planned: dict[str, PartPlan] = {}
    skipped: dict[str, str] = {}
    notes: list[str] = []
    for part in parts:
        try:
            samples = PartSamples(options.samples, part.kinds)
            plan = _plan(options, samples, part, standing)
            notes += samples.notes()
            planned[part.name] = _with_bound(options, part, plan, standing)
        except (UnreadableData, _NotNow) as error:
            skipped[part.name] = str(error)
    return planned, skipped, notes


class _NotNow(Exception):
    """Why a part is not trained in this job."""


def _with_bound(
    options: JobOptions, part: TrainablePart, plan: PartPlan, standing: Standing
) -> PartPlan:
    """Return the plan with those of the parts that must be trained anew on its result."""
    bound: dict[str, PartPlan] = {}
    for other in part.bound:
        folder = other.standing(standing.release)
        if folder is None or not other.reads_trunk(folder):
            continue
        try:
            samples = PartSamples(options.samples, other.kinds)
            bound[other.name] = _plan(replace(options, force=True), samples, other, standing)
        except (UnreadableData, _NotNow) as error:
            raise _NotNow(
                f"the release's {other.name} reads it and would have to be trained anew: {error}"
            ) from error
    return replace(plan, bound=bound if part.bound else None)


def _plan(
    options: JobOptions, samples: PartSamples, part: TrainablePart, standing: Standing
) -> PartPlan:
    """Return the plan of a part; raises _NotNow, UnreadableData."""
    name, tainted = part.name, part.name in standing.tainted
    kept, least = samples.kept, options.gate.min_cases
    if kept < options.min_train + least:
        raise _NotNow(f"{kept:,} samples are too few: {options.min_train + least:,} are needed")
    new = samples.count_since(int(standing.last.get("seen_us", {}).get(name, 0)))
    awaited = options.min_new * part.pace.wakes_after
    if new < awaited and not (tainted or options.force):
        raise _NotNow(f"{new:,} new samples since the last job; it waits for {awaited:,}")
    share = min(max(options.test_share, least / kept), options.max_test / kept, 0.5)
    cut_us = samples.split_time_us(share)
    learnt = standing.manifest.data.get(name)
    if learnt is not None and learnt.last is not None:
        # what the current release has learnt is no test of it, nor of one that goes on from it
        cut_us = max(cut_us, _us(datetime.fromisoformat(learnt.last)) + 1)
    tested = samples.count_since(cut_us)
    if tested < least:
        raise _NotNow(
            f"only {tested:,} new samples are newer than what the current release learnt: "
            f"{least:,} are needed to test on"
        )
    reason = "a shopper it was trained on is forgotten" if tainted else f"{new:,} new samples"
    return PartPlan(cut_us, samples.last_us + 1, tainted, reason)


def _us(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
