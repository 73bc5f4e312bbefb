"""Follows the release pointer: loads what is to serve, checks it, switches, says so, or refuses it.

The pointer in Redis is the authority; a message on the topic of releases says that it moved, and a
look every few seconds finds a move whose message was lost. A release that cannot serve is refused
with its reason, and the one before serves on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.errors import ShopstreamError
from worker.flow.loading import LoadedModels, ModelsUnavailable
from worker.flow.release.switch import ReleaseSwitch
from worker.flow.release.thread import BackgroundThread
from worker.page.metrics import WorkerMetrics
from worker.pipeline.serving import Trial
from worker.pipeline.stages import PipelineModels
from worker.store.release_pointer import ReleasePointer
from worker.store.release_reports import RefusedRelease, ReleaseReports, ServingWorker, now
from worker.store.results import CurrentRelease

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 10.0
# A refused release is tried again, ever more rarely: its store may only have been away.
_FIRST_RETRY_S = 60.0
_LAST_RETRY_S = 3_600.0

Load = Callable[[str, str], LoadedModels]
"""(release id, store URL) -> models, checked, loaded and warm; raises ModelsUnavailable."""


@dataclass(slots=True)
class _Refusal:
    reason: str
    wait_s: float
    retry_at_s: float


class ReleaseWatch:
    """Keeps what a worker serves at what the pointer says."""

    def __init__(
        self,
        *,
        process_id: str,
        device: str,
        pointer: ReleasePointer,
        reports: ReleaseReports,
        switch: ReleaseSwitch,
        load: Load,
        thread: BackgroundThread,
        metrics: WorkerMetrics,
    ) -> None:
        self._process_id = process_id
        self._device = device
        self._pointer = pointer
        self._reports = reports
        self._switch = switch
        self._load = load
        self._thread = thread
        self._metrics = metrics
        self._refusals: dict[str, _Refusal] = {}
        self._since = now()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that the pointer moved, or that a person asks again for what was refused."""
        for refusal in self._refusals.values():
            refusal.retry_at_s = 0.0
        self._woken.set()

    async def run(self) -> None:
        """Follow the pointer for ever; Redis away: look again later."""
        while True:
            self._woken.clear()
            try:
                await self.follow()
            except ShopstreamError as error:
                logger.warning("The release pointer cannot be followed now: %s", error)
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def keep_reporting(self) -> None:
        """Say for ever what serves, also while a release is being loaded."""
        while True:
            try:
                await self.report()
            except ShopstreamError as error:
                logger.debug("What serves cannot be reported now: %s", error)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def follow(self) -> None:
        """Make one attempt at serving what the pointer says. Errors: `StoreUnavailable`."""
        while True:
            wanted = await self._pointer.read()
            if wanted is None or not wanted.url or self._serves(wanted):
                return
            models = await self._bring(wanted.release, wanted.url)
            trial = None
            if models is not None and wanted.candidate is not None:
                candidate = await self._bring(wanted.candidate, wanted.url)
                trial = Trial(candidate, wanted.share) if candidate is not None else None
            if await self._pointer.read() != wanted:
                self._metrics.release_swaps.labels("superseded").inc()
                continue
            if models is not None and not self._is_serving(models, trial):
                await self._swap(models, trial)
            await self._switch.let_go()
            return

    async def report(self) -> None:
        """Say in Redis what this worker serves. Errors: `StoreUnavailable`."""
        serving, earlier = self._switch.serving, self._switch.previous
        trial = serving.trial
        await self._reports.serve(
            ServingWorker(
                process_id=self._process_id,
                release=serving.models.release,
                trunk=serving.models.trunk.release,
                candidate=trial.candidate.release if trial is not None else None,
                share=trial.share if trial is not None else 0.0,
                earlier=earlier.release if earlier is not None else None,
                device=self._device,
                since=self._since,
                seen_at=now(),
            )
        )

    def _serves(self, wanted: CurrentRelease) -> bool:
        serving = self._switch.serving
        trial = serving.trial
        stands = (
            serving.models.release,
            trial.candidate.release if trial is not None else None,
            trial.share if trial is not None else 0.0,
        )
        return stands == (wanted.release, wanted.candidate, wanted.share)

    def _is_serving(self, models: PipelineModels, trial: Trial | None) -> bool:
        serving = self._switch.serving
        return serving.models is models and trial is None and serving.trial is None

    async def _swap(self, models: PipelineModels, trial: Trial | None) -> None:
        before = self._switch.serving.models.release
        started_s = time.monotonic()
        await self._switch.swap(models, trial)
        self._metrics.release_swap_seconds.labels("switch").set(time.monotonic() - started_s)
        self._metrics.release_swaps.labels("switched").inc()
        self._since = now()
        beside = ""
        if trial is not None:
            beside = f"; {trial.candidate.release} serves {trial.share:.1%} of the shoppers"
        logger.info("Release %s serves now, before it %s%s.", models.release, before, beside)
        await self.report()

    async def _bring(self, release: str, url: str) -> PipelineModels | None:
        """Return the models of a release, loaded and with all product vectors; None: refused."""
        warm = self._switch.warm(release)
        if warm is not None:
            await self._switch.catch_up(warm)
            return warm
        refusal = self._refusals.get(release)
        if refusal is not None and time.monotonic() < refusal.retry_at_s:
            return None
        logger.info("Release %s is to serve: loading it beside the one that does.", release)
        started_s = time.monotonic()
        try:
            loaded = await self._thread.run(lambda: self._load(release, url))
            self._metrics.release_swap_seconds.labels("load").set(time.monotonic() - started_s)
            took_s = await self._switch.bring_vectors(loaded.models, loaded.product_vectors)
            self._metrics.release_swap_seconds.labels("vectors").set(took_s)
        except ModelsUnavailable as error:
            await self._refuse(release, str(error))
            return None
        except Exception as error:  # a release's fault must never be the worker's
            logger.exception("Loading release %s failed in an unforeseen way.", release)
            await self._refuse(release, f"it could not be loaded ({type(error).__name__}: {error})")
            return None
        if self._refusals.pop(release, None) is not None:
            await self._reports.accept(self._process_id, release)
        return loaded.models

    async def _refuse(self, release: str, reason: str) -> None:
        before = self._refusals.get(release)
        wait_s = min(_LAST_RETRY_S, 2 * before.wait_s) if before is not None else _FIRST_RETRY_S
        self._refusals[release] = _Refusal(reason, wait_s, time.monotonic() + wait_s)
        self._metrics.release_swaps.labels("refused").inc()
        if before is None or before.reason != reason:
            serving = self._switch.serving.models.release
            logger.error("Release %s is refused, %s serves on: %s", release, serving, reason)
        await self._reports.refuse(
            RefusedRelease(release=release, reason=reason, process_id=self._process_id, at=now())
        )
