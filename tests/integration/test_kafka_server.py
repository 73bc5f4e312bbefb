"""The broker that the other integration tests stand on."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.support.admin import broker_answers, committed_offsets, create_topics
from tests.support.kafka_server import KafkaServer
from tests.support.names import Names


async def _produce(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def _consume(bootstrap_servers: str, topic: str, group: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with consumer:
        values = [(await consumer.getone()).value for _ in range(count)]
        await consumer.commit()
    return values


async def test_group_reads_and_commits(kafka_bootstrap: str, names: Names) -> None:
    """What is produced is read by a group, and the group's offsets stand in the broker."""
    topic = f"{names.event_prefix}searches"
    create_topics(kafka_bootstrap, [topic])
    await _produce(kafka_bootstrap, topic, [b"a", b"b", b"c"])
    assert await _consume(kafka_bootstrap, topic, names.group, 3) == [b"a", b"b", b"c"]
    assert committed_offsets(kafka_bootstrap, names.group) == {(topic, 0): 3}


async def test_killed_broker_starts_again_with_its_data(own_kafka: KafkaServer) -> None:
    """After a kill -9 nobody answers; after a start the acknowledged records are still there."""
    create_topics(own_kafka.bootstrap_servers, ["t"])
    await _produce(own_kafka.bootstrap_servers, "t", [b"kept"])
    own_kafka.kill()
    assert not broker_answers(own_kafka.bootstrap_servers)
    own_kafka.start()
    assert await _consume(own_kafka.bootstrap_servers, "t", "g", 1) == [b"kept"]
