"""Samples of searches and of questions as pairs to learn from, and as questions to judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from models.answerer import product_passages
from models.product_index import IndexedProduct
from training.data.rows import ReadReport, UnreadableData
from training.dataset import Row
from training.evaluation.evaluate_answers import JudgedQuestion
from training.tasks.pairs import Pair
from training.tasks.sources import PairSource, search_pair

_LEAST_CANDIDATES = 20  # so that to find the answer among them says something
_MOST_OTHERS = 200


def trunk_pairs(rows: Sequence[Row], products: Mapping[str, str], *, eta: float) -> PairSource:
    """Return searches with what was bought and questions with what answered, as one source.

    `products` is product id -> text. Searches for a product that is gone are counted and left out.
    Raises UnreadableData: no pair is left.
    """
    report = ReadReport()
    pairs: list[Pair] = []
    passages = dict(products)
    for row in rows:
        if row["kind"] == "answer":
            key = f"answer\n{row['answer']}"
            passages[key] = row["answer"]
            pairs.append(Pair(row["question"], key))
            continue
        pair = search_pair(row, products, eta=eta)
        if pair is None:
            report.skip("a search for a product that the catalogue lacks", str(row["sample_id"]))
        else:
            pairs.append(pair)
    if not pairs:
        raise UnreadableData(
            f"none of the {len(rows):,} samples names a product of the catalogue or an answer"
        )
    return PairSource(passages, lambda: pairs, lambda: (), report, "by time, by the job")


def judged_questions(
    tested: Sequence[Row], known: Sequence[Row], products: Mapping[str, IndexedProduct]
) -> list[JudgedQuestion]:
    """Return each tested question with the passages that the worker might choose from.

    Those are the product's own, what answered other questions about it, and the shop's FAQ; where
    that is little, answers to other questions join them, the same for every model.
    """
    answers = [row for row in (*known, *tested) if row["kind"] == "answer"]
    faq = _distinct(row["answer"] for row in answers if row["source_kind"] == "faq")
    others = sorted(_distinct(row["answer"] for row in answers), key=_shuffled)[:_MOST_OTHERS]
    of_product: dict[str, list[str]] = {}
    for row in answers:
        if row["product_id"]:
            of_product.setdefault(row["product_id"], []).append(row["answer"])
    found: list[JudgedQuestion] = []
    for row in tested:
        if row["kind"] != "answer":
            continue
        texts = [row["answer"], *_own_texts(products.get(row["product_id"] or ""))]
        texts += [*of_product.get(row["product_id"] or "", ()), *faq[:_MOST_OTHERS]]
        candidates = _distinct(texts)
        if len(candidates) < _LEAST_CANDIDATES:
            candidates = _distinct([*candidates, *others])[:_LEAST_CANDIDATES]
        candidates.sort(key=_shuffled)  # ties go to the first: it must not be the right one
        gains = tuple(float(text == row["answer"]) for text in candidates)
        found.append(JudgedQuestion(row["question"], tuple(candidates), gains))
    return found


def _own_texts(product: IndexedProduct | None) -> list[str]:
    if product is None:
        return []
    passages = product_passages(
        product.product_id, product.title, product.description, product.category, product.brand
    )
    return [passage.text for passage in passages]


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _shuffled(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
