"""The demo's learning loop: what its panel says of the jobs, and what its figures are made of."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from models.metrics import Estimate, share_estimate
from models.releases.gate_record import Comparison, Figure, GateDecision
from models.releases.gate_record import TestSlice as SliceRecord
from worker.embedded.demo.loop.job import JobOutcome, JobStage, read_outcome
from worker.embedded.demo.loop.learning import JobRecord, LearningLoop
from worker.embedded.demo.loop.places import LoopPlaces
from worker.embedded.demo.loop.tags_right import TagsRight
from worker.embedded.demo.loop.view import LOOP_FIELDS, LoopView
from worker.embedded.demo.observer import Observer
from worker.page.live_figures import LiveFigures
from worker.page.live_view import live_view
from worker.page.loop_figures import LoopFigures
from worker.page.loop_panel import bar, loop_line

BEGUN_S = 1_000.0


class Reviews(Observer):
    """An observer that has seen so many reviews, and these releases serve."""

    def __init__(self, count: int = 0, **first_batch_s: float) -> None:
        self.count = count
        self.first_batch_s = first_batch_s

    def review_count(self) -> int:
        return self.count


class Loop(LearningLoop):
    """A loop whose jobs are told, not run."""

    def __init__(self, *jobs: JobRecord, count: int = 104, **first_batch_s: float) -> None:
        self.observer = Reviews(count, **first_batch_s)
        self.jobs, self.needed, self._observer = list(jobs), 180, self.observer


def decision(passed: bool = True) -> GateDecision:
    def figure(value: float) -> Figure:
        return Figure(value=value, low=value - 0.1, high=value + 0.1, cases=60)

    return GateDecision(
        part="sentiment",
        passed=passed,
        rule="gain",
        reasons=() if passed else ("accuracy -0.01: the interval does not lie above 0",),
        candidate="base+sentiment",
        current="base",
        primary=Comparison(
            metric="accuracy",
            candidate=figure(0.95),
            current=figure(0.75),
            difference=figure(0.2),
        ),
        test_slice=SliceRecord(first=None, last=None, cases=60),
        false_pass_rate=0.025,
        decided_at="2026-01-01T00:00:00+00:00",
    )


def job(outcome: JobOutcome | None = None, **fields: Any) -> JobRecord:
    ended_s = None if outcome is None else 1_060.0
    return JobRecord(183, 1_042.0, ended_s=ended_s, outcome=outcome, **fields)


def tags(**right: tuple[int, int]) -> TagsRight:
    """Tags of each release: how many were right, how many there were."""
    found = TagsRight()
    for release, (hits, cases) in right.items():
        for number in range(cases):
            found.note(release, number < hits)
    return found


RELEASED = JobOutcome("new", decision())
TAGS = tags(own=(60, 80), base=(15, 20), new=(48, 50))


def told(*jobs: JobRecord, **loop: Any) -> LoopFigures:
    return LoopView(Loop(*jobs, **loop), TAGS, BEGUN_S).figures()


def steps(figures: LoopFigures) -> list[str]:
    return [f"{one.state}: {one.text}" for one in figures.steps]


def test_a_share_has_an_interval_also_where_all_are_right() -> None:
    """Wilson's interval of 10 of 10 reaches down to 72 %, that of 5 of 10 is known by heart."""
    assert share_estimate(10, 10) == Estimate(1.0, pytest.approx(0.7225, abs=1e-4), 1.0, 10)
    half = share_estimate(5, 10)
    assert (round(half.low, 4), round(half.high, 4)) == (0.2366, 0.7634)
    assert share_estimate(0, 0).cases == 0


