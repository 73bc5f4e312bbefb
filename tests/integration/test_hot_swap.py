"""Whole workers change their models under load: nothing is lost, nothing mixed, nothing broken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from click.testing import CliRunner

from tests.support.flow_bench import OCCURRED_AT, product, search
from tests.support.names import Names
from tests.support.release_shop import ReleaseShop
from tests.support.shop_topics import ShopTopics
from tests.support.worker_process import StartWorker, WorkerProcess
from worker.commands import shopstream
from worker.events.event import EventKind
from worker.topics.layout import create_topics

pytest_plugins = ("tests.support.worker_fixtures",)
pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(600)]

PRODUCTS = 60
SHOPPERS = 97
RESULT_KINDS = ("search", "tags", "recommendations")


@pytest.fixture
def releases(tmp_path: Path, kafka_bootstrap: str, redis_url: str, names: Names) -> ReleaseShop:
    settings = names.settings(
        kafka_bootstrap,
        redis_url,
        kafka_group=names.group,
        kafka_partitions=2,
    )
    asyncio.run(create_topics(settings))
    return ReleaseShop(tmp_path, settings)


class Load:
    """Searches and reviews at a steady pace, until it is stopped; all of them valid."""

    def __init__(self, shop: ShopTopics) -> None:
        self._shop = shop
        self.sent = 0

    @contextmanager
    def running(self) -> Iterator[Load]:
        stop = threading.Event()
        thread = threading.Thread(target=self._send, args=(stop,))
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    def wait_more(self, count: int) -> None:
        """Return when so many more events were sent."""
        goal = self.sent + count
        while self.sent < goal:
            time.sleep(0.01)

    def _send(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            for _ in range(5):
                number = self.sent
                user = f"u{number % SHOPPERS}"
                self._shop.send(EventKind.SEARCH, search(number, user, f"red shoe {number % 31}"))
                self._shop.send(EventKind.REVIEW, review(number, user))
                self.sent += 1


def review(number: int, user: str) -> dict[str, Any]:
    event = {"event_id": f"v{number}", "occurred_at": OCCURRED_AT, "user_id": user}
    return event | {
        "review_id": f"v{number}",
        "product_id": f"product-{number % PRODUCTS}",
        "text": "a good red shoe",
    }


def send_products(shop: ShopTopics) -> None:
    for number in range(PRODUCTS):
        shop.send(EventKind.PRODUCT, product(number, f"red running shoe {number}"))
    shop.wait_committed()


def check_results(shop: ShopTopics, redis_url: str, names: Names, sent: int) -> set[str]:
    """Nothing is lost, and every result names the release of its batch; return the releases."""
    batches = {one["batch_id"]: one for one in shop.read_json(shop.layout.batches)}
    seen: set[str] = set()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        prefix = names.key_prefix
        for start in range(0, sent, 500):
            numbers = range(start, min(sent, start + 500))
            assert None not in client.mget([f"{prefix}:search:s{n}" for n in numbers])
            assert None not in client.mget([f"{prefix}:tags:v{n}" for n in numbers])
        for kind in RESULT_KINDS:
            for key in client.scan_iter(f"{prefix}:{kind}:*", count=1000):
                result = orjson.loads(client.get(key))
                record = batches[result["batch_id"]]
                releases = {record["release"]}
                if record["trial"] is not None:
                    releases.add(record["trial"]["release"])
                assert result["release"] in releases, key
                seen.add(result["release"])
        assert client.hlen(f"{prefix}:intents") == 0
    return seen


def vectors_in_topic(shop: ShopTopics) -> dict[str, str]:
    """Return product -> the trunk of its last record."""
    found: dict[str, str] = {}
    for message in shop.read(shop.layout.product_vectors):
        value = orjson.loads(message.value() or b"null")
        found[(message.key() or b"").decode()] = value["release"]
    return found


def command(releases: ReleaseShop, *arguments: str) -> Any:
    """Run a command with the test's settings and return the document it prints."""
    chosen = releases.settings
    environment = {
        "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": chosen.kafka_bootstrap_servers,
        "SHOPSTREAM_KAFKA_GROUP": chosen.kafka_group,
        "SHOPSTREAM_REDIS_URL": chosen.redis_url.get_secret_value(),
        "SHOPSTREAM_REDIS_KEY_PREFIX": chosen.redis_key_prefix,
        "SHOPSTREAM_TOPIC_PREFIX": chosen.topic_prefix,
        "SHOPSTREAM_INTERNAL_TOPIC_PREFIX": chosen.internal_topic_prefix,
        "SHOPSTREAM_RELEASES_URL": chosen.releases_url,
    }
    result = CliRunner().invoke(shopstream, list(arguments), env=environment)
    assert result.exit_code == 0, (result.output, result.exception)
    return orjson.loads(result.stdout)


