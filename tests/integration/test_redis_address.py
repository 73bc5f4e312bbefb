"""Every way to reach a Redis, and every way in which it fails, told in a sentence."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.redis_process import redis_process
from tests.support.state_store_contract import event, result, version
from worker.embedded.ports import LOOPBACK, free_ports
from worker.store.connection import RedisAddress
from worker.store.contract import AddHistory, ResultKind, StateStep, StoreUnavailable
from worker.store.lookup import AsyncLookup, Lookup
from worker.store.redis_store import RedisStore

pytestmark = pytest.mark.redis


async def use(address: RedisAddress, prefix: str = "test") -> None:
    """Do what a worker and a storefront do, and look at the outcome."""
    store = RedisStore(address, prefix=prefix)
    try:
        await store.open()
        await store.apply(StateStep((AddHistory("u", event(1)),), batch_id="b", intent=b"{}"))
        lookup = AsyncLookup(address.url, prefix=prefix, cluster=address.cluster)
        async with lookup:
            waiting = asyncio.create_task(lookup.is_forgotten("u", version(1), wait_s=0.2))
            assert list(await store.pending_intents()) == ["b"]
            await store.write([result(ResultKind.SEARCH, "e", version(1), user="u")], batch_id="b")
            assert await store.result(ResultKind.SEARCH, "e") is not None
            assert await lookup.product("p") is None
            assert await waiting is False
        with Lookup(address.url, prefix=prefix, cluster=address.cluster) as blocking:
            assert blocking.product("p", wait_s=0.05) is None
    finally:
        await store.close()


async def fail(address: RedisAddress, part: str) -> str:
    """Expect the sentence that holds `part`."""
    store = RedisStore(address, prefix="test")
    try:
        with pytest.raises(StoreUnavailable) as caught:
            await store.write([result(ResultKind.SEARCH, "e", version(1))])
    finally:
        await store.close()
    assert part in str(caught.value)
    return str(caught.value)


async def test_unix_socket(tmp_path: Path) -> None:
    """A unix socket serves like a port."""
    path = f"/tmp/{tmp_path.name[-40:]}.sock"  # a socket's path may have 107 bytes
    with redis_process(tmp_path, "--unixsocket", path):
        await use(RedisAddress(f"unix://{path}?db=0"))


async def test_password(tmp_path: Path) -> None:
    """With the password it works; without it the message says where to write it."""
    with redis_process(tmp_path, "--requirepass", "s3cret") as port:
        await use(RedisAddress(f"redis://:s3cret@{LOOPBACK}:{port}/0"))
        for login in ("", ":wrong@"):
            sentence = await fail(
                RedisAddress(f"redis://{login}{LOOPBACK}:{port}/0"), "refused the login"
            )
            assert "wrong" not in sentence


@pytest.fixture
def cluster_port(tmp_path: Path) -> Iterator[int]:
    """A cluster of one node that owns all slots."""
    # the nodes talk on a second port, 10,000 higher
    free = next(port for port in free_ports(50) if port < 55_000)
    with redis_process(tmp_path, "--cluster-enabled", "yes", port=free) as port:
        with redis.Redis(host=LOOPBACK, port=port) as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(16_384))
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                time.sleep(0.05)
        yield port


async def test_cluster(cluster_port: int) -> None:
    """In a cluster all keys lie under one hash tag, and scripts and waiting work."""
    address = RedisAddress(f"redis://{LOOPBACK}:{cluster_port}/0", cluster=True)
    await use(address, prefix="{shop}")


async def test_sentinel(tmp_path: Path) -> None:
    """A Sentinel URL finds the primary of its service."""
    with redis_process(tmp_path) as port:
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(f"sentinel monitor shop {LOOPBACK} {port} 1\n")
        with redis_process(tmp_path, "--sentinel", first=str(configuration)) as sentinel_port:
            await use(RedisAddress(f"redis+sentinel://{LOOPBACK}:{sentinel_port}/shop/0"))
            await fail(
                RedisAddress(f"redis+sentinel://{LOOPBACK}:{sentinel_port}/other"),
                "cannot be reached",
            )


async def test_full(tmp_path: Path) -> None:
    """A Redis without memory refuses the whole call and says what to raise."""
    with redis_process(
        tmp_path, "--maxmemory", "300kb", "--maxmemory-policy", "noeviction"
    ) as port:
        await fail(RedisAddress(f"redis://{LOOPBACK}:{port}/0"), "is out of memory")


def _wait_replicated(client: redis.Redis) -> None:
    while client.info("replication")["master_link_status"] != "up":
        time.sleep(0.05)


async def test_replica(tmp_path: Path) -> None:
    """A replica is told as such."""
    with redis_process(tmp_path) as primary:
        folder = tmp_path / "replica"
        folder.mkdir()
        with redis_process(folder, "--replicaof", LOOPBACK, str(primary)) as port:
            with redis.Redis(host=LOOPBACK, port=port) as client:
                _wait_replicated(client)
            await fail(RedisAddress(f"redis://{LOOPBACK}:{port}/0"), "read-only replica")


async def test_nobody_there() -> None:
    """A refused connection ends within seconds and names the variable."""
    started = asyncio.get_running_loop().time()
    await fail(RedisAddress(f"redis://user:secret@{LOOPBACK}:1/0"), "SHOPSTREAM_REDIS_URL")
    assert asyncio.get_running_loop().time() - started < 5


async def test_silence() -> None:
    """A server that accepts and never answers is given up after the timeout."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        address = RedisAddress(f"redis://{LOOPBACK}:{port}/0", timeout_s=0.3)
        await fail(address, "did not answer within 0.3 s")


async def test_restart(tmp_path: Path) -> None:
    """A restarted server is met again by the next call."""
    with redis_process(tmp_path) as port:
        address = RedisAddress(f"redis://{LOOPBACK}:{port}/0")
        store = RedisStore(address, prefix="test")
        await store.apply(StateStep(()))
    try:
        with redis_process(tmp_path, port=port):
            assert (await store.apply(StateStep(()))).sequence == 1
    finally:
        await store.close()


async def test_foreign_keys(redis_url: str) -> None:
    """Keys of another program under our prefix are told, not overwritten."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("test:intents", "mine")
    store = RedisStore(RedisAddress(redis_url), prefix="test")
    try:
        with pytest.raises(StoreUnavailable, match="SHOPSTREAM_REDIS_KEY_PREFIX"):
            await store.apply(StateStep((), batch_id="b", intent=b"{}"))
    finally:
        await store.close()
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("test:intents") == b"mine"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://localhost:6379", "begin it with redis://"),
        ("localhost:6379", "begin it with redis://"),
        ("redis://localhost:port/0", "cannot be read"),
        ("redis+sentinel://localhost:26379", "names no Sentinel service"),
    ],
)
def test_wrong_urls(url: str, part: str) -> None:
    """A URL that cannot work is refused before anything is tried."""
    with pytest.raises(StoreUnavailable, match=part):
        RedisAddress(url).client()
