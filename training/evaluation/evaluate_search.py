"""How well a trunk's search finds what people judged, on a whole catalogue, as the worker ranks it.

The index is the worker's (`models.product_index`: words and meaning fused), the product's text and
the query's are encoded as the worker encodes them, and vectors are rounded to float16 as the
product-vectors topic rounds them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.metrics import Estimate, evaluate_ranking
from models.product_index import IndexedProduct, ProductIndex
from models.search.product_vectors import ProductVectors
from models.text_encoder import TextTrunk
from training.data.rows import ReadReport, UnreadableData, read_rows
from training.evaluation.product_encoding import encode_products

logger = logging.getLogger(__name__)

Ranked = dict[str, list[tuple[str, float]]]
Qrels = Mapping[str, Mapping[str, float]]
_AT_ONCE = 256
_FALSE = frozenset({"false", "0", "no"})


@dataclass(frozen=True, slots=True)
class SearchReport:
    """Metrics by name with their intervals, and what they rest on."""

    metrics: dict[str, Estimate]
    products: int
    queries: int
    judged_queries: int  # with at least one relevant product: what the metrics are means over
    judged_unknown_products: int  # relevant judgments of products that the catalogue lacks
    run: Ranked


def read_catalogue(path: Path, report: ReadReport) -> Iterator[IndexedProduct]:
    """Yield the products of a file of Product fields; what has no id or title is counted.

    Of two rows with one id the later counts, as in the shop. Raises UnreadableData.
    """
    for place, row in read_rows(path, report):
        product_id, title = _text(row.get("product_id")), _text(row.get("title"))
        if not product_id or not title:
            report.skip("a product without product_id or title", place)
            continue
        yield IndexedProduct(
            product_id=product_id,
            title=title,
            description=_text(row.get("description")),
            category=_text(row.get("category")),
            brand=_text(row.get("brand")),
            available=_text(row.get("available", True)).lower() not in _FALSE,
        )


def read_queries(path: Path, report: ReadReport) -> dict[str, str]:
    """Return query id -> text of `{"query_id", "query"}` rows; raises UnreadableData."""
    queries: dict[str, str] = {}
    for place, row in read_rows(path, report):
        query_id, query = _text(row.get("query_id")), _text(row.get("query"))
        if not query_id or not query:
            report.skip("a query without query_id or query", place)
        elif query_id in queries and queries[query_id] != query:
            report.skip("another query of the same query_id", place)
        else:
            queries[query_id] = query
    if not queries:
        raise UnreadableData(
            f'{path} holds no queries; a line is {{"query_id": "…", "query": "…"}}'
        )
    return queries


def build_index(
    trunk: TextTrunk, products: Iterable[IndexedProduct], known: ProductVectors | None = None
) -> ProductIndex:
    """Return the worker's index of the products; raises UnreadableData where there is none.

    `known` are vectors of this trunk: only other texts are encoded.
    """
    index = ProductIndex(trunk.width)
    chunk: list[IndexedProduct] = []

    def add() -> None:
        vectors = encode_products(trunk, [one.text for one in chunk], known)
        index.apply([replace(p, vector=v) for p, v in zip(chunk, vectors, strict=True)])
        logger.info("%d products encoded", len(index))
        chunk.clear()

    for product in products:
        chunk.append(product)
        if len(chunk) == _AT_ONCE:
            add()
    if chunk:
        add()
    if not len(index):
        raise UnreadableData("the file of products holds none with a product_id and a title")
    return index


def rank_queries(
    trunk: TextTrunk, index: ProductIndex, queries: Mapping[str, str], k: int
) -> Ranked:
    """Return for each query id the k best products with their scores, best first."""
    run: Ranked = {}
    items = list(queries.items())
    for start in range(0, len(items), _AT_ONCE):
        chunk = items[start : start + _AT_ONCE]
        texts = [query for _, query in chunk]
        vectors = trunk.encode(trunk.tokenize(texts, "query")).vectors
        for (query_id, _), hits in zip(chunk, index.search(texts, vectors, k), strict=True):
            run[query_id] = [(hit.product_id, hit.score) for hit in hits]
    return run


def evaluate_search(
    trunk: TextTrunk,
    products: Iterable[IndexedProduct],
    queries: Mapping[str, str],
    qrels: Qrels,
    cutoffs: Sequence[int] = (10, 100),
) -> SearchReport:
    """Return nDCG, recall, MRR, MAP, precision and hit rate at each cutoff, 95 % intervals.

    A judged query that is not among `queries`, or that finds nothing, counts 0; a judged query
    without a relevant product is left out.

    Raises:
        UnreadableData: no query is judged, or there are no products.
    """
    judged = {query_id for query_id, gains in qrels.items() if max(gains.values()) > 0}
    if not judged & queries.keys():
        raise UnreadableData(
            "no query has a relevant judgment: do the ids in the queries and in the qrels agree?"
        )
    missing = len(judged - queries.keys())
    if missing:
        logger.warning("%d judged queries are not among the queries: they count 0", missing)
    index = build_index(trunk, products)
    unknown = sum(
        gain > 0 and index.get(product) is None
        for gains in qrels.values()
        for product, gain in gains.items()
    )
    if unknown:
        logger.warning("%d relevant judgments name products that the catalogue lacks", unknown)
    run = rank_queries(trunk, index, queries, max(cutoffs))
    ranked = {query_id: [product for product, _ in hits] for query_id, hits in run.items()}
    metrics: dict[str, Estimate] = {}
    for k in cutoffs:
        metrics |= evaluate_ranking(ranked, qrels, k)
    return SearchReport(metrics, len(index), len(queries), len(judged), unknown, run)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return "" if value is None or value != value else str(value).strip()
