"""What arms cost: time an event, by kind of work; and how they answer questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from worker.events.event import Question
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.judge.bootstrap import ShopperWeights, Table
from worker.store.contract import ResultKind

_EDGES_MS = np.logspace(-2, 4, 61)  # 10 a decade, from 10 microseconds to 10 seconds


class LatencyJudge:
    """A histogram of each arm's time an event, on a line of tenths of decades."""

    def __init__(self, arms: Sequence[str]) -> None:
        self._arms = tuple(arms)
        self._counts = np.zeros((len(arms), len(_EDGES_MS) + 1), dtype=np.int64)
        self._seconds = np.zeros((len(arms), 2))
        self._events = 0

    def see(self, judged: JudgedEvent) -> None:
        """Take the times of an event."""
        self._events += 1
        for place, arm in enumerate(self._arms):
            found = judged.outcomes[arm]
            total_ms = 1000 * (found.encode_s + found.conclude_s)
            self._counts[place, int(np.searchsorted(_EDGES_MS, total_ms))] += 1
            self._seconds[place] += (found.encode_s, found.conclude_s)

    def finish(self) -> dict[str, Any]:
        """Return quantiles, means and the histogram of each arm."""
        arms: dict[str, Any] = {}
        for place, arm in enumerate(self._arms):
            shares = np.cumsum(self._counts[place]) / max(1, self._events)
            edges = np.append(_EDGES_MS, _EDGES_MS[-1])
            encode_s, conclude_s = self._seconds[place].tolist()
            arms[arm] = {
                **{
                    f"p{round(100 * share)}_ms": round(
                        float(edges[min(int(np.searchsorted(shares, share)), len(edges) - 1)]), 4
                    )
                    for share in (0.5, 0.9, 0.99)
                },
                "encode_ms_an_event": round(1000 * encode_s / max(1, self._events), 4),
                "rank_ms_an_event": round(1000 * conclude_s / max(1, self._events), 4),
                "device_hours_a_million_events": round(
                    1e6 * (encode_s + conclude_s) / max(1, self._events) / 3600, 4
                ),
                "histogram": self._counts[place].tolist(),
            }
        return {"events": self._events, "edges_ms": _EDGES_MS.round(4).tolist(), "arms": arms}


class AnswerJudge:
    """How often arms answer, how surely, and how often they answer as the first arm does."""

    def __init__(self, arms: Sequence[str], weights: ShopperWeights) -> None:
        self._arms = tuple(arms)
        self.table = Table(arms, ("answered", "confidence", "same_as_baseline"), weights)

    def see(self, judged: JudgedEvent) -> None:
        """Take a question."""
        event = judged.event
        if not isinstance(event, Question):
            return
        found = [self._answer(judged, arm, event.question_id) for arm in self._arms]
        if any(one is None for one in found):
            return
        answers = [one or {} for one in found]
        texts = [one.get("text") for one in answers]
        values = np.array(
            [
                (float(one["answered"]), float(one["confidence"]), float(text == texts[0]))
                for one, text in zip(answers, texts, strict=True)
            ]
        )
        asked_of = "a product" if event.product_id else "the shop"
        self.table.add(event.user_id, values, (f"asked of: {asked_of}",))

    def finish(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "cases": self.table.cases,
            "segments": self.table.as_json(),
            "judged_by": "nothing: a log of events does not say whether an answer helped",
        }

    def _answer(self, judged: JudgedEvent, arm: str, question_id: str) -> dict[str, Any] | None:
        for result in judged.outcomes[arm].outcome.results:
            if result.kind is ResultKind.ANSWER and result.id == question_id:
                answer: dict[str, Any] = orjson.loads(result.value)
                return answer
        return None
