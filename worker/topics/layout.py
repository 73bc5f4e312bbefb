"""Which topic carries what, how the topics are created, and whether they fit together.

All event topics have one partition count: the same key then stands in the same partition of each,
and one worker sees all that a shopper did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from worker.errors import ShopstreamError
from worker.events.event import EventKind
from worker.settings import Settings
from worker.topics.client import MAX_REQUEST_BYTES, client_options, kafka_errors

CONNECT_TIMEOUT_S = 10.0
VISIBLE_TIMEOUT_S = 30.0
_DAY_MS = 86_400_000
_EVENT_NAMES = {
    EventKind.SEARCH: "searches",
    EventKind.PURCHASE: "purchases",
    EventKind.RETURN: "returns",
    EventKind.REVIEW: "reviews",
    EventKind.QUESTION: "questions",
    EventKind.PRODUCT: "products",
    EventKind.FORGET: "privacy",
}


class TopicsUnfit(ShopstreamError):
    """Topics are missing or do not fit together; the message says which and what to do."""


@dataclass(frozen=True)
class TopicLayout:
    """The names of all topics."""

    event_prefix: str = "shop."
    internal_prefix: str = "shopstream."

    @classmethod
    def from_settings(cls, settings: Settings) -> TopicLayout:
        """Return the layout that the settings name."""
        return cls(settings.topic_prefix, settings.internal_topic_prefix)

    def of(self, kind: EventKind) -> str:
        """Return the topic of a kind of event."""
        return self.event_prefix + _EVENT_NAMES[kind]

    def kind_of(self, topic: str) -> EventKind | None:
        """Return the kind of event that a topic carries; None when it carries none."""
        return self._kinds.get(topic)

    @cached_property
    def _kinds(self) -> Mapping[str, EventKind]:
        return {self.of(kind): kind for kind in EventKind}

    @property
    def events(self) -> tuple[str, ...]:
        """The event topics, in the order of `EventKind`."""
        return tuple(self.of(kind) for kind in EventKind)

    @property
    def samples(self) -> str:
        """Labeled samples, keyed by the shopper's pseudonym."""
        return self.internal_prefix + "samples"

    @property
    def dead_letters(self) -> str:
        """What could not become an event, with its original bytes."""
        return self.internal_prefix + "dead-letters"

    @property
    def product_vectors(self) -> str:
        """Products with their vectors, compacted, keyed by product id."""
        return self.internal_prefix + "product-vectors"

    @property
    def batches(self) -> str:
        """One record a batch: what it took and what made its results."""
        return self.internal_prefix + "batches"

    @property
    def releases(self) -> str:
        """Announcements of model releases, compacted."""
        return self.internal_prefix + "releases"

    def new_topics(self, settings: Settings) -> dict[str, tuple[int, dict[str, str]]]:
        """Return topic -> (partitions, configuration) of every topic, as it is created."""
        count = settings.kafka_partitions
        return {topic: (count, {}) for topic in self.events} | {
            self.samples: (count, {"retention.ms": str(30 * _DAY_MS)}),
            self.dead_letters: (
                1,
                {"retention.ms": str(30 * _DAY_MS), "max.message.bytes": str(MAX_REQUEST_BYTES)},
            ),
            # One partition, because every worker reads it whole whatever its share of the events,
            # and one offset then names a state of the product index (batch records hold it).
            self.product_vectors: (1, {"cleanup.policy": "compact"}),
            self.batches: (1, {"retention.ms": str(8 * _DAY_MS)}),  # as long as the events, and one
            self.releases: (1, {"cleanup.policy": "compact"}),
        }


