"""The storefront's clients on a real redis-server: every result, and waiting without polling."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from models.recommendation.shopper import ShopperEvent
from worker.store.connection import RedisAddress
from worker.store.contract import (
    AddHistory,
    ResultKind,
    ResultWrite,
    SentimentCount,
    StateStep,
    StoreUnavailable,
    Version,
)
from worker.store.lookup import AsyncLookup, Lookup
from worker.store.redis_store import RedisStore
from worker.store.results import (
    AnswerResult,
    CurrentRelease,
    ProductSentiment,
    RankedItem,
    ReasonJson,
    Recommendations,
    ReviewTags,
    SearchResults,
    Trending,
    version_text,
)

pytestmark = pytest.mark.redis
ITEM = RankedItem(
    product_id="p1",
    title="红色连衣裙",
    score=0.5,
    reason=ReasonJson(kind="matches", text="red dress"),
)


def cause(event_id: str, at_ms: int) -> dict[str, str]:
    return {
        "version": version_text(Version(at_ms, event_id)),
        "event_id": event_id,
        "occurred_at": "2024-01-01T00:00:00Z",
        "written_at": "2024-01-01T00:00:01Z",
        "release": "r1",
        "batch_id": "b-1",
    }


def recommendations(event_id: str, at_ms: int) -> Recommendations:
    return Recommendations(**cause(event_id, at_ms), user_id="u", items=[ITEM])


def write_of(kind: ResultKind, id: str, result: Recommendations | SearchResults) -> ResultWrite:
    at_ms = int(result.version[:16])
    value = result.model_dump_json().encode()
    return ResultWrite(kind, id, Version(at_ms, result.event_id), value, 60)


RESULTS = {
    ResultKind.RECOMMENDATIONS: ("u", recommendations("e", 5)),
    ResultKind.SEARCH: ("e", SearchResults(**cause("e", 5), query="Red  Dress", items=[ITEM])),
    ResultKind.QUERY: ("red dress", SearchResults(**cause("e", 5), query="red dress", items=[])),
    ResultKind.TAGS: (
        "r1",
        ReviewTags(
            **cause("e", 5),
            review_id="r1",
            product_id="p1",
            sentiment="positive",
            confidence=0.75,
            probabilities={"negative": 0.0, "neutral": 0.25, "positive": 0.75},
        ),
    ),
    ResultKind.ANSWER: (
        "q1",
        AnswerResult(
            **cause("e", 5),
            question_id="q1",
            question="?",
            product_id=None,
            answered=False,
            text=None,
            source=None,
            confidence=0.1,
        ),
    ),
    ResultKind.TRENDING: ("all", Trending(**cause("e", 5), items=[ITEM])),
}


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(RedisAddress(redis_url), prefix="test")
    yield store
    await store.close()


@pytest.fixture
def lookup(redis_url: str) -> Iterator[Lookup]:
    with Lookup(redis_url, prefix="test") as lookup:
        yield lookup


@pytest.fixture
async def async_lookup(redis_url: str) -> AsyncIterator[AsyncLookup]:
    async with AsyncLookup(redis_url, prefix="test") as lookup:
        yield lookup


async def test_every_kind(store: RedisStore, lookup: Lookup, async_lookup: AsyncLookup) -> None:
    """Each kind comes back as it was written; a query by any spelling of it."""
    await store.write([write_of(kind, id, result) for kind, (id, result) in RESULTS.items()])
    await store.announce_release("r1", "2024-01-01T00:00:00Z")
    expected = [*(result for _, result in RESULTS.values())]
    found = [
        lookup.recommendations("u"),
        lookup.search("e"),
        lookup.query("  ＲED   dress "),
        lookup.tags("r1"),
        lookup.answer("q1"),
        lookup.trending(),
    ]
    assert found == expected
    assert found == [
        await async_lookup.recommendations("u"),
        await async_lookup.search("e"),
        await async_lookup.query("Red dress"),
        await async_lookup.tags("r1"),
        await async_lookup.answer("q1"),
        await async_lookup.trending(),
    ]
    assert lookup.release() == await async_lookup.release()
    assert lookup.release() == CurrentRelease(release="r1", since="2024-01-01T00:00:00Z")


async def test_absent(lookup: Lookup, async_lookup: AsyncLookup) -> None:
    """What does not stand is None, at once and after waiting."""
    assert lookup.recommendations("u") is None
    assert lookup.product("p") is None
    assert lookup.release(wait_s=0.05) is None
    assert await async_lookup.answer("q", wait_s=0.05) is None
    assert await async_lookup.product("p") is None


async def test_product(store: RedisStore, lookup: Lookup, async_lookup: AsyncLookup) -> None:
    """A product's counts, mean and trend follow from its reviews' votes."""
    votes = [("negative", -900_000, day) for day in range(10)]
    votes += [("positive", 600_000, day) for day in range(100, 130)]
    await store.write(
        [
            ResultWrite(
                ResultKind.TAGS,
                f"r{day}",
                Version(day, "e"),
                RESULTS[ResultKind.TAGS][1].model_dump_json().encode(),
                60,
                sentiment=SentimentCount("p", label, score, day),  # type: ignore[arg-type]
            )
            for label, score, day in votes
        ]
    )
    sentiment = ProductSentiment(
        product_id="p", reviews=40, negative=10, neutral=0, positive=30, mean=0.225, trend=1.5
    )
    assert lookup.product("p") == sentiment
    assert await async_lookup.product("p", wait_s=1) == sentiment


async def test_wait(store: RedisStore, async_lookup: AsyncLookup) -> None:
    """A waiting reader has the result as soon as it is written."""
    waiting = asyncio.create_task(async_lookup.search("e", wait_s=20))
    product = asyncio.create_task(async_lookup.product("p", wait_s=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    written_at = time.monotonic()
    await store.write([write_of(ResultKind.SEARCH, "e", RESULTS[ResultKind.SEARCH][1])])
    assert await waiting == RESULTS[ResultKind.SEARCH][1]
    assert time.monotonic() - written_at < 5
    assert not product.done()
    product.cancel()


async def test_wait_in_a_thread(store: RedisStore, lookup: Lookup) -> None:
    """The blocking client waits in the same way, and is shared by threads."""
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(lookup.recommendations("u", wait_s=20)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    await asyncio.sleep(0.2)
    await store.write([write_of(ResultKind.RECOMMENDATIONS, "u", recommendations("e", 5))])
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert found == [recommendations("e", 5)] * 3


async def test_wait_does_not_poll(redis_url: str, store: RedisStore, lookup: Lookup) -> None:
    """While a reader waits it sends nothing but its subscription and one read."""
    await store.open()
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        assert lookup.search("e", wait_s=0.7) is None
        calls = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
    ours = {"get", "subscribe", "unsubscribe"}
    of_connecting = {"client", "client|setinfo", "hello", "info", "config", "config|resetstat"}
    assert {name.removeprefix("cmdstat_") for name in calls} <= ours | of_connecting


@pytest.mark.parametrize("after", ["e2", Version(2, "e2")])
async def test_wait_for_event(
    store: RedisStore, async_lookup: AsyncLookup, after: str | Version
) -> None:
    """Waiting for an event passes over older results, and takes that of a newer event."""
    kind = ResultKind.RECOMMENDATIONS
    await store.write([write_of(kind, "u", recommendations("e1", 1))])
    assert await async_lookup.recommendations("u", wait_s=0.2, after_event=after) is None
    waiting = asyncio.create_task(async_lookup.recommendations("u", wait_s=20, after_event=after))
    await asyncio.sleep(0.1)
    events = [
        ShopperEvent(2, "e2", "search", query="a"),
        ShopperEvent(3, "e3", "search", query="b"),
    ]
    await store.apply(StateStep([AddHistory("u", event) for event in events]))
    await store.write([write_of(kind, "u", recommendations("e3", 3))])
    assert (await waiting) == recommendations("e3", 3)


async def test_foreign_value(redis_url: str, lookup: Lookup) -> None:
    """A value that is no result is a clear error, not a crash of the storefront."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("test:answer:q", '{"version":"?"}')
    with pytest.raises(StoreUnavailable, match="test:answer:q holds no AnswerResult"):
        lookup.answer("q")
