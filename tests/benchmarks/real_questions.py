"""Questions of HetPQA through the worker: is the right sentence of the product the answer?

HetPQA (Shen et al. 2022) gives each question of a product with a sentence that answers it: from the
description, the bullet points, the attributes, a review or another shopper's answer. All sentences
of a product together are what the worker chooses from; those of the question itself are right.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.answerer import Passage, product_passages, review_passages
from models.metrics import mean_estimate
from models.search.lexical_index import LexicalDocument, LexicalIndex
from models.search.lexical_text import lexical_tokens
from tests.benchmarks.figures import print_figure, shared_file
from tests.benchmarks.live_shop import LiveShop, live_shop
from worker.events.event import EventKind

FROM_SHOPPERS = {"review", "CQA"}
LEAST_SENTENCES = 8  # of a product: fewer are no choice
THRESHOLD = 0.5  # the worker's own default


@dataclass(frozen=True, slots=True)
class Row:
    """One line of HetPQA: a question and a sentence that answers it."""

    product_id: str
    question: str
    sentence: str
    by_shopper: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the sentences of its product that are right."""

    id: str
    product_id: str
    text: str
    right: frozenset[str]


def run_questions(most: int = 300) -> None:
    """Share of questions answered from a right sentence (P@1), against BM25 over the same."""
    products = read_products(shared_file("data", "questions", "hetpqa_gen_train.csv"))
    asked = list(_questions(products))[:most]
    products = {one.product_id: products[one.product_id] for one in asked}
    # Every question is to get its best passage; what the threshold would do is reckoned below.
    with live_shop(answer_threshold="0") as shop:
        _send(shop, products, asked)
        found = {one.id: shop.lookup.answer(one.id) for one in asked}
    ours, theirs, chance, answered = [], [], [], []
    for one in asked:
        passages = passages_of(products[one.product_id])
        right = [_is_right(passage.text, one) for passage in passages]
        chance.append(sum(right) / len(right))
        theirs.append(float(_is_right(first_by_words(one.text, passages), one)))
        result = found[one.id]
        hit = float(result is not None and _is_right(result.text or "", one))
        ours.append(hit)
        if result is not None and result.confidence >= THRESHOLD:
            answered.append(hit)
    for name, values, peer in (
        ("hetpqa_p1_in_redis", ours, theirs),
        ("hetpqa_answered_precision", answered, ours),
    ):
        estimate = mean_estimate(values)
        print_figure(
            name, estimate.value, "share",
            peer=("BM25, P@1" if values is ours else "P@1 of all", sum(peer) / len(peer)),
            interval=[estimate.low, estimate.high], cases=estimate.cases,
            products=len(products), chance=round(sum(chance) / len(chance), 4),
            answered=round(len(answered) / len(ours), 4),
        )  # fmt: skip


def read_products(path: Path) -> dict[str, list[Row]]:
    """Return the rows of every product that has enough different sentences, by product id."""
    products: dict[str, list[Row]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            sentence = " ".join(line["candidate"].split())
            row = Row(line["ASIN"], line["question"], sentence, line["source"] in FROM_SHOPPERS)
            products[row.product_id].append(row)
    return {
        product_id: rows
        for product_id, rows in products.items()
        if len({row.sentence for row in rows}) >= LEAST_SENTENCES
    }


def passages_of(rows: Sequence[Row]) -> list[Passage]:
    """Return a product's passages as the worker cuts them."""
    passages = product_passages("p", description=_description(rows))
    for number, sentence in enumerate(_of_shoppers(rows)):
        passages += review_passages(str(number), sentence)
    return passages


def first_by_words(question: str, passages: Sequence[Passage]) -> str:
    """Return the passage that BM25 puts first; the first of all where no word is held."""
    index = LexicalIndex()
    documents = (
        LexicalDocument(str(place), (tuple(lexical_tokens(passage.text)), (), (), ()))
        for place, passage in enumerate(passages)
    )
    index.apply([], documents)
    best = index.search(lexical_tokens(question), 1)
    return passages[int(best[0][0]) if best else 0].text


def _questions(products: dict[str, list[Row]]) -> Iterator[Asked]:
    for product_id, rows in products.items():
        right: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            right[row.question].add(row.sentence)
        for number, (question, sentences) in enumerate(right.items()):
            yield Asked(f"{product_id}-{number}", product_id, question, frozenset(sentences))


def _is_right(text: str, asked: Asked) -> bool:
    """Say whether a passage is (a piece of) a sentence that answers."""
    return bool(text) and any(text in sentence for sentence in asked.right)


def _description(rows: Sequence[Row]) -> str:
    return "\n".join(dict.fromkeys(row.sentence for row in rows if not row.by_shopper))


def _of_shoppers(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.sentence for row in rows if row.by_shopper))


def _send(shop: LiveShop, products: dict[str, list[Row]], asked: Sequence[Asked]) -> None:
    shop.send_rows(
        [
            _event(f"product-{product_id}", "2026-01-01", product_id=product_id, title=product_id)
            | {"description": _description(rows)}
            for product_id, rows in products.items()
        ],
        EventKind.PRODUCT,
    )
    shop.send_rows(
        [
            _event(f"review-{product_id}-{number}", "2026-01-02", product_id=product_id)
            | {"review_id": f"{product_id}-{number}", "user_id": f"s{number}", "text": sentence}
            for product_id, rows in products.items()
            for number, sentence in enumerate(_of_shoppers(rows))
        ],
        EventKind.REVIEW,
    )
    shop.send_rows(
        [
            _event(f"question-{one.id}", "2026-01-03", product_id=one.product_id)
            | {"question_id": one.id, "user_id": f"a{one.id}", "text": one.text}
            for one in asked
        ],
        EventKind.QUESTION,
    )


def _event(event_id: str, day: str, **fields: str) -> dict[str, Any]:
    return {"event_id": event_id, "occurred_at": f"{day}T00:00:00Z", **fields}
