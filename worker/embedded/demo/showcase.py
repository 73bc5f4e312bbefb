"""What results say, for people to read, and how near they come to what the simulation knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from worker.embedded.demo.loop.tags_right import TagsRight
from worker.embedded.shop import SimulatedEvent, SimulatedShop
from worker.embedded.shop.records import ExpectedAnswer, Opinion, Wish
from worker.events.event import EventKind
from worker.page.live_figures import ShownAnswer, ShownItem, ShownList, ShownReview
from worker.page.live_view import ITEMS_SHOWN

HOLD_S = 1.5  # how long a newest entry stays the newest: people read slower than a worker writes


class Showcase:
    """The last results in words, and scores of all results."""

    def __init__(self, shop: SimulatedShop) -> None:
        self.recommendations: deque[ShownList] = deque(maxlen=4)
        self.searches: deque[ShownList] = deque(maxlen=4)
        self.reviews: deque[ShownReview] = deque(maxlen=8)
        self.answers: deque[ShownAnswer] = deque(maxlen=6)
        self.tags_right = TagsRight()
        self._shop = shop
        self._shown_s: dict[EventKind, float] = {}
        self._scores: dict[str, list[float]] = {}

    def take(self, event: SimulatedEvent, result: Mapping[str, Any], now_s: float) -> None:
        """Score a result that answers this event, and show it when its turn has come."""
        show = now_s - self._shown_s.get(event.kind, -HOLD_S) >= HOLD_S
        if show:
            self._shown_s[event.kind] = now_s
        if event.kind is EventKind.SEARCH and isinstance(event.truth, Wish):
            self._take_search(event.truth, result, show)
        elif event.kind is EventKind.PURCHASE:
            self._take_recommendations(event, result, show)
        elif event.kind is EventKind.REVIEW and isinstance(event.truth, Opinion):
            self._take_tags(event, event.truth, result, show)
        elif event.kind is EventKind.QUESTION and isinstance(event.truth, ExpectedAnswer):
            self._take_answer(event.truth, result, show)

    def scores(self) -> dict[str, float]:
        """Return name -> mean over all results: shares from 0 to 1.

        search_first_fits: the first product has all that was asked for (where any product has).
        sentiment_right: the tag is what the writer meant.
        answer_right: the answer comes from where it stands, or there is rightly none.
        taste_percentile: where recommended products stand among all products by the shopper's true
        utility (0.5: by chance).
        """
        return {
            name: round(total / count, 4) for name, (total, count) in sorted(self._scores.items())
        }

    def _score(self, name: str, value: float) -> None:
        score = self._scores.setdefault(name, [0.0, 0.0])
        score[0] += value
        score[1] += 1.0

    def _take_search(self, wish: Wish, result: Mapping[str, Any], show: bool) -> None:
        gains = self._shop.true_relevance(wish)
        items = result["items"]
        if max(gains.values(), default=0.0) == 1.0:
            first = gains.get(items[0]["product_id"], 0.0) if items else 0.0
            self._score("search_first_fits", float(first == 1.0))
        if show:
            self.searches.appendleft(ShownList(f"“{result['query']}”", _items(result)))

    def _take_recommendations(
        self, event: SimulatedEvent, result: Mapping[str, Any], show: bool
    ) -> None:
        shopper = self._shop.shopper(result["user_id"])
        utilities = self._shop.true_utilities(shopper)
        ranks = {id: rank for rank, id in enumerate(sorted(utilities, key=utilities.__getitem__))}
        for item in result["items"]:
            self._score("taste_percentile", ranks[item["product_id"]] / max(1, len(ranks) - 1))
        if show:
            items = event.content()["items"]
            bought = ", ".join(self._shop.product(item["product_id"]).title for item in items)
            self.recommendations.appendleft(
                ShownList(f"{shopper.user_id} bought {bought}", _items(result))
            )

    def _take_tags(
        self, event: SimulatedEvent, opinion: Opinion, result: Mapping[str, Any], show: bool
    ) -> None:
        right = result["sentiment"] == opinion.sentiment
        if result["event_id"] == event.event_id:  # else: of a later correction of this review
            self._score("sentiment_right", float(right))
            self.tags_right.note(result["release"], right)
        if show:
            self.reviews.appendleft(
                ShownReview(
                    event.content()["text"],
                    result["sentiment"],
                    result["confidence"],
                    opinion.sentiment,
                )
            )

    def _take_answer(self, expected: ExpectedAnswer, result: Mapping[str, Any], show: bool) -> None:
        source = result["source"] or {}
        found = (source.get("kind"), source.get("id"))
        right = found == (expected.source, expected.id)
        if right and expected.text is not None:
            right = expected.text in (result["text"] or "")
        self._score("answer_right", float(right))
        if show:
            place = ""
            if source.get("kind") == "faq":
                place = "FAQ"
            elif source:
                place = f"{source['kind']} {source['id']}"
            self.answers.appendleft(
                ShownAnswer(result["question"], result["text"], place, result["confidence"])
            )


def _items(result: Mapping[str, Any]) -> list[ShownItem]:
    return [
        ShownItem(item["title"], item["reason"]["text"]) for item in result["items"][:ITEMS_SHOWN]
    ]
