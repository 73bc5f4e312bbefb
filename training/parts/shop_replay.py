"""What recommenders are judged in: the shop at the beginning of the test, made of samples.

Products, demand and shoppers are those the worker would hand over, so a candidate and what serves
today are compared through the very interface, rules and lists of the live worker.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, permutations
from pathlib import Path

import numpy as np

from models.product_index import IndexedProduct, ProductIndex
from models.recommendation.shopper import Demand, Shopper, ShopperEvent, Vector
from models.search.product_vectors import ProductVectors
from models.text_encoder import TextTrunk
from training.data.rows import ReadReport
from training.dataset import Row
from training.evaluation.evaluate_search import build_index, read_catalogue

logger = logging.getLogger(__name__)

_HALF_LIFE_MS = 7 * 86_400_000  # of popularity, as in the worker
_POPULAR, _TOGETHER = 1_000, 50
_QUERIES = 5  # newest of a shopper: older ones weigh next to nothing


def shop_index(
    trunk: TextTrunk,
    products: Path | None,
    rows: Sequence[Row],
    known: ProductVectors | None = None,
) -> ProductIndex:
    """Return the catalogue: the products of a file, else those that the samples name.

    `known` are vectors of this trunk: only other texts are encoded. Without a file products have
        no texts, and only what does not read texts can be judged well.
    """
    if products is None:
        index = ProductIndex(trunk.width)
        ids = sorted({one for row in rows for one in _products_of(row)})
        nothing = np.zeros(trunk.width, dtype=np.float32)
        index.apply([IndexedProduct(one, title=one, vector=nothing) for one in ids])
        return index
    report = ReadReport()
    index = build_index(trunk, read_catalogue(products, report), known)
    for line in report.sentences():
        logger.warning("%s", line)
    return index


def shop_demand(rows: Iterable[Row], now_ms: int) -> Demand:
    """Return popularity and co-purchase of the purchases in the samples, as of a moment."""
    popular: defaultdict[str, float] = defaultdict(float)
    together: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        age_ms = max(0, now_ms - _time_ms(row))
        bought = list(dict.fromkeys(row["next_products"]))
        for product in bought:
            popular[product] += 0.5 ** (age_ms / _HALF_LIFE_MS)
        for first, second in permutations(bought, 2):
            together[first][second] += 1
        for event in row["history"]:
            if event["kind"] == "purchase":
                for before in event["product_ids"]:
                    for product in bought:
                        if product != before:
                            together[before][product] += 0.5
    return Demand(
        _highest(popular, _POPULAR),
        {product: _highest(row, _TOGETHER) for product, row in together.items()},
    )


def _highest(scores: Mapping[str, float], count: int) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:count]


def shoppers_of(rows: Sequence[Row], trunk: TextTrunk) -> list[Shopper]:
    """Return the shopper of each next-item sample, as at the moment before the purchase."""
    histories = [[_event(number, event) for number, event in enumerate(row["history"])]
                 for row in rows]  # fmt: skip
    recent = [_recent_queries(history) for history in histories]
    vectors = _query_vectors(list(dict.fromkeys(chain.from_iterable(recent))), trunk)
    return [
        Shopper(
            user_id=row["user"],
            now_ms=_time_ms(row),
            events=history,
            query_vectors={query: vectors[query] for query in queries},
            locale=row["locale"],
        )
        for row, history, queries in zip(rows, histories, recent, strict=True)
    ]


def _event(number: int, event: Row) -> ShopperEvent:
    return ShopperEvent(
        occurred_at_ms=int(event["occurred_at_ms"]),
        event_id=f"{number:06d}",
        kind=event["kind"],
        query=event["query"],
        product_ids=tuple(event["product_ids"] or ()),
        stars=event["stars"],
        order_id=f"{number:06d}" if event["kind"] == "purchase" else None,
    )


def _recent_queries(history: Sequence[ShopperEvent]) -> list[str]:
    queries = [event.query for event in history if event.kind == "search" and event.query]
    return list(dict.fromkeys(reversed(queries)))[:_QUERIES]


def _query_vectors(queries: Sequence[str], trunk: TextTrunk) -> dict[str, Vector]:
    if not queries:
        return {}
    vectors = trunk.encode(trunk.tokenize(list(queries), "query")).vectors
    return {query: vectors[row] for row, query in enumerate(queries)}


def _products_of(row: Row) -> Iterable[str]:
    yield from row["next_products"]
    for event in row["history"]:
        yield from event["product_ids"] or ()


def _time_ms(row: Row) -> int:
    return round(datetime.fromisoformat(row["occurred_at"]).timestamp() * 1000)
