"""The steps of a replay on its state, numbered as those of the live run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from worker.store.contract import ResultWrite, StateStep, StateStore, StateView, WriteReport


class RecordedSteps:
    """A `StateStore` whose next step has the number it had live, though others be missing."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.sequence = 0  # of the next step

    async def apply(self, step: StateStep) -> StateView:
        """Do the step under its recorded number."""
        return await self._store.apply(replace(step, sequence=self.sequence))

    async def write(
        self, results: Sequence[ResultWrite], *, batch_id: str = "", sequence: int = 0
    ) -> WriteReport:
        """Write results, only if not older."""
        return await self._store.write(results, batch_id=batch_id, sequence=sequence)

    async def pending_intents(self) -> Mapping[str, bytes]:
        """Return batch id -> intent of what was not confirmed."""
        return await self._store.pending_intents()

    async def close(self) -> None:
        """Release the store's connections."""
        await self._store.close()
