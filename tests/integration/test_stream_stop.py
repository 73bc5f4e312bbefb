"""How a worker ends: by signals, by faults, without a broker, with what is stuck."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.admin import create_topics
from tests.support.counting import CountingGroup, counting_group, wait_until
from tests.support.kafka_server import KafkaServer
from tests.support.names import Names
from worker.embedded.ports import free_ports

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_in_flight(group: CountingGroup, number: signal.Signals) -> None:
    """A batch that has begun is counted and committed before the worker ends with 0."""
    worker = group.start(COUNTING_BATCH_S="1", COUNTING_BATCH="100000")
    group.wait_shared(worker)
    group.produce(200)
    wait_until(lambda: "BATCH" in worker.output(), "a batch in flight")
    worker.send(number)
    assert worker.wait() == 0
    counted = sum(group.produced.values()) - group.missing()
    assert 0 < counted == sum(group.committed().values())
    assert group.duplicates() == 0


def test_a_signal_while_models_load_ends_with_0(group: CountingGroup) -> None:
    """Nothing is in flight yet: the worker does not wait for a start that may take minutes."""
    worker = group.start(COUNTING_START_S="3600")
    worker.wait_for("STARTING")
    assert worker.stop() == 0
    assert "ASSIGNED" not in worker.output()


def test_a_signal_while_the_group_is_joined_ends_with_0(group: CountingGroup) -> None:
    """Faust is starting: it is stopped, leaves the group, and the process ends."""
    group.produce(100)
    worker = group.start()
    worker.wait_for("STARTING")
    assert worker.stop() == 0
    other = group.start()
    group.wait_shared(other)
    group.wait_all_counted()


def test_a_second_interrupt_ends_at_once(group: CountingGroup) -> None:
    """Ctrl-C twice does not wait for a stuck batch."""
    worker = group.start(COUNTING_STUCK_S="3600", SHOPSTREAM_SHUTDOWN_TIMEOUT_S="3600")
    group.wait_shared(worker)
    group.produce(10)
    wait_until(lambda: "BATCH" in worker.output(), "a batch in flight")
    worker.send(signal.SIGINT)
    worker.wait_for("Stopping on SIGINT")
    worker.send(signal.SIGINT)
    assert worker.wait() == 130


def test_a_stuck_model_thread_does_not_hold_up_the_end(group: CountingGroup) -> None:
    """After half the shutdown time the batch is left, the end is not clean, nothing is lost."""
    stuck = group.start(COUNTING_STUCK_S="3600", SHOPSTREAM_SHUTDOWN_TIMEOUT_S="2")
    group.wait_shared(stuck)
    group.produce(50)
    wait_until(lambda: "BATCH" in stuck.output(), "a batch in flight")
    assert stuck.stop() == 75
    assert "were still in work after 1 s" in stuck.output()
    assert group.committed() == {}
    group.start()
    group.wait_all_counted()
    group.wait_all_committed()


@pytest.mark.parametrize("fault", ["accept", "batch", "thread"])
def test_a_fault_ends_the_worker(group: CountingGroup, fault: str) -> None:
    """In an agent, a background task or a thread: one clear line, status 1, nothing committed."""
    worker = group.start(COUNTING_FAULT=fault)
    group.wait_shared(worker)
    group.produce(20)
    assert worker.wait() == 1
    stops = [line for line in worker.output().splitlines() if "The worker stops" in line]
    assert len(stops) == 1
    assert "planted fault" in stops[0]
    assert group.committed() == {}
    group.start()
    group.wait_all_counted()


def test_no_broker_ends_with_a_sentence(redis_url: str, names: Names, tmp_path: Path) -> None:
    """A worker that finds no Kafka says where it looked and what to check, and ends with 1."""
    servers = f"127.0.0.1:{free_ports(1)[0]}"
    with counting_group(
        bootstrap_servers=servers,
        redis_url=redis_url,
        prefix=names.unique,
        topics=["shop.searches"],
        folder=tmp_path,
    ) as group:
        worker = group.start()
        assert worker.wait() == 1
    (line,) = [line for line in worker.output().splitlines() if "The worker stops" in line]
    assert f"Kafka at {servers} cannot be used" in line
    assert "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS" in line
    assert "Traceback" not in worker.output()
    assert "STARTING" not in worker.output(), "models are loaded before the broker is looked for"


def test_a_missing_topic_ends_with_a_sentence(group: CountingGroup) -> None:
    """A worker does not wait in silence for topics that nobody creates."""
    group.topics.append("nowhere.searches")
    worker = group.start()
    assert worker.wait() == 1
    assert "topics are missing: nowhere.searches; run `shopstream topics create`" in worker.output()


def test_a_stop_with_the_broker_down_ends(
    own_kafka: KafkaServer, redis_url: str, names: Names, tmp_path: Path
) -> None:
    """Neither the last commit nor the goodbye can be sent: the worker ends by itself, with 75."""
    topics = [f"{names.event_prefix}searches"]
    create_topics(own_kafka.bootstrap_servers, topics, partitions=4)
    with counting_group(
        bootstrap_servers=own_kafka.bootstrap_servers,
        redis_url=redis_url,
        prefix=names.unique,
        topics=topics,
        folder=tmp_path,
    ) as group:
        worker = group.start(
            SHOPSTREAM_SHUTDOWN_TIMEOUT_S="10", SHOPSTREAM_KAFKA_COMMIT_INTERVAL_S="3600"
        )
        group.wait_shared(worker)
        group.produce(100)
        group.wait_all_counted()
        own_kafka.kill()
        assert worker.stop() == 75
        assert "did not stop within" not in worker.output(), "only the deadline ended it"
        assert "Traceback" not in worker.output()


def test_a_broker_lost_while_models_load_ends_with_a_sentence(
    own_kafka: KafkaServer, redis_url: str, names: Names, tmp_path: Path
) -> None:
    """What was there at the first look may be gone when the reading is to begin."""
    topics = [f"{names.event_prefix}searches"]
    create_topics(own_kafka.bootstrap_servers, topics, partitions=4)
    with counting_group(
        bootstrap_servers=own_kafka.bootstrap_servers,
        redis_url=redis_url,
        prefix=names.unique,
        topics=topics,
        folder=tmp_path,
    ) as group:
        worker = group.start(COUNTING_START_S="2")
        worker.wait_for("STARTING")
        own_kafka.kill()
        assert worker.wait() == 1
        (line,) = [line for line in worker.output().splitlines() if "The worker stops" in line]
        assert f"Kafka at {own_kafka.bootstrap_servers} cannot be used" in line


def test_no_port_is_opened(group: CountingGroup) -> None:
    """Faust's web server never starts, whatever its own variables say: two workers on one host."""
    workers = [group.start(WEB_ENABLED="true", APP_WEB_ENABLED="true") for _ in range(2)]
    group.wait_shared(*workers)
    for worker in workers:
        assert _listening_sockets(worker.pid) == []
        assert worker.stop() == 0


def _listening_sockets(pid: int) -> list[str]:
    """Return the local addresses of the process' listening TCP sockets (state 0A in /proc)."""
    owned = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            found = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
            owned |= {found.group(1)} if found else set()
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in owned:
                listening.append(columns[1])
    return listening


def test_the_look_at_listening_sockets_sees_one() -> None:
    """The check above can fail: a listening socket of this process is found."""
    with socket.create_server(("127.0.0.1", 0)):
        assert _listening_sockets(pid=os.getpid())
