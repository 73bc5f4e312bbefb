"""Other releases on the batches of a live run: the same events, state and products."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from models.text_encoder import TextTrunk
from worker.pipeline.batch import Batch
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.stages import GatheredBatch, PipelineModels
from worker.replay.comparing.outcomes import ArmOutcome, ArmSpec
from worker.store.contract import ResultWrite, StateStep, StateView, WriteReport


class _GivenView:
    """A `StateStore` that answers every step with the view that the live batch met."""

    def __init__(self) -> None:
        self.view = StateView(0)

    async def apply(self, step: StateStep) -> StateView:
        """Return the view; the step was done already."""
        return self.view

    async def write(
        self, results: Sequence[ResultWrite], *, batch_id: str = "", sequence: int = 0
    ) -> WriteReport:
        """Write nothing: the live run's results stand."""
        return WriteReport(written=0, older=0)

    async def pending_intents(self) -> Mapping[str, bytes]:
        """Return none."""
        return {}

    async def close(self) -> None:
        """Nothing to release."""


class ArmsBeside:
    """Runs each arm on a batch that the live run's own models did already."""

    def __init__(self, arms: Sequence[ArmSpec]) -> None:
        self.arms = tuple(arms)
        self._given = _GivenView()
        self._now = datetime.min
        self._pipelines = {
            arm.name: Pipeline(
                models=arm.models,
                store=self._given,
                clock=lambda: self._now,
                options=arm.options,
            )
            for arm in arms
        }

    @property
    def models(self) -> list[PipelineModels]:
        """The models of all arms."""
        return [arm.models for arm in self.arms]

    @property
    def trunks(self) -> list[TextTrunk]:
        """The trunks whose vectors the catalogue must hold."""
        return [arm.models.trunk for arm in self.arms]

    async def outcomes(
        self, live: GatheredBatch, catalogue: Catalogue, now: datetime, text_s: float
    ) -> dict[str, ArmOutcome]:
        """Return what each arm makes of a batch; `text_s` was spent ahead on each text."""
        self._given.view, self._now = live.view, now
        found: dict[str, ArmOutcome] = {}
        for name, pipeline in self._pipelines.items():
            taken = pipeline.prepare([(one.position, one.event) for one in live.batch.events])
            gathered = await pipeline.gather(Batch(live.batch.batch_id, taken))
            started_s = time.perf_counter()
            encoded = pipeline.encode(gathered)
            encoded_s = time.perf_counter()
            outcome = pipeline.conclude(encoded, catalogue)
            texts = sum(bool(one.tokens) for one in taken)
            found[name] = ArmOutcome(
                outcome,
                encoded_s - started_s + texts * text_s,
                time.perf_counter() - encoded_s,
            )
        return found
