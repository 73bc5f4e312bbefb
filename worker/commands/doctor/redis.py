"""What the doctor asks Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from worker.commands.doctor.finding import Finding, Status
from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.contract import StoreUnavailable
from worker.store.redis_store import RedisStore

_SUBJECT = "redis"


async def check_redis(settings: Settings) -> Sequence[Finding]:
    """Reach it, run a script as the worker does, then look at its policy and persistence."""
    try:
        address = RedisAddress.from_settings(settings)
        store = RedisStore.from_settings(settings)
        try:
            await store.open()
            await store.write([], batch_id="doctor")  # the worker's own script, changing nothing
        finally:
            await store.close()
    except StoreUnavailable as error:
        return [Finding(_SUBJECT, Status.FAILED, str(error))]
    reached = f"{address.shown} answers and runs the worker's scripts"
    return [Finding(_SUBJECT, Status.OK, reached), *await _circumstances(address)]


async def _circumstances(address: RedisAddress) -> Sequence[Finding]:
    client: Any = address.one_node().async_client()
    try:
        info = await client.info()
    except (RedisError, OSError):
        unknown = "INFO is not allowed, so policy and persistence are unknown"
        return [Finding(_SUBJECT, Status.WARNING, unknown)]
    finally:
        await client.aclose()
    return [_version(info), _policy(info), _persistence(info)]


def _version(info: dict[str, Any]) -> Finding:
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = info.get("valkey_version", info["redis_version"])
    limit = info.get("maxmemory") or 0
    allowed = info["maxmemory_human"] if limit else "no limit"
    text = f"{name} {version}, {info['used_memory_human']} used, {allowed}"
    return Finding(_SUBJECT, Status.OK, text)


def _policy(info: dict[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return Finding(_SUBJECT, Status.OK, "maxmemory-policy noeviction: nothing is lost")
    lost = (
        "histories and guards may vanish before their time, then an event may count twice"
        if policy.startswith("volatile")
        else "any key may vanish, the popularity list and the privacy key included"
    )
    return Finding(_SUBJECT, Status.WARNING, f"maxmemory-policy {policy}: {lost}", "set noeviction")


def _persistence(info: dict[str, Any]) -> Finding:
    if info.get("rdb_last_bgsave_status") == "err":
        return Finding(
            _SUBJECT, Status.FAILED, "the last snapshot failed, so Redis may refuse writes",
            "see its log; free disk space or memory",
        )  # fmt: skip
    if info.get("aof_enabled"):
        return Finding(_SUBJECT, Status.OK, "appendonly is on: at most a second is lost in a crash")
    return Finding(
        _SUBJECT,
        Status.WARNING,
        "appendonly is off: a restart loses histories and counters since the last snapshot",
        "set appendonly yes",
    )
