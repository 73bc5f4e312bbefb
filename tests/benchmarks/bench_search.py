"""Search quality on the ESCI slice: words, meaning, and both, over all 6,764 products.

    python -m tests.benchmarks.bench_search [--model FOLDER]

nDCG@10 with gains 100/10/1/0 over the whole catalogue, 150 queries, with a 95 % interval, and the
fusion by reciprocal ranks as a peer. The share of the words is also chosen by cross-validation (5
folds of the queries): the held-out figure says what the choice is worth on queries it never saw.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import models.product_index
from models.metrics import Estimate, mean_estimate, ndcg, paired_difference
from models.product_index import LEXICAL_SHARE, IndexedProduct, ProductIndex, product_text
from models.search.lexical_text import lexical_tokens
from models.text_encoder import TextEncoder, TextTrunk
from tests.benchmarks.figures import print_figure, shared_file

K = 10
FOLDS = 5
SHARES = tuple(round(share / 10, 1) for share in range(11))
RRF_CONSTANT = 60

Qrels = Mapping[str, Mapping[str, float]]
Values = NDArray[np.float64]


def read_products() -> list[IndexedProduct]:
    """Return ESCI's products; bullet points and description together are the description."""
    path = shared_file("data", "search", "esci-us", "ubi_ecommerce_products.json.gz")
    products = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            texts = (row["bullet_points"], row["description"])
            products.append(
                IndexedProduct(
                    product_id=row["asin"],
                    title=row["title"],
                    description="\n".join(text for text in texts if text),
                    category=" ".join((row["category"] or [])[-2:]),
                    brand=row["brand"] or "",
                )
            )
    return products


def read_qrels() -> Qrels:
    """Return query -> product -> gain."""
    path = shared_file("data", "search", "esci-us", "esci_us_judgments.json")
    ratings = json.loads(path.read_text(encoding="utf-8"))["judgmentRatings"]
    return {
        one["query"]: {rating["docId"]: float(rating["rating"]) for rating in one["ratings"]}
        for one in ratings
    }


def encode(trunk: TextTrunk, texts: Sequence[str], role: str) -> NDArray[np.float32]:
    """Return unit vectors (N, D)."""
    tokens = trunk.tokenize(texts, role)  # type: ignore[arg-type]
    at_once = 256
    parts = [
        trunk.encode(tokens[start : start + at_once]).vectors
        for start in range(0, len(tokens), at_once)
    ]
    return np.concatenate(parts)


def judge(ranked: Sequence[Sequence[str]], qrels: Qrels) -> Values:
    """Return nDCG@10 of each query."""
    return np.array(
        [ndcg(ids, gains, K) for ids, gains in zip(ranked, qrels.values(), strict=True)]
    )


def search(
    index: ProductIndex, queries: Sequence[str], vectors: NDArray[np.float32], share: float
) -> list[list[str]]:
    """Return ranked ids with another share of the words."""
    models.product_index.LEXICAL_SHARE = share
    try:
        return [[hit.product_id for hit in hits] for hits in index.search(queries, vectors, K)]
    finally:
        models.product_index.LEXICAL_SHARE = LEXICAL_SHARE


def words_only(index: ProductIndex, queries: Sequence[str], k: int) -> list[list[str]]:
    """Return ids by BM25 alone."""
    lexical = index._words
    return [[i for i, _ in lexical.search(lexical_tokens(query), k)] for query in queries]


def reciprocal_ranks(
    index: ProductIndex, queries: Sequence[str], vectors: NDArray[np.float32]
) -> list[list[str]]:
    """Return ids by the sum of reciprocal ranks of both sides (Cormack et al. 2009)."""
    fused = []
    near = index.nearest(vectors, 200)
    for words, meaning in zip(words_only(index, queries, 200), near, strict=True):
        scores: dict[str, float] = {}
        for ids in (words, [i for i, _ in meaning]):
            for rank, product_id in enumerate(ids, 1):
                scores[product_id] = scores.get(product_id, 0.0) + 1 / (RRF_CONSTANT + rank)
        fused.append(sorted(scores, key=lambda i, scores=scores: (-scores[i], i))[:K])
    return fused


def held_out(table: Values) -> Values:
    """Return each query's value under the share chosen on the other folds, from (shares, Q)."""
    queries = np.random.default_rng(0).permutation(table.shape[1])
    values = np.zeros(table.shape[1])
    for fold in np.array_split(queries, FOLDS):
        others = np.setdiff1d(queries, fold)
        values[fold] = table[table[:, others].mean(axis=1).argmax(), fold]
    return values


def report(figure: str, estimate: Estimate, peer: tuple[str, float] | None = None) -> None:
    """Print a figure with its interval."""
    interval = [round(estimate.low, 4), round(estimate.high, 4)]
    print_figure(figure, estimate.value, "nDCG@10", peer=peer, ci95=interval, cases=estimate.cases)


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", default="", help="folder of the trunk; empty: the packaged one")
    arguments = parser.parse_args()
    products, qrels = read_products(), read_qrels()
    trunk = TextEncoder.load(arguments.model)
    texts = [product_text(p.title, p.description, p.category, p.brand) for p in products]
    vectors = encode(trunk, texts, "passage")
    index = ProductIndex(trunk.width)
    index.apply(
        [
            IndexedProduct(p.product_id, p.title, p.description, p.category, p.brand, vector=vector)
            for p, vector in zip(products, vectors, strict=True)
        ]
    )
    queries = list(qrels)
    asked = encode(trunk, queries, "query")

    words = judge(words_only(index, queries, K), qrels)
    meaning = judge([[i for i, _ in near] for near in index.nearest(asked, K)], qrels)
    rrf = judge(reciprocal_ranks(index, queries, asked), qrels)
    table = np.stack([judge(search(index, queries, asked, share), qrels) for share in SHARES])
    shipped = table[SHARES.index(LEXICAL_SHARE)]
    for share, values in zip(SHARES, table, strict=True):
        print(f"share of the words {share}: {values.mean():.4f}")
    report("esci_words_ndcg10", mean_estimate(words), ("BM25 of the data's notes", 0.554))
    report("esci_meaning_ndcg10", mean_estimate(meaning), ("MiniLM of the data's notes", 0.588))
    report("esci_fused_ndcg10", mean_estimate(shipped), ("reciprocal ranks", float(rrf.mean())))
    report("esci_fused_held_out_ndcg10", mean_estimate(held_out(table)))
    report("esci_fused_less_words", paired_difference(shipped, words))
    report("esci_fused_less_meaning", paired_difference(shipped, meaning))
    report("esci_fused_less_rrf", paired_difference(shipped, rrf))


if __name__ == "__main__":
    main()
