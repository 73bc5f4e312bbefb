"""How events flow on a real broker: backpressure, where reading begins, what commits say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support.admin import create_topics
from tests.support.counting import CountingGroup, counting_group, wait_until
from tests.support.names import Names

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.fixture
def group(
    kafka_bootstrap: str, redis_url: str, names: Names, tmp_path: Path
) -> Iterator[CountingGroup]:
    """A group on one topic of the shared broker."""
    topics = [f"{names.event_prefix}searches"]
    create_topics(kafka_bootstrap, topics, partitions=4)
    with counting_group(
        bootstrap_servers=kafka_bootstrap,
        redis_url=redis_url,
        prefix=names.unique,
        topics=topics,
        folder=tmp_path,
    ) as made:
        yield made


def commit(group: CountingGroup, offsets: dict[int, int]) -> None:
    """Commit offsets for the group from outside, before it has members."""
    client = Consumer(
        {"bootstrap.servers": group.bootstrap_servers, "group.id": group.group, "log_level": 0}
    )
    client.commit(
        offsets=[TopicPartition(group.topics[0], number, at) for number, at in offsets.items()],
        asynchronous=False,
    )
    client.close()


def test_a_full_queue_bounds_memory_and_keeps_the_membership(group: CountingGroup) -> None:
    """With a backlog of 150,000 and a stuck batch, memory stands still and heartbeats go on."""
    group.produce(150_000)
    worker = group.start(COUNTING_STUCK_S="12", SHOPSTREAM_EVENTS_IN_FLIGHT="1024")
    wait_until(lambda: "BATCH" in worker.output(), "the credit used up behind a batch")
    time.sleep(2.0)  # what a leak would need to show: unbounded, the backlog is in memory by now
    before = worker.resident_bytes()
    time.sleep(7.0)  # longer than the session of 6 s
    assert worker.resident_bytes() - before < 8 * 2**20
    assert "REVOKED" not in worker.output()
    helper = group.start()
    group.wait_shared(worker, helper)
    worker.kill()
    group.wait_all_counted()
    group.wait_all_committed()


def test_a_backlog_in_one_partition_does_not_keep_the_others_waiting(group: CountingGroup) -> None:
    """Events of idle partitions are counted while a hot one still has most of its backlog."""
    topic = group.topics[0]
    group.produce(60_000, partitions=[0])
    worker = group.start(COUNTING_BATCH_S="0.1", COUNTING_BATCH="512")
    wait_until(lambda: any(group.counts(topic, 0)), "the backlog begun")
    group.produce(30, partitions=[1, 2, 3])

    def others_counted() -> bool:
        return all(sum(group.counts(topic, number)) == 10 for number in (1, 2, 3))

    wait_until(others_counted, "the other partitions counted")
    assert sum(group.counts(topic, 0)) < 30_000
    assert worker.stop() == 0


def test_a_new_group_begins_at_the_earliest_event(group: CountingGroup) -> None:
    """Events sent before the first worker started are worked on."""
    group.produce(40)
    group.start()
    group.wait_all_counted()
    group.wait_all_committed()


def test_a_new_group_at_latest_misses_nothing_from_its_start_on(group: CountingGroup) -> None:
    """What came before is skipped; what comes while the worker is dead is not, even uncommitted."""
    group.produce(40)
    worker = group.start(SHOPSTREAM_KAFKA_OFFSET_RESET="latest")
    group.wait_shared(worker)
    assert sum(group.committed().values()) == 40
    worker.kill()
    group.produce(20)
    group.start(SHOPSTREAM_KAFKA_OFFSET_RESET="latest")
    wait_until(lambda: group.missing() == 40, "the later events counted")
    group.wait_all_committed()
    assert group.missing() == 40
    assert group.duplicates() == 0


def test_partitions_committed_at_0_or_not_at_all_are_read_from_there(group: CountingGroup) -> None:
    """aiokafka's own seek skips both; after a rebalance they must be sought like the others."""
    group.produce(400)
    commit(group, {0: 0, 1: 30})
    first = group.start(COUNTING_BATCH_S="0.5", COUNTING_BATCH="10")
    wait_until(lambda: "BATCH" in first.output(), "a batch in flight")
    second = group.start()
    group.wait_shared(first, second)
    group.wait_all_committed()
    assert group.missing() == 30
    assert sum(group.counts(group.topics[0], 1)[:30]) == 0


def test_commits_pass_only_what_was_counted(group: CountingGroup) -> None:
    """While batches run, every committed offset has all events below it in Redis."""
    group.produce(4_000)
    worker = group.start(COUNTING_BATCH_S="0.05", SHOPSTREAM_KAFKA_COMMIT_INTERVAL_S="0.1")
    while group.committed() != dict(group.produced):
        assert group.uncounted_below(group.committed()) == 0
        assert worker.running
    assert group.duplicates() == 0
