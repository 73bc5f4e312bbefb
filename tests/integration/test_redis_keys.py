"""What RedisStore alone must keep: lives of keys, one script a call, several workers, settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import redis

from tests.support.state_store_contract import (
    LIMITS,
    event,
    purchase,
    result,
    review,
    tags,
    version,
)
from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.contract import (
    AddHistory,
    CountReturn,
    ForgetUser,
    PutProduct,
    RemoveProduct,
    ResultKind,
    StateStep,
)
from worker.store.keys import KEY_FAMILIES
from worker.store.redis_store import RedisStore, redis_version

pytestmark = pytest.mark.redis
FAMILIES = {family.name: family for family in KEY_FAMILIES}
EVERYTHING = StateStep(
    (
        AddHistory("u", event(1)),
        purchase(1, a=1, b=1),
        purchase(2, id="again", c=1),
        CountReturn("u", version(3, "back"), {"a": 1}),
        PutProduct("p", version(1), '{"title":"x"}'),
        RemoveProduct("gone", version(1)),
        review("r", 1),
        ForgetUser("other", version(1)),
    ),
    batch_id="b",
    intent=b"{}",
)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(RedisAddress(redis_url), prefix="test", limits=LIMITS)
    yield store
    await store.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def fill(store: RedisStore) -> None:
    """Make at least one key of every family."""
    await store.apply(EVERYTHING)
    kinds = [kind for kind in ResultKind if kind is not ResultKind.TAGS]
    await store.write([result(kind, "id", version(1), user="u") for kind in kinds])
    await store.write([tags("r", 1, "positive", 1)])
    await store.privacy_key(Settings(privacy_key=None))
    await store.announce_release("r1", "2024-01-01T00:00:00Z")
    for family in ("serving", "refused"):
        await store._client.hset(f"test:{family}", "one", "{}")
    await store._client.set("test:retrain_lock", "host:1:token", px=60_000, nx=True)


async def test_lives_and_types(store: RedisStore, client: redis.Redis) -> None:
    """Every key is of a family in the table, of its type, and expires if the table says so."""
    await fill(store)
    seen = set()
    for key in client.keys("*"):
        family = FAMILIES[key.split(":")[1]]
        seen.add(family.name)
        assert client.type(key) == family.type
        endless = (
            family.life.startswith("one ") or key == "test:product:p"
        )  # a product lives while the shop has it
        assert (client.ttl(key) == -1) is endless, key
    assert seen == set(FAMILIES)


async def test_lives_last(store: RedisStore, client: redis.Redis) -> None:
    """Guards live as the setting says, votes and reviews as histories, results their own time."""
    await fill(store)
    day = 86_400
    expected = {
        "history:u": 365 * day, "vote:r": 365 * day, "review:r": 365 * day, "owned:u": 365 * day,
        "counted:p1": 8 * day, "forgotten:other": 8 * day, "forgotten_step:other": 8 * day,
        "product:gone": 8 * day,
        "search:id": 3600, "tags:r": 3600,
    }  # fmt: skip
    for key, seconds in expected.items():
        assert 0 <= seconds - client.ttl(f"test:{key}") <= 5, key


async def test_one_script_a_call(store: RedisStore, client: redis.Redis) -> None:
    """A batch costs two round trips, however many changes and results it has."""
    await fill(store)
    client.config_resetstat()
    await store.apply(EVERYTHING)
    await store.write([result(ResultKind.SEARCH, f"e{n}", version(9)) for n in range(300)])
    stats = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_eval" not in stats


async def test_flushed_scripts(store: RedisStore, client: redis.Redis) -> None:
    """A server that lost its scripts gets them again, and the call counts once."""
    await store.apply(StateStep((purchase(1, a=1),)))
    client.script_flush()
    view = await store.apply(StateStep((purchase(2, a=1),), popular_count=1))
    assert view.sequence == 2
    client.script_flush()
    assert (await store.write([result(ResultKind.SEARCH, "e", version(1))])).written == 1


async def test_two_workers(redis_url: str, store: RedisStore) -> None:
    """Steps of two workers have one order without gaps, and what both took counts once."""
    other = RedisStore(RedisAddress(redis_url), prefix="test", limits=LIMITS)
    try:
        views = await asyncio.gather(
            *(
                worker.apply(StateStep((purchase(1, id=f"p{n}", a=1),), popular_count=1))
                for n in range(40)
                for worker in (store, other)
            )
        )
    finally:
        await other.close()
    assert sorted(view.sequence for view in views) == list(range(1, 81))
    last = max(views, key=lambda view: view.sequence)
    assert last.popular == [("a", 40.0)]


async def test_owned_entries_end(store: RedisStore, client: redis.Redis) -> None:
    """The list of a shopper's results forgets those that have expired."""
    short = replace(result(ResultKind.SEARCH, "short", version(1), user="u"), ttl_s=1)
    await store.write([short, result(ResultKind.SEARCH, "long", version(1), user="u")])
    assert client.zrange("test:owned:u", 0, -1) == ["search:short", "search:long"]
    await asyncio.sleep(2.1)
    await store.write([result(ResultKind.SEARCH, "new", version(2), user="u")])
    assert set(client.zrange("test:owned:u", 0, -1)) == {"search:long", "search:new"}


async def test_changed_half_life(redis_url: str, store: RedisStore) -> None:
    """With another half-life the counts go on from where they stand."""
    await store.apply(StateStep((purchase(0, a=8), purchase(24, b=2))))
    limits = replace(LIMITS, popularity_half_life_s=12 * 3600.0)
    quicker = RedisStore(RedisAddress(redis_url), prefix="test", limits=limits)
    try:
        view = await quicker.apply(StateStep((purchase(36, c=1),), popular_count=9))
    finally:
        await quicker.close()
    assert dict(view.popular) == pytest.approx({"a": 2.0, "b": 1.0, "c": 1.0})


async def test_prefixes_are_apart(redis_url: str, store: RedisStore, client: redis.Redis) -> None:
    """Two prefixes on one server share nothing."""
    await store.apply(EVERYTHING)
    other = RedisStore(RedisAddress(redis_url), prefix="other", limits=LIMITS)
    try:
        view = await other.apply(
            StateStep((), read_users=("u",), read_products=("p",), popular_count=5)
        )
    finally:
        await other.close()
    assert (view.sequence, view.histories["u"], view.popular) == (1, [], [])
    assert client.keys("other:*") == ["other:sequence"]


async def test_privacy_key(store: RedisStore) -> None:
    """The key is the setting's, else one that is made once and then stays."""
    assert await store.privacy_key(Settings(privacy_key="given")) == "given"
    made = await store.privacy_key(Settings(privacy_key=None))
    assert len(made) == 64
    assert await store.privacy_key(Settings(privacy_key=None)) == made


def test_redis_version() -> None:
    """The version is read out of INFO; a server that does not tell has none."""
    assert redis_version("# Server\r\nredis_version:7.2.4\r\nos:Linux\r\n") == (7, 2)
    assert redis_version("") is None
