"""Running means with 95 % intervals: the Poisson bootstrap, by shopper.

Every shopper gets a weight for each of the resamples, drawn from Poisson(1) by a hash of its id
(Hanley & MacGibbon 2006; Chamandy et al. 2012, "Estimating uncertainty for massive data streams"),
so sums are all that is kept, a shopper's cases stay together, and arms are resampled alike: paired.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.metrics import Estimate

RESAMPLES = 400
_KEPT_SHOPPERS = 5_000
Values = NDArray[np.float64]
Weights = NDArray[np.float64]


class ShopperWeights:
    """The weights (B,) of a shopper in every resample, the same whenever they are asked for."""

    def __init__(self, resamples: int = RESAMPLES) -> None:
        self.resamples = resamples
        self._kept: OrderedDict[str, Weights] = OrderedDict()

    def of(self, shopper: str) -> Weights:
        """Return float64 counts (B,)."""
        found = self._kept.get(shopper)
        if found is None:
            digest = hashlib.blake2b(shopper.encode("utf-8", "surrogatepass"), digest_size=8)
            generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest())))
            found = generator.poisson(1.0, self.resamples).astype(np.float64)
            self._kept[shopper] = found
            if len(self._kept) > _KEPT_SHOPPERS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(shopper)
        return found


class Means:
    """Weighted sums of several values a case: arms times metrics, shape (A, M)."""

    def __init__(self, arms: int, metrics: int, resamples: int) -> None:
        self.cases = 0
        self._sum = np.zeros((arms, metrics))
        self._sums = np.zeros((arms, metrics, resamples))
        self._weight = np.zeros(resamples)

    def add(self, values: Values, weights: Weights) -> None:
        """Take a case: its values (A, M) and its shopper's weights (B,)."""
        self.cases += 1
        self._sum += values
        self._sums += values[:, :, None] * weights
        self._weight += weights

    def merge(self, other: Means) -> None:
        """Take the cases of another, too."""
        self.cases += other.cases
        self._sum += other._sum
        self._sums += other._sums
        self._weight += other._weight

    def estimate(self, arm: int, metric: int) -> Estimate:
        """Return an arm's mean."""
        return self._estimate(self._sum[arm, metric], self._sums[arm, metric])

    def difference(self, arm: int, baseline: int, metric: int) -> Estimate:
        """Return the paired difference of two arms; above 0: `arm` has more."""
        return self._estimate(
            self._sum[arm, metric] - self._sum[baseline, metric],
            self._sums[arm, metric] - self._sums[baseline, metric],
        )

    def _estimate(self, total: float, sums: Values) -> Estimate:
        if not self.cases:
            return Estimate(float("nan"), float("nan"), float("nan"), 0)
        drawn = self._weight > 0
        low, high = interval(sums[drawn] / self._weight[drawn])
        return Estimate(float(total / self.cases), low, high, self.cases)


class Table:
    """`Means` by segment: "all", "shopper: new", "locale: en-US" …; at most `most` segments."""

    def __init__(
        self,
        arms: Sequence[str],
        metrics: Sequence[str],
        weights: ShopperWeights,
        most: int = 60,
    ) -> None:
        self.arms = tuple(arms)
        self.metrics = tuple(metrics)
        self._weights = weights
        self._most = most
        self._means: dict[str, Means] = {}

    def add(self, shopper: str, values: Values, segments: Sequence[str] = ()) -> None:
        """Take a case (A, M) of a shopper, counted in "all" and in its segments."""
        weights = self._weights.of(shopper)
        for name in ("all", *segments):
            means = self._means.get(name)
            if means is None:
                if len(self._means) >= self._most:
                    name = f"{name.partition(':')[0]}: (others)"
                means = self._means.setdefault(
                    name, Means(len(self.arms), len(self.metrics), self._weights.resamples)
                )
            means.add(values, weights)

    @property
    def cases(self) -> int:
        """How many cases were taken."""
        return self._means["all"].cases if "all" in self._means else 0

    def as_json(self) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
        """Return segment -> metric -> arm -> estimate, with the difference to the first arm."""
        return {
            segment: {
                metric: {
                    arm: self._cell(means, place, column) for place, arm in enumerate(self.arms)
                }
                for column, metric in enumerate(self.metrics)
            }
            for segment, means in sorted(self._means.items(), key=lambda pair: _rank(pair[0]))
        }

    def _cell(self, means: Means, arm: int, metric: int) -> dict[str, object]:
        cell: dict[str, object] = dict(estimate_json(means.estimate(arm, metric)))
        if arm:
            cell["difference"] = dict(estimate_json(means.difference(arm, 0, metric)))
        return cell


def _rank(segment: str) -> tuple[int, str]:
    """Order segments: all, kinds of shoppers and the like, categories last."""
    return (0 if segment == "all" else 2 if segment.startswith("category") else 1, segment)


def interval(values: Values) -> tuple[float, float]:
    """Return the middle 95 % of resampled values."""
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def estimate_json(estimate: Estimate) -> Mapping[str, float | int | None]:
    """Return an estimate for JSON: NaN becomes null."""
    return {
        "value": _finite(estimate.value),
        "low": _finite(estimate.low),
        "high": _finite(estimate.high),
        "cases": estimate.cases,
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
