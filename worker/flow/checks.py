"""What `/health` asks: is this worker able to do its work now?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from worker.flow.flow import Flow
from worker.flow.outbox import Outbox
from worker.flow.product_feed import ProductFeed
from worker.page.health import Check

# Longer than any batch on a working device; shorter than what the consumer side calls stuck.
_STALLED_AFTER_S = 60.0


class Reachable(Protocol):
    """A server that may be asked whether it is there (`worker.store.redis_store.RedisStore`)."""

    async def open(self) -> None:
        """Return when it answers; raise a clear error when not."""
        ...


def health_checks(
    flow: Flow, store: Reachable, outbox: Outbox, feed: ProductFeed
) -> Mapping[str, Check]:
    """Return the checks by the name that stands in the answer."""

    async def products() -> str | None:
        if feed.ready:
            return None
        return f"the products are still being loaded ({feed.progress or 'connecting'})"

    async def partitions() -> str | None:
        return None if flow.assigned else "no partitions are assigned to this worker"

    async def progress() -> str | None:
        if flow.failure is not None:
            return f"a stage failed: {flow.failure}"
        waited_s = time.monotonic() - flow.moved_at_s
        if flow.is_idle or waited_s < _STALLED_AFTER_S:
            return None
        return f"events are in flight and none was finished for {waited_s:.0f} s"

    async def redis() -> str | None:
        await store.open()
        return None

    async def kafka() -> str | None:
        return None if await outbox.answers() else "no broker answers"

    return {
        "products": products,
        "partitions": partitions,
        "progress": progress,
        "redis": redis,
        "kafka": kafka,
    }
