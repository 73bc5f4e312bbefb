"""Small administration of a real broker, by confluent-kafka (not the client under test)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def _client(bootstrap_servers: str) -> AdminClient:
    # a broker that is still starting refuses connections: that is no news for the test's log
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})


def broker_answers(bootstrap_servers: str) -> bool:
    """Return whether the broker answers a metadata request within a second."""
    try:
        return bool(_client(bootstrap_servers).list_topics(timeout=1.0).brokers)
    except KafkaException:
        return False


def create_topics(
    bootstrap_servers: str,
    names: Sequence[str],
    *,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
) -> None:
    """Create topics and return once the broker has made all of them."""
    topics = [
        NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        for name in names
    ]
    client = _client(bootstrap_servers)  # its futures end with it
    for made in client.create_topics(topics).values():
        made.result(timeout=30.0)


def committed_offsets(bootstrap_servers: str, group: str) -> dict[tuple[str, int], int]:
    """Return what a consumer group has committed: (topic, partition) -> next offset."""
    client = _client(bootstrap_servers)
    asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    found: Sequence[TopicPartition] = asked[group].result(timeout=30.0).topic_partitions or []
    return {(tp.topic, tp.partition): tp.offset for tp in found}


def topic_partitions(bootstrap_servers: str) -> dict[str, int]:
    """Return topic -> number of partitions."""
    topics = _client(bootstrap_servers).list_topics(timeout=30.0).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}
