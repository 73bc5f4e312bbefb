"""Whole workers that are killed, stopped, doubled, or lose their servers: nothing may be lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.flow_bench import OCCURRED_AT, search
from tests.support.kafka_server import KafkaServer
from tests.support.names import Names
from tests.support.shop_topics import ShopTopics
from tests.support.worker_process import StartWorker, WorkerProcess, worker_environment
from worker.embedded.ports import free_ports
from worker.embedded.redis_server import RedisServer
from worker.events.event import EventKind

pytest_plugins = ("tests.support.worker_fixtures",)
pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(600)]

SEARCHES = 12_000
REVIEWS = 6_000
PRODUCTS = 10  # the reviews are spread over them
PATIENCE_S = 120.0


def review(number: int) -> dict[str, Any]:
    event = {"event_id": f"v{number}", "occurred_at": OCCURRED_AT, "user_id": f"u{number % 500}"}
    return event | {
        "review_id": f"v{number}",
        "product_id": f"product-{number % PRODUCTS}",
        "text": f"number {number} is good",
    }


def send_backlog(shop: ShopTopics) -> None:
    for number in range(SEARCHES):
        shop.send(EventKind.SEARCH, search(number, user=f"u{number % 500}", query=f"q {number}"))
    for number in range(REVIEWS):
        shop.send(EventKind.REVIEW, review(number))
    shop.flush()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def finished(worker: WorkerProcess) -> float:
    return sum(
        value
        for name, value in worker.metrics().items()
        if name.startswith("shopstream_events_total")
    )


def wait_in_mid_batch(worker: WorkerProcess, least: int) -> None:
    """Return when the worker has finished `least` events or more and is at work on others."""

    def is_in_mid_batch() -> bool:
        assert worker.running, worker.log_text()
        return finished(worker) >= least and worker.metrics()["shopstream_batches_in_flight"] >= 1

    wait_until(is_in_mid_batch, "a batch in flight")


def check_nothing_is_lost(shop: ShopTopics, redis_url: str, names: Names) -> None:
    """Every event has its result, counted once; every step on the state has its record."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        prefix = names.key_prefix
        for start in range(0, SEARCHES, 1_000):
            keys = [f"{prefix}:search:s{number}" for number in range(start, start + 1_000)]
            assert None not in client.mget(keys)
        for start in range(0, REVIEWS, 1_000):
            keys = [f"{prefix}:tags:v{number}" for number in range(start, start + 1_000)]
            assert None not in client.mget(keys)
        for number in range(PRODUCTS):
            counters = client.hgetall(f"{prefix}:sentiment:product-{number}")
            counts = [int(counters.get(label, 0)) for label in ("negative", "neutral", "positive")]
            assert sum(counts) == REVIEWS / PRODUCTS
        assert client.hlen(f"{prefix}:intents") == 0
        steps = int(client.get(f"{prefix}:sequence"))
    records = shop.read_json(shop.layout.batches)
    assert {record["sequence"] for record in records} == set(range(1, steps + 1))


def test_a_worker_killed_in_mid_batch_loses_nothing(
    start_worker: StartWorker, shop: ShopTopics, redis_url: str, names: Names
) -> None:
    """After two SIGKILLs in mid-batch the next start completes all, and counts nothing twice."""
    worker = start_worker()
    worker.wait_ready()
    send_backlog(shop)
    for least in (1_000, 2_000):
        wait_in_mid_batch(worker, least)
        worker.kill()
        assert not shop.all_committed()
        worker = start_worker()
        worker.wait_ready()
    shop.wait_committed(PATIENCE_S)
    assert worker.terminate() == 0
    check_nothing_is_lost(shop, redis_url, names)


def test_the_partitions_of_a_killed_worker_go_on_with_the_other(
    start_worker: StartWorker, shop: ShopTopics, redis_url: str, names: Names
) -> None:
    """Two workers share the partitions; one is killed, and the other completes everything."""
    workers = [start_worker(), start_worker()]
    for worker in workers:
        worker.wait_ready()
    send_backlog(shop)
    for worker in workers:
        wait_in_mid_batch(worker, 500)
    workers[0].kill()
    shop.wait_committed(PATIENCE_S)
    assert workers[1].terminate() == 0
    # the killed worker's intents are published at the next start
    last = start_worker()
    last.wait_ready()
    assert last.terminate() == 0
    check_nothing_is_lost(shop, redis_url, names)


