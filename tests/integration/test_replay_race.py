"""Two owners of one batch on real Redis: what a replay says then is what stands there."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.support.live_run import LiveRun
from worker.replay.following.follower import Follower
from worker.replay.following.order import BatchOrder
from worker.replay.following.sample_check import SampleCheck
from worker.replay.following.verify import compare_results
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.settings import Settings
from worker.store.limits import StoreLimits
from worker.store.memory_store import MemoryStore
from worker.store.redis_store import RedisStore

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("seed", range(4))
async def test_the_first_owner_writes_last(redis_url: str, tmp_path: Path, seed: int) -> None:
    """A batch in flight written after the same events' second batch leaves what a replay says."""
    settings = Settings(model="null", redis_url=redis_url, redis_key_prefix=uuid.uuid4().hex)
    redis = RedisStore.from_settings(settings)
    try:
        live = LiveRun(tmp_path / "r", store=redis)
        await live.run(seed)
        assert live.races > 0
        recording = Recording.open(live.folder, Faults("stop"))
        memory = MemoryStore(StoreLimits.from_settings(settings))
        follower = Follower(
            recording, BatchOrder(recording), memory, Releases(settings), settings, "key"
        )
        samples = SampleCheck(recording)
        await follower.run(samples.add)
        results = await compare_results(settings, memory.results())
        assert results.is_equal, results.examples
        assert not results.only_replay, results.examples
        assert results.equal > 100
        assert samples.compare().is_equal
        for product in {f"p{1000 + n}" for n in range(30)}:
            assert await memory.sentiment(product) == await redis.sentiment(product)
    finally:
        await redis.close()
