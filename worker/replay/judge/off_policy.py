"""What arms would have earned, from a log of what was shown with which probability.

A search event may carry `propensities` beside `shown`: the probability with which the page put
each product where it stood. Under the item-position model (Li et al. 2018, "Offline evaluation of
ranking policies with click models") an arm's value is the purchases its own results would have
brought: inverse propensity scores (IPS), the self-normalised kind (SNIPS; Swaminathan & Joachims
2015), and doubly robust (Dudík et al. 2011), whose model is the running rate of purchases by
position.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from models.metrics import Estimate
from worker.events.event import Purchase, Search
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.judge.bootstrap import ShopperWeights, estimate_json, interval
from worker.replay.judge.recommendations import items_of
from worker.store.contract import ResultKind

MIN_CASES = 100
MAX_WEIGHT = 100.0  # larger ones are cut to this and counted: they would decide alone
_NAMES = ("ips", "snips", "doubly_robust")


@dataclass(slots=True)
class _Shown:
    event_id: str
    shopper: str
    ends_ms: int
    at_ms: int
    shown: Sequence[str]
    propensities: Sequence[float]
    lists: Sequence[Sequence[str]]
    expected: np.ndarray  # (K,) of the reward model when the search happened
    bought: set[str] = field(default_factory=set)


class OffPolicyJudge:
    """IPS, SNIPS and doubly robust estimates of purchases a search."""

    def __init__(
        self, arms: Sequence[str], k: int, window_ms: int, weights: ShopperWeights
    ) -> None:
        self._arms = tuple(arms)
        self._k = k
        self._window_ms = window_ms
        self._weights = weights
        rows = weights.resamples + 1
        # cases; per arm: sum of weights, of weighted rewards, of the doubly robust value
        self._sums = np.zeros((rows, len(arms), 4))
        self._cases = self._shown_only = self._searches = self._cut = self._broken = 0
        self._open: deque[_Shown] = deque()
        self._by_shopper: dict[str, list[_Shown]] = {}
        self._shown_at = np.ones(k)  # of the reward model: shown and bought, by position
        self._bought_at = np.zeros(k)

    def see(self, judged: JudgedEvent) -> None:
        """Take an event."""
        self._close_due(judged.recorded.at_ms)
        event = judged.event
        if isinstance(event, Purchase):
            bought = {item.product_id for item in event.items}
            for case in self._by_shopper.get(event.user_id, ()):
                case.bought |= bought & set(case.shown)
        elif isinstance(event, Search):
            self._searches += 1
            self._open_case(event, judged)

    def finish(self) -> dict[str, Any]:
        """Return the estimates, or why the data cannot support one."""
        facts = {
            "searches": self._searches,
            "with_impressions": self._shown_only + self._cases,
            "cases": self._cases,
            "propensities_unusable": self._broken,
            "weights_cut": self._cut,
        }
        if self._cases < MIN_CASES:
            return {"supported": False, "why": self._why(), **facts}
        estimates: dict[str, Any] = {name: {} for name in _NAMES}
        base = self._values(0)
        effective = {}
        for place, arm in enumerate(self._arms):
            values = self._values(place)
            effective[arm] = round(float(self._sums[0, place, 1]) / self._cases, 4)
            for column, name in enumerate(_NAMES):
                cell: dict[str, Any] = dict(self._estimate(values[:, column]))
                if place:
                    difference = self._estimate(values[:, column] - base[:, column])
                    cell["difference"] = dict(difference)
                estimates[name][arm] = cell
        return {"supported": True, "estimates": estimates, "mean_weight": effective, **facts}

    def _why(self) -> str:
        if not self._searches:
            return "the log holds no searches"
        if not (self._shown_only + self._cases + self._broken):
            return "searches do not say what was shown"
        if not self._cases:
            return "searches say what was shown, but not with which propensity"
        return (
            f"only {self._cases} searches have propensities and a whole window; {MIN_CASES} are"
            " the least"
        )

    def _open_case(self, event: Search, judged: JudgedEvent) -> None:
        propensities = _propensities(judged.recorded.raw.value)
        if not event.shown:
            return
        if propensities is None:
            self._shown_only += 1
            return
        fits = len(propensities) == len(event.shown)
        if not fits or any(not 0 < one <= 1 for one in propensities):
            self._broken += 1
            return
        found = [items_of(judged, arm, ResultKind.SEARCH, event.event_id) for arm in self._arms]
        lists = [[item["product_id"] for item in items or ()] for items in found]
        case = _Shown(
            event.event_id, event.user_id, event.occurred_at_ms + self._window_ms,
            event.occurred_at_ms, event.shown[: self._k], propensities[: self._k], lists,
            self._bought_at / self._shown_at,
        )  # fmt: skip
        self._open.append(case)
        self._by_shopper.setdefault(event.user_id, []).append(case)

    def _close_due(self, now_ms: int) -> None:
        while self._open and self._open[0].ends_ms < now_ms:
            case = self._open.popleft()
            cases = self._by_shopper[case.shopper]
            cases.remove(case)
            if not cases:
                del self._by_shopper[case.shopper]
            self._judge(case)

    def _judge(self, case: _Shown) -> None:
        self._cases += 1
        rewards = np.array([float(one in case.bought) for one in case.shown])
        row = np.zeros((len(self._arms), 4))
        for place, ranked in enumerate(case.lists):
            same = np.array(
                [float(at < len(ranked) and ranked[at] == one) for at, one in enumerate(case.shown)]
            )
            weights = same / np.array(case.propensities)
            self._cut += int((weights > MAX_WEIGHT).sum())
            weights = np.minimum(weights, MAX_WEIGHT)
            expected = case.expected[: len(case.shown)]
            served = case.expected[: min(len(ranked), self._k)].sum()
            robust = served + float((weights * (rewards - expected)).sum())
            row[place] = (
                1.0, float(weights.sum()) / max(1, len(case.shown)),
                float((weights * rewards).sum()), robust,
            )  # fmt: skip
        resampled = np.concatenate(([1.0], self._weights.of(case.shopper)))
        self._sums += resampled[:, None, None] * row
        # Only now: at each search the model knew what was known then.
        self._shown_at[: len(rewards)] += 1
        self._bought_at[: len(rewards)] += rewards

    def _values(self, arm: int) -> np.ndarray:
        """Return (B+1, 3): IPS, SNIPS, doubly robust."""
        cases, weight, reward, robust = self._sums[:, arm].T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([reward / cases, reward / weight, robust / cases], axis=1)

    def _estimate(self, values: np.ndarray) -> Any:
        low, high = interval(values[1:][np.isfinite(values[1:])])
        return estimate_json(Estimate(float(values[0]), low, high, self._cases))


def _propensities(value: bytes | None) -> list[float] | None:
    if value is None or b'"propensities"' not in value:
        return None
    held = orjson.loads(value).get("propensities")
    if not isinstance(held, list) or not all(isinstance(one, int | float) for one in held):
        return []
    return [float(one) for one in held]
