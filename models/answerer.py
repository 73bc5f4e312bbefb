"""Answers found in what the shop has: a product's own text, its reviews, the FAQ.

The best passage is quoted as it stands; nothing is made up. Confidence is a calibrated logistic of
how near question and passage are in meaning, and of how many of the question's words it holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.search.lexical_text import STOP_WORDS, lexical_tokens

Vector = NDArray[np.float32]
PassageKind = Literal["product", "review", "faq"]

MAX_PASSAGE_CHARS = 300
_CHINESE = re.compile("[\u4e00-\u9fff]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；])|\n+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that may answer; `match_text` is what the question is compared with."""

    kind: PassageKind
    id: str  # the product, the review or the FAQ entry
    text: str
    match_text: str = ""

    def __post_init__(self) -> None:
        """Compare with the text itself where nothing else is given."""
        if not self.match_text:
            object.__setattr__(self, "match_text", self.text)


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """The best passage and the probability that it answers; no text below the threshold."""

    answered: bool
    text: str | None
    source: Passage | None
    confidence: float


@dataclass(frozen=True, slots=True)
class CosineScale:
    """Where a trunk's cosines lie between texts that have nothing to do with each other."""

    mean: float
    deviation: float


MINILM_SCALE = CosineScale(mean=0.03, deviation=0.08)
_BIAS, _MEANING, _OVERLAP = -4.0, 0.6, 2.0


def product_passages(
    product_id: str,
    title: str = "",
    description: str = "",
    category: str = "",
    brand: str = "",
    price: str | float | None = None,
) -> list[Passage]:
    """Return a product's passages: title, brand, category and price, then its sentences."""
    chinese = _CHINESE.search(title) is not None
    names = ("品牌", "类别", "价格") if chinese else ("Brand", "Category", "Price")
    colon = "：" if chinese else ": "
    values = (brand, category, "" if price is None else str(price))
    facts = [f"{name}{colon}{value}" for name, value in zip(names, values, strict=True) if value]
    texts = [title.strip(), *facts, *_pieces(description)]
    return [Passage("product", product_id, text) for text in dict.fromkeys(texts) if text]


def review_passages(review_id: str, text: str) -> list[Passage]:
    """Return a review's passages: its sentences, short ones joined."""
    return [Passage("review", review_id, piece) for piece in _pieces(text)]


def nearest_in_words(question: str, passages: Sequence[Passage], limit: int) -> list[Passage]:
    """Return at most `limit` passages, in their order: those that hold most of what is asked.

    A cheap sieve before the encoder; of passages that hold as much, the earlier stay.
    """
    if len(passages) <= limit:
        return list(passages)
    asked = _content_words(question)
    shares = [_overlap(asked, passage.match_text) for passage in passages]
    best = sorted(range(len(passages)), key=lambda place: (-shares[place], place))[:limit]
    return [passages[place] for place in sorted(best)]


class Answerer:
    """Chooses the passage that answers a question, or none."""

    def __init__(
        self,
        threshold: float,
        scale: CosineScale = MINILM_SCALE,
        chinese_scale: CosineScale | None = None,
    ) -> None:
        """Answer where the confidence is at least `threshold`.

        The scales are the trunk's own (`models.text.cosine_scale`); Chinese questions have
        another one.
        """
        self.threshold = threshold
        self._scale = scale
        self._chinese_scale = chinese_scale or scale

    def answer(
        self, question: str, question_vector: Vector, passages: Sequence[Passage], vectors: Vector
    ) -> FoundAnswer:
        """Return the best passage for a question.

        Args:
            question_vector: unit vector (D,) of the question.
            vectors: unit vectors (n, D) of the passages' `match_text`.
        """
        if not passages:
            return FoundAnswer(False, None, None, 0.0)
        confidences = self.confidences(question, question_vector, passages, vectors)
        best = max(range(len(passages)), key=lambda i: (confidences[i], -i))
        passage, confidence = passages[best], confidences[best]
        if confidence < self.threshold:
            return FoundAnswer(False, None, passage, confidence)
        return FoundAnswer(True, passage.text, passage, confidence)

    def confidences(
        self, question: str, question_vector: Vector, passages: Sequence[Passage], vectors: Vector
    ) -> list[float]:
        """Return for each passage the probability that it answers, rounded to 6 digits."""
        asked = _content_words(question)
        products = vectors.astype(np.float64) * question_vector.astype(np.float64)
        cosines = products.sum(axis=1).tolist()
        scale = self._chinese_scale if _CHINESE.search(question) else self._scale
        return [
            round(_confidence(cosine, scale, _overlap(asked, passage.match_text)), 6)
            for cosine, passage in zip(cosines, passages, strict=True)
        ]


def _confidence(cosine: float, scale: CosineScale, overlap: float) -> float:
    standard = (cosine - scale.mean) / scale.deviation
    return _logistic(_BIAS + _MEANING * standard + _OVERLAP * overlap)


def _content_words(text: str) -> frozenset[str]:
    return frozenset(lexical_tokens(text)) - STOP_WORDS


def _overlap(asked: frozenset[str], passage: str) -> float:
    """Return the share of the question's content words that the passage holds."""
    if not asked:
        return 0.0
    return len(asked & _words(passage)) / len(asked)


@lru_cache(maxsize=20_000)
def _words(passage: str) -> frozenset[str]:
    """Return a passage's words; kept, because the FAQ and popular products are asked often."""
    return frozenset(lexical_tokens(passage))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, value))))


def _pieces(text: str) -> list[str]:
    """Return the sentences of a text, short neighbours joined, long ones cut."""
    pieces: list[str] = []
    for sentence in _SENTENCE_END.split(text):
        sentence = " ".join(sentence.split())
        for start in range(0, len(sentence), MAX_PASSAGE_CHARS):
            pieces.append(sentence[start : start + MAX_PASSAGE_CHARS])
    return pieces
