"""All judges of a comparison, and the verdict in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.judge.bootstrap import ShopperWeights
from worker.replay.judge.off_policy import OffPolicyJudge
from worker.replay.judge.recommendations import RecommendationJudge
from worker.replay.judge.search import SearchJudge
from worker.replay.judge.sentiment import SentimentJudge
from worker.replay.judge.timeline import Timeline
from worker.replay.judge.work import AnswerJudge, LatencyJudge

INTERVALS = "Intervals are 95 %, by Poisson bootstrap over shoppers; differences are paired."
BIAS = (
    "What shoppers bought was chosen among what the live shop showed them: this favours the "
    "release that was live, and no replay can tell what they would have bought else."
)


def labels_stated(window_s: float) -> str:
    """Return how lists and searches are labelled."""
    return (
        f"A list or a search is judged by what the shopper bought within {window_s:,.0f} s after "
        "it. Those whose window reaches beyond the end of the log are censored: counted, not "
        "judged. Purchases that were returned within the window do not count."
    )


class Judge:
    """Sees every judged event and gives the figures of all arms."""

    def __init__(self, arms: Sequence[str], k: int, window_ms: int) -> None:
        weights = ShopperWeights()
        self._arms = tuple(arms)
        self._timeline = Timeline(arms, weights)
        self._recommendations = RecommendationJudge(arms, k, window_ms, weights, self._timeline)
        self._search = SearchJudge(arms, k, window_ms, weights, self._timeline)
        self._sentiment = SentimentJudge(arms, weights, self._timeline)
        self._answers = AnswerJudge(arms, weights)
        self._latency = LatencyJudge(arms)
        self._off_policy = OffPolicyJudge(arms, k, window_ms, weights)

    def see(self, judged: JudgedEvent) -> None:
        """Take one event with what every arm made of it."""
        self._recommendations.see(judged)
        self._search.see(judged)
        self._sentiment.see(judged)
        self._answers.see(judged)
        self._latency.see(judged)
        self._off_policy.see(judged)

    def see_all(self, batch: Sequence[JudgedEvent]) -> None:
        """Take the events of a batch, in their order."""
        for judged in batch:
            self.see(judged)

    def finish(self, last_ms: int, catalogue_size: int) -> dict[str, Any]:
        """Return all figures, and the verdict."""
        figures: dict[str, Any] = {
            "recommendations": self._recommendations.finish(last_ms, catalogue_size),
            "search": self._search.finish(),
            "sentiment": self._sentiment.finish(),
            "answers": self._answers.finish(),
            "latency": self._latency.finish(),
            "off_policy": self._off_policy.finish(),
            "timeline": self._timeline.as_json(),
        }
        return {"verdict": self._verdict(figures), **figures}

    def _verdict(self, figures: dict[str, Any]) -> list[str]:
        if len(self._arms) < 2:
            return [f"{self._arms[0]} was replayed alone: there is nothing to compare it with."]
        return [self._sentence(arm, figures) for arm in self._arms[1:]]

    def _sentence(self, arm: str, figures: dict[str, Any]) -> str:
        base = self._arms[0]
        parts: list[str] = []
        for task, (metric, words) in _HEADLINES.items():
            found = figures[task]
            cells = found["metrics"] if task == "sentiment" else found["segments"].get("all", {})
            cell = next((c for name, c in cells.items() if name.partition("@")[0] == metric), None)
            if cell is None or not found["cases"]:
                continue
            parts.append(_comparison(words, cell[arm], found["cases"]))
        if not parts:
            return f"The log holds too little to tell {arm} from {base}."
        return f"Against {base}, {arm}: {'; '.join(parts)}."


_HEADLINES = {
    "recommendations": ("ndcg", "recommendations"),
    "search": ("ndcg", "search"),
    "sentiment": ("macro_f1", "sentiment"),
}


def _comparison(words: str, cell: dict[str, Any], cases: int) -> str:
    gap = cell["difference"]
    if gap["value"] is None or gap["low"] is None:
        return f"{words} cannot be told ({cases:,} cases)"
    if gap["value"] == gap["low"] == gap["high"] == 0:
        return f"{words} are the same ({cases:,} cases)"
    span = f"{gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}], {cases:,} cases"
    if gap["low"] > 0:
        return f"{words} are better ({span})"
    if gap["high"] < 0:
        return f"{words} are worse ({span})"
    return f"{words} cannot be told apart ({span})"
