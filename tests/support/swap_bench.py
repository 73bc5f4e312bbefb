"""A flow whose models are swapped: the bench of the flow, with all that a swap touches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from models.answerer import Answerer
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.text.null_encoder import NullEncoder
from tests.support.flow_bench import LAYOUT, FlowBench, product
from worker.events.event import EventKind
from worker.flow.background_encoder import BackgroundEncoder
from worker.flow.product_publisher import ProductPublisher
from worker.flow.release.switch import ReleaseSwitch
from worker.pipeline.batch import OutTopic
from worker.pipeline.product_vectors import ProductUpdate, decode_product_vector
from worker.pipeline.stages import PipelineModels
from worker.stream.chunk import TopicPartition


def models(release: str, width: int) -> PipelineModels:
    return PipelineModels(
        NullEncoder(width), SimilarityRecommender(), Answerer(0.0), release=release
    )


class SwapBench(FlowBench):
    """A flow whose product vectors come back to it, with all that swaps its models."""

    def __init__(self, *, keep_previous: bool = True, max_events: int = 20) -> None:
        super().__init__(max_events=max_events)
        first = self.pipeline.serving.models
        self.encoder = BackgroundEncoder(self.flow.stages.on_model_thread, lambda: True)
        self.encoder.add(first.trunk)
        self.publisher = ProductPublisher(
            self.catalogue,
            trunk=lambda: self.pipeline.serving.models.trunk.release,
            owned=lambda: self.flow.owned(LAYOUT.of(EventKind.PRODUCT)),
            on_ranking_thread=self.flow.stages.on_ranking_thread,
            send=self.flow.stages.send_beside,
            metrics=self.metrics,
        )
        self._lock = asyncio.Lock()
        self.switch = ReleaseSwitch(
            pipeline=self.pipeline,
            catalogue=self.catalogue,
            stages=self.flow.stages,
            feed=self,
            encoder=self.encoder,
            publisher=self.publisher,
            metrics=self.metrics,
            keep_previous=keep_previous,
        )
        self.flow.on_assigned(frozenset({TopicPartition(LAYOUT.of(EventKind.PRODUCT), 0)}))

    def paused(self) -> asyncio.Lock:
        return self._lock

    async def feed(self) -> None:
        """Bring back what the flow sent to the topic of product vectors, as the feed would."""
        read = 0
        while True:
            await asyncio.sleep(0.002)
            async with self._lock:
                records = [m for m in self.outbox.messages if m.topic is OutTopic.PRODUCT_VECTORS]
                updates = [
                    await self._complete(decode_product_vector(m.key, m.value, {}))
                    for m in records[read:]
                ]
                read = len(records)
                self.catalogue.offer(updates, (read,))
                await self.flow.stages.on_ranking_thread(self.catalogue.apply_pending)

    async def _complete(self, update: ProductUpdate) -> ProductUpdate:
        others = {
            trunk: (await self.encoder.encode(trunk, [update.product]))[0]  # type: ignore[list-item]
            for trunk in self.catalogue.trunks
            if trunk != update.release and update.vector_of(update.release) is not None
        }
        return ProductUpdate(
            update.product, update.version, update.release, update.partition, others
        )

    @asynccontextmanager
    async def fed(self) -> AsyncIterator[SwapBench]:
        async with self.running():
            feeding = asyncio.create_task(self.feed())
            yield self
            assert not feeding.done(), feeding.exception()
            feeding.cancel()

    async def send_products(self, count: int) -> None:
        self.send(EventKind.PRODUCT, *(product(n, f"green tea {n}") for n in range(count)))
        await self.until(lambda: len(self.catalogue.index) == count)

    def check_no_result_is_mixed(self) -> set[str]:
        batches = {one["batch_id"]: one["release"] for one in self.outbox.of(OutTopic.BATCHES)}
        found = [orjson.loads(value) for value in self.store.results().values()]
        assert all(one["release"] == batches[one["batch_id"]] for one in found)
        return {one["release"] for one in found}
