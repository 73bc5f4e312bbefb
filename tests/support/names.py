"""Names of one test's own on servers that the tests share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Self

from worker.settings import Settings


@dataclass(frozen=True)
class Names:
    """Names of one test's own, so that tests share a broker and a Redis without meeting.

    `event_prefix` and `internal_prefix` are topic prefixes (ending in a dot), `group` a consumer
    group, `key_prefix` the first part of Redis keys.
    """

    unique: str

    @property
    def event_prefix(self) -> str:
        return f"{self.unique}.shop."

    @property
    def internal_prefix(self) -> str:
        return f"{self.unique}.shopstream."

    @property
    def group(self) -> str:
        return f"{self.unique}-group"

    @property
    def key_prefix(self) -> str:
        return self.unique

    def environment(self) -> dict[str, str]:
        """Return the worker's environment variables that put these names to use."""
        return {
            "SHOPSTREAM_TOPIC_PREFIX": self.event_prefix,
            "SHOPSTREAM_INTERNAL_TOPIC_PREFIX": self.internal_prefix,
            "SHOPSTREAM_KAFKA_GROUP": self.group,
            "SHOPSTREAM_REDIS_KEY_PREFIX": self.key_prefix,
        }

    @classmethod
    def unused(cls) -> Self:
        """Return names that nobody used before."""
        return cls(f"t{uuid.uuid4().hex[:10]}")

    def settings(self, kafka: str, redis_url: str, **more: object) -> Settings:
        """Return the settings of a worker under these names, with `more` of them chosen."""
        return Settings(
            kafka_bootstrap_servers=kafka,
            redis_url=redis_url,
            redis_key_prefix=self.key_prefix,
            topic_prefix=self.event_prefix,
            internal_topic_prefix=self.internal_prefix,
            **more,  # type: ignore[arg-type]
        )
