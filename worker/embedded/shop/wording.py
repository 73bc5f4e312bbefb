"""How shoppers put things: queries with synonyms and typing slips, reviews, questions."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from random import Random
from typing import Literal

from worker.embedded.shop.catalogue import CatalogueProduct
from worker.embedded.shop.records import ExpectedAnswer, Opinion, Wish
from worker.embedded.shop.shoppers import Shopper
from worker.embedded.shop.vocabulary import Category, Stars, Vocabulary

SYNONYM_SHARE = 0.25
TYPO_SHARE = 0.06
TRAIT_SHARE = 0.65
SECOND_TRAIT_SHARE = 0.3
BRAND_SHARE = 0.15
PRICE_SHARE = 0.1
QUESTION_SHARES = {"product": 0.45, "unstated": 0.15, "off-topic": 0.1, "faq": 0.3}


def make_wish(random: Random, shopper: Shopper, category: Category, words: Vocabulary) -> Wish:
    """Return a search of this shopper in a category, asking for what the shopper likes."""
    taste = shopper.taste
    traits: list[str] = []
    groups = [tuple(filter(None, group)) for group in category.traits]
    random.shuffle(groups)
    for group, share in zip(groups, (TRAIT_SHARE, SECOND_TRAIT_SHARE), strict=False):
        if random.random() >= share:
            break
        traits.append(_pick(random, {trait: taste.traits[trait] for trait in group}))
    brand = None
    if random.random() < BRAND_SHARE:
        brand = _pick(random, taste.brands)
    price: Literal["cheap", "dear"] | None = None
    if brand is None and abs(taste.price_level - 0.5) > 0.2 and random.random() < PRICE_SHARE:
        price = "cheap" if taste.price_level < 0.5 else "dear"
    if brand is not None:
        traits = traits[:1]
    text = _query(random, category, traits, brand, price, words)
    return Wish(text, category.id, tuple(traits), brand, price)


def _pick(random: Random, liking: Mapping[str, float]) -> str:
    """Return one of the names, the liked ones far more often."""
    return random.choices(list(liking), [math.exp(2.0 * value) for value in liking.values()])[0]


def _query(
    random: Random,
    category: Category,
    traits: list[str],
    brand: str | None,
    price: Literal["cheap", "dear"] | None,
    words: Vocabulary,
) -> str:
    noun = random.choice(category.also if random.random() < SYNONYM_SHARE else category.nouns)
    said = [
        random.choice(words.traits[trait].also)
        if random.random() < SYNONYM_SHARE
        else words.traits[trait].word
        for trait in traits
    ]
    parts = {"noun": noun}
    if said:
        parts["traits"] = words.word_gap.join(said)
    if brand is not None:
        parts["brand"] = brand
    if price is not None:
        parts["price"] = random.choice(words.cheap if price == "cheap" else words.dear)
    fitting = [pattern for pattern in words.query_patterns if _places(pattern) == parts.keys()]
    text = random.choice(fitting).format(**parts).lower()
    return _mistype(random, text, words) if random.random() < TYPO_SHARE else text


def _places(pattern: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(pattern) if name}


def _mistype(random: Random, text: str, words: Vocabulary) -> str:
    """Swap or leave out letters of a long word, or write a character of the same sound."""
    if words.misspellings:
        places = [place for place, sign in enumerate(text) if sign in words.misspellings]
        if not places:
            return text
        place = random.choice(places)
        return text[:place] + words.misspellings[text[place]] + text[place + 1 :]
    parts = text.split(" ")
    long = [place for place, part in enumerate(parts) if len(part) >= 5 and part.isalpha()]
    if not long:
        return text
    place = random.choice(long)
    part = parts[place]
    at = random.randrange(1, len(part) - 2)
    if random.random() < 0.5:
        part = part[:at] + part[at + 1] + part[at] + part[at + 2 :]
    else:
        part = part[:at] + part[at + 1 :]
    return " ".join([*parts[:place], part, *parts[place + 1 :]])


def stars_for(random: Random, shopper: Shopper, product: CatalogueProduct) -> int:
    """Return the stars that a shopper gives: by how good the product is and how well it fits."""
    pleasure = 3.3 + 1.4 * product.quality + 0.45 * shopper.fit(product) + random.gauss(0.0, 0.8)
    return max(1, min(5, round(pleasure)))


def write_review(
    random: Random, product: CatalogueProduct, stars: int, words: Vocabulary
) -> tuple[str, Opinion]:
    """Return a text that fits the stars (1-2 negative, 3 neutral, 4-5 positive) and its meaning."""
    sentiment: Stars = "negative" if stars <= 2 else "neutral" if stars == 3 else "positive"
    say = words.reviews[sentiment]
    aspects = list(words.categories[product.category_id].aspects)
    random.shuffle(aspects)
    sentences = [
        random.choice(say.aspects).format(aspect=aspects[place], other=aspects[place - 1])
        for place in range(random.choice((1, 1, 2, 3)))
    ]
    if random.random() < 0.75:
        sentences.insert(0, random.choice(say.openers).format(noun=product.noun))
    if random.random() < 0.3:
        aside = random.choice(say.asides).format(aspect=aspects[-1])
        sentences.insert(random.randint(1, len(sentences)), aside)
    if random.random() < 0.5:
        sentences.append(random.choice(say.closers))
    gap = " " if words.word_gap else ""
    text = gap.join(sentence[:1].upper() + sentence[1:] for sentence in sentences)
    return text, Opinion(sentiment, stars)


def ask_question(
    random: Random, product: CatalogueProduct, words: Vocabulary
) -> tuple[str, str | None, ExpectedAnswer]:
    """Return a question, the product page it is asked on (or None), and where its answer stands."""
    (manner,) = random.choices(list(QUESTION_SHARES), list(QUESTION_SHARES.values()))
    if manner == "faq":
        entry = random.choice(list(words.faq_questions))
        text = random.choice(words.faq_questions[entry])
        return text, None, ExpectedAnswer("faq", entry)
    if manner == "off-topic":
        return random.choice(words.unanswerable), product.product_id, ExpectedAnswer(None)
    if manner == "unstated":
        fact = random.choice(list(product.unstated.values()))
        return random.choice(fact.asks), product.product_id, ExpectedAnswer(None)
    fact = random.choice(list(product.facts.values()))
    expected = ExpectedAnswer("product", product.product_id, fact.sentence)
    return random.choice(fact.asks), product.product_id, expected
