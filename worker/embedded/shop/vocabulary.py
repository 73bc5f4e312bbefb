"""The words and the structure of the simulated shop, read from the TOML files in `words/`.

`shop.toml` says what no language says (which category goes with which, what it costs), `en.toml`
and `zh.toml` say it in words. Both catalogues have the same categories and traits.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

ShopLocale = Literal["en", "zh"]
Stars = Literal["negative", "neutral", "positive"]
SENTIMENTS: tuple[Stars, ...] = ("negative", "neutral", "positive")

WORDS = Path(__file__).with_name("words")


@dataclass(frozen=True, slots=True)
class TraitWords:
    """A trait in words: as titles say it, as shoppers also type it, as descriptions tell it."""

    word: str
    also: tuple[str, ...]
    says: str


@dataclass(frozen=True, slots=True)
class FactWords:
    """A fact that descriptions of a category may state: `says` has one `{}` for the value."""

    says: str
    values: tuple[str, ...]
    asks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A category: its structure and its words. `prices` are in the locale's currency."""

    id: str
    name: str
    nouns: tuple[str, ...]
    also: tuple[str, ...]
    aspects: tuple[str, ...]
    facts: Mapping[str, FactWords]
    prices: tuple[float, float]
    traits: tuple[tuple[str, ...], ...]
    complements: tuple[str, ...]
    consumable: bool
    colourless: bool


@dataclass(frozen=True, slots=True)
class ReviewWords:
    """Sentences of one sentiment; `{aspect}`, `{other}` and `{noun}` are filled in."""

    openers: tuple[str, ...]
    aspects: tuple[str, ...]
    asides: tuple[str, ...]
    closers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All words of one locale."""

    locale: str  # BCP 47
    word_gap: str  # between words: a blank, or nothing in Chinese
    price_ending: float
    series: tuple[str, ...]
    brands: tuple[str, ...]
    colours: tuple[str, ...]
    titles: tuple[str, ...]
    plain_titles: tuple[str, ...]  # without a colour
    intros: tuple[str, ...]
    colour_line: str
    cheap: tuple[str, ...]
    dear: tuple[str, ...]
    query_patterns: tuple[str, ...]
    misspellings: Mapping[str, str]
    traits: Mapping[str, TraitWords]
    categories: Mapping[str, Category]
    ways_of_life: Mapping[str, tuple[str, ...]]
    reviews: Mapping[Stars, ReviewWords]
    unanswerable: tuple[str, ...]
    faq_questions: Mapping[str, tuple[str, ...]]  # id of the FAQ entry -> ways to ask it


def faq_file(locale: ShopLocale) -> Path:
    """Return the FAQ of the simulated shop: JSON that `models.faq.load_faq` reads."""
    return WORDS / f"faq.{locale}.json"


@cache
def load_vocabulary(locale: ShopLocale) -> Vocabulary:
    """Read the words of a locale; the files are part of the package."""
    structure = _read("shop.toml")
    words = _read(f"{locale}.toml")
    plain = ("series", "brands", "colours", "titles", "plain_titles", "intros", "cheap", "dear")
    return Vocabulary(
        locale=words["locale"],
        word_gap=words["word_gap"],
        price_ending=words["price_ending"],
        colour_line=words["colour_line"],
        misspellings={pair[0]: pair[1] for pair in words["misspellings"]},
        traits={
            id: TraitWords(trait["word"], tuple(trait["also"]), trait["says"])
            for id, trait in words["traits"].items()
        },
        categories={
            id: _category(id, part, words["categories"][id], words["price_unit"])
            for id, part in structure["categories"].items()
        },
        ways_of_life={id: tuple(part) for id, part in structure["ways_of_life"].items()},
        reviews={
            sentiment: ReviewWords(
                **{name: tuple(lines) for name, lines in words["reviews"][sentiment].items()}
            )
            for sentiment in SENTIMENTS
        },
        unanswerable=tuple(words["questions"]["unanswerable"]),
        faq_questions={id: tuple(asks) for id, asks in words["questions"]["faq"].items()},
        query_patterns=tuple(words["query_patterns"]),
        **{name: tuple(words[name]) for name in plain},
    )


def _category(
    id: str, structure: Mapping[str, Any], words: Mapping[str, Any], price_unit: float
) -> Category:
    low, high = structure["prices"]
    return Category(
        id=id,
        name=words["name"],
        nouns=tuple(words["nouns"]),
        also=tuple(words["also"]),
        aspects=tuple(words["aspects"]),
        facts={
            name: FactWords(fact["says"], tuple(fact["values"]), tuple(fact["asks"]))
            for name, fact in words["facts"].items()
        },
        prices=(low * price_unit, high * price_unit),
        traits=tuple(tuple(group) for group in structure["traits"]),
        complements=tuple(structure["complements"]),
        consumable=structure.get("consumable", False),
        colourless=structure.get("colourless", False),
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((WORDS / name).read_text(encoding="utf-8"))
