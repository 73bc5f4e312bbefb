"""Shoppers of known taste with a past: what they did, what they would like, what they would buy.

Events of the simulated shop become histories, a product index with real text vectors and the shop's
demand, as a recommender meets them in the worker. The taste is known to the measure alone.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.product_index import IndexedProduct, ProductIndex, product_text
from models.recommendation.rules import RecommendationRules
from models.recommendation.shopper import Demand, Recommender, Shopper, ShopperEvent
from models.sample import HistoryItem
from models.text_encoder import TextEncoder
from training.dataset import SampleReport
from training.recommender.sequences.event_sequences import EventSequences
from training.recommender.sequences.sample_events import SampleEvents, to_sequences
from worker.embedded.shop.records import SimulatedEvent, Wish
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.embedded.shop.wording import make_wish
from worker.events.event import EventKind

Vector = NDArray[np.float32]
K = 10
_KINDS = {EventKind.SEARCH, EventKind.PURCHASE, EventKind.RETURN, EventKind.REVIEW}
_TEXTS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class World:
    """A simulated shop after some events; `withheld` products are sold but in no history."""

    shop: SimulatedShop
    histories: Mapping[str, Sequence[ShopperEvent]]
    now_ms: int
    index: ProductIndex
    demand: Demand
    withheld: frozenset[str]
    trunk: TextEncoder
    vectors: dict[str, Vector]  # of product texts and queries

    def shopper(self, user_id: str, *more: ShopperEvent) -> Shopper:
        """Return a shopper as the worker would give it, after `more` events."""
        events = [*self.histories.get(user_id, ()), *more]
        queries = {event.query for event in events if event.query is not None}
        vectors = {query: self.query_vector(query) for query in queries}
        shopper = Shopper(user_id, self.now_ms, events, vectors)
        return RecommendationRules().apply_to(shopper)

    def query_vector(self, query: str) -> Vector:
        """Return the trunk's vector of a query."""
        if query not in self.vectors:
            _encode_into(self.vectors, [query], "query", self.trunk)
        return self.vectors[query]

    def wish(self, user_id: str, number: int = 0) -> tuple[Wish, ShopperEvent]:
        """Return a search that this shopper might make now, and its event; drawn by the seed."""
        random = Random(f"wish:{self.shop.seed}:{user_id}:{number}")
        shopper = self.shop.shopper(user_id)
        interest = shopper.taste.categories
        (category,) = random.choices(list(interest), list(interest.values()))
        words = self.shop.words
        wish = make_wish(random, shopper, words.categories[category], words)
        return wish, ShopperEvent(self.now_ms, f"now-{user_id}", "search", query=wish.text)

    def lists(
        self, recommender: Recommender, shoppers: Sequence[Shopper], k: int = K
    ) -> list[list[str]]:
        """Return the product ids recommended to each shopper."""
        found = recommender.recommend(shoppers, self.demand, self.index, k)
        return [[one.product_id for one in ranked] for ranked in found]

    def allowed(self, shopper: Shopper) -> list[str]:
        """Return the products that may be recommended to a shopper."""
        return [p.product_id for p in self.shop.products if p.product_id not in shopper.barred]

    def utility(self, user_id: str, products: Collection[str]) -> float:
        """Return the mean true utility of products to a shopper."""
        worth = self.shop.true_utilities(self.shop.shopper(user_id))
        return float(np.mean([worth[product] for product in products])) if products else 0.0

    def purchase_chance(self, user_id: str, wish: Wish, products: Collection[str]) -> float:
        """Return the chance that the shopper, shown these after this search, buys one of them."""
        shown = [self.shop.product(product) for product in products]
        pull = dict.fromkeys(products, 0.0)
        chances = self.shop.purchase_chances(self.shop.shopper(user_id), wish, shown, pull)
        return sum(chances.values())

    def popular(self, shopper: Shopper, k: int = K) -> list[str]:
        """Return what most shoppers bought and this one may be recommended."""
        return [p for p, _ in self.demand.popular if p not in shopper.barred][:k]

    def sequences(self) -> tuple[EventSequences, dict[str, int]]:
        """Return the histories as training reads them, and the row of each item."""
        events = {
            user: {
                (e.occurred_at_ms, e.kind, e.query, e.product_ids): HistoryItem(
                    kind=e.kind,
                    occurred_at_ms=e.occurred_at_ms,
                    query=e.query,
                    product_ids=list(e.product_ids),
                    stars=e.stars,
                )
                for e in history
            }
            for user, history in self.histories.items()
        }
        found, queries = to_sequences(SampleEvents(SampleReport(), events))
        texts = np.stack([_vector_of(self.index, item) for item in found.item_ids])
        asked = [self.query_vector(query) for query in queries]
        width = texts.shape[1]
        query_vectors = np.stack(asked) if asked else np.zeros((0, width), np.float32)
        rows = {item: row for row, item in enumerate(found.item_ids)}
        return replace(found, text_vectors=texts, query_vectors=query_vectors), rows


