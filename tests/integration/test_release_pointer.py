"""The pointer to the current release and the lock of the job, on a real Redis."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from worker.embedded.redis_server import RedisServer
from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.contract import StoreUnavailable
from worker.store.job_lock import JobLock, JobRuns, LockLost
from worker.store.redis_store import RedisStore
from worker.store.release_pointer import PointerRefused, ReleasePointer

pytestmark = pytest.mark.redis
URL = "/releases"


@pytest.fixture
async def pointer(redis_url: str) -> AsyncIterator[ReleasePointer]:
    found = ReleasePointer(RedisAddress(redis_url), prefix="test")
    yield found
    await found.close()


async def test_a_promoted_release_is_current_and_the_one_before_comes_back(
    pointer: ReleasePointer,
) -> None:
    """Promotions remember what was before them, and rollbacks walk back through it to its end."""
    assert await pointer.read() is None
    for name in ("a", "b", "b", "c"):
        await pointer.promote(name, URL)
    now = await pointer.read()
    assert now is not None
    assert (now.release, now.earlier, now.url) == ("c", ["b", "a"], URL)
    assert [(await pointer.roll_back()).release for _ in range(2)] == ["b", "a"]
    with pytest.raises(PointerRefused, match="no release before"):
        await pointer.roll_back()


async def test_a_candidate_is_tried_and_taken_back(pointer: ReleasePointer) -> None:
    """A trial leaves the current release; a rollback ends the trial first, a promotion too."""
    with pytest.raises(PointerRefused, match="no release is current"):
        await pointer.try_candidate("b", 0.1)
    await pointer.promote("a", URL)
    with pytest.raises(PointerRefused, match="current release itself"):
        await pointer.try_candidate("a", 0.1)
    on_trial = await pointer.try_candidate("b", 0.1)
    assert (on_trial.release, on_trial.candidate, on_trial.share) == ("a", "b", 0.1)
    ended = await pointer.roll_back()
    assert (ended.release, ended.candidate, ended.share) == ("a", None, 0.0)
    await pointer.try_candidate("b", 0.1)
    assert (await pointer.promote("b", URL)).candidate is None


async def test_a_promotion_can_depend_on_what_it_replaces(pointer: ReleasePointer) -> None:
    """A release that was compared with another than the current one is not promoted."""
    await pointer.promote("a", URL)
    await pointer.promote("b", URL)
    with pytest.raises(PointerRefused, match="b is current by now"):
        await pointer.promote("c", URL, instead_of="a")
    await pointer.promote("c", URL, instead_of="b")


async def test_changes_at_once_lose_nothing(redis_url: str, pointer: ReleasePointer) -> None:
    """Of twenty promotions at once each is current or earlier afterwards."""
    names = [f"r{number}" for number in range(20)]
    await asyncio.gather(*(pointer.promote(name, URL) for name in names))
    now = await pointer.read()
    assert now is not None
    assert sorted([now.release, *now.earlier]) == sorted(names)


async def test_a_worker_does_not_hide_a_promoted_release(
    redis_url: str, pointer: ReleasePointer
) -> None:
    """A worker's own models are announced until a release is promoted, never over one."""
    store = RedisStore(RedisAddress(redis_url), prefix="test")
    await store.announce_release("own@1", "2025-01-01T00:00:00Z")
    await store.announce_release("own@2", "2025-01-02T00:00:00Z")
    now = await pointer.read()
    assert now is not None
    assert (now.release, now.url) == ("own@2", "")
    await pointer.promote("a", URL)
    await store.announce_release("own@2", "2025-01-03T00:00:00Z")
    await store.close()
    now = await pointer.read()
    assert now is not None
    assert (now.release, now.earlier) == ("a", [])


async def test_a_foreign_value_is_named(redis_url: str, pointer: ReleasePointer) -> None:
    """A key that holds something else is reported and left as it is."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("test:release", "mine")
        with pytest.raises(StoreUnavailable, match="holds no release"):
            await pointer.promote("a", URL)
        assert client.get("test:release") == b"mine"


# --- the lock


def test_a_second_job_is_refused_until_the_first_ends(redis_url: str) -> None:
    """While a job holds the lock another is told who does; afterwards it may run."""
    address = RedisAddress(redis_url)
    with JobLock(address, prefix="test") as lock:
        lock.check()
        with pytest.raises(JobRuns, match="runs already"), JobLock(address, prefix="test"):
            pass
        lock.check()
    with JobLock(address, prefix="test"):
        pass


def test_the_lock_outlives_its_expiry_while_it_is_renewed(redis_url: str) -> None:
    """A job longer than the lock's life still holds it."""
    with JobLock(RedisAddress(redis_url), prefix="test", life_s=0.4) as lock:
        time.sleep(1.2)
        lock.check()


def test_a_killed_job_frees_the_lock(redis_url: str, tmp_path: Path) -> None:
    """The lock of a process that was killed is gone after its life."""
    script = (
        "import sys, time\nfrom worker.store.connection import RedisAddress\n"
        "from worker.store.job_lock import JobLock\n"
        f"with JobLock(RedisAddress({redis_url!r}), prefix='test', life_s=1.0):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    job = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert job.stdout is not None
    assert job.stdout.readline() == b"held\n"
    address = RedisAddress(redis_url)
    with pytest.raises(JobRuns), JobLock(address, prefix="test"):
        pass
    job.kill()
    job.wait()
    job.stdout.close()
    deadline_s = time.monotonic() + 20
    while True:
        try:
            with JobLock(address, prefix="test"):
                break
        except JobRuns:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)


def test_a_lost_redis_is_noticed(tmp_path: Path) -> None:
    """With Redis gone for longer than the lock's life the job learns that it lost the lock."""
    server = RedisServer(tmp_path)
    try:
        address = RedisAddress(server.url, timeout_s=0.2)
        with JobLock(address, prefix="test", life_s=0.5) as lock:
            lock.check()
            server.stop()
            time.sleep(1.0)
            with pytest.raises(LockLost, match="nothing was published"):
                lock.check()
    finally:
        server.stop()


def test_a_lock_that_was_taken_away_is_noticed(redis_url: str) -> None:
    """When another token stands in the key, the first holder may not go on and deletes nothing."""
    with redis.Redis.from_url(redis_url) as client:
        with JobLock(RedisAddress(redis_url), prefix="test", life_s=0.4) as lock:
            client.set("test:retrain_lock", "other:1:x")
            time.sleep(0.5)
            with pytest.raises(LockLost):
                lock.check()
        assert client.get("test:retrain_lock") == b"other:1:x"


def test_the_lock_needs_redis() -> None:
    """Without Redis no job starts, and the sentence says what to do."""
    with pytest.raises(StoreUnavailable, match="SHOPSTREAM_REDIS_URL"):
        JobLock.from_settings(Settings(redis_url="redis://127.0.0.1:1/0")).__enter__()  # type: ignore[arg-type]
