"""Sentiment tags against the stars of the same review."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from models.metrics import Estimate, macro_f1
from models.text.sentiment import LABELS
from worker.events.event import Review
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.judge.bootstrap import ShopperWeights, estimate_json, interval
from worker.replay.judge.timeline import Timeline
from worker.store.contract import ResultKind

BINS = 15
_CLASSES = len(LABELS)


class _Counts:
    """One arm's weighted counts: confusion (B+1, C, C) and calibration bins (B+1, BINS, 3).

    Row 0 is the log itself, every case once; the others are the resamples.
    """

    def __init__(self, resamples: int) -> None:
        self.confusion = np.zeros((resamples + 1, _CLASSES, _CLASSES))
        self.bins = np.zeros((resamples + 1, BINS, 3))  # cases, right, confidence

    def add(self, truth: int, probabilities: Sequence[float], weights: np.ndarray) -> int:
        predicted = int(np.argmax(probabilities))
        confidence = float(probabilities[predicted])
        place = min(int(confidence * BINS), BINS - 1)
        self.confusion[:, truth, predicted] += weights
        case = np.array([1.0, float(predicted == truth), confidence])
        self.bins[:, place] += weights[:, None] * case
        return predicted

    def accuracies(self) -> np.ndarray:
        return _ratio(self.confusion.trace(axis1=1, axis2=2), self.confusion.sum(axis=(1, 2)))

    def macro_f1s(self) -> np.ndarray:
        return np.array(
            [
                macro_f1(cast(NDArray[np.int64], one)) if one.sum() else np.nan
                for one in self.confusion
            ]
        )

    def errors(self) -> np.ndarray:
        gaps = np.abs(self.bins[:, :, 1] - self.bins[:, :, 2]).sum(axis=1)
        return _ratio(gaps, self.bins[:, :, 0].sum(axis=1))


class SentimentJudge:
    """Accuracy, macro F1 and calibration error; stars 1-2 negative, 3 neutral, 4-5 positive."""

    def __init__(self, arms: Sequence[str], weights: ShopperWeights, timeline: Timeline) -> None:
        self._arms = tuple(arms)
        self._weights = weights
        self._timeline = timeline
        self._counts = [_Counts(weights.resamples) for _ in arms]
        self._cases = self._without_stars = self._untagged = 0

    def see(self, judged: JudgedEvent) -> None:
        """Take a review with stars."""
        event = judged.event
        if not isinstance(event, Review):
            return
        if event.stars is None:
            self._without_stars += 1
            return
        found = [self._probabilities(judged, arm, event.review_id) for arm in self._arms]
        if any(one is None for one in found):
            self._untagged += 1
            return
        truth = 0 if event.stars < 2.5 else 1 if event.stars < 3.5 else 2
        weights = np.concatenate(([1.0], self._weights.of(event.user_id)))
        right = [
            float(counts.add(truth, one or (), weights) == truth)
            for counts, one in zip(self._counts, found, strict=True)
        ]
        self._cases += 1
        self._timeline.add("sentiment", event.occurred_at_ms, event.user_id, np.array(right))

    def finish(self) -> dict[str, Any]:
        """Return the figures."""
        names = ("accuracy", "macro_f1", "calibration_error")
        rows = {
            arm: dict(
                zip(names, (counts.accuracies(), counts.macro_f1s(), counts.errors()), strict=True)
            )
            for arm, counts in zip(self._arms, self._counts, strict=True)
        }
        metrics: dict[str, Any] = {name: {} for name in names}
        for name in names:
            for place, arm in enumerate(self._arms):
                cell: dict[str, Any] = dict(self._estimate(rows[arm][name]))
                if place:
                    base = rows[self._arms[0]][name]
                    cell["difference"] = dict(self._estimate(rows[arm][name] - base))
                metrics[name][arm] = cell
        return {
            "cases": self._cases,
            "without_stars": self._without_stars,
            "untagged": self._untagged,
            "metrics": metrics if self._cases else {},
            "calibration": {
                arm: counts.bins[0].tolist()
                for arm, counts in zip(self._arms, self._counts, strict=True)
            },
            "confusion": {
                arm: counts.confusion[0].astype(int).tolist()
                for arm, counts in zip(self._arms, self._counts, strict=True)
            },
        }

    def _estimate(self, values: np.ndarray) -> Any:
        resampled = values[1:][np.isfinite(values[1:])]
        low, high = interval(resampled)
        return estimate_json(Estimate(float(values[0]), low, high, self._cases))

    def _probabilities(self, judged: JudgedEvent, arm: str, review_id: str) -> list[float] | None:
        for result in judged.outcomes[arm].outcome.results:
            if result.kind is ResultKind.TAGS and result.id == review_id:
                held = orjson.loads(result.value)["probabilities"]
                return [float(held[label]) for label in LABELS]
        return None


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    found = np.full(len(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found
