"""Listens to the topic of releases: whatever comes, it is time to look at the pointer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.topics.client import client_options, kafka_errors

logger = logging.getLogger(__name__)

_TRY_AGAIN_S = 10.0


async def listen_for_releases(settings: Settings, topic: str, moved: Callable[[], None]) -> None:
    """Call `moved` at every message, for ever, and once whenever the listening begins.

    Kafka away costs only time: the pointer is looked at now and then without being told.
    """
    while True:
        try:
            await _listen(settings, topic, moved)
        except ShopstreamError as error:
            logger.warning("The topic %s cannot be followed now: %s", topic, error)
        await asyncio.sleep(_TRY_AGAIN_S)


async def _listen(settings: Settings, topic: str, moved: Callable[[], None]) -> None:
    async with kafka_errors(settings):
        consumer = AIOKafkaConsumer(
            **client_options(settings),
            group_id=None,
            enable_auto_commit=False,
            fetch_max_wait_ms=500,
        )
        try:
            await consumer.start()
            # Its partitions are known only after a subscription or this: there is no public call.
            await consumer._client.add_topic(topic)
            numbers = consumer.partitions_for_topic(topic) or {0}
            partitions = [KafkaPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            moved()  # what was said before the end stands in the pointer
            while True:
                await consumer.getone()
                moved()
        finally:
            await consumer.stop()
