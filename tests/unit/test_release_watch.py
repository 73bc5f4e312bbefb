"""A worker that follows the pointer: it serves what is wanted now, or says why it does not."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.swap_bench import SwapBench, models
from worker.flow.loading import LoadedModels, ModelsUnavailable
from worker.flow.release.thread import BackgroundThread
from worker.flow.release.watch import ReleaseWatch
from worker.store.release_reports import RefusedRelease, ServingWorker
from worker.store.results import CurrentRelease


class Pointer:
    """What the key in Redis would hold."""

    def __init__(self) -> None:
        self.now: CurrentRelease | None = None

    def set(self, release: str, candidate: str | None = None, share: float = 0.0) -> None:
        self.now = CurrentRelease(
            release=release, since="", url="/store", candidate=candidate, share=share
        )

    async def read(self) -> CurrentRelease | None:
        return self.now


class Reports:
    """What the hashes in Redis would hold."""

    def __init__(self) -> None:
        self.serving: list[str] = []
        self.refused: dict[str, str] = {}

    async def serve(self, worker: ServingWorker) -> None:
        self.serving.append(worker.release)

    async def refuse(self, refused: RefusedRelease) -> None:
        self.refused[refused.release] = refused.reason

    async def accept(self, process_id: str, release: str) -> None:
        self.refused.pop(release)


class Watched:
    """A watch over a bench; `loads` is what was asked for, `faults` what cannot be loaded."""

    def __init__(self, bench: SwapBench) -> None:
        self.bench = bench
        self.pointer, self.reports = Pointer(), Reports()
        self.loads: list[str] = []
        self.faults: dict[str, Exception] = {}
        self.while_loading: Callable[[], None] = lambda: None
        self.watch = ReleaseWatch(
            process_id="p",
            device="cpu",
            pointer=self.pointer,  # type: ignore[arg-type]
            reports=self.reports,  # type: ignore[arg-type]
            switch=bench.switch,
            load=self.load,
            thread=BackgroundThread("test"),
            metrics=bench.metrics,
        )

    def load(self, release: str, url: str) -> LoadedModels:
        self.loads.append(release)
        self.while_loading()
        if release in self.faults:
            raise self.faults[release]
        return LoadedModels(models(release, 48 if release == "wide" else 32), "cpu", "float32")

    def outcome(self, name: str) -> float:
        return self.bench.figure("shopstream_release_swaps_total", outcome=name)


async def test_what_is_promoted_serves_and_a_rollback_loads_nothing() -> None:
    """A release is loaded once; the one before it comes back from memory."""
    async with SwapBench().fed() as bench:
        watched = Watched(bench)
        await watched.watch.follow()
        assert watched.loads == []  # nobody promoted anything
        for release in ("one", "wide", "one"):
            watched.pointer.set(release)
            await watched.watch.follow()
            assert bench.pipeline.serving.models.release == release
        assert watched.loads == ["one", "wide"]
        assert watched.reports.serving == ["one", "wide", "one"]
        assert watched.outcome("switched") == 3


async def test_a_release_that_was_overtaken_while_it_loaded_never_serves() -> None:
    """The pointer moves during a load: only the newest is switched to."""
    async with SwapBench().fed() as bench:
        watched = Watched(bench)
        watched.pointer.set("one")

        def overtake() -> None:
            watched.while_loading = lambda: None
            watched.pointer.set("two")

        watched.while_loading = overtake
        await watched.watch.follow()
        assert watched.reports.serving == ["two"]
        assert watched.outcome("superseded") == 1


async def test_a_refused_release_is_not_tried_again_until_somebody_asks() -> None:
    """Any fault of a release leaves the old one serving; a message of Kafka tries it once more."""
    async with SwapBench().fed() as bench:
        watched = Watched(bench)
        watched.faults = {"bad": ModelsUnavailable("its file is damaged")}
        watched.pointer.set("bad")
        for _ in range(3):
            await watched.watch.follow()
        assert watched.loads == ["bad"]
        assert watched.reports.refused == {"bad": "its file is damaged"}
        assert bench.pipeline.serving.models.release == "null-32"
        watched.faults = {"bad": MemoryError("no room")}
        watched.watch.wake()
        await watched.watch.follow()
        assert "MemoryError: no room" in watched.reports.refused["bad"]
        assert watched.outcome("refused") == 2
        watched.faults = {}
        watched.watch.wake()
        await watched.watch.follow()
        assert bench.pipeline.serving.models.release == "bad"
        assert watched.reports.refused == {}


async def test_a_refused_candidate_leaves_the_current_release_alone() -> None:
    """A trial whose candidate cannot be loaded does not begin; the current release serves all."""
    async with SwapBench().fed() as bench:
        watched = Watched(bench)
        watched.faults = {"bad": ModelsUnavailable("too large")}
        watched.pointer.set("one", "bad", 0.5)
        await watched.watch.follow()
        assert bench.pipeline.serving.models.release == "one"
        assert bench.pipeline.serving.trial is None


async def test_a_trial_begins_changes_its_share_and_is_promoted_from_memory() -> None:
    """A candidate of another trunk serves beside the current one, then alone, loaded once."""
    async with SwapBench().fed() as bench:
        await bench.send_products(5)
        watched = Watched(bench)
        for share in (0.1, 0.4):
            watched.pointer.set("one", "wide", share)
            await watched.watch.follow()
            trial = bench.pipeline.serving.trial
            assert trial is not None
            assert (trial.candidate.release, trial.share) == ("wide", share)
        watched.pointer.set("wide")
        await watched.watch.follow()
        assert bench.pipeline.serving.models.release == "wide"
        assert bench.pipeline.serving.trial is None
        assert watched.loads == ["one", "wide"]
        assert bench.catalogue.missing("null-48") == []