async def create_topics(settings: Settings) -> list[str]:
    """Create every topic that is missing, wait until all are visible, and return the created names.

    A topic that stands is left as it is. New event topics take the partition count of those that
    stand, so that the counts stay equal. Raises `KafkaUnavailable`, or `TopicsUnfit` when the
    broker refuses a topic or the event topics have unequal counts.
    """
    layout = TopicLayout.from_settings(settings)
    async with admin_client(settings) as admin:
        before = await partition_counts(admin)
        standing = {before[topic] for topic in layout.events if topic in before}
        _require_equal({topic: before[topic] for topic in layout.events if topic in before})
        missing = []
        for topic, (count, configs) in layout.new_topics(settings).items():
            if topic not in before:
                wanted = min(standing) if standing and topic in layout.events else count
                missing.append(
                    NewTopic(topic, wanted, settings.kafka_replication_factor, None, configs)
                )
        if missing:
            _require_created(await admin.create_topics(missing))
            await _wait_visible(admin, [topic.name for topic in missing])
            after = await partition_counts(admin)  # a topic may have come up beside ours
            _require_equal({topic: after[topic] for topic in layout.events})
    return [topic.name for topic in missing]


async def ensure_topic(settings: Settings, topic: str) -> bool:
    """Create one topic of the layout where it is missing; return whether it was.

    Raises `KafkaUnavailable` where no broker answers, `TopicsUnfit` where it refuses the topic.
    """
    count, configs = TopicLayout.from_settings(settings).new_topics(settings)[topic]
    async with admin_client(settings) as admin:
        if topic in await partition_counts(admin):
            return False
        wanted = NewTopic(topic, count, settings.kafka_replication_factor, None, configs)
        _require_created(await admin.create_topics([wanted]))
        await _wait_visible(admin, [topic])
    return True


async def check_topics(settings: Settings) -> dict[str, int]:
    """Return topic -> partition count of all topics of the layout.

    Raises `TopicsUnfit` when one is missing or the event topics have unequal counts, and
    `KafkaUnavailable`.
    """
    counts = await list_topics(settings)
    missing = sorted(topic for topic, count in counts.items() if count == 0)
    if missing:
        raise TopicsUnfit(
            f"topics are missing: {', '.join(missing)}; run `shopstream topics create`"
        )
    layout = TopicLayout.from_settings(settings)
    _require_equal({topic: counts[topic] for topic in layout.events})
    return counts


async def list_topics(settings: Settings) -> dict[str, int]:
    """Return topic -> partition count of all topics of the layout, 0 where it does not stand."""
    layout = TopicLayout.from_settings(settings)
    async with admin_client(settings) as admin:
        counts = await partition_counts(admin)
    return {topic: counts.get(topic, 0) for topic in layout.new_topics(settings)}


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a started admin client; its errors become `KafkaUnavailable`."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    async with kafka_errors(settings):
        try:
            await asyncio.wait_for(admin.start(), CONNECT_TIMEOUT_S)
            yield admin
        finally:
            await admin.close()


async def partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Return topic -> partition count of all topics the client may see."""
    # The wide listing, not one by name: asking a broker for a missing topic may create it.
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics()
        if topic["error_code"] == 0
    }


def _require_equal(counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        table = ", ".join(f"{topic} {count}" for topic, count in counts.items())
        raise TopicsUnfit(
            f"the event topics have unequal partition counts ({table}): a shopper's events would "
            "not meet in one worker; give all of them the same count"
        )


def _require_created(response: Any) -> None:
    for topic, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another worker may have been quicker
            detail = message[0] if message and message[0] else error.__name__
            raise TopicsUnfit(f"the broker did not create topic {topic}: {detail}")


async def _wait_visible(admin: AIOKafkaAdminClient, topics: list[str]) -> None:
    async with asyncio.timeout(VISIBLE_TIMEOUT_S):
        while True:
            described = {topic["topic"]: topic for topic in await admin.describe_topics()}
            if all(_has_leaders(described.get(topic)) for topic in topics):
                return
            await asyncio.sleep(0.05)


def _has_leaders(topic: Any) -> bool:
    return bool(
        topic
        and topic["error_code"] == 0
        and topic["partitions"]
        and all(partition["leader"] >= 0 for partition in topic["partitions"])
    )
