"""The live run again by its batch records, verified, judged, with other releases beside it."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker.flow.assembly import pipeline_options
from worker.pipeline.samples import SampleMaker
from worker.replay.comparing.arms import CONTENT, CURRENT, POPULARITY, BadArm, build_arms
from worker.replay.comparing.journal import Journal, fingerprint
from worker.replay.comparing.outcomes import ArmSpec
from worker.replay.following.follower import LIVE, FollowedBatch, Follower, FollowReport
from worker.replay.following.judged import JudgedOrder, JudgedReport
from worker.replay.following.on_disk import growing_on_disk
from worker.replay.following.order import BatchOrder
from worker.replay.following.sample_check import SampleCheck
from worker.replay.following.verify import compare_results
from worker.replay.judge.judge import BIAS, INTERVALS, Judge, labels_stated
from worker.replay.pace import Pace
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.replay.sources import (
    BadReplay,
    Progress,
    ReplayJob,
    judged_span,
    privacy_key_of,
    redis_store,
)
from worker.settings import Settings
from worker.store.contract import StateStore
from worker.store.limits import StoreLimits
from worker.store.memory_store import MemoryStore


async def follow(
    settings: Settings, job: ReplayJob, recording: Recording, progress: Progress | None
) -> dict[str, Any]:
    """Follow, and return the document's part. Raises ShopstreamErrors that say what to do."""
    if not recording.has_batches:
        raise BadReplay(
            "the recording holds no batch records, so the live order is unknown: use --order time"
        )
    if job.verify and job.redis_prefix is not None:
        raise BadReplay("--verify compares the memory's results: leave --redis-prefix")
    with (
        tempfile.TemporaryDirectory(prefix="shopstream-results-") as folder,
        growing_on_disk(Path(folder)) as growing,
    ):
        store: StateStore = MemoryStore(StoreLimits.from_settings(settings), growing)
        if job.redis_prefix is not None:
            store = await redis_store(settings, job.redis_prefix)
        try:
            run = await _FollowRun.prepare(settings, job, recording, store, Path(folder))
            document = await run.run(progress)
            if job.verify:
                found = await compare_results(settings, growing.results)
                document["equality"] = {"results": found.as_json(), **run.sample_equality()}
            return document
        finally:
            await store.close()


class _FollowRun:
    """One followed replay and what watches it."""

    def __init__(
        self,
        settings: Settings,
        job: ReplayJob,
        recording: Recording,
        store: StateStore,
        folder: Path,
        key: str,
        key_is_live: bool,
    ) -> None:
        self._job = job
        self._window_s, self._from_ms = judged_span(settings, job, recording)
        named = [one.rpartition("=")[2] for one in job.releases]
        self._releases = Releases(settings, [Path(one) for one in named if Path(one).is_dir()])
        self._beside = _arms_beside(settings, self._releases, job, key, self._window_s)
        names = [LIVE, *(arm.name for arm in self._beside)]
        judged_settings = settings.model_copy(update={"attribution_window_s": self._window_s})
        options = pipeline_options(judged_settings, "", key)
        self._judge = Judge(names, job.k, round(self._window_s * 1000))
        self._judged = JudgedOrder(
            self._judge.see, SampleMaker(options), self._from_ms, job.until_ms
        )
        self._pace = Pace(job.speed)
        self._journal = None
        if job.journal is not None:
            print_ = fingerprint("batches", self._beside, recording, self._from_ms, settings)
            self._journal = Journal(job.journal, print_)
        self._follower = Follower(
            recording, BatchOrder(recording), store, self._releases, settings, key, self._pace,
            beside=self._beside, beside_from_ms=self._from_ms, journal=self._journal,
        )  # fmt: skip
        self._samples = SampleCheck(recording, folder) if job.verify and key_is_live else None
        self._digests = {name: hashlib.blake2b(digest_size=16) for name in names}
        self._products = 0

    @classmethod
    async def prepare(
        cls, settings: Settings, job: ReplayJob, recording: Recording, store: StateStore,
        folder: Path,
    ) -> _FollowRun:  # fmt: skip
        """Make a run with the live key where it can be had."""
        key, key_is_live = await privacy_key_of(settings, job)
        return cls(settings, job, recording, store, folder, key, key_is_live)

    async def run(self, progress: Progress | None) -> dict[str, Any]:
        """Replay and return what came of it."""
        started_s = time.perf_counter()
        try:
            report = await self._follower.run(self._done, progress, until_ms=self._job.until_ms)
        finally:
            if self._journal is not None:
                self._journal.close()
        self._judged.finish()
        seconds = time.perf_counter() - started_s
        releases = self._releases
        live = {"name": LIVE, "release": ", ".join(report.releases), "described": "as it ran"}
        return {
            "replayed": asdict(report),
            "arms": [live, *(arm.as_json() for arm in self._beside)],
            "device": {"device": releases.device, "dtype": releases.dtype},
            "protocol": self._protocol(report, self._judged.report, seconds),
            "results_digest": {name: one.hexdigest() for name, one in self._digests.items()},
            "behind_pace_s": round(self._pace.behind_s, 3),
            **self._judge.finish(self._judged.report.last_ms, self._products),
        }

    def sample_equality(self) -> dict[str, Any]:
        """Return how the samples compare with the recorded ones, where that can be told."""
        if self._samples is None or not self._samples.possible:
            return {}
        return {"samples": self._samples.compare().as_json()}

    def _done(self, batch: FollowedBatch) -> None:
        for name, made in batch.outcomes.items():
            for one in made.outcome.results:
                self._digests[name].update(one.value)
        if self._samples is not None:
            self._samples.add(batch)
        self._judged.add(batch)
        self._products = len(batch.catalogue.index)

    def _protocol(
        self, report: FollowReport, judged: JudgedReport, seconds: float
    ) -> dict[str, Any]:
        return {
            **asdict(judged),
            "products": self._products,
            "seconds": round(seconds, 3),
            "events_per_s": round(report.events / seconds, 1) if seconds else None,
            "window_s": round(self._window_s, 3),
            "judge_from_ms": self._from_ms,
            "until_ms": self._job.until_ms,
            "k": self._job.k,
            "stated": [
                "The live run's own batches were done again in the order of their steps, each on "
                "the state, the products and the releases it met.",
                "What other releases say is said beside it, of the same batches, and changes "
                "nothing: no event of a later batch is known to them.",
                "Of an event that came again after a crash or a move, the last batch counts.",
                labels_stated(self._window_s),
                BIAS,
                INTERVALS,
            ],
        }


def _arms_beside(
    settings: Settings, releases: Releases, job: ReplayJob, key: str, window_s: float
) -> Sequence[ArmSpec]:
    """Return the arms to ask beside the live run: named ones, and the shipped baselines.

    A bare folder or id only says where a release of the batches is to be had.
    """
    shipped = (CURRENT, POPULARITY, CONTENT)
    named = [one for one in job.releases if "=" in one or one in shipped]
    arms = build_arms(settings, releases, named, job.variants, key, window_s)
    if any(arm.name == LIVE for arm in arms):
        raise BadArm(f"{LIVE!r} is the live run itself: give the arm another name")
    return arms
