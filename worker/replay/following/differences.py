"""How much two runs differ: which results, in which items, by how much their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

_WRITTEN_AT = re.compile(rb'("written_at":")[^"]*(")')
_SHOWN = 20


@dataclass(slots=True)
class Differences:
    """How results or samples compare; the first that differ with both spellings.

    Of results that differ: `same_items` say the same (the same products in the same order, the same
    label, the same answer) with other numbers, `reordered` the same products in another order, and
    `other_items` something else. Score differences are those of the same product, or the same
    label, on both sides.
    """

    equal: int = 0
    different: int = 0
    only_live: int = 0
    only_replay: int = 0  # of results: they may have expired in Redis
    same_items: int = 0
    reordered: int = 0
    other_items: int = 0
    scores: int = 0  # compared, of the results that differ
    max_score_difference: float = 0.0
    sum_score_difference: float = 0.0
    lists: int = 0  # of products, among the results that differ
    sum_overlap: float = 0.0
    by_kind: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs that stands on both sides, and live has nothing more."""
        return not self.different and not self.only_live

    @property
    def mean_score_difference(self) -> float:
        """Return the mean of |live - replay| over the scores compared; 0 without one."""
        return self.sum_score_difference / self.scores if self.scores else 0.0

    @property
    def mean_overlap(self) -> float | None:
        """Return the mean share of products that two differing lists have in common."""
        return self.sum_overlap / self.lists if self.lists else None

    def as_json(self) -> dict[str, Any]:
        """Return the figures for a document."""
        found = asdict(self)
        for name in ("sum_score_difference", "sum_overlap", "lists"):
            del found[name]
        return {
            "is_equal": self.is_equal,
            **found,
            "mean_score_difference": self.mean_score_difference,
            "mean_overlap": self.mean_overlap,
        }

    def compare(self, name: str, live: bytes | None, replayed: bytes | None) -> None:
        """Count one pair; `written_at` does not count."""
        if live is None and replayed is None:
            return
        if live is None or replayed is None:
            self.only_replay += live is None
            self.only_live += replayed is None
            self._keep(name, live, replayed)
            return
        left, right = (_WRITTEN_AT.sub(rb"\1\2", value) for value in (live, replayed))
        if left == right:
            self.equal += 1
            return
        self.different += 1
        self.by_kind[name.partition(":")[0]] += 1
        self._measure(orjson.loads(left), orjson.loads(right))
        self._keep(name, live, replayed)

    def _measure(self, live: Mapping[str, Any], replayed: Mapping[str, Any]) -> None:
        said = [_said(live), _said(replayed)]
        if said[0] == said[1]:
            self.same_items += 1
        elif "items" in live and sorted(said[0]) == sorted(said[1]):
            self.reordered += 1
        else:
            self.other_items += 1
        if "items" in live:
            self.lists += 1
            longest = max(len(said[0]), len(said[1]))
            common = len(set(said[0]) & set(said[1]))
            self.sum_overlap += common / longest if longest else 1.0
        scores = dict(_scores(replayed))
        for name, score in _scores(live):
            if name in scores:
                gap = abs(score - scores[name])
                self.scores += 1
                self.sum_score_difference += gap
                self.max_score_difference = max(self.max_score_difference, gap)

    def _keep(self, name: str, live: bytes | None, replayed: bytes | None) -> None:
        if len(self.examples) < _SHOWN:
            self.examples.append(
                {
                    "name": name,
                    "live": (live or b"").decode(errors="replace"),
                    "replay": (replayed or b"").decode(errors="replace"),
                }
            )


def _said(result: Mapping[str, Any]) -> Sequence[str]:
    """Return what a result says, without its numbers: products, a label, or an answer."""
    if "items" in result:
        return [item["product_id"] for item in result["items"]]
    return [str(result.get(name)) for name in ("sentiment", "answered", "text", "source")]


def _scores(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield a result's numbers by product or label."""
    for item in result.get("items", ()):
        yield item["product_id"], item["score"]
    yield from result.get("probabilities", {}).items()
    if isinstance(result.get("confidence"), float):
        yield "confidence", result["confidence"]