def start_on(start_worker: StartWorker, releases: ReleaseShop, **settings: str) -> WorkerProcess:
    worker = start_worker(releases_url=releases.settings.releases_url, **settings)
    worker.wait_ready()
    return worker


def test_two_workers_swap_under_load_and_back(
    start_worker: StartWorker,
    shop: ShopTopics,
    releases: ReleaseShop,
    redis_url: str,
    names: Names,
) -> None:
    """A promotion, another trunk's, and a rollback: each event has its result, none is mixed."""
    first = releases.publish("first")
    heads = releases.publish("heads", head_seed=1)
    trunk = releases.publish("trunk", trunk_seed=1, head_seed=1)
    workers = [start_on(start_worker, releases) for _ in range(2)]
    send_products(shop)
    load = Load(shop)
    with load.running():
        for release in (first, heads, trunk):
            load.wait_more(100)
            releases.promote(release)
            releases.wait_serving(release, workers=2)
        load.wait_more(100)
        releases.roll_back()
        releases.wait_serving(heads, workers=2)
        load.wait_more(100)
    shop.wait_committed()
    assert check_results(shop, redis_url, names, load.sent) >= {first, heads, trunk}
    for worker in workers:
        figures = worker.metrics()
        assert figures['shopstream_release_swaps_total{outcome="switched"}'] == 4
        assert figures["shopstream_products"] == PRODUCTS
        assert worker.terminate() == 0
    status = releases.status()
    assert status.release == heads
    assert status.workers == []


def test_the_new_trunk_s_vectors_are_published_by_the_owners_for_new_workers(
    start_worker: StartWorker, shop: ShopTopics, releases: ReleaseShop
) -> None:
    """After a swap each product's last record is the new trunk's; a new worker encodes none."""
    first = releases.publish("first")
    second = releases.publish("second", trunk_seed=1)
    releases.promote(first)
    workers = [start_on(start_worker, releases) for _ in range(2)]
    send_products(shop)
    before = vectors_in_topic(shop)
    releases.promote(second)
    releases.wait_serving(second, workers=2)
    deadline = time.monotonic() + 60
    while len(set(vectors_in_topic(shop).values())) > 1 or vectors_in_topic(shop) == before:
        assert time.monotonic() < deadline, [worker.log_text() for worker in workers]
        time.sleep(0.2)
    sent_again = sum(
        worker.metrics()["shopstream_products_republished_total"] for worker in workers
    )
    assert sent_again == PRODUCTS
    for worker in workers:
        assert worker.terminate() == 0
    late = start_on(start_worker, releases)
    assert late.metrics().get('shopstream_product_records_total{outcome="encoded_again"}', 0) == 0
    assert late.metrics()["shopstream_products"] == PRODUCTS
    releases.wait_serving(second)
    assert late.terminate() == 0


def test_a_damaged_release_is_refused_with_its_reason_and_the_old_one_serves_on(
    start_worker: StartWorker,
    shop: ShopTopics,
    releases: ReleaseShop,
    redis_url: str,
    names: Names,
) -> None:
    """A changed byte: the worker says so in log, metric and Redis, and loses nothing."""
    first, bad = releases.publish("first"), releases.publish("bad", trunk_seed=1)
    releases.promote(first)
    worker = start_on(start_worker, releases)
    send_products(shop)
    releases.damage(bad)
    load = Load(shop)
    with load.running():
        load.wait_more(50)
        releases.promote(bad)
        status = releases.wait_until(lambda status: bool(status.refused))
        load.wait_more(100)
    shop.wait_committed()
    assert [(one.release, "damaged" in one.reason) for one in status.refused] == [(bad, True)]
    assert [one.release for one in releases.status().workers] == [first]
    assert check_results(shop, redis_url, names, load.sent) == {first}
    assert worker.metrics()['shopstream_release_swaps_total{outcome="refused"}'] >= 1
    assert f"Release {bad} is refused, {first} serves on" in worker.log_text()
    # A worker that starts now begins with the release before.
    assert worker.terminate() == 0
    second = start_on(start_worker, releases)
    assert [one.release for one in releases.status().workers] == [first]
    releases.roll_back()
    releases.wait_serving(first)
    assert second.terminate() == 0


