"""RedisStore keeps the state store's contract on a real redis-server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.state_store_contract import LIMITS, StateStoreContract
from worker.store.connection import RedisAddress
from worker.store.redis_store import RedisStore

pytestmark = pytest.mark.redis


class TestRedisStore(StateStoreContract):
    @pytest.fixture
    async def store(self, redis_url: str) -> AsyncIterator[RedisStore]:
        """A store on an empty server."""
        store = RedisStore(RedisAddress(redis_url), prefix="test", limits=LIMITS)
        await store.open()
        yield store
        await store.close()
