"""How far this worker's partitions lag: records that stand in Kafka and are not yet committed.

Asked of the broker, so the figure is the one that other tools show for the group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from worker.errors import ShopstreamError
from worker.page.metrics import WorkerMetrics
from worker.settings import Settings
from worker.stream.chunk import TopicPartition
from worker.topics.client import client_options, kafka_errors
from worker.topics.layout import admin_client

logger = logging.getLogger(__name__)

_INTERVAL_S = 10.0


class LagWatch:
    """Measures the lag of the partitions that `assigned` names, every few seconds."""

    def __init__(
        self,
        settings: Settings,
        assigned: Callable[[], Collection[TopicPartition]],
        metrics: WorkerMetrics,
    ) -> None:
        self._settings = settings
        self._assigned = assigned
        self._gauge = metrics.watermark_lag_events

    async def run(self) -> None:
        """Measure for ever; a broker that is away only leaves the figures as they were."""
        while True:
            try:
                await self.measure()
            except ShopstreamError as error:
                logger.debug("The lag cannot be measured now: %s", error)
            await asyncio.sleep(_INTERVAL_S)

    async def measure(self) -> None:
        """Set the gauge of every assigned partition, and drop those of others.

        Raises:
            KafkaUnavailable: no broker answers.
        """
        partitions = [KafkaPartition(*partition) for partition in self._assigned()]
        lags = await self._lags(partitions) if partitions else {}
        self._gauge.clear()
        for partition, lag in lags.items():
            self._gauge.labels(partition.topic, partition.partition).set(lag)

    async def _lags(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        async with admin_client(self._settings) as admin:
            offsets = await admin.list_consumer_group_offsets(
                self._settings.kafka_group, partitions=partitions
            )
        consumer = AIOKafkaConsumer(**client_options(self._settings), group_id=None)
        try:
            async with kafka_errors(self._settings):
                await consumer.start()
                ends = await consumer.end_offsets(partitions)
                firsts = await consumer.beginning_offsets(partitions)
        finally:
            await consumer.stop()
        # -1: nothing committed yet, so everything that stands there is still to be done
        done = {p: max(firsts[p], offsets[p].offset if p in offsets else -1) for p in partitions}
        return {p: max(0, ends[p] - done[p]) for p in partitions}
