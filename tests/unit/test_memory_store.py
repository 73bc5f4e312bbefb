"""MemoryStore keeps the state store's contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.state_store_contract import LIMITS, StateStoreContract
from worker.replay.following.on_disk import growing_on_disk
from worker.store.memory_store import MemoryStore


class TestMemoryStore(StateStoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        """An empty store."""
        return MemoryStore(LIMITS)


class TestMemoryStoreOnDisk(StateStoreContract):
    """What grows with the log on disk makes no difference."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[MemoryStore]:
        with growing_on_disk(tmp_path) as growing:
            yield MemoryStore(LIMITS, growing)
