"""The loop's figures: for the panel while it runs, and for the report at the end."""

from __future__ import annotations

from typing import Any

from models.metrics import Estimate
from models.releases.gate_record import Figure, GateDecision
from worker.embedded.demo.loop.job import JobStage
from worker.embedded.demo.loop.learning import JobRecord, LearningLoop
from worker.embedded.demo.loop.tags_right import TagsRight
from worker.page.loop_figures import LoopFigures, LoopStep, ServedQuality

LOOP_FIELDS = ("releases", "swapped_after_s", "quality_before", "quality_after", "jobs")

# The steps after the collection, by state; places count from 1.
_TODO = ("train", "gate", "release", "swap")
_NOW = ("training", "judging", "releasing", "swapping in")
_DONE = ("trained", "passed the gate", "released", "swapped in ({after_s:.0f} s)")
_FAILED = ("not trained", "kept the old one", "not released", "refused by the worker")
_PLACES = {
    JobStage.EXPORTING: 1,
    JobStage.TRAINING: 1,
    JobStage.JUDGING: 2,
    JobStage.RELEASING: 3,
}


class LoopView:
    """Reads a loop and the tags; `begun_s` is when the shop opened."""

    def __init__(self, loop: LearningLoop, tags: TagsRight, begun_s: float) -> None:
        self._loop = loop
        self._tags = tags
        self._begun_s = begun_s

    def figures(self) -> LoopFigures:
        """Return a snapshot."""
        decisions = [job.outcome.decision for job in self._loop.jobs if job.outcome]
        judged = [one for one in decisions if one is not None]
        return LoopFigures(
            steps=self._steps(),
            quality=self._quality(),
            gate=_sentence(judged[-1]) if judged else "",
            note=self._note(),
        )

    def report(self) -> dict[str, Any]:
        """Return the report's fields, null where no release was swapped in."""
        served = [job for job in self._loop.jobs if job.swapped_s is not None]
        return {
            "releases": [
                {
                    "release": job.release_id,
                    "swapped_after_s": self._after_s(job.swapped_s),
                    "gate": _gate(job.outcome.decision) if job.outcome else None,
                    "tags_right": _share(self._tags.right([str(job.release_id)])),
                }
                for job in served
            ],
            "swapped_after_s": self._after_s(served[0].swapped_s) if served else None,
            "quality_before": _share(self._before()) if served else None,
            "quality_after": _share(self._after()) if served else None,
            "jobs": [
                {
                    "reviews": job.reviews,
                    "began_after_s": self._after_s(job.began_s),
                    "took_s": None if job.ended_s is None else round(job.ended_s - job.began_s, 1),
                    "outcome": outcome_of(job),
                }
                for job in self._loop.jobs
            ],
        }

    def ending(self) -> str:
        """Return in a sentence what the loop came to."""
        loop = self._loop
        if loop.releases:
            before, after = self._before(), self._after()
            told = f"{before.value:.0%} before" if before else "none before"
            now = f"{after.value:.0%} of {after.cases} after" if after else "none after"
            return (
                f"{loop.releases[-1]} was trained and swapped in: review tags right {told}, {now}"
            )
        if loop.jobs:
            return f"no release was swapped in; the last job: {outcome_of(loop.jobs[-1])}"
        return (
            f"it had {loop.collected} of the {loop.needed} reviews that it needs: "
            "more --seconds show a release"
        )

    def _steps(self) -> list[LoopStep]:
        if not self._loop.jobs:
            collected = f"collecting reviews: {self._loop.collected} of {self._loop.needed}"
            return [LoopStep(collected, "now"), *map(LoopStep, _TODO)]
        job = self._loop.jobs[-1]
        place, failed = _place(job)
        steps = [LoopStep(f"{job.reviews} reviews", "done")]
        for number, names in enumerate(zip(_TODO, _NOW, _DONE, _FAILED, strict=True), 1):
            todo, now, done, bad = names
            if number < place:
                steps.append(LoopStep(done.format(after_s=self._after_s(job.swapped_s)), "done"))
            elif number > place:
                steps.append(LoopStep(todo))
            else:
                stopped = "cut off" if job.cut_off else bad
                steps.append(LoopStep(stopped, "failed") if failed else LoopStep(now, "now"))
        return steps

    def _quality(self) -> list[ServedQuality]:
        releases = self._loop.releases
        others = self._tags.others(releases)
        rows = [("before" if releases else "now", self._before(), others[-1] if others else "")]
        if releases:
            rows.append(("after", self._after(), releases[-1]))
        return [ServedQuality(name, right, one) for name, right, one in rows if right is not None]

    def _note(self) -> str:
        if not self._loop.jobs:
            return ""
        job = self._loop.jobs[-1]
        place, failed = _place(job)
        if job.cut_off:
            return "cut off: the demo ended before the job did"
        if not failed and place <= len(_TODO):  # it is under way
            return ""
        wait = f"next job: {self._loop.collected} of {self._loop.needed} reviews"
        return f"{outcome_of(job)}; {wait}" if job.refused or job.fault else wait

    def _before(self) -> Estimate | None:
        return self._tags.right(self._tags.others(self._loop.releases))

    def _after(self) -> Estimate | None:
        return self._tags.right(self._loop.releases)

    def _after_s(self, moment_s: float | None) -> float | None:
        return None if moment_s is None else round(moment_s - self._begun_s, 1)


def outcome_of(job: JobRecord) -> str:
    """Return in a few words what came of a job."""
    if job.outcome is None:
        return "cut off" if job.cut_off else "runs"
    if job.fault:
        return f"failed: {job.fault}"
    if job.refused:
        return f"refused by the worker: {job.refused}"
    if job.release_id is not None:
        return "released" if job.swapped_s is not None else "released, served nothing yet"
    assert job.outcome.decision is not None
    return f"kept {job.outcome.decision.current}: {'; '.join(job.outcome.decision.reasons)}"


def _place(job: JobRecord) -> tuple[int, bool]:
    """Return the step a job is at (5: past all of them) and whether it failed there."""
    if job.outcome is None:
        return _PLACES[job.stage], job.cut_off
    if job.release_id is not None:
        return (5 if job.swapped_s is not None else 4), bool(job.refused)
    return (2 if job.outcome.decision is not None else 1), True


def _sentence(decision: GateDecision) -> str:
    verdict = "passed" if decision.passed else f"kept the old one: {'; '.join(decision.reasons)}"
    primary = decision.primary
    if primary is None:
        return verdict
    gain = primary.difference
    return (
        f"newest {decision.test_slice.cases} reviews, {primary.metric} "
        f"{primary.current.value:.0%} → {primary.candidate.value:.0%}, "
        f"{_points(gain.value)} [{_points(gain.low)}, {_points(gain.high)}] points: "
        f"{verdict}"
    )


def _points(share: float) -> str:
    return f"{100 * share:+.0f}"


def _gate(decision: GateDecision | None) -> dict[str, Any] | None:
    if decision is None or decision.primary is None:
        return None
    primary = decision.primary
    return {
        "metric": primary.metric,
        "before": _share(primary.current),
        "after": _share(primary.candidate),
        "difference": _share(primary.difference),
    }


def _share(found: Estimate | Figure | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {
        "value": round(found.value, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "n": found.cases,
    }
