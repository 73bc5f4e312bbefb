"""The lock that keeps the retraining job from running twice at once.

One Redis key with an expiry, renewed by a thread: a killed job's lock is gone within a minute. Who
loses it (Redis gone for longer than the expiry) must stop before publishing: `check` says so.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from redis.exceptions import RedisError

from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.keys import Keys

LIFE_S = 60.0
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class JobRuns(ShopstreamError):
    """Another job holds the lock; the message says who and since when it may be gone."""


class LockLost(ShopstreamError):
    """The lock was lost in the middle of the job; nothing may be published any more."""


class JobLock:
    """A context: entered, the lock is held. Errors: `JobRuns`, `LockLost`, `StoreUnavailable`."""

    def __init__(
        self, address: RedisAddress, *, prefix: str = "shopstream", life_s: float = LIFE_S
    ) -> None:
        self._address = address
        self._key = Keys(prefix).key("retrain_lock")
        self._life_s = life_s
        self._token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._client: Any = address.client()
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name="job lock", daemon=True)
        self._held_until_s = 0.0
        self._taken_away = False

    @classmethod
    def from_settings(cls, settings: Settings) -> JobLock:
        """Return the lock of these settings."""
        return cls(RedisAddress.from_settings(settings), prefix=settings.redis_key_prefix)

    def check(self) -> None:
        """Return while the lock is surely held; raise LockLost when it may not be."""
        if self._taken_away or time.monotonic() >= self._held_until_s:
            raise LockLost(
                f"the lock of the retraining job was lost (Redis at {self._address.shown} did not "
                "answer in time, or another job took over): nothing was published; the job goes "
                "on where it stopped when it is run again."
            )

    def __enter__(self) -> JobLock:
        asked_s = time.monotonic()
        with self._address.errors():
            taken = self._client.set(self._key, self._token, nx=True, px=self._life_ms)
            holder = None if taken else self._client.get(self._key)
        if not taken:
            host, pid, *_ = (holder or b"?:?").decode().split(":")
            self._client.close()
            raise JobRuns(
                f"a retraining job runs already (process {pid} on {host}); were it killed, its "
                f"lock would expire within {self._life_s:g} s."
            )
        self._held_until_s = asked_s + self._life_s
        self._renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._renewer.join()
        # Where this fails the lock expires by itself, and the job's own error matters more.
        with suppress(RedisError, OSError):
            self._client.eval(_RELEASE, 1, self._key, self._token)
        self._client.close()

    @property
    def _life_ms(self) -> int:
        return round(self._life_s * 1000)

    def _keep(self) -> None:
        while not self._stop.wait(self._life_s / 4):
            asked_s = time.monotonic()
            try:
                renewed = self._client.eval(_RENEW, 1, self._key, self._token, self._life_ms)
            except (RedisError, OSError):  # asked again; `check` watches the clock
                continue
            if not renewed:
                self._taken_away = True
                return
            self._held_until_s = asked_s + self._life_s