def test_before_the_first_job_the_collection_is_shown_and_one_quality() -> None:
    """Nothing is called before or after while nothing was swapped."""
    figures = told()
    assert steps(figures) == [
        "now: collecting reviews: 104 of 180", "todo: train", "todo: gate", "todo: release",
        "todo: swap",
    ]  # fmt: skip
    (row,) = LoopView(Loop(), tags(own=(60, 80)), BEGUN_S).figures().quality
    assert (row.name, row.right.value, row.right.cases, row.release) == ("now", 0.75, 80, "own")


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (JobStage.EXPORTING, ["now: training", "todo: gate", "todo: release"]),
        (JobStage.TRAINING, ["now: training", "todo: gate", "todo: release"]),
        (JobStage.JUDGING, ["done: trained", "now: judging", "todo: release"]),
        (JobStage.RELEASING, ["done: trained", "done: passed the gate", "now: releasing"]),
    ],
)
def test_a_running_job_shows_its_stage(stage: JobStage, expected: list[str]) -> None:
    """What is done, what is being done and what is to come."""
    figures = told(job(stage=stage))
    assert steps(figures)[1:4] == expected
    assert figures.note == ""


def test_a_release_is_before_and_after_once_it_serves() -> None:
    """Released and not serving: one quality; serving: the others before, its own after."""
    waiting = told(job(RELEASED))
    assert steps(waiting)[-1] == "now: swapping in"
    assert [one.name for one in waiting.quality] == ["now"]
    serving = told(job(RELEASED, swapped_s=1_064.4))
    assert steps(serving)[-1] == "done: swapped in (64 s)"
    before, after = serving.quality
    assert (before.name, before.right.value, before.right.cases) == ("before", 0.75, 100)
    assert (after.name, after.right.value, after.right.cases) == ("after", 0.96, 50)
    assert (before.release, after.release) == ("base", "new")
    assert "accuracy 75% → 95%, +20 [+10, +30] points: passed" in serving.gate
    assert serving.note == "next job: 104 of 180 reviews"


def test_what_the_gate_refuses_is_kept_with_its_sentence() -> None:
    """The gate's figures stand there, the old release stays, no quality is called after."""
    figures = told(job(JobOutcome(None, decision(passed=False))))
    assert steps(figures)[1:] == [
        "done: trained", "failed: kept the old one", "todo: release", "todo: swap"
    ]  # fmt: skip
    assert figures.gate.endswith(
        "points: kept the old one: accuracy -0.01: the interval does not lie above 0"
    )
    assert [one.name for one in figures.quality] == ["now"]


@pytest.mark.parametrize(
    ("record", "step", "note"),
    [
        (job(JobOutcome(fault="179 samples are too few")), "not trained", "179 samples"),
        (job(RELEASED, refused="it is damaged"), "refused by the worker", "it is damaged"),
        (job(stage=JobStage.JUDGING, cut_off=True), "cut off", "the demo ended"),
    ],
)
def test_what_fails_says_why(record: JobRecord, step: str, note: str) -> None:
    """A failed job, a refusal by the worker and a job that the end cut off."""
    figures = told(record)
    assert f"failed: {step}" in steps(figures)
    assert note in figures.note


def test_the_report_has_null_where_nothing_was_swapped() -> None:
    """The fields are always there; without a swap there is neither before nor after."""
    view = LoopView(Loop(job(stage=JobStage.TRAINING, cut_off=True)), TAGS, BEGUN_S)
    report = view.report()
    assert tuple(report) == LOOP_FIELDS
    assert [report[name] for name in LOOP_FIELDS[:4]] == [[], None, None, None]
    (cut,) = report["jobs"]
    assert (cut["reviews"], cut["began_after_s"], cut["outcome"]) == (183, 42.0, "cut off")
    assert "cut off" in view.ending()
    assert "104 of the 180 reviews" in LoopView(Loop(), TAGS, BEGUN_S).ending()


