"""The memory of histories follows what they hold."""

from __future__ import annotations

import gc
import tracemalloc

from models.recommendation.shopper import ShopperEvent
from tests.support.state_store_contract import HOUR_MS, START_MS
from worker.store.limits import StoreLimits
from worker.store.memory.texts import Histories


def test_a_history_costs_about_its_text() -> None:
    """An event of some hundred bytes takes less than 1.5 kB, and a full history no more."""
    histories = Histories(StoreLimits(history_max_events=100))

    def fill(first: int) -> None:
        for number in range(first, first + 1_000):
            event = ShopperEvent(START_MS + number * HOUR_MS, f"event-{number}", "search", "tea")
            histories.add(f"shopper {number % 10}", event)

    def held_bytes() -> int:
        gc.collect()
        kept = [tracemalloc.Filter(True, "*/worker/store/*")]  # other threads allocate too
        found = tracemalloc.take_snapshot().filter_traces(kept).statistics("filename")
        return sum(one.size for one in found)

    tracemalloc.start()
    try:
        fill(0)
        full_bytes = held_bytes()
        fill(1_000)
        again_bytes = held_bytes()
    finally:
        tracemalloc.stop()
    assert full_bytes < 1_000 * 1_500
    assert again_bytes < full_bytes * 1.3
