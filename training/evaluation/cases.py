"""How a model did on a slice, case by case, so that two models are compared on the same cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.metrics import Values, calibration_error, macro_f1

Rows = NDArray[np.int64]
Statistic = Callable[[Rows], float]  # case numbers, maybe repeated -> a figure, greater is better


@dataclass(frozen=True, slots=True)
class TestCases:
    """The cases of a test slice, in order: all sequences have length N."""

    __test__ = False  # no test class

    sample_ids: Sequence[str]
    users: Sequence[str]
    locales: Sequence[str]
    first: str | None = None  # occurred_at of the oldest, RFC 3339
    last: str | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.sample_ids)

    def take(self, rows: Rows) -> TestCases:
        """Return some of the cases."""
        return TestCases(
            [self.sample_ids[row] for row in rows],
            [self.users[row] for row in rows],
            [self.locales[row] for row in rows],
            self.first,
            self.last,
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on N cases. In every figure greater is better.

    Attributes:
        primary: the metric of `values` that decides.
        values: metric -> value of each case (N,); its mean is the metric.
        statistics: metric -> figure of case numbers, for what is no mean (macro F1, calibration).
    """

    primary: str
    values: Mapping[str, Values]
    statistics: Mapping[str, Statistic] = field(default_factory=dict)

    def take(self, rows: Rows) -> Evaluation:
        """Return the evaluation on some of the cases."""
        statistics = {
            name: (lambda some, of=of: of(rows[some])) for name, of in self.statistics.items()
        }
        return Evaluation(
            self.primary, {name: value[rows] for name, value in self.values.items()}, statistics
        )


def classification(truth: Sequence[int], probabilities: NDArray[np.floating]) -> Evaluation:
    """Return accuracy by case, macro F1 and calibration (1 - ECE) of probabilities (N, C)."""
    true = np.asarray(truth, dtype=np.int64)
    count = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (predicted == true).astype(np.float64)
    correct[~np.isfinite(confidence)] = np.nan  # no answer at all is no wrong answer

    def f1_of(rows: Rows) -> float:
        cells = np.bincount(true[rows] * count + predicted[rows], minlength=count * count)
        return macro_f1(cells.reshape(count, count))

    def calibration_of(rows: Rows) -> float:
        return 1.0 - calibration_error(correct[rows], confidence[rows])

    return Evaluation(
        "accuracy", {"accuracy": correct}, {"macro_f1": f1_of, "calibration": calibration_of}
    )
