"""The Redis key `release`: which release is current, which were before, which is on trial.

The key is the authority; the topic of releases only tells workers to look. It changes by
compare-and-set, so that of two changes at once the second sees the first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.contract import StoreUnavailable
from worker.store.keys import Keys
from worker.store.results import CurrentRelease

MAX_EARLIER = 20
_COMPARE_AND_SET = """
local standing = redis.call('GET', KEYS[1])
if (standing or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
"""


class PointerRefused(ShopstreamError):
    """The change cannot be made; the message says why."""


class ReleasePointer:
    """Reads and moves the pointer. Errors: `StoreUnavailable`, `PointerRefused`."""

    def __init__(self, address: RedisAddress, *, prefix: str = "shopstream") -> None:
        self._address = address
        self._keys = Keys(prefix)
        self._client: Any = address.async_client()

    @classmethod
    def from_settings(cls, settings: Settings) -> ReleasePointer:
        """Return the pointer of these settings; it connects at its first call."""
        return cls(RedisAddress.from_settings(settings), prefix=settings.redis_key_prefix)

    async def read(self) -> CurrentRelease | None:
        """Return what is current, None before any worker or release."""
        with self._address.errors():
            return _parse(await self._client.get(self._keys.key("release")))

    async def promote(
        self, release_id: str, url: str, *, instead_of: str | None = None
    ) -> CurrentRelease:
        """Make a release current and end a running trial; what was current becomes `earlier`.

        `instead_of`: refuse when another release than this one is current by now.
        """

        def change(now: CurrentRelease | None) -> CurrentRelease:
            # promoted already: by this job before it was killed
            moved = now is not None and now.release not in (instead_of, release_id)
            if instead_of is not None and now is not None and moved:
                raise PointerRefused(
                    f"{release_id} was to replace {instead_of}, but {now.release} is current by "
                    "now: it was not promoted; compare it with that one first."
                )
            earlier = [] if now is None else now.earlier
            if now is not None and now.release != release_id:
                earlier = [now.release, *earlier] if now.url else []
            return CurrentRelease(
                release=release_id, since=_now(), url=url, earlier=earlier[:MAX_EARLIER]
            )

        return await self._move(change)

    async def try_candidate(self, release_id: str, share: float) -> CurrentRelease:
        """Let a release serve a share of the shoppers beside the current one."""

        def change(now: CurrentRelease | None) -> CurrentRelease:
            if now is None or not now.url:
                raise PointerRefused(
                    "no release is current, so there is nothing to compare a candidate with: "
                    "promote one first"
                )
            if now.release == release_id:
                raise PointerRefused(f"{release_id} is the current release itself")
            return now.model_copy(update={"candidate": release_id, "share": share})

        return await self._move(change)

    async def roll_back(self) -> CurrentRelease:
        """End a running trial; where none runs, bring the release before back."""

        def change(now: CurrentRelease | None) -> CurrentRelease:
            if now is not None and now.candidate is not None:
                return now.model_copy(update={"candidate": None, "share": 0.0})
            if now is None or not now.earlier:
                raise PointerRefused(
                    "there is no release before the current one to bring back: promote one by name"
                )
            back, *earlier = now.earlier
            return CurrentRelease(release=back, since=_now(), url=now.url, earlier=earlier)

        return await self._move(change)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _move(
        self, change: Callable[[CurrentRelease | None], CurrentRelease]
    ) -> CurrentRelease:
        key, channel = self._keys.key("release"), self._keys.channel("release")
        with self._address.errors():
            while True:
                standing: bytes | None = await self._client.get(key)
                wanted = change(_parse(standing))
                done = await self._client.eval(
                    _COMPARE_AND_SET, 1, key,
                    standing or b"", wanted.model_dump_json(), channel, wanted.release,
                )  # fmt: skip
                if done:
                    return wanted


async def announce_own_models(client: Any, keys: Keys, release: str, since: str) -> None:
    """Set the pointer to a worker's own models, unless a release was promoted."""
    key, channel = keys.key("release"), keys.channel("release")
    wanted = CurrentRelease(release=release, since=since).model_dump_json()
    while True:
        standing: bytes | None = await client.get(key)
        now = _parse(standing)
        if now is not None and now.url:
            return
        if await client.eval(_COMPARE_AND_SET, 1, key, standing or b"", wanted, channel, release):
            return


def _parse(value: bytes | None) -> CurrentRelease | None:
    if value is None:
        return None
    try:
        return CurrentRelease.model_validate_json(value)
    except ValidationError as error:
        raise StoreUnavailable(
            "the Redis key `release` holds no release of this version of shopstream: another "
            "program writes under SHOPSTREAM_REDIS_KEY_PREFIX, or an older shopstream does."
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat()
