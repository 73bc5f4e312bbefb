"""What texts say: sentiment tags of reviews, answers to questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
import orjson

from models.answerer import (
    Passage,
    nearest_in_words,
    product_passages,
    review_passages,
)
from models.faq import FaqEntry
from models.product_index import ProductIndex
from worker.events.event import Question, Review
from worker.pipeline.changes import version_of
from worker.pipeline.options import PipelineOptions
from worker.pipeline.stages import EncodedArm, questions_of
from worker.pipeline.stamps import ResultStamp
from worker.store.contract import ResultKind, ResultWrite, Sentiment, SentimentCount, StateView
from worker.store.results import AnswerResult, AnswerSource, ReviewTags

_LABELS: tuple[Sentiment, ...] = get_args(Sentiment)
_DAY_MS = 86_400_000


def faq_passages(faq: Sequence[FaqEntry]) -> list[Passage]:
    """Return the shop's FAQ as passages: matched by question, answered by answer."""
    return [Passage("faq", entry.id, entry.answer, match_text=entry.question) for entry in faq]


def stored_passages(question: Question, view: StateView, limit: int) -> list[Passage]:
    """Return what the state holds about the question's product: its text, then reviews.

    Where that is more than `limit` passages, those nearest to the question in words.
    """
    product_id = question.product_id
    if product_id is None:
        return []
    passages: list[Passage] = []
    stored = view.product_texts.get(product_id)
    if stored is not None:
        passages += product_passages(product_id, **_own_text(orjson.loads(stored)))
    for review in view.reviews.get(product_id, ()):
        passages += review_passages(review.review_id, review.text)
    return nearest_in_words(question.text, passages, limit)


def review_tags(
    encoded: EncodedArm, options: PipelineOptions, stamp: ResultStamp
) -> list[ResultWrite]:
    """Return the tags of each review, with its vote for the product."""
    writes: list[ResultWrite] = []
    for item in encoded.gathered.live:
        if not isinstance(item.event, Review):
            continue
        probabilities = encoded.sentiment.get(encoded.gathered.own_texts[item.row])
        if probabilities is None:  # the trunk carries no sentiment head
            continue
        review, version = item.event, version_of(item.event)
        rounded = [round(float(p), 6) for p in probabilities]
        best = int(np.argmax(probabilities))
        tags = ReviewTags(
            **stamp.fields(version),
            review_id=review.review_id,
            product_id=review.product_id,
            sentiment=_LABELS[best],
            confidence=rounded[best],
            probabilities=dict(zip(_LABELS, rounded, strict=True)),
        )
        vote = SentimentCount(
            product_id=review.product_id,
            label=_LABELS[best],
            score_micro=round((rounded[2] - rounded[0]) * 1_000_000),
            day=review.occurred_at_ms // _DAY_MS,
        )
        writes.append(
            ResultWrite(
                ResultKind.TAGS,
                review.review_id,
                version,
                tags.model_dump_json().encode(),
                options.tags_ttl_s,
                user_id=review.user_id,
                sentiment=vote,
            )
        )
    return writes


class Answering:
    """Answers questions from stored passages, the FAQ and, without a product, the index."""

    def __init__(self, options: PipelineOptions) -> None:
        self._options = options

    def answers(
        self, encoded: EncodedArm, index: ProductIndex, stamp: ResultStamp
    ) -> list[tuple[Question, AnswerResult, ResultWrite]]:
        """Return each question with its answer and the write that stores it."""
        answered = []
        for item, question in questions_of(encoded.gathered.live):
            passages, vectors = self._candidates(encoded, item.row, question, index)
            answerer = encoded.gathered.models.answerer
            found = answerer.answer(question.text, encoded.own(item.row), passages, vectors)
            version = version_of(question)
            source = found.source if found.answered else None
            result = AnswerResult(
                **stamp.fields(version),
                question_id=question.question_id,
                question=question.text,
                product_id=question.product_id,
                answered=found.answered,
                text=found.text if found.answered else None,
                source=AnswerSource(kind=source.kind, id=source.id) if source else None,
                confidence=round(found.confidence, 6),
            )
            write = ResultWrite(
                ResultKind.ANSWER,
                question.question_id,
                version,
                result.model_dump_json().encode(),
                self._options.answer_ttl_s,
                user_id=question.user_id,
            )
            answered.append((question, result, write))
        return answered

    def _candidates(
        self, encoded: EncodedArm, row: int, question: Question, index: ProductIndex
    ) -> tuple[list[Passage], np.ndarray]:
        faq = faq_passages(encoded.gathered.models.faq)
        passages = [*encoded.gathered.passages.get(row, ()), *faq]
        vectors = [encoded.texts[("passage", passage.match_text)] for passage in passages]
        if question.product_id is None:
            own = encoded.own(row)
            hits = index.search([question.text], own[None, :], self._options.products_per_question)[
                0
            ]
            found, _ = index.vectors_of([hit.product_id for hit in hits])
            for hit, vector in zip(hits, found, strict=True):
                product = index.get(hit.product_id)
                if product is not None:
                    text = ". ".join(part for part in (product.title, product.description) if part)
                    passages.append(Passage("product", hit.product_id, text))
                    vectors.append(vector)
        width = encoded.own(row).shape[0]
        return passages, np.stack(vectors) if vectors else np.zeros((0, width), dtype=np.float32)


def _own_text(stored: Mapping[str, object]) -> dict[str, str]:
    names = ("title", "description", "category", "brand", "price")
    return {name: str(stored[name]) for name in names if stored.get(name) not in (None, "")}
