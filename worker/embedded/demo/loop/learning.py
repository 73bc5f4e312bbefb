"""Runs the loop beside the stream: collect, retrain, see the release swapped in, and again.

Training, gate, publication and promotion are the job's; the swap is the worker's. What is done here
is what a shop's cron does, and to look.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from worker.embedded.demo.loop.job import MIN_TEST, MIN_TRAIN, JobOutcome, JobStage, RetrainJob
from worker.embedded.demo.loop.places import LoopPlaces
from worker.embedded.demo.observer import Observer
from worker.settings import Settings
from worker.store.release_reports import ReleaseReports

FIRST_REVIEWS = MIN_TRAIN + MIN_TEST
RETRY_REVIEWS = 40  # more than a job that failed had
RELEASE_GRACE_S = 5.0
LOOK_EVERY_S = 0.25


@dataclass(slots=True, eq=False)
class JobRecord:
    """A job and what came of it; times are seconds of the monotonic clock."""

    reviews: int
    began_s: float
    stage: JobStage = JobStage.EXPORTING
    ended_s: float | None = None
    outcome: JobOutcome | None = None
    cut_off: bool = False  # the demo ended before the job
    swapped_s: float | None = None
    refused: str = ""  # why the worker does not serve what the job released

    @property
    def release_id(self) -> str | None:
        """The release it made."""
        return self.outcome.release_id if self.outcome is not None else None

    @property
    def fault(self) -> str:
        """Why it ended without a decision; empty: it did not."""
        return (self.outcome.fault or "") if self.outcome is not None else ""


class LearningLoop:
    """Drives the jobs while `run` runs; `close` ends what runs then, and cuts a job off."""

    def __init__(self, settings: Settings, places: LoopPlaces, observer: Observer) -> None:
        self.jobs: list[JobRecord] = []
        self.needed = FIRST_REVIEWS
        self._settings = settings
        self._places = places
        self._observer = observer
        self._process: RetrainJob | None = None
        self._starting: asyncio.Task[RetrainJob] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def collected(self) -> int:
        """Reviews with stars that a job would find now."""
        return self._observer.review_count()

    @property
    def releases(self) -> list[str]:
        """What the jobs released and the worker served, oldest first."""
        return [one.release_id for one in self.jobs if one.release_id and one.swapped_s is not None]

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._running = asyncio.create_task(self._run())

    def check(self) -> None:
        """Raise the error that ended the loop."""
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()

    async def close(self) -> None:
        """Cut off what runs; when the last events are answered `look` may be called once more.

        A job that is releasing gets a moment to say what it released.
        """
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._starting is not None:  # a thread cannot be cancelled, and its job must end too
            self._process, self._starting = await self._starting, None
        if self._process is None:
            return
        process, self._process = self._process, None
        deadline_s = time.monotonic() + RELEASE_GRACE_S
        while process.running and process.stage is JobStage.RELEASING:
            if time.monotonic() > deadline_s:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        job = self.jobs[-1]
        if process.running:
            job.cut_off = True
        else:
            job.outcome, job.ended_s = process.outcome(), time.monotonic()
        await asyncio.to_thread(process.stop)

    def look(self) -> None:
        """Note which releases have served a batch by now."""
        for job in self.jobs:
            if job.release_id is not None and job.swapped_s is None:
                job.swapped_s = self._observer.first_batch_s.get(job.release_id)

    async def _run(self) -> None:
        reports = ReleaseReports.from_settings(self._settings)
        try:
            while True:
                if self.collected < self.needed:
                    await asyncio.sleep(LOOK_EVERY_S)
                    continue
                job = await self._retrain()
                if job.release_id is not None:
                    await self._wait_swapped(job, reports)
                # gains grow smaller from job to job, so each next one needs more to show
                self.needed = self.collected + (RETRY_REVIEWS if job.fault else self.collected)
        finally:
            await reports.close()

    async def _retrain(self) -> JobRecord:
        job = JobRecord(self.collected, time.monotonic())
        self.jobs.append(job)
        number = len(self.jobs)
        begin = asyncio.to_thread(RetrainJob, self._settings, self._places, number)
        self._starting = asyncio.create_task(begin)
        process = self._process = await asyncio.shield(self._starting)
        self._starting = None
        while process.running:
            job.stage = process.stage
            await asyncio.sleep(LOOK_EVERY_S)
        job.outcome, job.ended_s = process.outcome(), time.monotonic()
        await asyncio.to_thread(process.stop)
        self._process = None
        return job

    async def _wait_swapped(self, job: JobRecord, reports: ReleaseReports) -> None:
        """Return when the release has served a batch, or the worker refused it."""
        while True:
            self.look()
            refused = await reports.refused()
            reason = next((one.reason for one in refused if one.release == job.release_id), "")
            job.refused = reason
            if reason or job.swapped_s is not None:
                return
            await asyncio.sleep(LOOK_EVERY_S)
