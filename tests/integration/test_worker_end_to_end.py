"""The worker as a process on Apache Kafka and Redis: events of every kind to their results."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import redis

from tests.support.flow_bench import EVENTS, product, search
from tests.support.names import Names
from tests.support.shop_topics import ShopTopics
from tests.support.worker_process import StartWorker, WorkerProcess
from worker.events.event import EventKind
from worker.store.lookup import Lookup

pytest_plugins = ("tests.support.worker_fixtures",)
pytestmark = [pytest.mark.kafka, pytest.mark.redis]


def wait_for_products(worker: WorkerProcess, count: int) -> None:
    """Return when the feed has brought this many products into the worker's index."""
    deadline = time.monotonic() + 30
    while worker.metrics()["shopstream_products"] < count:
        assert time.monotonic() < deadline, worker.log_text()
        time.sleep(0.1)


def wait_for_lag_of_nothing(worker: WorkerProcess) -> None:
    """Return when every partition of every event topic reports that nothing is left to do."""
    deadline = time.monotonic() + 30
    while True:
        lags = [
            lag for name, lag in worker.metrics().items()
            if name.startswith("shopstream_watermark_lag_events")
        ]  # fmt: skip
        if len(lags) == 2 * len(EventKind) and not any(lags):
            return
        assert time.monotonic() < deadline, lags
        time.sleep(0.2)


def test_events_of_every_kind_get_their_results(
    start_worker: StartWorker, shop: ShopTopics, lookup: Lookup
) -> None:
    """An event of each kind, by way of Kafka, and what it causes stands in Redis."""
    worker = start_worker()
    worker.wait_ready()
    for number, title in enumerate(("green tea leaves", "cast iron tea pot", "red bike"), 1):
        shop.send(EventKind.PRODUCT, product(number, title))
    wait_for_products(worker, 3)
    for kind, event in EVENTS.items():
        if kind is not EventKind.PRODUCT:
            shop.send(kind, event)
    shop.wait_committed()

    found = lookup.search("s1", wait_s=10)
    assert found is not None
    assert found.items[0].product_id == "product-1"
    assert lookup.query("  Green TEA ") is not None
    recommended = lookup.recommendations("u", wait_s=10)
    assert recommended is not None
    assert "product-2" in [item.product_id for item in recommended.items]
    tags = lookup.tags("v1", wait_s=10)
    assert tags is not None
    assert tags.product_id == "product-1"
    sentiment = lookup.product("product-1")
    assert sentiment is not None
    assert sentiment.reviews == 1
    answer = lookup.answer("q1", wait_s=10)
    assert answer is not None
    assert answer.question == "is it lovely tea?"
    assert lookup.trending() is not None
    assert {sample["kind"] for sample in shop.read_json(shop.layout.samples)} >= {
        "review",
        "reversal",
        "forget",
    }
    batches = shop.read_json(shop.layout.batches)
    taken = sum(run["count"] for batch in batches for run in batch["runs"])
    assert taken == len(EVENTS) + 2
    figures = worker.metrics()
    assert figures['shopstream_events_total{kind="search",outcome="processed"}'] == 1
    assert figures["shopstream_products"] == 3
    wait_for_lag_of_nothing(worker)
    assert worker.terminate() == 0


BAD_RECORDS: dict[str, tuple[EventKind, bytes | None, bytes | None]] = {
    "invalid_json": (EventKind.SEARCH, b"u", b"{no json"),
    "schema": (EventKind.REVIEW, b"u", b'{"event_id": "x"}'),
    "empty": (EventKind.PURCHASE, b"u", None),
    "too_large": (EventKind.SEARCH, b"u", b'"' + b"x" * 5_000 + b'"'),
}


def _event_with(kind: EventKind, **changes: Any) -> bytes:
    return orjson.dumps(EVENTS[kind] | changes)


BAD_RECORDS |= {
    "text_too_long": (EventKind.QUESTION, b"u", _event_with(EventKind.QUESTION, text="y" * 500)),
    "key_missing": (EventKind.SEARCH, None, _event_with(EventKind.SEARCH)),
    "key_mismatch": (EventKind.RETURN, b"another", _event_with(EventKind.RETURN)),
    "future": (EventKind.FORGET, b"u", _event_with(
        EventKind.FORGET, user_id="u", occurred_at="2199-01-01T00:00:00Z"
    )),
}  # fmt: skip