def test_the_report_of_a_swap() -> None:
    """Both qualities with n and interval, the gate's figures, and when it came in."""
    view = LoopView(Loop(job(RELEASED, swapped_s=1_064.4)), TAGS, BEGUN_S)
    report = view.report()
    assert report["swapped_after_s"] == 64.4
    assert report["quality_before"]["value"] == 0.75
    assert report["quality_before"]["n"] == 100
    assert report["quality_after"] == report["releases"][0]["tags_right"]
    assert report["quality_after"]["low"] < 0.96 < report["quality_after"]["high"]
    assert report["releases"][0]["gate"]["difference"]["value"] == 0.2
    assert json.loads(json.dumps(report)) == report
    assert "75% before, 96% of 50 after" in view.ending()


def test_a_release_is_swapped_in_when_its_first_batch_is_seen() -> None:
    """What the worker serves is what its batches say, not what was promoted."""
    loop = Loop(job(RELEASED))
    loop.look()
    assert loop.releases == []
    loop.observer.first_batch_s["new"] = 1_064.0
    loop.look()
    assert loop.releases == ["new"]
    assert loop.jobs[0].swapped_s == 1_064.0


def test_a_loop_that_collects_ends_without_a_job(tmp_path: Path) -> None:
    """Closed while it collects, it has started nothing."""

    async def run() -> LearningLoop:
        from worker.settings import Settings

        loop = LearningLoop(Settings(), LoopPlaces(tmp_path, tmp_path, False), Reviews(5))
        loop.start()
        await asyncio.sleep(0.01)
        loop.check()
        await loop.close()
        return loop

    assert asyncio.run(run()).jobs == []
    assert list(tmp_path.iterdir()) == []


def test_a_jobs_report_is_found_among_its_log_lines(tmp_path: Path) -> None:
    """The last JSON object counts; a job that trained nothing says why."""
    log = tmp_path / "retrain.log"
    report = {"parts": [decision().model_dump(mode="json")], "release_id": "new", "skipped": {}}
    log.write_text(f"12:00 sentiment: training\n{json.dumps(report)}\n12:01 done\n")
    assert read_outcome(log) == RELEASED
    log.write_text(json.dumps({"parts": [], "skipped": {"sentiment": "3 new samples"}}) + "\n")
    assert read_outcome(log) == JobOutcome(fault="3 new samples")
    log.write_text("Killed\n")
    assert read_outcome(log).fault == "the job printed no report"


@pytest.mark.parametrize("width", [80, 140])
def test_the_panel_says_it_at_a_glance(width: int) -> None:
    """Steps, both bars with shares and counts, and the gate stand in the view."""
    figures = told(job(RELEASED, swapped_s=1_064.4))
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(live_view(LiveFigures(loop=figures)), height=40)
    text = console.export_text()
    for expected in ("The learning loop", "✓ 183 reviews  ✓ trained", "gate: newest 60",
                     "review tags right", "before", "75%", "after", "96%"):  # fmt: skip
        assert expected in text, expected
    if width == 140:
        assert "[87%, 99%] of 50  new" in text
        assert "✓ swapped in (64 s)  next job: 104 of 180" in text
    lines = text.split("\n")
    assert all(Console(width=width).measure(line).maximum <= width for line in lines)


def test_the_plain_line_says_the_same() -> None:
    """Where there is no terminal: steps, before and after, gate, what comes next."""
    assert loop_line(told(job(RELEASED, swapped_s=1_064.4))) == (
        "        loop: ✓ 183 reviews ✓ trained ✓ passed the gate ✓ released "
        "✓ swapped in (64 s); review tags right before 75% [66%, 82%] of 100, "
        "after 96% [87%, 99%] of 50; gate: newest 60 reviews, accuracy 75% → 95%, "
        "+20 [+10, +30] points: passed; next job: 104 of 180 reviews"
    )


def test_bars_are_as_long_as_the_share() -> None:
    """Eighths of a sign; nothing is longer than the whole."""
    assert bar(0.5, 4) == "██"
    assert bar(0.53125, 4) == "██▏"
    assert bar(1.2, 4) == "████"
    assert bar(0.0, 4) == ""
