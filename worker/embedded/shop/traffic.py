"""The shop's traffic: who is inside, what is due, what changes on the shelf; one event a tick."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from worker.embedded.shop.broken_records import broken_record
from worker.embedded.shop.catalogue import CatalogueProduct
from worker.embedded.shop.records import SimulatedEvent, event_bytes, rfc3339
from worker.embedded.shop.shelf import Shelf
from worker.embedded.shop.shoppers import Shopper
from worker.embedded.shop.visits import Visits
from worker.events.event import EventKind

if TYPE_CHECKING:
    from worker.embedded.shop.simulated_shop import SimulatedShop

# Shares of all events.
BROKEN_SHARE = 0.01
FORGET_SHARE = 0.002
PRODUCT_SHARE = 0.015
SOLD_OUT_DELAY = (100, 400)  # events until it is back
REMOVED_SHARE = 0.1  # of what is taken off the shelf: by a tombstone, not by `available`
MAX_INSIDE = 40  # visits at one time


class Traffic:
    """One run of the shop from `start` on, with who bought what and what is sold out."""

    def __init__(self, shop: SimulatedShop, start: datetime, rate: float) -> None:
        self._shop = shop
        self._start = start
        self._rate = rate
        self._random = Random(f"traffic:{shop.seed}")
        self._tick = 0
        self._ids = 0
        self._people = {shopper.user_id: shopper for shopper in shop.shoppers}
        self._newcomers = len(shop.shoppers)
        self._inside: dict[str, Iterator[SimulatedEvent]] = {}
        self._most_inside = max(1, min(MAX_INSIDE, len(self._people) // 2))
        self._planned: list[tuple[int, int, str, Iterator[SimulatedEvent]]] = []
        self._shelf = Shelf(shop.products, self._random)
        self._visits = Visits(
            shop, self._shelf, self._random, now=self._now, new_id=self._new_id, plan=self._plan
        )

    def events(self) -> Iterator[SimulatedEvent]:
        """Yield events without end."""
        while True:
            yield self._next()
            self._tick += 1

    def _now(self) -> datetime:
        # to the millisecond, as events carry it
        return self._start + timedelta(milliseconds=int(self._tick * 1000 / self._rate))

    def _new_id(self, letter: str) -> str:
        self._ids += 1
        return f"{letter}{self._shop.seed}-{self._ids}"

    def _plan(
        self, delay: tuple[int, int], shopper: Shopper, follow_up: Iterator[SimulatedEvent]
    ) -> None:
        self._push(delay, shopper.user_id, follow_up)

    def _push(
        self, delay: tuple[int, int], user_id: str, follow_up: Iterator[SimulatedEvent]
    ) -> None:
        self._ids += 1  # decides between those due at the same time
        due = self._tick + self._random.randint(*delay)
        heapq.heappush(self._planned, (due, self._ids, user_id, follow_up))

    def _next(self) -> SimulatedEvent:
        draw = self._random.random()
        if draw < BROKEN_SHARE:
            user_id = self._random.choice(list(self._people))
            return broken_record(self._random, self._new_id("e"), user_id, self._now())
        draw -= BROKEN_SHARE
        if draw < FORGET_SHARE:
            return self._forget()
        draw -= FORGET_SHARE
        if draw < PRODUCT_SHARE and len(self._shelf.missing) < len(self._shop.products) // 10:
            return self._take_off_shelf()
        return self._next_due() or self._next_of_visits()

    def _next_due(self) -> SimulatedEvent | None:
        while self._planned and self._planned[0][0] <= self._tick:
            _, _, user_id, follow_up = heapq.heappop(self._planned)
            if not user_id or user_id in self._people:  # the forgotten do nothing any more
                event = next(follow_up, None)
                if event is not None:
                    return event
        return None

    def _next_of_visits(self) -> SimulatedEvent:
        while True:
            while len(self._inside) < self._most_inside:
                outside = [one for id, one in self._people.items() if id not in self._inside]
                (shopper,) = self._random.choices(outside, [one.activity for one in outside])
                self._inside[shopper.user_id] = self._visits.visit(shopper)
            user_id = self._random.choice(list(self._inside))
            event = next(self._inside[user_id], None)
            if event is not None:
                return event
            del self._inside[user_id]

    def _forget(self) -> SimulatedEvent:
        """A shopper leaves for good and asks to be forgotten; a newcomer takes the place."""
        user_id = self._random.choice(list(self._people))
        del self._people[user_id]
        self._inside.pop(user_id, None)
        newcomer = self._shop.shopper(f"u{self._newcomers:05d}")
        self._people[newcomer.user_id] = newcomer
        self._newcomers += 1
        now = self._now()
        fields = {"event_id": self._new_id("e"), "occurred_at": rfc3339(now), "user_id": user_id}
        return SimulatedEvent(
            EventKind.FORGET,
            user_id.encode(),
            event_bytes(fields),
            fields["event_id"],
            now,
            user_id,
            user_id,
        )

    def _take_off_shelf(self) -> SimulatedEvent:
        present = [product for product in self._shop.products if self._shelf.available(product)]
        product = self._random.choice(present)
        self._shelf.missing.add(product.product_id)
        self._push(SOLD_OUT_DELAY, "", self._put_back(product))
        if self._random.random() < REMOVED_SHARE:
            id = product.product_id
            return SimulatedEvent(EventKind.PRODUCT, id.encode(), None, "", self._now(), id)
        return self._product(product, available=False)

    def _put_back(self, product: CatalogueProduct) -> Iterator[SimulatedEvent]:
        self._shelf.missing.discard(product.product_id)
        yield self._product(product, available=True)

    def _product(self, product: CatalogueProduct, *, available: bool) -> SimulatedEvent:
        locale = self._shop.words.locale
        return product_event(product, self._new_id("e"), self._now(), locale, available=available)


def product_event(
    product: CatalogueProduct, event_id: str, at: datetime, locale: str, *, available: bool = True
) -> SimulatedEvent:
    """Return the event that puts a product, or takes it off the shelf."""
    fields = {
        "event_id": event_id,
        "occurred_at": rfc3339(at),
        "locale": locale,
        "product_id": product.product_id,
        "title": product.title,
        "description": product.description,
        "category": product.category,
        "brand": product.brand,
        "price": product.price,
        "available": available,
    }
    id = product.product_id
    return SimulatedEvent(EventKind.PRODUCT, id.encode(), event_bytes(fields), event_id, at, id)