def test_sigterm_under_load_commits_all_that_was_begun(
    start_worker: StartWorker, shop: ShopTopics, redis_url: str, names: Names
) -> None:
    """A stop ends with status 0; what batches took is committed, and none of it done again."""
    worker = start_worker()
    worker.wait_ready()
    send_backlog(shop)
    wait_in_mid_batch(worker, 1_000)
    assert worker.terminate() == 0
    records = shop.read_json(shop.layout.batches)
    taken = sum(run["count"] for record in records for run in record["runs"])
    assert 1_000 <= taken < SEARCHES + REVIEWS
    assert sum(max(0, offset) for offset in shop.committed().values()) == taken
    second = start_worker()
    second.wait_ready()
    shop.wait_committed(PATIENCE_S)
    assert second.terminate() == 0
    check_nothing_is_lost(shop, redis_url, names)
    records = shop.read_json(shop.layout.batches)
    taken = sum(run["count"] for record in records for run in record["runs"])
    assert taken == SEARCHES + REVIEWS


def test_a_worker_without_its_redis_ends_and_the_next_goes_on(
    kafka_bootstrap: str, names: Names, shop: ShopTopics, tmp_path: Path
) -> None:
    """Redis dies: status 1 after a clear line, nothing is acknowledged; the next start does it."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    environment = worker_environment(names, kafka_bootstrap, server.url)
    worker = WorkerProcess(tmp_path, environment)
    try:
        worker.wait_ready()
        for number in range(200):
            shop.send(EventKind.SEARCH, search(number))
        shop.wait_committed()
        before = shop.committed()
        server.process.kill()
        for number in range(200, 400):
            shop.send(EventKind.SEARCH, search(number))
        shop.flush()
        assert worker.wait(60) == 1
        assert "Redis at" in worker.log_text().splitlines()[-1]
        assert shop.committed() == before
        folder.mkdir(exist_ok=True)
        server = RedisServer(folder, port=server.port)
        worker = WorkerProcess(tmp_path, environment, "second")
        shop.wait_committed(PATIENCE_S)
        assert worker.terminate() == 0
        with redis.Redis.from_url(server.url) as client:
            keys = [f"{names.key_prefix}:search:s{number}" for number in range(200, 400)]
            assert None not in client.mget(keys)
    finally:
        if worker.running:
            worker.kill()
        server.stop()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kafka_bootstrap_servers": "127.0.0.1:{free}"}, "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS"),
        ({"redis_url": "redis://127.0.0.1:{free}/0"}, "SHOPSTREAM_REDIS_URL"),
        ({"model": "no-such-folder/no-such-model"}, "SHOPSTREAM_MODEL"),
        ({"faq_file": "no-such-file.json"}, "SHOPSTREAM_FAQ_FILE"),
        ({"batch_max_tokens": "many"}, "SHOPSTREAM_BATCH_MAX_TOKENS"),
        ({"drain_timeout_s": "60"}, "SHOPSTREAM_DRAIN_TIMEOUT_S must be below"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_clear_line(
    start_worker: StartWorker, changed: dict[str, str], words: str
) -> None:
    """No broker, no Redis, no model, a wrong number: status 1 and a sentence with what to do."""
    free = str(free_ports(1)[0])
    worker = start_worker(**{name: value.format(free=free) for name, value in changed.items()})
    assert worker.wait(90) == 1
    last = worker.log_text().splitlines()[-1]
    assert words in last
    assert "Traceback" not in worker.log_text()


def test_a_broker_that_dies_ends_no_worker(
    own_kafka: KafkaServer, redis_url: str, names: Names, tmp_path: Path
) -> None:
    """A worker waits for a broker that restarts, and goes on where it was."""
    shop = ShopTopics(own_kafka.bootstrap_servers, names)
    worker = WorkerProcess(
        tmp_path, worker_environment(names, own_kafka.bootstrap_servers, redis_url)
    )
    try:
        worker.wait_ready()
        for number in range(100):
            shop.send(EventKind.SEARCH, search(number))
        shop.wait_committed()
        own_kafka.restart()
        for number in range(100, 200):
            shop.send(EventKind.SEARCH, search(number))
        shop.wait_committed(PATIENCE_S)
        assert worker.terminate() == 0
    finally:
        if worker.running:
            worker.kill()
    with redis.Redis.from_url(redis_url) as client:
        keys = [f"{names.key_prefix}:search:s{number}" for number in range(200)]
        assert None not in client.mget(keys)