@pytest.mark.parametrize("limit", ["release_max_bytes"])
def test_a_too_large_release_is_refused(
    start_worker: StartWorker, releases: ReleaseShop, limit: str
) -> None:
    """Beyond the limit of the settings nothing is loaded."""
    first, large = releases.publish("first"), releases.publish("large", trunk_seed=1)
    worker = start_on(start_worker, releases, **{limit: "1000"})
    for release in (first, large):
        releases.promote(release)
        status = releases.wait_until(lambda status, one=release: one in _refused(status))  # type: ignore[misc]
        assert "SHOPSTREAM_RELEASE_MAX_BYTES" in status.refused[0].reason
    assert releases.status().workers[0].release == "null-384"
    assert worker.terminate() == 0


def _refused(status: Any) -> list[str]:
    return [one.release for one in status.refused]


def test_a_worker_killed_during_a_swap_loses_nothing(
    start_worker: StartWorker,
    shop: ShopTopics,
    releases: ReleaseShop,
    redis_url: str,
    names: Names,
) -> None:
    """SIGKILL at several moments of a swap: the next start serves the release, nothing is lost."""
    names_of = [releases.publish(f"r{n}", trunk_seed=n, head_seed=n) for n in range(4)]
    releases.promote(names_of[0])
    worker = start_on(start_worker, releases)
    send_products(shop)
    load = Load(shop)
    with load.running():
        for number, release in enumerate(names_of[1:]):
            load.wait_more(60)
            releases.promote(release)
            time.sleep(0.15 + 0.4 * number)  # while it loads, while it encodes, about the switch
            worker.kill()
            worker = start_on(start_worker, releases)
            releases.wait_until(
                lambda status, one=release: one in [w.release for w in status.workers]  # type: ignore[misc]
            )
        load.wait_more(60)
    shop.wait_committed(120)
    assert check_results(shop, redis_url, names, load.sent) >= {names_of[-1]}
    assert worker.terminate() == 0


def test_a_trial_serves_each_shopper_by_one_arm(
    start_worker: StartWorker,
    shop: ShopTopics,
    releases: ReleaseShop,
    redis_url: str,
    names: Names,
) -> None:
    """Both releases serve at once, of two trunks; a shopper has one arm, and a rollback ends it."""
    first = releases.publish("first")
    second = releases.publish("second", trunk_seed=1)
    releases.promote(first)
    worker = start_on(start_worker, releases)
    send_products(shop)
    load = Load(shop)
    with load.running():
        releases.try_candidate(second, 0.5)
        releases.wait_until(lambda status: any(w.candidate == second for w in status.workers))
        first_tried = load.sent + 1  # what comes now was not in a batch before
        load.wait_more(300)
    shop.wait_committed()
    arms: dict[str, set[str]] = {}
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for number in range(first_tried, load.sent):
            result = orjson.loads(client.get(f"{names.key_prefix}:search:s{number}"))
            arms.setdefault(f"u{number % SHOPPERS}", set()).add(result["arm"])
            assert (result["arm"] == "candidate") == (result["release"] == second)
    assert len(arms) == SHOPPERS
    assert set(map(frozenset, arms.values())) == {frozenset({"current"}), frozenset({"candidate"})}
    assert check_results(shop, redis_url, names, load.sent) == {first, second}
    shown = command(releases, "get", "release", "--json")
    assert [(one["release"], one["candidate"]) for one in shown["workers"]] == [(first, second)]
    # The shop's events happened long before this trial: say since when they count.
    trial = ("--candidate", second, "--share", "0.5", "--since", "2026-01-01")
    compared = command(releases, "releases", "compare", *trial, "--json")
    drawn = sum(arm == {"candidate"} for arm in arms.values())
    assert compared["shoppers"] == {"current": SHOPPERS - drawn, "candidate": drawn}
    assert [one["metric"] for one in compared["metrics"]] == ["buyers", "orders", "revenue"]
    releases.roll_back()
    releases.wait_until(lambda status: [w.candidate for w in status.workers] == [None])
    assert worker.terminate() == 0
