"""The parts through the job, and one that others read (the trunk) with all that reads it.

The trunk is judged first by its own tasks; only one that wins there is worth new heads. Then each
part that reads it is trained on it and compared, on that part's own newest samples, with what
serves today: the gate lets all of them pass together or none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.releases.gate_record import Figure, GateDecision, GuardComparison
from models.releases.manifest import ReleaseManifest
from models.releases.shoppers import is_among
from models.releases.store import ReleaseStore
from training.guards import GateOptions, guards_of_other_part, with_guards
from training.job.files import RunFiles
from training.job.options import JobOptions
from training.job.plan import PartPlan, Standing
from training.job.steps import PartRun, cases_of
from training.parts.part import PartContext, TrainablePart
from training.weights import weight_fault

logger = logging.getLogger(__name__)

BOUND = "bound"


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where a job's parts are trained and judged; `check` raises when it may not go on."""

    context: PartContext
    options: JobOptions
    run: RunFiles
    standing: Standing
    store: ReleaseStore
    check: Callable[[], None]


def decide_parts(
    parts: Sequence[TrainablePart], plans: Mapping[str, Any], place: JobPlace
) -> tuple[list[GateDecision], dict[str, str]]:
    """Return the decisions, and which parts wait for the next job, because their trunk changes.

    What others read comes first.
    """
    decisions: list[GateDecision] = []
    postponed: dict[str, str] = {}
    changed = ""
    for part in sorted(parts, key=lambda one: not one.bound):
        if part.name not in plans:
            continue
        if changed:
            how = "it was trained with the new" if part.name in plans[changed]["bound"] else (
                "the next job trains it on the new")  # fmt: skip
            postponed[part.name] = f"{how} {changed}"
            continue
        place.check()
        run = _part_run(part, PartPlan.of_json(plans[part.name]), place)
        decide = decide_with_bound if part.bound else PartRun.decide
        decision = decide(run, place.standing.manifest, place.store)
        verdict = "passed" if decision.passed else "refused: " + "; ".join(decision.reasons)
        logger.info("%s: %s", part.name, verdict)
        decisions.append(decision)
        if part.bound and decision.passed:
            changed = part.name
    return decisions, postponed


def _part_run(part: TrainablePart, plan: PartPlan, place: JobPlace) -> PartRun:
    context = place.context
    if plan.from_nothing and part.bound:
        origin = _untrained_release(place.store, place.standing.manifest, part.name)
        context = replace(context, origin=origin)
    return PartRun(part, plan, context, place.options, place.run)


def _untrained_release(store: ReleaseStore, release: ReleaseManifest, part: str) -> Path | None:
    """Return the nearest earlier release whose part has seen no samples; None: it is gone."""
    while part in release.data:
        if not release.parents or not store.exists(release.parents[0]):
            return None
        release = store.manifest(release.parents[0])
    return store.fetch(str(release.release_id))


def decide_with_bound(
    trunk: PartRun, current: ReleaseManifest, store: ReleaseStore
) -> GateDecision:
    """Train and judge a part, then all that read it; each step only once."""
    learnt, tested = trunk.rows()
    trained = trunk.train(learnt, current, store)

    def judge_alone() -> dict[str, object]:
        decision = trunk.judge(trained, learnt, tested, current, store)
        guards = list(_language_guard(trained, trunk.gate))
        return with_guards(decision, guards).model_dump(mode="json")

    name = trunk.part.name
    alone = GateDecision.model_validate(trunk.run.step(f"alone.{name}", judge_alone))
    if not alone.passed:
        return alone
    decision = alone
    for run in _bound_runs(trunk):
        follow = partial(_follow, run, trunk, current, store)
        kept = trunk.run.step(f"guard.{run.part.name}", follow)
        guards = [GuardComparison.model_validate(one) for one in kept["guards"]]
        decision = with_guards(decision, guards, kept["faults"])
    return decision


def _bound_runs(trunk: PartRun) -> Iterator[PartRun]:
    context = replace(trunk.context, new_trunk=trunk.folder / "model")
    parts: Mapping[str, TrainablePart] = {part.name: part for part in trunk.part.bound}
    for name, plan in (trunk.plan.bound or {}).items():
        yield PartRun(parts[name], plan, context, trunk.options, trunk.run, place=BOUND)


def _follow(
    run: PartRun, trunk: PartRun, current: ReleaseManifest, store: ReleaseStore
) -> dict[str, list[object]]:
    """Train a part on the new trunk; return how it compares with the one that serves."""
    name = run.part.name
    learnt, tested = run.rows()
    trained = run.train(learnt, current, store)
    fault = trained.get("fault") or weight_fault(run.folder / "model")
    if fault:
        return {"guards": [], "faults": [f"no {name} could be trained on it: {fault}"]}
    standing = run.part.standing(run.context.release)
    (theirs,) = run.part.evaluate(trunk.context, [standing], learnt, tested)
    (ours,) = run.part.evaluate(run.context, [run.folder / "model"], learnt, tested)
    cases = cases_of(tested)
    fresh = np.flatnonzero(~is_among(cases.sample_ids, run.learnt_by(current, store)))
    if len(fresh) < run.gate.min_cases:
        few = f"{len(fresh):,} {name} test cases are too few: {run.gate.min_cases:,} are needed"
        return {"guards": [], "faults": [few]}
    ours, theirs, cases = ours.take(fresh), theirs.take(fresh), cases.take(fresh)
    bad = [key for key, values in ours.values.items() if not np.isfinite(values).all()]
    if bad:
        return {"guards": [], "faults": [f"the new {name} gives numbers that are none"]}
    guards = guards_of_other_part(name, ours, theirs, cases, run.gate)
    return {"guards": [one.model_dump(mode="json") for one in guards], "faults": []}


def _language_guard(
    trained: Mapping[str, object], options: GateOptions
) -> Iterator[GuardComparison]:
    """Yield the held-out language loss, turned round: greater is better."""
    figures = trained.get("figures")
    if not isinstance(figures, Mapping) or figures.get("language_change") is None:
        return
    before, after, change = (
        Figure(value=-one["value"], low=-one["high"], high=-one["low"], cases=one["cases"])
        for one in (
            figures[name] for name in ("language_loss_before", "language_loss", "language_change")
        )
    )
    yield GuardComparison(
        metric="language (less loss)",
        candidate=after,
        current=before,
        difference=change,
        limit=options.language_limit,
        passed=change.value >= -options.language_limit,
    )
