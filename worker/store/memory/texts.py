"""Histories, products and reviews in memory, in Redis's order and with Redis's caps.

Text compares by code point here and by UTF-8 byte there, which is the same order.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from models.recommendation.shopper import ShopperEvent
from worker.store.codec import (
    decode_history_member,
    decode_json,
    distinct_events,
    encode_history_member,
)
from worker.store.contract import PutReview, ReviewText, Version
from worker.store.limits import StoreLimits

_Member = tuple[int, bytes]


class Histories:
    """Capped histories: a set of members ordered by time and spelling."""

    def __init__(self, limits: StoreLimits) -> None:
        self._cap = limits.history_max_events
        self._members: dict[str, list[_Member]] = {}
        self._events: dict[str, dict[_Member, ShopperEvent]] = {}

    def add(self, user_id: str, event: ShopperEvent) -> None:
        """Put an event into a history."""
        # A copy: orjson leaves a few hundred bytes in a buffer of four thousand.
        spelled = bytes(memoryview(encode_history_member(event)))
        member = (event.occurred_at_ms, spelled)
        members = self._members.setdefault(user_id, [])
        events = self._events.setdefault(user_id, {})
        if member in events:
            return
        bisect.insort(members, member)
        events[member] = decode_history_member(decode_json(member[1]))
        while len(members) > self._cap:
            del events[members.pop(0)]

    def read(self, user_id: str) -> Sequence[ShopperEvent]:
        """Return a history, oldest first."""
        events = self._events.get(user_id, {})
        return distinct_events(events[member] for member in self._members.get(user_id, ()))

    def forget(self, user_id: str, version: Version) -> None:
        """Drop what is not newer than `version`."""
        events = self._events.get(user_id, {})
        kept = []
        for member in self._members.get(user_id, ()):
            if events[member].order <= version:
                del events[member]
            else:
                kept.append(member)
        self._members[user_id] = kept


class ProductTexts:
    """The newest text of each product; None stands for a removed one."""

    def __init__(self) -> None:
        self._records: dict[str, tuple[Version, str | None]] = {}

    def put(self, product_id: str, version: Version, text: str | None) -> None:
        """Keep the text, only if not older than what stands."""
        standing = self._records.get(product_id)
        if standing is None or version >= standing[0]:
            self._records[product_id] = (version, text)

    def read(self, product_id: str) -> str | None:
        """Return the product's JSON."""
        record = self._records.get(product_id)
        return record[1] if record else None


class ReviewTexts:
    """Review texts, capped per product; the newest version of a review id wins."""

    def __init__(self, limits: StoreLimits) -> None:
        self._cap = limits.reviews_per_product
        self._reviews: dict[str, PutReview] = {}
        self._by_product: dict[str, set[tuple[int, str]]] = {}
        self._owned: dict[str, set[str]] = {}

    def put(self, review: PutReview) -> None:
        """Keep the review, only if not older than what stands."""
        standing = self._reviews.get(review.review_id)
        if standing is not None:
            if review.version < standing.version:
                return
            self._drop(standing)
        self._reviews[review.review_id] = review
        self._owned.setdefault(review.user_id, set()).add(review.review_id)
        index = self._by_product.setdefault(review.product_id, set())
        index.add((review.version.occurred_at_ms, review.review_id))
        while len(index) > self._cap:
            self._drop(self._reviews[min(index)[1]])

    def read(self, product_id: str) -> Sequence[ReviewText]:
        """Return a product's reviews, newest first."""
        return [
            ReviewText(review_id, occurred_at_ms, review.text, review.stars)
            for occurred_at_ms, review_id in sorted(
                self._by_product.get(product_id, ()), reverse=True
            )
            for review in (self._reviews[review_id],)
        ]

    def forget(self, user_id: str, version: Version) -> None:
        """Drop the shopper's texts up to `version`."""
        owned = self._owned.get(user_id, set())
        for review_id in list(owned):
            standing = self._reviews.get(review_id)
            if standing is None or standing.version <= version:
                owned.discard(review_id)
                if standing is not None:
                    self._drop(standing)

    def _drop(self, review: PutReview) -> None:
        del self._reviews[review.review_id]
        self._owned[review.user_id].discard(review.review_id)
        self._by_product[review.product_id].discard(
            (review.version.occurred_at_ms, review.review_id)
        )
