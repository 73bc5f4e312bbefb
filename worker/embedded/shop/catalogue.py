"""The products of the simulated shop, made from grammars by seed and locale.

A product is more than its text: its traits, its quality and its appeal are known, so that a test
can compute what each shopper thinks of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from worker.embedded.shop.vocabulary import Category, Vocabulary

FACTS_LEFT_OUT = 1  # of each product: so that some questions about it have no answer
QUALITY_SPREAD = 0.5
APPEAL_SPREAD = 0.8
BRANDS_PER_CATEGORY = 5


@dataclass(frozen=True, slots=True)
class Fact:
    """What a description states (or leaves out), and how people ask for it."""

    sentence: str
    asks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogueProduct:
    """A product as the shop shows it, and what only the simulation knows of it."""

    product_id: str
    title: str
    description: str
    category: str  # as shown
    brand: str
    price: float
    # --- known to the simulation alone
    category_id: str
    noun: str
    traits: tuple[str, ...]
    price_level: float  # 0 the cheapest of the category, 1 the dearest, by the logarithm
    quality: float  # about -1 to 1: what reviews will say
    appeal: float  # log of how well known it is: weighs on what is shown and bought, not on taste
    facts: Mapping[str, Fact]  # stated in the description
    unstated: Mapping[str, Fact]


def make_catalogue(seed: int, words: Vocabulary, count: int) -> tuple[CatalogueProduct, ...]:
    """Return `count` products, the categories in turn; ids do not tell the category."""
    random = Random(f"catalogue:{seed}")
    categories = list(words.categories.values())
    sellers = {
        category.id: random.sample(words.brands, BRANDS_PER_CATEGORY) for category in categories
    }
    standing = {brand: random.gauss(0.0, 1.0) for brand in words.brands}
    numbers = random.sample(range(count), count)
    return tuple(
        _product(
            random, words, categories[place % len(categories)], sellers, standing, numbers[place]
        )
        for place in range(count)
    )


def _product(
    random: Random,
    words: Vocabulary,
    category: Category,
    sellers: Mapping[str, list[str]],
    standing: Mapping[str, float],
    number: int,
) -> CatalogueProduct:
    brand = random.choice(sellers[category.id])
    traits = tuple(trait for group in category.traits if (trait := random.choice(group)))
    quality = max(-1.0, min(1.0, random.gauss(0.15 * standing[brand], QUALITY_SPREAD)))
    # good brands and good things cost more, but not always
    level = max(0.0, min(1.0, random.gauss(0.5 + 0.1 * standing[brand] + 0.15 * quality, 0.22)))
    facts = {
        name: Fact(fact.says.format(random.choice(fact.values)), fact.asks)
        for name, fact in category.facts.items()
    }
    unstated = random.sample(sorted(facts), FACTS_LEFT_OUT)
    stated = {name: fact for name, fact in facts.items() if name not in unstated}
    noun = random.choice(category.nouns)
    series, colour = random.choice(words.series), random.choice(words.colours)
    fill = {
        "brand": brand,
        "series": series,
        "colour": colour,
        "noun": noun,
        "traits": words.word_gap.join(words.traits[trait].word for trait in traits[:2]),
    }
    sentences = [
        random.choice(words.intros).format(**fill),
        *(words.traits[trait].says for trait in traits),
        *(fact.sentence for fact in stated.values()),
    ]
    if not category.colourless:
        sentences.append(words.colour_line.format(colour=colour))
    titles = words.plain_titles if category.colourless else words.titles
    return CatalogueProduct(
        product_id=f"p{1000 + number}",
        title=_upper_first(random.choice(titles).format(**fill)),
        description=(" " if words.word_gap else "").join(map(_upper_first, sentences)),
        category=category.name,
        brand=brand,
        price=_price(category, level, words.price_ending),
        category_id=category.id,
        noun=noun,
        traits=traits,
        price_level=level,
        quality=quality,
        appeal=random.gauss(0.0, APPEAL_SPREAD),
        facts=stated,
        unstated={name: facts[name] for name in unstated},
    )


def _price(category: Category, level: float, ending: float) -> float:
    low, high = category.prices
    return math.floor(low * math.pow(high / low, level)) + ending


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]
