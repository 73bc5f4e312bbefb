"""Shoppers with tastes that are known: what each thinks of every product can be computed.

A choice is a multinomial logit (McFadden 1974): of what a shopper considers, a product is bought
with a probability proportional to exp(sharpness * (utility + pull)), where the pull is how well
known the product is; leaving without anything is one of the choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from worker.embedded.shop.catalogue import CatalogueProduct
from worker.embedded.shop.vocabulary import Vocabulary

TRAIT_SPREAD = 0.9
BRAND_SPREAD = 0.6
QUALITY_WEIGHT = 0.8
SHARPNESS = 1.3
APPEAL_PULL = 0.35
LEAVE_UTILITY = 2.3  # leaving is worth a very good product: about half of the visits end so
FOREIGN_CATEGORY = 0.02  # share of interest in what is no part of the shopper's life


@dataclass(frozen=True, slots=True)
class Taste:
    """What a shopper likes; weights of traits and brands are normal around 0."""

    categories: Mapping[str, float]  # shares of interest, summing up to 1
    traits: Mapping[str, float]
    brands: Mapping[str, float]
    price_level: float  # the level liked best, 0 to 1
    price_weight: float


@dataclass(frozen=True, slots=True)
class Shopper:
    """A shopper and the shopper's taste; what they did is not part of them."""

    user_id: str
    taste: Taste
    activity: float = 1.0  # how often they come, relative to the others
    ways_of_life: tuple[str, ...] = field(default=())

    def utility(self, product: CatalogueProduct) -> float:
        """Return what the product is worth to this shopper: about 0 on average, 1 is a lot better.

        It counts interest in the category, traits, brand, price and quality, never popularity.
        """
        taste = self.taste
        interest = math.log(taste.categories[product.category_id] * len(taste.categories)) / 2.0
        return interest + self.fit(product)

    def fit(self, product: CatalogueProduct) -> float:
        """Return how well a product fits among others of its category (utility less interest)."""
        taste = self.taste
        liked = sum(taste.traits[trait] for trait in product.traits) / math.sqrt(3.0)
        price = taste.price_weight * abs(product.price_level - taste.price_level)
        return liked + taste.brands[product.brand] - price + QUALITY_WEIGHT * product.quality

    def choice_probabilities(
        self,
        considered: Sequence[CatalogueProduct],
        pull: Mapping[str, float] | None = None,
        wanted: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """Return the probability that each considered product is bought; the rest to 1 is leaving.

        Args:
            considered: the products looked at.
            pull: product id -> what popularity adds; None: the product's own appeal.
            wanted: product id -> what the present wish adds (see `Wish`).
        """
        weights = {}
        for product in considered:
            id = product.product_id
            value = self.fit(product) + (
                APPEAL_PULL * product.appeal if pull is None else pull.get(id, 0.0)
            )
            weights[id] = math.exp(SHARPNESS * (value + (wanted or {}).get(id, 0.0)))
        total = sum(weights.values()) + math.exp(SHARPNESS * LEAVE_UTILITY)
        return {id: weight / total for id, weight in weights.items()}


def make_shopper(seed: int, number: int, words: Vocabulary) -> Shopper:
    """Return shopper `number`: independent of how many others there are."""
    random = Random(f"shopper:{seed}:{number}")
    lives = tuple(random.sample(sorted(words.ways_of_life), random.choice((1, 1, 2))))
    interest = dict.fromkeys(words.categories, 0.0)
    for life in lives:
        for category in words.ways_of_life[life]:
            interest[category] += random.expovariate(1.0) + 0.1
    interest[random.choice(sorted(interest))] += random.expovariate(1.0)
    total = sum(interest.values())
    foreign = FOREIGN_CATEGORY / len(interest)
    taste = Taste(
        categories={
            id: foreign + (1.0 - FOREIGN_CATEGORY) * share / total for id, share in interest.items()
        },
        traits={trait: random.gauss(0.0, TRAIT_SPREAD) for trait in words.traits},
        brands={brand: random.gauss(0.0, BRAND_SPREAD) for brand in words.brands},
        price_level=random.random(),
        price_weight=random.uniform(0.5, 2.5),
    )
    return Shopper(f"u{number:05d}", taste, random.paretovariate(2.0), lives)
