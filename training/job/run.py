"""The retraining job: from new samples to a gated release.

For each part (sentiment, recommender …) that has new samples: train on all but the newest slice,
from the current release; judge on that slice; gate. What passed makes a release together with the
parts that stay, which is published and promoted. Every step is done once: a killed job goes on
where it stopped, and what a reader sees is whole at every moment.

The job knows neither Kafka nor Redis: `JobHooks` lock it and announce what it made.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.releases.gate_record import GateDecision
from models.releases.notes import forgotten_in, mark_releases, note_refusals
from models.releases.store import ReleaseStore
from training.forgotten import forgotten_until
from training.job.assembly import assemble, built_parts, changed_trunk, renewed_vectors
from training.job.decisions import JobPlace, decide_parts
from training.job.files import RunFiles, close_run, open_run, promoted_run, read_last
from training.job.options import JobOptions
from training.job.plan import Standing, plan_parts
from training.parts.part import PartContext, TrainablePart


class JobFailed(Exception):
    """The job could not do its work; the message says what to do. Nothing half was published."""


@dataclass(frozen=True, slots=True)
class JobHooks:
    """What the outside does: `check` raises when the job may not go on (its lock is lost)."""

    check: Callable[[], None]
    promote: Callable[[str, str], None]  # (release id, the release it replaces)


@dataclass(frozen=True, slots=True)
class JobReport:
    """What the job did; `release_id` None: the current release stays."""

    current: str
    release_id: str | None
    decisions: tuple[GateDecision, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)  # part -> why it was not trained
    notes: tuple[str, ...] = ()  # what was left out of the samples, and the like
    marked: Mapping[str, int] = field(default_factory=dict)  # release -> forgotten shoppers
    went_on: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "current": self.current,
            "release_id": self.release_id,
            "parts": [decision.model_dump(mode="json") for decision in self.decisions],
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
            "marked": dict(self.marked),
            "went_on": self.went_on,
        }


def run_job(
    options: JobOptions,
    store: ReleaseStore,
    current: str,
    parts: Sequence[TrainablePart],
    hooks: JobHooks,
) -> JobReport:
    """Retrain `parts` from the release `current`; see the module.

    Raises:
        JobFailed: no part has samples enough, or the disk is full.
        ModelUnavailable: the store or the current release cannot be used.
        Exception: whatever the hooks raise; the next job goes on from there.
    """
    try:
        return _run(options, store, current, parts, hooks)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise JobFailed(
            f"the disk is full ({error.filename or options.work}): nothing was published; make "
            "room and run the job again, it goes on where it stopped."
        ) from error


def _run(
    options: JobOptions,
    store: ReleaseStore,
    current: str,
    parts: Sequence[TrainablePart],
    hooks: JobHooks,
) -> JobReport:
    marked = mark_releases(store, forgotten_until(options.samples))
    release = store.fetch(current)
    tainted = forgotten_in(store, current)
    _finish_promoted(options.work, current)
    manifest, last = store.manifest(current), read_last(options.work)
    standing = Standing(release, manifest, last, tainted)
    planned, skipped, notes = plan_parts(options, parts, standing)
    wanted = {
        "current": current,
        "seed": options.seed,
        "parts": {name: plan.to_json() for name, plan in planned.items()},
    }
    run, plan, went_on = open_run(options.work, wanted)
    if not plan["parts"]:
        close_run(options.work, last)
        _require_any(skipped, options)
        return JobReport(current, None, (), skipped, tuple(notes), _counts(marked))
    context = PartContext(
        release,
        run.path("scratch"),
        options.threads,
        options.device,
        options.seed,
        options.max_tokens,
    )
    decisions, postponed = decide_parts(
        parts, plan["parts"], JobPlace(context, options, run, standing, store, hooks.check)
    )
    release_id = _publish(run, store, standing, decisions, plan, context, options, hooks)
    if release_id is None:
        note_refusals(store, current, decisions)
    seen = _seen(last, plan, [one.part for one in decisions if one.passed])
    report = JobReport(
        current,
        release_id,
        tuple(decisions),
        {**skipped, **postponed},
        tuple(notes),
        _counts(marked),
        went_on,
    )
    close_run(options.work, {"seen_us": seen, "report": report.as_json()})
    return report


def _publish(
    run: RunFiles,
    store: ReleaseStore,
    standing: Standing,
    decisions: Sequence[GateDecision],
    plan: Mapping[str, Any],
    context: PartContext,
    options: JobOptions,
    hooks: JobHooks,
) -> str | None:
    """Publish and promote a release of what passed; None where nothing did."""
    passed = [decision.part for decision in decisions if decision.passed]
    if not passed:
        return None
    built = built_parts(run, passed, plan["parts"])
    vectors = None
    if not changed_trunk(passed, plan["parts"]) and options.products is not None:
        vectors = renewed_vectors(context, options.products, run)
    run.build(
        "release",
        lambda folder: assemble(folder, run, standing, decisions, built, vectors, options.seed),
    )
    hooks.check()
    release_id = store.publish(run.path("release"))
    hooks.check()
    hooks.promote(release_id, str(standing.manifest.release_id))
    return release_id


def _finish_promoted(work: Path, current: str) -> None:
    """Close a run that was killed between its promotion and its end."""
    found = promoted_run(work, current)
    if found is not None:
        plan, passed = found
        close_run(work, {"seen_us": _seen(read_last(work), plan, passed)})


def _seen(
    last: Mapping[str, Any], plan: Mapping[str, Any], passed: Sequence[str]
) -> dict[str, int]:
    """Return part -> the time up to which its samples were used or tested on."""
    plans = dict(plan["parts"])
    changed = changed_trunk(passed, plans)
    if changed:  # what reads it was trained with it; whatever else there is waits
        plans = {changed: plans[changed], **plans[changed]["bound"]}
    ends = {name: int(values["end_us"]) for name, values in plans.items()}
    return {**last.get("seen_us", {}), **ends}


def _require_any(skipped: Mapping[str, str], options: JobOptions) -> None:
    """Raise JobFailed when nothing could be trained for want of samples, not of news."""
    if skipped and not any("new samples" in reason for reason in skipped.values()):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise JobFailed(f"there is nothing to train from {options.samples}: {reasons}.")


def _counts(marked: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, int]:
    return {
        release: len({mark for marks in parts.values() for mark in marks})
        for release, parts in marked.items()
    }
