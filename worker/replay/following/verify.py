"""Holds the results of a replay against those that the live run left in Redis."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from worker.replay.following.differences import Differences
from worker.replay.following.on_disk import KeysOnDisk
from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.contract import ResultKind
from worker.store.keys import Keys

_SCANNED_AT_ONCE = 1_000


async def compare_results(settings: Settings, replayed: Mapping[str, bytes]) -> Differences:
    """Compare all results of a replay with those that stand in the live Redis.

    Args:
        replayed: key without prefix -> JSON (`MemoryStore.results`).

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    found = Differences()
    address = RedisAddress.from_settings(settings)
    client: Any = address.async_client()
    prefix = f"{settings.redis_key_prefix}:".encode()
    seen = KeysOnDisk()
    try:
        with address.errors():
            for kind in ResultKind:
                pattern = f"{_escaped(settings.redis_key_prefix)}:{kind.value}:*"
                names: list[bytes] = []
                async for name in client.scan_iter(match=pattern, count=_SCANNED_AT_ONCE):
                    names.append(name)
                    if len(names) >= _SCANNED_AT_ONCE:
                        await _compare_some(client, names, prefix, replayed, seen, found)
                        names = []
                await _compare_some(client, names, prefix, replayed, seen, found)
    finally:
        await client.aclose()
    for suffix, value in replayed.items():
        if suffix not in seen:
            found.compare(suffix, None, value)
    seen.close()
    return found


async def live_privacy_key(settings: Settings) -> str | None:
    """Return the key that live workers made and keep in Redis; never makes one."""
    address = RedisAddress.from_settings(settings)
    client: Any = address.async_client()
    try:
        with address.errors():
            found = await client.get(Keys(settings.redis_key_prefix).key("privacy_key"))
    finally:
        await client.aclose()
    return None if found is None else bytes(found).decode()


async def _compare_some(
    client: Any,
    names: list[bytes],
    prefix: bytes,
    replayed: Mapping[str, bytes],
    seen: KeysOnDisk,
    found: Differences,
) -> None:
    if not names:
        return
    for name, value in zip(names, await client.mget(names), strict=True):
        suffix = name.removeprefix(prefix).decode()
        if suffix not in seen and value is not None:
            seen.add(suffix)
            found.compare(suffix, value, replayed.get(suffix))


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)
