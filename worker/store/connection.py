"""Clients for Redis from settings, and clear errors in place of the driver's.

URLs: `redis://`, `rediss://` (TLS), `unix://`, and for Redis Sentinel
`redis+sentinel://[user:password@]host:port[,host:port …]/service[/db]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio as redis_async
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from worker.settings import Settings
from worker.store.contract import StoreUnavailable

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
_RETRIES = 3
_BACKOFF_S = (
    0.1,
    0.8,
)  # first, longest: a restarting server is met again, a dead one ends in a second
_SENTINEL_SCHEME = "redis+sentinel"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is and how to talk to it. Errors: `StoreUnavailable` when the URL is wrong."""

    url: str
    cluster: bool = False
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES:
            raise StoreUnavailable(
                f"SHOPSTREAM_REDIS_URL ({self.shown}) is not a Redis URL: begin it with redis://, "
                "rediss:// (TLS), unix:// or redis+sentinel://."
            )
        if parts.scheme == _SENTINEL_SCHEME and not parts.path.strip("/"):
            raise StoreUnavailable(
                f"SHOPSTREAM_REDIS_URL ({self.shown}) names no Sentinel service: write "
                "redis+sentinel://host:26379/service."
            )

    @classmethod
    def from_settings(cls, settings: Settings) -> RedisAddress:
        """Take the address out of the worker's settings."""
        return cls(
            settings.redis_url.get_secret_value(),
            cluster=settings.redis_cluster,
            timeout_s=settings.redis_timeout_s,
        )

    @property
    def shown(self) -> str:
        """The URL without user and password, for messages."""
        scheme, mark, rest = self.url.partition("://")
        return scheme + mark + rest.rpartition("@")[2].partition("?")[0]

    def client(self) -> redis.Redis:
        """Return a blocking client; it connects at its first call."""
        retry = Retry(_backoff(), _RETRIES, supported_errors=(RedisConnectionError,))
        options = self._options() | {"retry": retry}
        with self._url_errors():
            if self._sentinel:
                hosts, service, login = self._sentinel_parts()
                sentinel: Any = Sentinel(hosts, socket_timeout=self.timeout_s)  # type: ignore[no-untyped-call]
                return cast(redis.Redis, sentinel.master_for(service, **login, **options))
            if self.cluster:
                return RedisCluster.from_url(self.url, **options)  # type: ignore[return-value]
            return redis.Redis.from_url(self.url, **options)

    def async_client(self) -> redis_async.Redis:
        """Return an asyncio client; it connects at its first call."""
        retry = AsyncRetry(_backoff(), _RETRIES, supported_errors=(RedisConnectionError,))
        options = self._options() | {"retry": retry}
        with self._url_errors():
            if self._sentinel:
                hosts, service, login = self._sentinel_parts()
                sentinel: Any = AsyncSentinel(hosts, socket_timeout=self.timeout_s)  # type: ignore[no-untyped-call]
                return cast(redis_async.Redis, sentinel.master_for(service, **login, **options))
            if self.cluster:
                return AsyncRedisCluster.from_url(self.url, **options)  # type: ignore[return-value]
            return redis_async.Redis.from_url(self.url, **options)

    def one_node(self) -> RedisAddress:
        """Return the address for pub/sub: any one node of a cluster hears all messages."""
        return RedisAddress(self.url, cluster=False, timeout_s=self.timeout_s)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the driver's errors into `StoreUnavailable` with what to do."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreUnavailable(self._advice(error)) from error

    @property
    def _sentinel(self) -> bool:
        return self.url.startswith(_SENTINEL_SCHEME)

    def _options(self) -> dict[str, Any]:
        # RESP2 everywhere: the scripts' replies then look the same on every server and driver.
        return {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
            "protocol": 2,
        }

    def _sentinel_parts(self) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
        parts = urlsplit(self.url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        service, _, db = parts.path.strip("/").partition("/")
        addresses = [host.rpartition(":") for host in hosts.split(",")]
        return (
            [(host, int(port)) for host, _, port in addresses],
            service,
            {
                "username": unquote(user) or None,
                "password": unquote(password) or None,
                "db": int(db or 0),
            },
        )

    @contextmanager
    def _url_errors(self) -> Iterator[None]:
        try:
            with self.errors():
                yield
        except ValueError as error:
            raise StoreUnavailable(
                f"SHOPSTREAM_REDIS_URL ({self.shown}) cannot be read: {error}."
            ) from error

    def _advice(self, error: Exception) -> str:
        text = str(error).rstrip(".")
        match error:
            case AuthenticationError() | AuthorizationError():
                advice = (
                    "refused the login; check user and password in SHOPSTREAM_REDIS_URL "
                    "(redis://user:password@host:port/0)"
                )
            case NoPermissionError():
                advice = (
                    "does not allow a command; give the Redis user the keys and channels under "
                    f"SHOPSTREAM_REDIS_KEY_PREFIX and +@all -@dangerous +info ({text})"
                )
            case BusyLoadingError():
                advice = "is still loading its data; wait and start again"
            case OutOfMemoryError():
                advice = (
                    "is out of memory; raise maxmemory or shorten the SHOPSTREAM_…_TTL_S settings"
                )
            case ReadOnlyError():
                advice = "is a read-only replica; point SHOPSTREAM_REDIS_URL at the primary"
            case ResponseError():
                advice = self._response_advice(text)
            case RedisTimeoutError() | TimeoutError():
                advice = (
                    f"did not answer within {self.timeout_s:g} s; check host, firewall and load, "
                    "or raise SHOPSTREAM_REDIS_TIMEOUT_S"
                )
            case _:
                advice = f"cannot be reached; start it or set SHOPSTREAM_REDIS_URL ({text})"
        return f"Redis at {self.shown} {advice}."

    def _response_advice(self, text: str) -> str:
        if "MOVED" in text or "CROSSSLOT" in text or "cluster" in text.lower():
            return f"is a cluster; set SHOPSTREAM_REDIS_CLUSTER=true and a {{hash tag}} ({text})"
        if "WRONGTYPE" in text:
            return (
                "holds keys of another program under this prefix; set another "
                f"SHOPSTREAM_REDIS_KEY_PREFIX ({text})"
            )
        if "OOM" in text:
            return "is out of memory; raise maxmemory or shorten the SHOPSTREAM_…_TTL_S settings"
        if "READONLY" in text:
            return "is a read-only replica; point SHOPSTREAM_REDIS_URL at the primary"
        return f"refused a command ({text})"


def _backoff() -> ExponentialBackoff:
    first, longest = _BACKOFF_S
    return ExponentialBackoff(base=first, cap=longest)
