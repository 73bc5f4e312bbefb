"""MemoryStore and RedisStore stay equal through any steps: replay equals live."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.state_steps import EVENT_IDS, PRODUCTS, REVIEW_IDS, USERS, Write, steps, writes
from tests.support.state_store_contract import LIMITS
from worker.store.connection import RedisAddress
from worker.store.contract import ResultKind, StateStep
from worker.store.memory_store import MemoryStore
from worker.store.redis_store import RedisStore

pytestmark = pytest.mark.redis
Call = StateStep | Write
calls = st.lists(st.one_of(steps, writes), min_size=1, max_size=8)


@given(calls=calls, order=st.randoms(use_true_random=False))
@settings(
    max_examples=150,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking runs past the test's timeout
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_twins(redis_url: str, calls: list[Call], order) -> None:  # type: ignore[no-untyped-def]
    """Any calls, repeated and in any order, give equal views, reports, results and counters."""
    doubled = [*calls, *(call for call in calls if order.random() < 0.5)]
    order.shuffle(doubled)
    asyncio.run(_compare(redis_url, doubled))


async def _compare(redis_url: str, calls: Sequence[Call]) -> None:
    memory = MemoryStore(LIMITS)
    redis = RedisStore(RedisAddress(redis_url), prefix=uuid.uuid4().hex, limits=LIMITS)
    try:
        for call in calls:
            if isinstance(call, StateStep):
                assert repr(await memory.apply(call)) == repr(await redis.apply(call))
            else:
                assert await memory.write(call.results, sequence=call.step) == await redis.write(
                    call.results, sequence=call.step
                )
        await _compare_results(memory, redis)
        assert await memory.pending_intents() == await redis.pending_intents()
    finally:
        await redis.close()


async def _compare_results(memory: MemoryStore, redis: RedisStore) -> None:
    for kind in ResultKind:
        for id in {*USERS, *EVENT_IDS, *REVIEW_IDS, "all"}:
            assert await memory.result(kind, id) == await redis.result(kind, id)
    for product in PRODUCTS:
        assert await memory.sentiment(product) == await redis.sentiment(product)
