"""State stores of a replay: one step for all arms, guards that end with event time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.store.contract import (
    ResultWrite,
    StateStep,
    StateStore,
    StateView,
    Version,
    WriteReport,
)
from worker.store.limits import StoreLimits
from worker.store.memory_store import MemoryStore

_BUCKETS = 8  # of a guard's life: so many are dropped one by one


class EventTimeStore(MemoryStore):
    """`MemoryStore` whose guards against double counting end by event time, as Redis's do by clock.

    So its size follows shoppers and products, not the length of the log.
    """

    def __init__(self, limits: StoreLimits | None = None) -> None:
        super().__init__(limits)
        self._bucket_ms = max(1, self._limits.guard_ttl_s * 1000 // _BUCKETS)
        self._guards: dict[int, set[str]] = {}

    def _first_time(self, user_id: str, version: Version) -> bool:
        if self._is_forgotten(user_id, version):
            return False
        bucket = version.occurred_at_ms // self._bucket_ms
        for number in range(bucket - _BUCKETS, bucket + _BUCKETS + 1):
            if version.event_id in self._guards.get(number, ()):
                return False
        self._guards.setdefault(bucket, set()).add(version.event_id)
        newest = max(self._guards)
        for number in [one for one in self._guards if one < newest - _BUCKETS]:
            del self._guards[number]
        return True


class SharedState:
    """A `StateStore` for several arms: a batch's step is done once, and all read the same view.

    Results go to whoever judges them; they are kept only where `keeps_results` says so.
    """

    def __init__(self, store: StateStore, keeps_results: bool = False) -> None:
        self._store = store
        self.keeps_results = keeps_results
        self._batch_id = ""
        self._view = StateView(0)

    async def apply(self, step: StateStep) -> StateView:
        """Do the batch's step the first time, and return the same view every time."""
        if step.batch_id != self._batch_id or not step.batch_id:
            self._view = await self._store.apply(step)
            self._batch_id = step.batch_id
            await self._store.write((), batch_id=step.batch_id)
        return self._view

    async def write(
        self, results: Sequence[ResultWrite], *, batch_id: str = "", sequence: int = 0
    ) -> WriteReport:
        """Write results where they are kept."""
        if not self.keeps_results:
            return WriteReport(written=0, older=0)
        return await self._store.write(results, batch_id=batch_id, sequence=sequence)

    async def pending_intents(self) -> Mapping[str, bytes]:
        """Return none."""
        return {}

    async def close(self) -> None:
        """Nothing to release."""