def make_world(
    seed: int, events: int, trunk: TextEncoder, *, products: int = 400, shoppers: int = 200,
    withheld_share: float = 0.0,
) -> World:  # fmt: skip
    """Let a shop run for so many events; a share of its products is withheld from every history."""
    shop = SimulatedShop(seed, product_count=products, shopper_count=shoppers)
    random = Random(f"withheld:{seed}")
    ids = [product.product_id for product in shop.products]
    withheld = frozenset(random.sample(ids, round(len(ids) * withheld_share)))
    histories: dict[str, list[ShopperEvent]] = defaultdict(list)
    for event in itertools.islice(shop.events(), events):
        if event.valid and event.kind in _KINDS and event.user_id is not None:
            known = _shopper_event(event, withheld)
            if known is not None:
                histories[event.user_id].append(known)
    now_ms = max(history[-1].occurred_at_ms for history in histories.values()) + 1_000
    vectors: dict[str, Vector] = {}
    index = _index(shop, trunk, vectors)
    queries = {e.query for history in histories.values() for e in history if e.query is not None}
    _encode_into(vectors, sorted(queries), "query", trunk)
    demand = _demand(histories)
    return World(shop, dict(histories), now_ms, index, demand, withheld, trunk, vectors)


def _shopper_event(event: SimulatedEvent, withheld: Collection[str]) -> ShopperEvent | None:
    fields: dict[str, Any] = event.content()
    at_ms = round(datetime.fromisoformat(fields["occurred_at"]).timestamp() * 1000)
    named = [item["product_id"] for item in fields.get("items", ())] or [fields.get("product_id")]
    products = tuple(p for p in named if p is not None and p not in withheld)
    kind = event.kind.value
    if kind != "search" and not products:
        return None
    return ShopperEvent(
        at_ms,
        event.event_id,
        kind,
        query=fields.get("query"),
        product_ids=products,
        stars=fields.get("stars"),
        order_id=fields.get("order_id"),
        session_id=fields.get("session_id"),
    )


def _index(shop: SimulatedShop, trunk: TextEncoder, vectors: dict[str, Vector]) -> ProductIndex:
    texts = {
        p.product_id: product_text(p.title, p.description, p.category, p.brand)
        for p in shop.products
    }
    _encode_into(vectors, list(texts.values()), "passage", trunk)
    index = ProductIndex(trunk.width)
    index.apply(
        [
            IndexedProduct(
                p.product_id, p.title, p.description, p.category, p.brand, p.price,
                vector=vectors[texts[p.product_id]],
            )
            for p in shop.products
        ]
    )  # fmt: skip
    return index


def _demand(histories: Mapping[str, Sequence[ShopperEvent]]) -> Demand:
    """Count purchases, and pairs of products that a shopper bought in one visit."""
    bought: Counter[str] = Counter()
    pairs: dict[str, Counter[str]] = defaultdict(Counter)
    for history in histories.values():
        visits: dict[str | None, list[str]] = defaultdict(list)
        for event in history:
            if event.kind == "purchase":
                bought.update(event.product_ids)
                visits[event.session_id] += event.product_ids
        for session, products in visits.items():
            if session is not None:
                for one, other in itertools.permutations(set(products), 2):
                    pairs[one][other] += 1
    together = {one: _floats(row.most_common(50)) for one, row in pairs.items()}
    return Demand(_floats(bought.most_common()), together)


def _floats(counted: Sequence[tuple[str, int]]) -> list[tuple[str, float]]:
    return [(name, float(count)) for name, count in counted]


def _encode_into(
    vectors: dict[str, Vector], texts: Sequence[str], role: Any, trunk: TextEncoder
) -> None:
    for chunk in _chunks([text for text in dict.fromkeys(texts) if text not in vectors]):
        encoded = trunk.encode(trunk.tokenize(chunk, role)).vectors
        vectors.update(zip(chunk, encoded, strict=True))


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        yield texts[start : start + _TEXTS_AT_ONCE]


def _vector_of(index: ProductIndex, product_id: str) -> Vector:
    vectors, _ = index.vectors_of([product_id])
    return vectors[0]
