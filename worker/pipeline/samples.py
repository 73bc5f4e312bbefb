"""Labeled samples from events and histories.

A purchase is credited to the latest search within the attribution window that showed the product;
to the latest search of unknown impressions, of the same session where both are known, when none
did. Topics arrive in any order: a search that comes after its purchase credits it again, and the
sample's id (shopper, order, product) makes the later record replace the earlier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from models.recommendation.shopper import ShopperEvent
from models.sample import (
    AnswerSample,
    ForgetSample,
    NextItemSample,
    ReversalSample,
    ReviewSample,
    Sample,
    SearchSample,
    sample_id,
)
from worker.events.event import Event, Forget, Purchase, Question, Return, Review, Search
from worker.pipeline.options import PipelineOptions
from worker.pipeline.privacy import mask_personal_data, pseudonym
from worker.pipeline.times import rfc3339
from worker.store.results import AnswerResult

History = Sequence[ShopperEvent]


class SampleMaker:
    """Makes the samples of one event from the shopper's history after it."""

    def __init__(self, options: PipelineOptions) -> None:
        self._key = options.privacy_key
        self._window_ms = round(options.attribution_window_s * 1000)
        self._sequence_events = options.sample_history_events

    def of_event(self, event: Event, history: History) -> Iterator[Sample]:
        """Yield the samples that an event makes by itself: those of answers come with the answer.

        `history` is the shopper's after the event; purchases and searches read it.
        """
        if isinstance(event, Purchase):
            yield from self.of_purchase(event, history)
        elif isinstance(event, Search):
            yield from self.of_search(event, history)
        elif isinstance(event, Return):
            yield self.of_return(event)
        elif isinstance(event, Forget):
            yield self.of_forget(event)
        elif isinstance(event, Review):
            sample = self.of_review(event)
            if sample is not None:
                yield sample

    def of_purchase(
        self, event: Purchase, history: History
    ) -> Iterator[SearchSample | NextItemSample]:
        """Yield the searches this purchase answers, and the sequence it continues."""
        purchase = _find(history, event.event_id)
        if purchase is None:  # older than all that the capped history keeps
            return
        yield from self._credit(purchase, history, event.user_id, event.locale)
        yield from self._sequence(purchase, history, event.user_id, event.locale)

    def of_search(self, event: Search, history: History) -> Iterator[SearchSample]:
        """Yield again what purchases already known answer this search."""
        for purchase in history:
            if (
                purchase.kind == "purchase"
                and 0 <= purchase.occurred_at_ms - event.occurred_at_ms <= self._window_ms
            ):
                yield from self._credit(purchase, history, event.user_id, event.locale)

    def of_return(self, event: Return) -> ReversalSample:
        """Return what takes the labels of the returned lines back."""
        user = pseudonym(event.user_id, self._key)
        products = dict.fromkeys(item.product_id for item in event.items)
        return ReversalSample(
            sample_id=sample_id("reversal", user, event.event_id),
            occurred_at=rfc3339(event.occurred_at_ms),
            user=user,
            locale=event.locale,
            label_keys=[_label_key(user, event.order_id, product) for product in products],
        )

    def of_review(self, event: Review) -> ReviewSample | None:
        """Return the text with its stars; none without stars."""
        if event.stars is None:
            return None
        user = pseudonym(event.user_id, self._key)
        return ReviewSample(
            sample_id=sample_id("review", user, event.review_id),
            occurred_at=rfc3339(event.occurred_at_ms),
            user=user,
            locale=event.locale,
            product_id=event.product_id,
            text=mask_personal_data(event.text),
            stars=event.stars,
        )

    def of_answer(self, event: Question, answer: AnswerResult) -> AnswerSample | None:
        """Return the question with its answer; none where there was no answer."""
        if answer.text is None or answer.source is None:
            return None
        user = pseudonym(event.user_id, self._key)
        return AnswerSample(
            sample_id=sample_id("answer", user, event.question_id),
            occurred_at=rfc3339(event.occurred_at_ms),
            user=user,
            locale=event.locale,
            question=mask_personal_data(event.text),
            product_id=event.product_id,
            answer=mask_personal_data(answer.text),
            source_kind=answer.source.kind,
            source_id=answer.source.id,
            confidence=answer.confidence,
        )

    def of_forget(self, event: Forget) -> ForgetSample:
        """Return what drops a shopper's samples."""
        user = pseudonym(event.user_id, self._key)
        return ForgetSample(
            sample_id=sample_id("forget", user, event.event_id),
            occurred_at=rfc3339(event.occurred_at_ms),
            user=user,
        )

    def _credit(
        self, purchase: ShopperEvent, history: History, user_id: str, locale: str | None
    ) -> Iterator[SearchSample]:
        user = pseudonym(user_id, self._key)
        order, earliest_ms = purchase.order, purchase.occurred_at_ms - self._window_ms
        searches = [
            search
            for search in history
            if search.kind == "search"
            and search.occurred_at_ms >= earliest_ms
            and search.order < order
        ]
        for product_id in purchase.product_ids:
            search = _credited_search(searches, purchase, product_id)
            if search is None or search.query is None:
                continue
            until = search.occurred_at_ms + self._window_ms
            bought = {
                product
                for event in history
                if event.kind == "purchase"
                and search.occurred_at_ms <= event.occurred_at_ms <= until
                for product in event.product_ids
            }
            order_id = purchase.order_id or purchase.event_id
            yield SearchSample(
                sample_id=sample_id("search", user, order_id, product_id),
                occurred_at=rfc3339(purchase.occurred_at_ms),
                user=user,
                locale=locale,
                query=_masked_query(search.query),
                positive=product_id,
                negatives=[shown for shown in search.shown if shown not in bought],
                shown=list(search.shown),
                search_event_id=search.event_id,
                label_key=_label_key(user, order_id, product_id),
            )

    def _sequence(
        self, purchase: ShopperEvent, history: History, user_id: str, locale: str | None
    ) -> Iterator[NextItemSample]:
        order = purchase.order
        before = [event for event in history if event.order < order]
        if not before:
            return
        user = pseudonym(user_id, self._key)
        order_id = purchase.order_id or purchase.event_id
        # Validated from plain data: a call of each item's own constructor costs four times as much.
        yield NextItemSample.model_validate(
            {
                "sample_id": sample_id("next-item", user, purchase.event_id),
                "occurred_at": rfc3339(purchase.occurred_at_ms),
                "user": user,
                "locale": locale,
                "history": [_history_item(event) for event in before[-self._sequence_events :]],
                "next_products": list(purchase.product_ids),
                "label_keys": [
                    _label_key(user, order_id, product) for product in purchase.product_ids
                ],
            }
        )


def _credited_search(
    searches: Sequence[ShopperEvent], purchase: ShopperEvent, product_id: str
) -> ShopperEvent | None:
    for search in reversed(searches):
        if product_id in search.shown:
            return search
    for search in reversed(searches):
        same_session = (
            search.session_id is None
            or purchase.session_id is None
            or search.session_id == purchase.session_id
        )
        if not search.shown and same_session:
            return search
    return None


def _history_item(event: ShopperEvent) -> dict[str, object]:
    """Return a `HistoryItem` as plain data."""
    return {
        "kind": event.kind,
        "occurred_at_ms": event.occurred_at_ms,
        "query": _masked_query(event.query) if event.query else None,
        "product_ids": list(event.product_ids),
        "stars": event.stars,
    }


# A query stands in every later sequence of its shopper, and many shoppers type the same.
_masked_query = lru_cache(maxsize=4_096)(mask_personal_data)


def _find(history: History, event_id: str) -> ShopperEvent | None:
    return next((event for event in reversed(history) if event.event_id == event_id), None)


def _label_key(user: str, order_id: str, product_id: str) -> str:
    return sample_id("label", user, order_id, product_id)
