"""Keeps the topic of product vectors at what serves: after a swap its records are another trunk's.

Only the worker that owns a product's partition sends it again, and never between the records of a
newer version and its acknowledgement (`Stages.send_beside`): compaction keeps the last record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from worker.flow.vector_fill import OnThread
from worker.page.metrics import WorkerMetrics
from worker.pipeline.batch import OutMessage
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.messages import publication

logger = logging.getLogger(__name__)

# Products of one sending: some milliseconds on the ranking thread, for which a batch may wait.
_AT_ONCE = 200
_LOOKED_AT_AT_ONCE = 5_000
# Between two sendings while live batches run; they go first.
_PAUSE_S = 0.02
# The topic is looked over again now and then: what a killed worker left half sent is found.
_LOOK_AGAIN_S = 60.0


class ProductPublisher:
    """Sends the products that this worker owns again where their records are another trunk's."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        trunk: Callable[[], str],
        owned: Callable[[], Collection[int]],
        on_ranking_thread: OnThread,
        send: Callable[[Callable[[], Sequence[OutMessage]]], Awaitable[int]],
        metrics: WorkerMetrics,
    ) -> None:
        """Ask `trunk` which one serves, and `owned` for the partitions of product events."""
        self._catalogue = catalogue
        self._trunk = trunk
        self._owned = owned
        self._on_ranking_thread = on_ranking_thread
        self._send = send
        self._metrics = metrics
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that another trunk serves, or that other partitions are owned."""
        self._woken.set()

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            await self.publish()

    async def publish(self) -> int:
        """Send what this worker owns and the topic lacks; return how many products that were."""
        trunk = self._trunk()
        products = await self._unpublished(trunk)
        sent = 0
        for start in range(0, len(products), _AT_ONCE):
            if self._trunk() != trunk:
                break
            chunk = products[start : start + _AT_ONCE]
            sent += await self._send(partial(self._messages, chunk, trunk))
            await asyncio.sleep(_PAUSE_S)
        if sent:
            self._metrics.products_republished.inc(sent)
            logger.info("Sent the vectors of %d products again, encoded by %s.", sent, trunk)
        return sent

    async def _unpublished(self, trunk: str) -> list[str]:
        """Go through the catalogue a part at a time: a batch may wait for one."""
        catalogue = self._catalogue
        if await self._on_ranking_thread(lambda: catalogue.is_published(trunk, self._owned())):
            return []
        everything = await self._on_ranking_thread(catalogue.product_ids)
        found: list[str] = []
        for start in range(0, len(everything), _LOOKED_AT_AT_ONCE):
            part = everything[start : start + _LOOKED_AT_AT_ONCE]
            found += await self._on_ranking_thread(
                partial(catalogue.unpublished, trunk, self._owned(), part)
            )
        return found

    def _messages(self, product_ids: Sequence[str], trunk: str) -> list[OutMessage]:
        return publication(self._catalogue, product_ids, trunk, self._owned())
