"""Metrics over time: so many buckets between the first judged event and the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.replay.judge.bootstrap import Means, ShopperWeights, estimate_json

BUCKETS = 24


class Timeline:
    """Means by bucket of event time; when the log is longer than thought, buckets are joined."""

    def __init__(self, arms: Sequence[str], weights: ShopperWeights) -> None:
        self._arms = tuple(arms)
        self._weights = weights
        self._first_ms: int | None = None
        self._width_ms = 60_000
        self._means: dict[str, dict[int, Means]] = {}

    def add(self, metric: str, at_ms: int, shopper: str, values: NDArray[np.float64]) -> None:
        """Take one value an arm (A,)."""
        if self._first_ms is None:
            self._first_ms = at_ms
        while (at_ms - self._first_ms) // self._width_ms >= BUCKETS:
            self._join()
        bucket = max(0, (at_ms - self._first_ms) // self._width_ms)
        buckets = self._means.setdefault(metric, {})
        if bucket not in buckets:
            buckets[bucket] = Means(len(self._arms), 1, self._weights.resamples)
        buckets[bucket].add(values[:, None], self._weights.of(shopper))

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return metric -> buckets in order: start, width, and an estimate for each arm."""
        return {
            metric: [
                {
                    "from_ms": (self._first_ms or 0) + bucket * self._width_ms,
                    "width_ms": self._width_ms,
                    "arms": {
                        arm: estimate_json(buckets[bucket].estimate(place, 0))
                        for place, arm in enumerate(self._arms)
                    },
                }
                for bucket in sorted(buckets)
            ]
            for metric, buckets in self._means.items()
        }

    def _join(self) -> None:
        self._width_ms *= 2
        for buckets in self._means.values():
            for bucket in sorted(buckets):
                target = bucket // 2
                found = buckets.pop(bucket)
                if target in buckets:
                    buckets[target].merge(found)
                else:
                    buckets[target] = found
