"""The state store: what a batch of 256 events costs, and how quick a storefront's read is.

    python -m tests.benchmarks.bench_store [--runs N] [--history N]

Starts a redis-server of its own and fills the histories of 2,000 shoppers. A batch is the mix of a
shop (searches, purchases of three products, reviews, questions), with one result an event; a
shopper's visit is four events on average, among some 200 visits at a time. Peers in the same run:
plain SETs in one pipeline for `write`, a bare GET for the lookup. `store_apply_server` is the time
the scripts take in Redis, which all workers share.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from models.recommendation.shopper import ShopperEvent
from tests.benchmarks.figures import print_figure
from worker.embedded.redis_server import RedisServer
from worker.store.connection import RedisAddress
from worker.store.contract import (
    AddHistory,
    CountPurchase,
    PutReview,
    ResultKind,
    ResultWrite,
    SentimentCount,
    StateChange,
    StateStep,
    Version,
)
from worker.store.lookup import Lookup
from worker.store.redis_store import RedisStore
from worker.store.results import RankedItem, ReasonJson, Recommendations, version_text

EVENTS = 256
SHOPPERS = 2_000
VISITS = 200
PRODUCTS = 5_000
START_MS = 1_700_000_000_000
READS = 5_000


class Shop:
    """Makes batches; every event is new and a second after the one before."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)
        self._count = 0
        self._visitors = [f"user-{number:06d}" for number in range(VISITS)]

    def step(self, size: int = EVENTS, *, read: bool = True) -> StateStep:
        """Return the step of one batch."""
        changes: list[StateChange] = []
        users, asked = [], []
        for _ in range(size):
            user, version = self._user(), self._version()
            kind = self._random.choices(("search", "purchase", "review", "question"), (5, 3, 1, 1))[
                0
            ]
            if kind == "question":
                asked.append(self._product())
                continue
            users.append(user)
            changes += self._changes(kind, user, version)
        return StateStep(
            changes,
            read_users=users if read else (),
            read_products=asked if read else (),
            popular_count=200 if read else 0,
            batch_id=f"b{self._count}",
            intent=b'{"events":[]}',
        )

    def results(self) -> list[ResultWrite]:
        """Return one result an event: recommendations, search results, tags."""
        return [self._result() for _ in range(EVENTS)]

    def _changes(self, kind: str, user: str, version: Version) -> list[StateChange]:
        at_ms, event_id = version
        if kind == "purchase":
            bought = tuple({self._product() for _ in range(3)})
            event = ShopperEvent(at_ms, event_id, "purchase", product_ids=bought, order_id=event_id)
            return [
                AddHistory(user, event),
                CountPurchase(user, version, dict.fromkeys(bought, 1)),
            ]
        if kind == "review":
            product = self._product()
            event = ShopperEvent(at_ms, event_id, "review", product_ids=(product,), stars=5.0)
            text = "It fits well and the colour is as in the picture. " * 4
            return [
                AddHistory(user, event),
                PutReview(product, event_id, user, version, text, 5.0),
            ]
        shown = tuple(self._product() for _ in range(10))
        return [
            AddHistory(
                user, ShopperEvent(at_ms, event_id, "search", query="red dress", shown=shown)
            )
        ]

    def _result(self) -> ResultWrite:
        version, user = self._version(), self._user()
        kind = self._random.choice([ResultKind.RECOMMENDATIONS, ResultKind.SEARCH, ResultKind.TAGS])
        id = user if kind is ResultKind.RECOMMENDATIONS else version.event_id
        vote = None
        if kind is ResultKind.TAGS:
            vote = SentimentCount(
                self._product(), "positive", 900_000, version.occurred_at_ms // 86_400_000
            )
        value = recommendations(version, user).model_dump_json().encode()
        return ResultWrite(kind, id, version, value, 3600, user_id=user, sentiment=vote)

    def _version(self) -> Version:
        self._count += 1
        return Version(START_MS + 1000 * self._count, f"event-{self._count:010d}")

    def _user(self) -> str:
        place = self._random.randrange(VISITS)
        if self._random.random() < 0.25:
            self._visitors[place] = f"user-{self._random.randrange(SHOPPERS):06d}"
        return self._visitors[place]

    def _product(self) -> str:
        return f"product-{int(self._random.paretovariate(0.8)) % PRODUCTS:06d}"


