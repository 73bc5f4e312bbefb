"""Brings loaded models into service: product vectors first, then the swap, then what follows it.

Nothing here holds a batch back: vectors are made between batches, the swap itself is one
assignment, and batches in flight end on the models they began with.
"""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

from worker.flow.background_encoder import BackgroundEncoder, KnownVectors
from worker.flow.product_publisher import ProductPublisher
from worker.flow.stages import Stages
from worker.flow.vector_fill import catch_up, fill_vectors
from worker.page.metrics import WorkerMetrics
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.serving import Serving, Trial
from worker.pipeline.stages import PipelineModels


class Pausable(Protocol):
    """The feed of products (`worker.flow.product_feed.ProductFeed`)."""

    def paused(self) -> AbstractAsyncContextManager[object]:
        """Return what holds the feed between two of its steps."""
        ...


class ReleaseSwitch:
    """Swaps a worker's models; one call at a time."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        catalogue: Catalogue,
        stages: Stages,
        feed: Pausable,
        encoder: BackgroundEncoder,
        publisher: ProductPublisher,
        metrics: WorkerMetrics,
        keep_previous: bool = True,
    ) -> None:
        """Keep the release before the current one ready for a rollback, if `keep_previous`."""
        self._pipeline = pipeline
        self._catalogue = catalogue
        self._stages = stages
        self._feed = feed
        self._encoder = encoder
        self._publisher = publisher
        self._metrics = metrics
        self._keep_previous = keep_previous
        self._previous: PipelineModels | None = None
        self._note()

    @property
    def serving(self) -> Serving:
        """What batches are bound to now."""
        return self._pipeline.serving

    @property
    def previous(self) -> PipelineModels | None:
        """The release that is kept for a rollback."""
        return self._previous

    def warm(self, release: str) -> PipelineModels | None:
        """Return the models of a release that is loaded, with all its product vectors."""
        loaded = [*self.serving.all_models, *([self._previous] if self._previous else [])]
        return next((models for models in loaded if models.release == release), None)

    async def bring_vectors(
        self, models: PipelineModels, known: KnownVectors | None = None
    ) -> float:
        """Give the models' trunk vectors of all products; return the seconds that took.

        From now on the feed keeps them up to date. `known` are those that came with the release.
        """
        started_s = time.monotonic()
        trunk = models.trunk
        self._encoder.add(trunk, known)
        async with self._feed.paused():
            open_index = partial(self._catalogue.open_index, trunk.release, trunk.width)
            await self._stages.on_ranking_thread(open_index)
        await fill_vectors(
            self._catalogue, trunk.release, self._encoder.encode, self._stages.on_ranking_thread
        )
        await self.catch_up(models)
        return time.monotonic() - started_s

    async def catch_up(self, models: PipelineModels) -> None:
        """Let the models' recommender take in what changed in the index of their trunk."""
        trunk, on_thread = models.trunk.release, self._stages.on_ranking_thread
        await catch_up(self._catalogue, trunk, models.recommender, on_thread)

    async def swap(self, models: PipelineModels, trial: Trial | None = None) -> None:
        """Bind the next batch to these models, and let go what no longer serves."""
        before = self._pipeline.swap(models, trial)
        if before.models is not models:
            self._previous = before.models if self._keep_previous else None
        self._note()
        if before.models.trunk.release != models.trunk.release:
            self._publisher.wake()
        await self._stages.settled()
        await self.let_go()

    async def let_go(self) -> None:
        """Drop the trunks that neither serve nor are kept for a rollback."""
        kept = set(self.serving.trunks)
        if self._previous is not None:
            kept.add(self._previous.trunk.release)
        for trunk in self._catalogue.trunks:
            if trunk not in kept:
                await self._stages.on_ranking_thread(partial(self._catalogue.close_index, trunk))
                self._encoder.remove(trunk)

    def _note(self) -> None:
        info = self._metrics.release_info
        info.clear()
        arms = ("current", "candidate")
        for arm, models in zip(arms, self.serving.all_models, strict=False):
            info.labels(models.release, models.trunk.release, arm).set(1)
