"""What a shopper does in the shop and afterwards: each visit, each follow-up yields events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

from worker.embedded.shop.catalogue import CatalogueProduct
from worker.embedded.shop.records import SimulatedEvent, Truth, Wish, event_bytes, rfc3339
from worker.embedded.shop.shelf import Shelf
from worker.embedded.shop.shoppers import Shopper
from worker.embedded.shop.wording import ask_question, make_wish, stars_for, write_review
from worker.events.event import EventKind

if TYPE_CHECKING:
    from worker.embedded.shop.simulated_shop import SimulatedShop

# Within a visit.
SEARCH_AGAIN_SHARE = 0.25
QUESTION_SHARE = 0.35
COMPLEMENT_SHARE = 0.5
# After a purchase; delays are in events of the whole shop.
REVIEW_SHARE, REVIEW_DELAY = 0.65, (10, 200)
CORRECTION_SHARE, CORRECTION_DELAY = 0.05, (50, 200)
RETURN_SHARE, RETURN_DELAY = 0.6, (20, 150)  # of what got one or two stars
REFILL_SHARE, REFILL_DELAY = 0.7, (150, 500)

Plan = Callable[[tuple[int, int], Shopper, Iterator[SimulatedEvent]], None]


class Visits:
    """Makes visits and follow-ups; `plan` takes what shall follow after so many events."""

    def __init__(
        self,
        shop: SimulatedShop,
        shelf: Shelf,
        random: Random,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[str], str],
        plan: Plan,
    ) -> None:
        self._shop = shop
        self._shelf = shelf
        self._random = random
        self._now = now
        self._id = new_id
        self._plan = plan
        self._owned: dict[str, set[str]] = {}

    def visit(self, shopper: Shopper) -> Iterator[SimulatedEvent]:
        """Look for something of the shopper's life, then perhaps for what goes with it."""
        session = self._id("s")
        interest = shopper.taste.categories
        (category,) = self._random.choices(list(interest), list(interest.values()))
        for _ in range(3):
            bought = yield from self._look_for(shopper, session, category)
            complements = self._shop.words.categories[category].complements
            if not bought or not complements or self._random.random() >= COMPLEMENT_SHARE:
                return
            category = self._random.choice(complements)

    def _look_for(
        self, shopper: Shopper, session: str, category: str
    ) -> Generator[SimulatedEvent, None, bool]:
        """Search, perhaps again, perhaps ask, perhaps buy; returns whether something was bought."""
        wish, shown = self._wish(shopper, category)
        yield self._search(shopper, session, wish, shown)
        if self._random.random() < SEARCH_AGAIN_SHARE:
            wish, shown = self._wish(shopper, category)
            yield self._search(shopper, session, wish, shown)
        if shown and self._random.random() < QUESTION_SHARE:
            yield self._question(shopper, session, self._random.choice(shown[:4]))
        product = self._choose(shopper, wish, shown)
        if product is None:
            return False
        yield self._purchase(shopper, session, product)
        return True

    def _wish(self, shopper: Shopper, category: str) -> tuple[Wish, list[CatalogueProduct]]:
        words = self._shop.words
        wish = make_wish(self._random, shopper, words.categories[category], words)
        return wish, self._shelf.show(wish)

    def _choose(
        self, shopper: Shopper, wish: Wish, shown: list[CatalogueProduct]
    ) -> CatalogueProduct | None:
        owned = self._owned.get(shopper.user_id, set())
        considered = [
            product
            for product in shown
            if self._shelf.available(product) and product.product_id not in owned
        ]
        pull = {product.product_id: self._shelf.pull(product) for product in considered}
        draw = self._random.random()
        chances = self._shop.purchase_chances(shopper, wish, considered, pull)
        for product_id, chance in chances.items():
            draw -= chance
            if draw < 0:
                return self._shop.product(product_id)
        return None

    # --- single events

    def _search(
        self, shopper: Shopper, session: str, wish: Wish, shown: list[CatalogueProduct]
    ) -> SimulatedEvent:
        fields = {
            "session_id": session,
            "query": wish.text,
            "shown": [product.product_id for product in shown],
        }
        return self._event(EventKind.SEARCH, shopper, fields, truth=wish)

    def _question(
        self, shopper: Shopper, session: str, product: CatalogueProduct
    ) -> SimulatedEvent:
        text, product_id, expected = ask_question(self._random, product, self._shop.words)
        fields = {
            "session_id": session,
            "question_id": self._id("q"),
            "text": text,
            "product_id": product_id,
        }
        return self._event(
            EventKind.QUESTION, shopper, fields, result="question_id", truth=expected
        )

    def _purchase(
        self, shopper: Shopper, session: str | None, product: CatalogueProduct
    ) -> SimulatedEvent:
        category = self._shop.words.categories[product.category_id]
        quantity = self._random.choice((1, 1, 2, 3)) if category.consumable else 1
        item = {"product_id": product.product_id, "quantity": quantity, "price": product.price}
        order = self._id("o")
        self._shelf.sell(product, quantity)
        if not category.consumable:
            self._owned.setdefault(shopper.user_id, set()).add(product.product_id)
        stars = stars_for(self._random, shopper, product)
        if self._random.random() < REVIEW_SHARE:
            self._plan(REVIEW_DELAY, shopper, self._review(shopper, product, stars))
        if stars <= 2 and self._random.random() < RETURN_SHARE:
            self._plan(RETURN_DELAY, shopper, self._return(shopper, order, item))
        elif category.consumable and self._random.random() < REFILL_SHARE:
            self._plan(REFILL_DELAY, shopper, self._refill(shopper, product))
        fields = {"session_id": session, "order_id": order, "items": [item]}
        return self._event(EventKind.PURCHASE, shopper, fields, result="user_id")

    # --- follow-ups

    def _review(
        self, shopper: Shopper, product: CatalogueProduct, stars: int
    ) -> Iterator[SimulatedEvent]:
        yield self._review_event(shopper, product, stars, self._id("r"))

    def _review_event(
        self, shopper: Shopper, product: CatalogueProduct, stars: int, review_id: str
    ) -> SimulatedEvent:
        text, opinion = write_review(self._random, product, stars, self._shop.words)
        if self._random.random() < CORRECTION_SHARE:
            changed = max(1, min(5, stars + self._random.choice((-2, 2))))
            correction = self._correction(shopper, product, changed, review_id)
            self._plan(CORRECTION_DELAY, shopper, correction)
        fields = {
            "review_id": review_id,
            "product_id": product.product_id,
            "text": text,
            "stars": stars,
        }
        return self._event(EventKind.REVIEW, shopper, fields, result="review_id", truth=opinion)

    def _correction(
        self, shopper: Shopper, product: CatalogueProduct, stars: int, review_id: str
    ) -> Iterator[SimulatedEvent]:
        yield self._review_event(shopper, product, stars, review_id)

    def _return(
        self, shopper: Shopper, order: str, item: dict[str, Any]
    ) -> Iterator[SimulatedEvent]:
        fields = {"order_id": order, "items": [item]}
        yield self._event(EventKind.RETURN, shopper, fields, result="user_id")

    def _refill(self, shopper: Shopper, product: CatalogueProduct) -> Iterator[SimulatedEvent]:
        if self._shelf.available(product):
            yield self._purchase(shopper, None, product)

    def _event(
        self,
        kind: EventKind,
        shopper: Shopper,
        fields: dict[str, Any],
        *,
        result: str = "event_id",
        truth: Truth | None = None,
    ) -> SimulatedEvent:
        now = self._now()
        head = {
            "event_id": self._id("e"),
            "occurred_at": rfc3339(now),
            "locale": self._shop.words.locale,
            "user_id": shopper.user_id,
        }
        whole = {**head, **fields}
        return SimulatedEvent(
            kind=kind,
            key=shopper.user_id.encode(),
            value=event_bytes(whole),
            event_id=head["event_id"],
            occurred_at=now,
            result_id=whole[result],
            user_id=shopper.user_id,
            truth=truth,
        )