def recommendations(version: Version, user: str) -> Recommendations:
    """Return ten items, about 1.5 KB of JSON."""
    reason = ReasonJson(kind="bought", text="because you bought Blue shoes", because=["product-1"])
    return Recommendations(
        version=version_text(version),
        event_id=version.event_id,
        occurred_at="2024-01-01T00:00:00Z",
        written_at="2024-01-01T00:00:01Z",
        release="all-minilm-l6-v2@12345678",
        batch_id="0123456789ab-12",
        user_id=user,
        items=[
            RankedItem(product_id=f"product-{n}", title="Blue shoes", score=0.5, reason=reason)
            for n in range(10)
        ],
    )  # fmt: skip


async def elapsed_ms(call: Callable[[], Awaitable[object]]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    await call()
    return 1000 * (time.perf_counter() - started)


async def script_ms(client: Any) -> float:
    """Return how long scripts have run in Redis so far."""
    stats = await client.info("commandstats")
    return float(stats["cmdstat_evalsha"]["usec"]) / 1000


async def measure_batches(address: RedisAddress, history: int, runs: int) -> None:
    """Print what `apply` and `write` cost."""
    shop, store = Shop(), RedisStore(address)
    client = address.async_client()
    try:
        for _ in range(SHOPPERS * history // EVENTS):
            await store.apply(shop.step(read=False))
        applies, writes, sets = [], [], []
        before_ms = await script_ms(client)
        spent_ms = 0.0
        for _ in range(runs):
            step, results = shop.step(), shop.results()
            applies.append(await elapsed_ms(lambda step=step: store.apply(step)))  # type: ignore[misc]
            after_ms = await script_ms(client)
            spent_ms += after_ms - before_ms
            pipeline = client.pipeline(transaction=False)
            for result in results:
                pipeline.set(f"plain:{result.kind}:{result.id}", result.value, ex=result.ttl_s)
            sets.append(await elapsed_ms(pipeline.execute))
            writes.append(
                await elapsed_ms(
                    lambda results=results, step=step: store.write(results, batch_id=step.batch_id)  # type: ignore[misc]
                )
            )
            before_ms = await script_ms(client)
    finally:
        await store.close()
        await client.aclose()
    peer = ("256 SETs in one pipeline, ms", statistics.median(sets))
    print_figure("store_apply_256", applies, "ms", history=history)
    print_figure("store_apply_server_256", spent_ms / runs, "ms")
    print_figure("store_write_256", writes, "ms", peer=peer)
    for name, values in (("apply", applies), ("write", writes)):
        print_figure(f"store_{name}_events_per_s", 1000 * EVENTS / statistics.median(values), "1/s")


def p99_ms(read: Callable[[int], object]) -> tuple[float, float]:
    """Return (p50, p99) of many reads, in ms."""
    durations = []
    for number in range(READS):
        started = time.perf_counter()
        read(number)
        durations.append(1000 * (time.perf_counter() - started))
    cuts = statistics.quantiles(durations, n=100)
    return cuts[49], cuts[98]


def measure_lookups(url: str, runs: int) -> None:
    """Print p50 and p99 of the storefront's reads."""
    users = [f"user-{number:06d}" for number in range(SHOPPERS)]
    products = [f"product-{number:06d}" for number in range(1, 51)]
    with Lookup(url) as lookup, redis.Redis.from_url(url) as client:
        bare = [p99_ms(lambda n: client.get(f"shopstream:recommendations:{users[n % SHOPPERS]}"))
                for _ in range(runs)]  # fmt: skip
        reads: Sequence[tuple[str, Callable[[int], object]]] = (
            ("recommendations", lambda n: lookup.recommendations(users[n % SHOPPERS])),
            ("product", lambda n: lookup.product(products[n % 50])),
        )
        for name, read in reads:
            found = [p99_ms(read) for _ in range(runs)]
            peer50 = ("bare GET, p50 in ms", statistics.median(p50 for p50, _ in bare))
            peer99 = ("bare GET, p99 in ms", statistics.median(p99 for _, p99 in bare))
            print_figure(f"lookup_{name}_p50", [p50 for p50, _ in found], "ms", peer=peer50)
            print_figure(
                f"lookup_{name}_p99", [p99 for _, p99 in found], "ms", goal="< 1", peer=peer99
            )


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="batches measured")
    parser.add_argument("--history", type=int, default=40, help="events a shopper has at the start")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            address = RedisAddress(server.url)
            asyncio.run(measure_batches(address, arguments.history, arguments.runs))
            measure_lookups(server.url, runs=3)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
