"""A shop's side of Kafka: send events, read topics; by confluent-kafka, not the tested client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.support.admin import committed_offsets
from tests.support.names import Names
from worker.events.event import EventKind
from worker.topics.layout import TopicLayout

TIMEOUT_S = 60.0


class ShopTopics:
    """The topics of one test's names."""

    def __init__(self, bootstrap_servers: str, names: Names, *, linger_ms: int = 5) -> None:
        self.layout = TopicLayout(names.event_prefix, names.internal_prefix)
        self._bootstrap_servers = bootstrap_servers
        self._group = names.group
        # log_level 0: the broker of a run ends before its clients do
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "linger.ms": linger_ms, "log_level": 0}
        )
        self.sent: dict[tuple[str, int], int] = {}  # (topic, partition) -> end offset

    def send(self, kind: EventKind, event: Mapping[str, Any]) -> None:
        """Produce one event under its key."""
        key = event["product_id"] if kind is EventKind.PRODUCT else event["user_id"]
        self.send_raw(kind, str(key).encode(), orjson.dumps(event))

    def send_raw(self, kind: EventKind, key: bytes | None, value: bytes | None) -> None:
        """Produce one record as it is."""
        self._produce(self.layout.of(kind), key, value, self._note)

    def send_to(self, topic: str, key: bytes, value: bytes) -> None:
        """Produce one record to a topic that is not the shop's, at once."""
        self._produce(topic, key, value, None)
        self._producer.poll(0)

    def _produce(
        self, topic: str, key: bytes | None, value: bytes | None, noted: Callable[..., None] | None
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, key=key, value=value, on_delivery=noted)
                return
            except BufferError:
                self._producer.poll(0.1)

    def flush(self) -> None:
        """Return once the broker has all that was sent."""
        left = self._producer.flush(TIMEOUT_S)
        assert left == 0, f"{left} records were not delivered"

    def wait_committed(self, timeout_s: float = TIMEOUT_S) -> None:
        """Return once the worker's group has committed all that was sent."""
        self.flush()
        deadline = time.monotonic() + timeout_s
        while not self.all_committed():
            assert time.monotonic() < deadline, f"{self.committed()} of {self.sent} committed"
            time.sleep(0.1)

    def all_committed(self) -> bool:
        """Whether the group stands at the end of all that was sent."""
        committed = self.committed()
        return all(committed.get(place, 0) >= end for place, end in self.sent.items())

    def committed(self) -> dict[tuple[str, int], int]:
        """Return the group's next offsets by topic and partition."""
        return committed_offsets(self._bootstrap_servers, self._group)

    def read(self, topic: str) -> list[Message]:
        """Return every record that stands in a topic now."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": "reader",
                "enable.auto.commit": False,
            }
        )
        try:
            partitions = consumer.list_topics(topic, TIMEOUT_S).topics[topic].partitions
            ends = {
                number: consumer.get_watermark_offsets(TopicPartition(topic, number))[1]
                for number in partitions
            }
            left = {number for number, end in ends.items() if end > 0}
            consumer.assign([TopicPartition(topic, number, 0) for number in left])
            found: list[Message] = []
            deadline = time.monotonic() + TIMEOUT_S
            while left:
                assert time.monotonic() < deadline, f"could not read {topic} to its end"
                for message in consumer.consume(1000, 0.2):
                    assert message.error() is None, message.error()
                    found.append(message)
                left = {
                    p.partition for p in consumer.position([TopicPartition(topic, n) for n in left])
                    if p.offset < ends[p.partition]
                }  # fmt: skip
            return found
        finally:
            consumer.close()

    def read_json(self, topic: str) -> list[Any]:
        """Return the decoded values of every record that stands in a topic now."""
        return [orjson.loads(message.value() or b"null") for message in self.read(topic)]

    def _note(self, error: object, message: Message) -> None:
        assert error is None, error
        place = (message.topic(), message.partition())
        self.sent[place] = max(self.sent.get(place, 0), message.offset() + 1)
