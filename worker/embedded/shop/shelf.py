"""What stands on the shelf now, how often it was bought, and the shop's own plain search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from worker.embedded.shop.catalogue import CatalogueProduct
from worker.embedded.shop.records import Wish
from worker.embedded.shop.shoppers import APPEAL_PULL

SHOWN_COUNT = 12
TRAIT_FOUND = 0.6  # what a trait asked for adds to a product's place on the result page
SALES_PULL = 0.12  # of the logarithm of how often a product was bought
SHOWN_NOISE = 0.5  # so that impressions are not the same for everybody


class Shelf:
    """Availability and sales of one run of the shop."""

    def __init__(self, products: Sequence[CatalogueProduct], random: Random) -> None:
        self.missing: set[str] = set()  # sold out or removed
        self._products: dict[str, list[CatalogueProduct]] = {}
        for product in products:
            self._products.setdefault(product.category_id, []).append(product)
        self._random = random
        self._sold: dict[str, int] = {}

    def available(self, product: CatalogueProduct) -> bool:
        """Say whether the product can be bought now."""
        return product.product_id not in self.missing

    def sell(self, product: CatalogueProduct, quantity: int) -> None:
        """Count a purchase."""
        self._sold[product.product_id] = self._sold.get(product.product_id, 0) + quantity

    def pull(self, product: CatalogueProduct) -> float:
        """Return what popularity adds to the product's utility."""
        sold = self._sold.get(product.product_id, 0)
        return APPEAL_PULL * product.appeal + SALES_PULL * math.log1p(sold)

    def show(self, wish: Wish) -> list[CatalogueProduct]:
        """Return the result page before any learning: the category, best-sellers first."""
        scored = []
        category = self._products.get(wish.category_id, [])
        for place, product in enumerate(category):
            if self.available(product):
                found = TRAIT_FOUND * sum(trait in product.traits for trait in wish.traits)
                score = found + self.pull(product) + self._random.gauss(0.0, SHOWN_NOISE)
                scored.append((-score, place))
        return [category[place] for _, place in sorted(scored)[:SHOWN_COUNT]]
