"""Search results against what was bought after the search, as samples credit it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from models.metrics import ndcg, recall, reciprocal_rank
from worker.events.event import Search
from worker.pipeline.batch import OutTopic
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.judge.bootstrap import ShopperWeights, Table
from worker.replay.judge.recommendations import items_of
from worker.replay.judge.timeline import Timeline
from worker.store.contract import ResultKind


@dataclass(slots=True)
class _OpenSearch:
    event_id: str
    shopper: str
    ends_ms: int
    at_ms: int
    locale: str
    has_impressions: bool
    lists: Sequence[Sequence[str]]
    labels: dict[str, str] = field(default_factory=dict)  # label key -> product bought


class SearchJudge:
    """nDCG, MRR and recall of the products bought, and the share of searches without results.

    Labels are the worker's own: its samples say which search a purchase is credited to, and returns
    take them back.
    """

    def __init__(
        self, arms: Sequence[str], k: int, window_ms: int, weights: ShopperWeights,
        timeline: Timeline,
    ) -> None:  # fmt: skip
        self._arms = tuple(arms)
        self._k = k
        self._window_ms = window_ms
        self._timeline = timeline
        self.table = Table(arms, (f"ndcg@{k}", f"mrr@{k}", f"recall@{k}"), weights)
        self.zero = Table(arms, ("zero_result_rate",), weights)
        self._open: dict[str, _OpenSearch] = {}
        self._due: deque[str] = deque()
        self._unlabeled = 0

    def see(self, judged: JudgedEvent) -> None:
        """Take an event: labels it brings, then the lists it made."""
        self._close_due(judged.recorded.at_ms)
        self._label(judged)
        event = judged.event
        if isinstance(event, Search) and event.event_id not in self._open:
            found = [items_of(judged, arm, ResultKind.SEARCH, event.event_id) for arm in self._arms]
            if any(items is None for items in found):
                return
            lists = [[item["product_id"] for item in items or ()] for items in found]
            empty = np.array([[float(not ids)] for ids in lists])
            locale = event.locale or "unknown"
            self.zero.add(event.user_id, empty, (f"locale: {locale}",))
            self._timeline.add("zero_results", event.occurred_at_ms, event.user_id, empty[:, 0])
            ends_ms = event.occurred_at_ms + self._window_ms
            self._open[event.event_id] = _OpenSearch(
                event.event_id, event.user_id, ends_ms, event.occurred_at_ms, locale,
                bool(event.shown), lists,
            )  # fmt: skip
            self._due.append(event.event_id)

    def finish(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "k": self._k,
            "window_s": self._window_ms / 1000,
            "searches": self.zero.cases,
            "cases": self.table.cases,
            "without_purchase_in_window": self._unlabeled,
            "censored_at_the_end": len(self._open),
            "segments": self.table.as_json(),
            "zero_results": self.zero.as_json(),
        }

    def _label(self, judged: JudgedEvent) -> None:
        outcome = judged.outcomes[self._arms[0]].outcome
        for message in outcome.messages:
            if message.topic is not OutTopic.SAMPLES or message.value is None:
                continue
            sample = orjson.loads(message.value)
            if sample["kind"] == "search":
                found = self._open.get(sample["search_event_id"])
                if found is not None and judged.recorded.at_ms <= found.ends_ms:
                    found.labels[sample["label_key"]] = sample["positive"]
            elif sample["kind"] == "reversal":
                taken_back = set(sample["label_keys"])
                for found in self._open.values() if taken_back else ():
                    for key in taken_back & found.labels.keys():
                        del found.labels[key]

    def _close_due(self, now_ms: int) -> None:
        while self._due:
            found = self._open.get(self._due[0])
            if found is not None and found.ends_ms >= now_ms:
                return
            self._due.popleft()
            if found is not None:
                del self._open[found.event_id]
                self._judge(found)

    def _judge(self, found: _OpenSearch) -> None:
        gains = dict.fromkeys(found.labels.values(), 1.0)
        if not gains:
            self._unlabeled += 1
            return
        k = self._k
        values = np.array(
            [
                (ndcg(ids, gains, k), reciprocal_rank(ids, gains, k), recall(ids, gains, k))
                for ids in found.lists
            ]
        )
        shown = "known" if found.has_impressions else "unknown"
        segments = (f"locale: {found.locale}", f"impressions: {shown}")
        self.table.add(found.shopper, values, segments)
        self._timeline.add("search", found.at_ms, found.shopper, values[:, 0])
