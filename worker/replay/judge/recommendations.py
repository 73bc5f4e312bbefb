"""Recommendations against the purchases that followed within a window."""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from models.metrics import hit_rate, ndcg, recall, reciprocal_rank
from models.recommendation.shopper import ShopperEvent
from worker.events.event import Purchase, Return, Review, Search
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.judge.bootstrap import ShopperWeights, Table
from worker.replay.judge.timeline import Timeline
from worker.store.contract import ResultKind

MAX_OPEN_CASES = 64  # of one shopper; older ones are closed early and counted
_EXAMPLES = 8
_HISTORY_SHOWN = 8


@dataclass(slots=True)
class _Case:
    """The lists that one event made, waiting for what the shopper buys next."""

    event_id: str
    at_ms: int
    lists: Sequence[Sequence[str]]  # an arm each
    is_new: bool
    locale: str
    history: Sequence[ShopperEvent]
    bought: dict[str, int] = field(default_factory=dict)  # product -> when, in ms


class RecommendationJudge:
    """HR, recall, nDCG and MRR at k of the purchases within the window after each list."""

    def __init__(
        self, arms: Sequence[str], k: int, window_ms: int, weights: ShopperWeights,
        timeline: Timeline,
    ) -> None:  # fmt: skip
        self._arms = tuple(arms)
        self._k = k
        self._window_ms = window_ms
        self._timeline = timeline
        self.table = Table(
            arms, (f"hr@{k}", f"recall@{k}", f"ndcg@{k}", f"mrr@{k}", "novelty_bits"), weights
        )
        self._open: dict[str, deque[_Case]] = {}
        self._due: deque[tuple[int, str]] = deque()  # (when a case ends, shopper)
        self._bought_total = 0
        self._bought: Counter[str] = Counter()
        self._shown: list[set[str]] = [set() for _ in arms]
        self._lists = self._without_purchase = self._cut = self._empty = 0
        self._worst: list[list[tuple[float, str, dict[str, Any]]]] = [[] for _ in arms]

    def see(self, judged: JudgedEvent) -> None:
        """Take an event: first it labels what is open, then its own lists are opened."""
        event = judged.event
        self._close_due(judged.recorded.at_ms, judged)
        if isinstance(event, Purchase):
            products = [item.product_id for item in event.items]
            self._label(event.user_id, event.occurred_at_ms, products)
            self._bought.update(products)
            self._bought_total += len(products)
        elif isinstance(event, Return):
            self._unlabel(event)
        if isinstance(event, Search | Purchase | Return | Review):
            self._open_case(event, judged)

    def finish(self, judged_to_ms: int, catalogue_size: int) -> dict[str, Any]:
        """Return the figures; cases whose window reaches beyond the log are censored."""
        censored = sum(len(cases) for cases in self._open.values())
        return {
            "k": self._k,
            "window_s": self._window_ms / 1000,
            "lists": self._lists,
            "cases": self.table.cases,
            "lists_without_purchase_in_window": self._without_purchase,
            "censored_at_the_end": censored,
            "closed_early": self._cut,
            "empty_lists": self._empty,
            "segments": self.table.as_json(),
            "coverage": {
                arm: len(shown) / catalogue_size if catalogue_size else None
                for arm, shown in zip(self._arms, self._shown, strict=True)
            },
            "worst": {
                arm: [example for _, _, example in sorted(worst, reverse=True)]
                for arm, worst in list(zip(self._arms, self._worst, strict=True))[1:]
            },
        }

    # --- cases

    def _open_case(self, event: Search | Purchase | Return | Review, judged: JudgedEvent) -> None:
        lists = [
            items_of(judged, arm, ResultKind.RECOMMENDATIONS, event.user_id) for arm in self._arms
        ]
        if any(items is None for items in lists):
            return
        history = judged.view.histories.get(event.user_id, ())
        ranked = [[item["product_id"] for item in items or ()] for items in lists]
        self._lists += 1
        self._empty += any(not ids for ids in ranked)
        for shown, ids in zip(self._shown, ranked, strict=True):
            shown.update(ids[: self._k])
        case = _Case(
            event.event_id,
            event.occurred_at_ms,
            ranked,
            is_new=not any(e.kind == "purchase" for e in history if e.event_id != event.event_id),
            locale=event.locale or "unknown",
            history=history[-_HISTORY_SHOWN:],
        )
        cases = self._open.setdefault(event.user_id, deque())
        cases.append(case)
        self._due.append((case.at_ms + self._window_ms, event.user_id))
        if len(cases) > MAX_OPEN_CASES:
            cases.popleft()
            self._cut += 1

    def _label(self, shopper: str, at_ms: int, products: Sequence[str]) -> None:
        for case in self._open.get(shopper, ()):
            if case.at_ms < at_ms <= case.at_ms + self._window_ms:
                case.bought.update((product, at_ms) for product in products)

    def _unlabel(self, event: Return) -> None:
        """A return within the window takes its label back."""
        for case in self._open.get(event.user_id, ()):
            for item in event.items:
                case.bought.pop(item.product_id, None)

    def _close_due(self, now_ms: int, judged: JudgedEvent) -> None:
        while self._due and self._due[0][0] < now_ms:
            ends_ms, shopper = self._due.popleft()
            cases = self._open.get(shopper)
            while cases and cases[0].at_ms + self._window_ms <= ends_ms:
                self._judge(shopper, cases.popleft(), judged)
            if cases is not None and not cases:
                del self._open[shopper]

    def _judge(self, shopper: str, case: _Case, judged: JudgedEvent) -> None:
        if not case.bought:
            self._without_purchase += 1
            return
        gains = dict.fromkeys(case.bought, 1.0)
        k = self._k
        values = np.array(
            [
                (
                    hit_rate(ids, gains, k),
                    recall(ids, gains, k),
                    ndcg(ids, gains, k),
                    reciprocal_rank(ids, gains, k),
                    self._novelty(ids[:k]),
                )
                for ids in case.lists
            ]
        )
        first = judged.catalogue.get(next(iter(case.bought)))
        category = first.category if first is not None and first.category else "unknown"
        segments = (
            f"shopper: {'new' if case.is_new else 'returning'}",
            f"category: {category}",
            f"locale: {case.locale}",
        )
        self.table.add(shopper, values, segments)
        self._timeline.add("recommendations", case.at_ms, shopper, values[:, 2])
        self._keep_worst(case, values[:, 2])

    def _novelty(self, ids: Sequence[str]) -> float:
        """Return the mean of -log2 of how much of all purchases each product was (add one)."""
        if not ids:
            return 0.0
        total = self._bought_total + len(self._bought) + 1
        return -sum(math.log2((self._bought[one] + 1) / total) for one in ids) / len(ids)

    def _keep_worst(self, case: _Case, values: np.ndarray) -> None:
        for place in range(1, len(self._arms)):
            loss = float(values[0] - values[place])
            worst = self._worst[place]
            if loss <= 0 or (len(worst) >= _EXAMPLES and loss <= worst[0][0]):
                continue
            example = {
                "event_id": case.event_id,
                "at_ms": case.at_ms,
                "loss": round(loss, 4),
                "bought": list(case.bought),
                "baseline": list(case.lists[0][: self._k]),
                "candidate": list(case.lists[place][: self._k]),
                "history": [history_line(event) for event in case.history],
            }
            heapq.heappush(worst, (loss, case.event_id, example))
            if len(worst) > _EXAMPLES:
                heapq.heappop(worst)


def items_of(
    judged: JudgedEvent, arm: str, kind: ResultKind, id: str
) -> list[dict[str, Any]] | None:
    """Return the items of a result that an arm made of the event; None: it made none."""
    for result in judged.outcomes[arm].outcome.results:
        if result.kind is kind and result.id == id:
            items: list[dict[str, Any]] = orjson.loads(result.value)["items"]
            return items
    return None


def history_line(event: ShopperEvent) -> Mapping[str, Any]:
    """Return a step of a history for people, without who it was."""
    return {
        "at_ms": event.occurred_at_ms,
        "kind": event.kind,
        "query": event.query,
        "products": list(event.product_ids)[:10],
        "stars": event.stars,
    }