def test_bad_input_of_every_kind_becomes_dead_letters(
    start_worker: StartWorker, shop: ShopTopics, lookup: Lookup
) -> None:
    """Each sort of bad record leaves its original bytes and reason; good events go on around it."""
    worker = start_worker(max_event_bytes="4000", max_text_chars="200")
    worker.wait_ready()
    for kind, key, value in BAD_RECORDS.values():
        shop.send_raw(kind, key, value)
    shop.send_raw(EventKind.PRODUCT, None, None)  # a tombstone that names no product
    shop.send(EventKind.SEARCH, search(7))
    shop.wait_committed()
    letters = shop.read_json(shop.layout.dead_letters)
    assert sorted(letter["code"] for letter in letters) == sorted([*BAD_RECORDS, "key_missing"])
    assert all(letter["reason"] for letter in letters)
    by_code = {letter["code"]: letter for letter in letters}
    assert by_code["invalid_json"]["value_base64"] == "e25vIGpzb24="
    assert lookup.search("s7", wait_s=10) is not None
    assert worker.terminate() == 0


def test_a_product_s_life_is_followed(
    start_worker: StartWorker, shop: ShopTopics, lookup: Lookup
) -> None:
    """A product is found, hidden when unavailable, and gone after its tombstone."""
    worker = start_worker()
    worker.wait_ready()
    later = {"event_id": "p1b", "occurred_at": "2026-03-01T13:00:00Z", "available": False}
    steps: list[tuple[Callable[[], None], list[str]]] = [
        (lambda: shop.send(EventKind.PRODUCT, product(1)), ["product-1"]),
        (lambda: shop.send(EventKind.PRODUCT, product(1) | later), []),
        (lambda: shop.send(EventKind.PRODUCT, product(2)), ["product-2"]),
        (lambda: shop.send_raw(EventKind.PRODUCT, b"product-2", None), []),
    ]
    for number, (change, expected) in enumerate(steps):
        change()
        shop.wait_committed()
        for attempt in range(50):  # until the feed has brought the change back
            event = search(100 * number + attempt)
            shop.send(EventKind.SEARCH, event)
            shop.flush()
            found = lookup.search(event["event_id"], wait_s=10)
            assert found is not None
            if [item.product_id for item in found.items] == expected:
                break
        else:
            raise AssertionError(f"step {number}: {found}")
    assert worker.terminate() == 0


def test_a_new_worker_knows_the_products_that_another_encoded(
    start_worker: StartWorker, shop: ShopTopics, lookup: Lookup
) -> None:
    """Products come from the feed: a worker that never read their events finds them."""
    first = start_worker()
    first.wait_ready()
    for number in range(20):
        shop.send(EventKind.PRODUCT, product(number, f"tea number {number}"))
    shop.wait_committed()
    assert first.terminate() == 0
    second = start_worker()
    second.wait_ready()
    assert second.metrics()["shopstream_products"] == 20
    shop.send(EventKind.SEARCH, search(1, query="tea number 7"))
    shop.flush()
    found = lookup.search("s1", wait_s=10)
    assert found is not None
    assert found.items[0].product_id == "product-7"
    assert second.terminate() == 0


def test_a_forgotten_shopper_leaves_nothing(
    start_worker: StartWorker, shop: ShopTopics, redis_url: str, names: Names
) -> None:
    """After Forget no key that names the shopper holds history or results."""
    worker = start_worker()
    worker.wait_ready()
    shop.send(EventKind.SEARCH, search(1, user="gone"))
    shop.wait_committed()
    forget = {"event_id": "f9", "occurred_at": "2026-03-02T00:00:00Z", "user_id": "gone"}
    shop.send(EventKind.FORGET, forget)
    shop.wait_committed()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        left = [key for key in client.scan_iter(f"{names.key_prefix}:*") if "gone" in key]
        assert all("forgotten" in key or "tombstone" in key for key in left), left
        assert not client.exists(f"{names.key_prefix}:search:s1")
    assert worker.terminate() == 0


@pytest.mark.timeout(600)
def test_the_packaged_model_answers_by_meaning(
    start_worker: StartWorker, shop: ShopTopics, lookup: Lookup
) -> None:
    """With the real MiniLM a query finds a product that shares no word with it."""
    worker = start_worker(model="")
    worker.wait_ready()
    titles = ("waterproof hiking boots", "stainless steel frying pan", "wireless headphones")
    for number, title in enumerate(titles, 1):
        shop.send(EventKind.PRODUCT, product(number, title))
    wait_for_products(worker, 3)
    review = EVENTS[EventKind.REVIEW] | {"text": "Broke after a day, a waste of money. Terrible."}
    shop.send(EventKind.REVIEW, review)
    shop.wait_committed()
    shop.send(EventKind.SEARCH, search(1, query="shoes for walking in the mountains"))
    shop.flush()
    found = lookup.search("s1", wait_s=30)
    assert found is not None
    assert found.items[0].product_id == "product-1"
    tags = lookup.tags("v1", wait_s=30)
    assert tags is not None
    assert tags.sentiment == "negative"
    assert worker.terminate() == 0
