"""The simulated shop as a whole: products, shoppers, events, and what is true of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from worker.embedded.shop.catalogue import CatalogueProduct, make_catalogue
from worker.embedded.shop.records import SimulatedEvent, Wish, whole_ms
from worker.embedded.shop.shoppers import Shopper, make_shopper
from worker.embedded.shop.traffic import Traffic, product_event
from worker.embedded.shop.vocabulary import ShopLocale, faq_file, load_vocabulary

START = datetime(2025, 1, 6, 8, 0, tzinfo=UTC)
WISH_BONUS = 0.8  # of each property asked for that a product has, in units of utility
CHEAP_LEVEL, DEAR_LEVEL = 0.4, 0.6
# Gains of ESCI (Amazon's shopping queries): exact, substitute, complement (irrelevant: 0).
EXACT, SUBSTITUTE, COMPLEMENT = 1.0, 0.1, 0.01


class SimulatedShop:
    """A shop by seed: equal arguments give equal products, shoppers and event bytes.

    Example:
        shop = SimulatedShop(seed=7)
        for event in itertools.islice(shop.events(), 1000): ...
        shop.shopper("u00003").utility(shop.product("p1010"))
    """

    def __init__(
        self,
        seed: int = 1,
        locale: ShopLocale = "en",
        product_count: int = 400,
        shopper_count: int = 200,
    ) -> None:
        """Make the shop; `shopper_count` come at any one time (who is forgotten is replaced)."""
        if product_count < 1 or shopper_count < 1:
            raise ValueError("a shop needs at least one product and one shopper")
        self.seed = seed
        self.locale = locale
        self.words = load_vocabulary(locale)
        self.products = make_catalogue(seed, self.words, product_count)
        self.shoppers = tuple(
            make_shopper(seed, number, self.words) for number in range(shopper_count)
        )
        self._products = {product.product_id: product for product in self.products}
        self._shoppers = {shopper.user_id: shopper for shopper in self.shoppers}

    @property
    def faq_file(self) -> Path:
        """The shop's FAQ (JSON), for the setting `faq_file`."""
        return faq_file(self.locale)

    def product(self, product_id: str) -> CatalogueProduct:
        """Return a product; raises KeyError for an unknown id."""
        return self._products[product_id]

    def shopper(self, user_id: str) -> Shopper:
        """Return a shopper, newcomers included; raises KeyError for an id no shopper can have."""
        if user_id not in self._shoppers:
            if user_id[:1] != "u" or not user_id[1:].isdigit():
                raise KeyError(user_id)
            self._shoppers[user_id] = make_shopper(self.seed, int(user_id[1:]), self.words)
        return self._shoppers[user_id]

    def catalogue(self, start: datetime = START) -> Iterator[SimulatedEvent]:
        """Yield every product as an event; they happened in the second before `start`."""
        for place, product in enumerate(self.products):
            before_ms = 1000 - place * 1000 // len(self.products)
            at = whole_ms(start) - timedelta(milliseconds=before_ms)
            yield product_event(product, f"e{self.seed}-c{place}", at, self.words.locale)

    def events(self, start: datetime = START, rate: float = 40.0) -> Iterator[SimulatedEvent]:
        """Yield what happens from `start` on, in time order, without end.

        `rate` is events per second of event time. What takes days in a real shop (reviews, returns,
        refills) follows after some hundred events, whatever the rate.
        """
        if rate <= 0:
            raise ValueError("the rate must be above 0 events/s")
        return Traffic(self, whole_ms(start), rate).events()

    def true_relevance(self, wish: Wish) -> dict[str, float]:
        """Return product id -> how well it answers a search, whoever searches, as gains of ESCI.

        1.0: the category and all that was asked for; 0.1: the category but not all of it; 0.01:
        bought together with the category; products not in the result: 0.
        """
        complements = self.words.categories[wish.category_id].complements
        gains = {}
        for product in self.products:
            if product.category_id == wish.category_id:
                met, asked = _properties_met(wish, product)
                gains[product.product_id] = EXACT if met == asked else SUBSTITUTE
            elif product.category_id in complements:
                gains[product.product_id] = COMPLEMENT
        return gains

    def true_utilities(self, shopper: Shopper) -> dict[str, float]:
        """Return product id -> the shopper's utility, for every product."""
        return {product.product_id: shopper.utility(product) for product in self.products}

    def purchase_chances(
        self,
        shopper: Shopper,
        wish: Wish,
        considered: Sequence[CatalogueProduct] | None = None,
        pull: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Return product id -> the probability that this search ends with buying it.

        Args:
            considered: what the shopper sees; None: everything of the category wished for. Products
                of other categories are not bought on this search.
            pull: product id -> what popularity adds to utility; None: the products' own appeal.
        """
        seen = self.products if considered is None else considered
        fitting = [product for product in seen if product.category_id == wish.category_id]
        wanted = {
            product.product_id: WISH_BONUS * _properties_met(wish, product)[0]
            for product in fitting
        }
        return shopper.choice_probabilities(fitting, pull, wanted)


def _properties_met(wish: Wish, product: CatalogueProduct) -> tuple[int, int]:
    """Return how many of the properties asked for the product has, and how many were asked for."""
    checks = [trait in product.traits for trait in wish.traits]
    if wish.brand is not None:
        checks.append(product.brand == wish.brand)
    if wish.price == "cheap":
        checks.append(product.price_level <= CHEAP_LEVEL)
    elif wish.price == "dear":
        checks.append(product.price_level >= DEAR_LEVEL)
    return sum(checks), len(checks)
