"""The outbox: sends a batch's records to the internal topics and waits until Kafka has them all.

An idempotent producer with `acks=all`: retries neither lose, repeat nor reorder. What Kafka finally
refuses is a fault of the deployment, so it ends the worker; the batch is then done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from worker.errors import ShopstreamError
from worker.pipeline.batch import OutMessage, OutTopic
from worker.settings import Settings
from worker.topics.client import MAX_REQUEST_BYTES, client_options, kafka_errors

# A batch's messages of one partition go in one request, and it stays below the broker's default
# limit of 1 MiB; a single larger message is sent alone.
_MAX_BATCH_BYTES = 512 * 1024
# Longest wait for an acknowledgement, retries included, before the worker gives up.
_REQUEST_TIMEOUT_MS = 30_000


class OutboxFailed(ShopstreamError):
    """Kafka did not take a batch's messages; the message says which topic and why."""


class Outbox:
    """Produces to the internal topics; `topics` names each in full."""

    def __init__(self, settings: Settings, topics: Mapping[OutTopic, str]) -> None:
        self._settings = settings
        self._topics = topics
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaUnavailable: no broker answers.
        """
        self._producer = AIOKafkaProducer(
            **client_options(self._settings),
            acks="all",
            enable_idempotence=self._settings.kafka_idempotent_producer,
            # What a batch sends is appended in one go, so waiting would gather no more.
            linger_ms=0,
            max_batch_size=_MAX_BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        async with kafka_errors(self._settings):
            await self._producer.start()

    async def send(self, messages: Sequence[OutMessage]) -> None:
        """Send all messages and return when Kafka has acknowledged each.

        Raises:
            OutboxFailed: a message was refused, or no acknowledgement came in time.
        """
        if self._producer is None:
            raise RuntimeError("start() the outbox first")
        acknowledged = []
        for message in messages:
            topic = self._topics[message.topic]
            try:
                future = await self._producer.send(
                    topic, key=message.key, value=message.value, headers=list(message.headers)
                )
            except KafkaError as error:
                raise _failure(topic, error) from error
            acknowledged.append((topic, future))
        # All are awaited even when one fails: an exception nobody fetched would only be logged.
        results = await asyncio.gather(*(f for _, f in acknowledged), return_exceptions=True)
        for (topic, _), result in zip(acknowledged, results, strict=True):
            if isinstance(result, BaseException):
                raise _failure(topic, result) from result

    async def answers(self) -> bool:
        """Return whether a broker answers a request for metadata now."""
        if self._producer is None:
            return False
        return bool(await self._producer.client.force_metadata_update())

    async def stop(self) -> None:
        """Send what is left and close the connections."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None


def _failure(topic: str, error: BaseException) -> OutboxFailed:
    if isinstance(error, MessageSizeTooLargeError):
        return OutboxFailed(
            f"Topic {topic!r} refuses a message as too large ({error}); raise the topic's "
            "max.message.bytes."
        )
    return OutboxFailed(
        f"Kafka did not take a message for topic {topic!r}: {error!r}; check the brokers and the "
        "worker's rights on the topic."
    )
