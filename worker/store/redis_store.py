"""RedisStore: the state store's contract on Redis 6.2 or newer; each call runs one script."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from redis.exceptions import NoScriptError

from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.contract import (
    ResultKind,
    ResultWrite,
    StateStep,
    StateView,
    StoreUnavailable,
    WriteReport,
)
from worker.store.keys import Keys
from worker.store.limits import TREND_DAYS, StoreLimits
from worker.store.release_pointer import announce_own_models
from worker.store.scripts.arguments import apply_arguments, write_arguments
from worker.store.scripts.history_cache import HistoryCache
from worker.store.scripts.replies import read_view
from worker.store.scripts.script import Script
from worker.store.tally import COUNTERS, SentimentTally

MIN_REDIS_VERSION = (6, 2)
_INFO = "local info = redis.pcall('INFO', 'server') return type(info) == 'string' and info or ''"


class RedisStore:
    """`StateStore` on Redis. One event loop at a time; calls may overlap."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str = "shopstream",
        limits: StoreLimits | None = None,
    ) -> None:
        self._address = address
        self._keys = Keys(prefix)
        self._limits = limits or StoreLimits()
        self._client: Any = address.async_client()
        self._histories = HistoryCache()
        self._apply = Script("apply.lua")
        self._write = Script("write.lua")

    @classmethod
    def from_settings(cls, settings: Settings) -> RedisStore:
        """Return a store for these settings; it connects at `open` or its first call."""
        return cls(
            RedisAddress.from_settings(settings),
            prefix=settings.redis_key_prefix,
            limits=StoreLimits.from_settings(settings),
        )

    async def open(self) -> None:
        """Check that Redis answers and is new enough. Errors: `StoreUnavailable`."""
        with self._address.errors():
            info = await self._client.eval(_INFO, 1, self._route)
        version = redis_version(info.decode())
        if version is not None and version < MIN_REDIS_VERSION:
            raise StoreUnavailable(
                f"Redis at {self._address.shown} has version {version[0]}.{version[1]}; "
                "shopstream needs Redis 6.2 or newer."
            )

    # --- StateStore

    async def apply(self, step: StateStep) -> StateView:
        """Apply the changes in order and read, in one EVALSHA."""
        reply = await self._run(self._apply, apply_arguments(step, self._keys.prefix, self._limits))
        return read_view(step, reply, self._histories)

    async def write(
        self, results: Sequence[ResultWrite], *, batch_id: str = "", sequence: int = 0
    ) -> WriteReport:
        """Write results, only if not older, and drop the intent, in one EVALSHA."""
        if not results and not batch_id:
            return WriteReport(written=0, older=0)
        arguments = write_arguments(results, batch_id, sequence, self._keys.prefix, self._limits)
        written, older, forgotten = await self._run(self._write, arguments)
        return WriteReport(written=written, older=older, forgotten=forgotten)

    async def pending_intents(self) -> Mapping[str, bytes]:
        """Return batch id -> `{"sequence", "intent"}` of batches applied and not confirmed."""
        with self._address.errors():
            intents = await self._client.hgetall(self._keys.key("intents"))
        return {batch_id.decode(): intent for batch_id, intent in intents.items()}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # --- reading back

    async def result(self, kind: ResultKind, id: str) -> bytes | None:
        """Return the JSON that stands under a result's key."""
        with self._address.errors():
            value: bytes | None = await self._client.get(self._keys.result(kind, id))
        return value

    async def steps_done(self) -> int:
        """Return how many steps were done under this prefix."""
        with self._address.errors():
            return int(await self._client.get(self._keys.key("sequence")) or 0)

    async def sentiment(self, product_id: str) -> SentimentTally | None:
        """Return a product's counters; None without a review."""
        with self._address.errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.hmget(self._keys.key("sentiment", product_id), COUNTERS)
                pipeline.zrevrange(self._keys.key("sentiment_days", product_id), 0, TREND_DAYS - 1)
                counters, days = await pipeline.execute()
        return SentimentTally.from_redis(counters, days)

    # --- the worker's own keys

    async def privacy_key(self, settings: Settings) -> str:
        """Return the key that hides user ids: the setting, else one made once and kept in Redis."""
        if settings.privacy_key is not None:
            return settings.privacy_key.get_secret_value()
        key = self._keys.key("privacy_key")
        with self._address.errors():
            await self._client.set(key, secrets.token_hex(32), nx=True)
            made: bytes = await self._client.get(key)
        return made.decode()

    async def announce_release(self, release: str, since: str) -> None:
        """Say which models of their own the workers serve since when (RFC 3339).

        A release that was promoted stays announced: workers follow it, not it them.
        """
        with self._address.errors():
            await announce_own_models(self._client, self._keys, release, since)

    # --- scripts

    @cached_property
    def _route(self) -> str:
        return self._keys.key("sequence")  # names the hash slot in a cluster

    async def _run(self, script: Script, arguments: Sequence[bytes | str | int]) -> Any:
        with self._address.errors():
            try:
                return await self._client.evalsha(script.sha, 1, self._route, *arguments)
            except NoScriptError:  # restarted or flushed; EVAL also loads it
                return await self._client.eval(script.text, 1, self._route, *arguments)


def redis_version(info: str) -> tuple[int, int] | None:
    """Read (major, minor) out of INFO; None when the server does not say."""
    for line in info.splitlines():
        if line.startswith("redis_version:"):
            major, minor, *_ = line.partition(":")[2].split(".")
            return int(major), int(minor)
    return None
