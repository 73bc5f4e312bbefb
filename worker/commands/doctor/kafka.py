"""What the doctor asks Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from worker.commands.doctor.finding import Finding, Status
from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.topics.client import kafka_errors, producer_options
from worker.topics.layout import TopicLayout, admin_client, check_topics, list_topics

_SUBJECT = "kafka"


async def check_kafka(settings: Settings) -> Sequence[Finding]:
    """Reach it, look at the topics and their retention, and get ready to produce."""
    try:
        counts = await list_topics(settings)
        reached = Finding(_SUBJECT, Status.OK, f"{settings.kafka_bootstrap_servers} answers")
        missing = [topic for topic, count in counts.items() if not count]
        if missing:
            return [reached, await _check_missing(settings, missing), await _produce(settings)]
        topics = await _check_partitions(settings)
        return [reached, topics, await _check_retention(settings), await _produce(settings)]
    except ShopstreamError as error:
        return [Finding(_SUBJECT, Status.FAILED, str(error))]


async def _check_missing(settings: Settings, missing: Sequence[str]) -> Finding:
    async with admin_client(settings) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
    text = f"topics do not stand yet: {', '.join(missing)}"
    if settings.kafka_replication_factor > brokers:
        return Finding(
            _SUBJECT, Status.FAILED, f"{text}, and {brokers} brokers cannot hold "
            f"{settings.kafka_replication_factor} replicas",
            "lower SHOPSTREAM_KAFKA_REPLICATION_FACTOR",
        )  # fmt: skip
    return Finding(
        _SUBJECT, Status.WARNING, text,
        "the worker creates them when it starts, or run `shopstream topics create`",
    )  # fmt: skip


async def _check_partitions(settings: Settings) -> Finding:
    try:
        counts = await check_topics(settings)
    except ShopstreamError as error:
        return Finding(_SUBJECT, Status.FAILED, str(error))
    partitions = counts[TopicLayout.from_settings(settings).events[0]]
    return Finding(
        _SUBJECT, Status.OK, f"{len(counts)} topics, {partitions} partitions of each event topic"
    )


async def _check_retention(settings: Settings) -> Finding:
    """An event that Kafka keeps longer than its guard would count twice when it is read again."""
    layout = TopicLayout.from_settings(settings)
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in layout.events]
    try:
        async with admin_client(settings) as admin:
            retention_ms = _retention_ms(await admin.describe_configs(asked))
    except ShopstreamError:
        text = "the broker does not tell how long topics keep their events"
        return Finding(_SUBJECT, Status.WARNING, text, "keep them no longer than guard_ttl_s")
    longer = sorted(
        topic
        for topic, kept_ms in retention_ms.items()
        if kept_ms < 0 or kept_ms > settings.guard_ttl_s * 1000
    )
    if longer:
        return Finding(
            _SUBJECT, Status.WARNING,
            f"{', '.join(longer)} keep events longer than SHOPSTREAM_GUARD_TTL_S "
            f"({settings.guard_ttl_s} s): events read again after that would count twice",
            "raise the setting or lower retention.ms",
        )  # fmt: skip
    return Finding(_SUBJECT, Status.OK, "events leave Kafka before their guards expire")


def _retention_ms(responses: Sequence[Any]) -> dict[str, int]:
    return {
        topic: int(value)
        for response in responses
        for _, _, _, topic, entries in response.resources
        for name, value, *_ in entries
        if name == "retention.ms"
    }


async def _produce(settings: Settings) -> Finding:
    try:
        async with kafka_errors(settings):
            producer = AIOKafkaProducer(**producer_options(settings))
            try:
                await producer.start()
            finally:
                await producer.stop()
    except ShopstreamError as error:
        return Finding(_SUBJECT, Status.FAILED, f"no producer may start: {error}")
    return Finding(_SUBJECT, Status.OK, "a producer starts")
