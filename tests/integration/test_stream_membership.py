"""Workers come, go, die and freeze on a real broker, and nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.admin import create_topics
from tests.support.counting import CountingGroup, counting_group, wait_until
from tests.support.kafka_server import KafkaServer
from tests.support.names import Names

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.fixture
def group(
    kafka_bootstrap: str, redis_url: str, names: Names, tmp_path: Path
) -> Iterator[CountingGroup]:
    """A group on two topics of the shared broker."""
    topics = [f"{names.event_prefix}{name}" for name in ("searches", "reviews")]
    create_topics(kafka_bootstrap, topics, partitions=4)
    with counting_group(
        bootstrap_servers=kafka_bootstrap,
        redis_url=redis_url,
        prefix=names.unique,
        topics=topics,
        folder=tmp_path,
    ) as made:
        yield made


@contextmanager
def flowing(group: CountingGroup) -> Iterator[None]:
    """Send events all the while, some hundred a second and partition."""
    ending = threading.Event()

    def produce() -> None:
        while not ending.wait(0.05):
            group.produce(100)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        yield
    finally:
        ending.set()
        producer.join()


def test_clean_joins_and_leaves_lose_and_double_nothing(group: CountingGroup) -> None:
    """Workers that join and leave by SIGTERM while events flow: each event counted exactly once."""
    with flowing(group):
        first = group.start()
        group.wait_shared(first)
        second = group.start()
        group.wait_shared(first, second)
        third = group.start()
        group.wait_shared(first, second, third)
        assert first.stop() == 0
        group.wait_shared(second, third)
        assert third.stop() == 0
        group.wait_shared(second)
    group.wait_all_counted()
    group.wait_all_committed()
    assert group.duplicates() == 0
    assert second.stop() == 0


def test_workers_that_stop_together_lose_and_double_nothing(group: CountingGroup) -> None:
    """A stop in the midst of the rebalance that another's stop set off is a clean one, too."""
    with flowing(group):
        workers = [group.start(COUNTING_BATCH_S="0.05") for _ in range(3)]
        group.wait_shared(*workers)
        for worker in workers:
            worker.send(signal.SIGTERM)
        assert [worker.wait() for worker in workers] == [0, 0, 0]
        last = group.start()
        group.wait_shared(last)
    group.wait_all_counted()
    group.wait_all_committed()
    assert group.duplicates() == 0


def test_a_fetch_that_hung_over_a_rebalance_loses_nothing(group: CountingGroup) -> None:
    """Idle workers sit in a fetch when the group changes; the events right after it all count."""
    first = group.start()
    group.wait_shared(first)
    second = group.start()
    group.wait_shared(first, second)
    for _ in range(3):
        third = group.start()
        with flowing(group):
            group.wait_shared(first, second, third)
        third.stop()
        group.wait_shared(first, second)
    group.wait_all_counted()
    assert group.uncounted_below(group.committed()) == 0


def test_killed_workers_lose_nothing(group: CountingGroup) -> None:
    """`kill -9` in the midst of batches: the others take over from the commits."""
    with flowing(group):
        first, second = group.start(), group.start(COUNTING_BATCH_S="0.2")
        group.wait_shared(first, second)
        second.kill()
        third = group.start()
        group.wait_shared(first, third)
        assert group.uncounted_below(group.committed()) == 0
    group.wait_all_counted()
    group.wait_all_committed()


def test_a_zombie_loses_nothing_and_moves_no_commit_back(group: CountingGroup) -> None:
    """A worker frozen beyond its session wakes, is refused, and joins again."""
    with flowing(group):
        first, zombie = group.start(), group.start()
        group.wait_shared(first, zombie)
        zombie.send(signal.SIGSTOP)
        group.wait_shared(first)
        before = group.committed()
        zombie.send(signal.SIGCONT)
        wait_until(lambda: "REVOKED" in zombie.output(), "the zombie learning of its end")
        group.wait_shared(first, zombie)
        after = group.committed()
        assert all(after[name] >= at for name, at in before.items())
        assert group.uncounted_below(after) == 0
    group.wait_all_counted()
    group.wait_all_committed()


def test_partition_n_of_every_topic_is_read_by_the_same_worker(group: CountingGroup) -> None:
    """A shopper's events of all kinds meet in one worker, however many there are."""
    workers = [group.start() for _ in range(3)]
    group.wait_shared(*workers)
    for worker in workers:
        numbers = {
            topic: {name.split("/")[1] for name in worker.assignment() if name.startswith(topic)}
            for topic in group.topics
        }
        assert len(set(map(frozenset, numbers.values()))) == 1, numbers


def test_a_stuck_batch_holds_up_a_rebalance_no_longer_than_the_drain(group: CountingGroup) -> None:
    """A batch that outlives the drain is done again; the joining worker gets its share."""
    stuck = group.start(COUNTING_STUCK_S="8", SHOPSTREAM_DRAIN_TIMEOUT_S="1")
    group.wait_shared(stuck)
    group.produce(50)
    wait_until(lambda: "BATCH" in stuck.output(), "a batch in flight")
    helper = group.start()
    group.wait_shared(stuck, helper)
    assert "were still in work after 1 s" in stuck.output()
    stuck.kill()
    group.wait_all_counted()


def test_events_flow_on_when_the_broker_comes_back(
    own_kafka: KafkaServer, redis_url: str, names: Names, tmp_path: Path
) -> None:
    """A broker that stops, or is killed, and starts again costs no event and no restart."""
    topics = [f"{names.event_prefix}searches"]
    create_topics(own_kafka.bootstrap_servers, topics, partitions=4)
    with counting_group(
        bootstrap_servers=own_kafka.bootstrap_servers,
        redis_url=redis_url,
        prefix=names.unique,
        topics=topics,
        folder=tmp_path,
    ) as group:
        workers = [group.start(), group.start()]
        group.wait_shared(*workers)
        group.produce(2_000)
        own_kafka.restart()
        group.produce(2_000)
        group.wait_all_counted()
        own_kafka.kill()
        own_kafka.start()
        group.produce(2_000)
        group.wait_all_counted()
        group.wait_all_committed()
        assert all(worker.running for worker in workers)
        for worker in workers:
            assert worker.output().count("aiokafka") < 500, "aiokafka's log is not braked"
            assert worker.stop() == 0
