"""The products that can be found: by words, by meaning, and by both at once.

Results depend only on the set of products, not on the order or the batching of the updates that led
to it; with more products than are searched exactly they depend on that order too (VectorIndex). One
thread at a time may use an index.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from models.search.lexical_index import LexicalDocument, LexicalIndex
from models.search.lexical_text import STOP_WORDS, lexical_tokens, spelled_tokens
from models.search.product_text import product_text
from models.search.vector_index import EXACT_MAX_VECTORS, SCORE_DIGITS, VectorChanges, VectorIndex

Vector = NDArray[np.float32]
Scores = NDArray[np.float64]

# Share of the words in the fused score; the rest is meaning. nDCG@10 on the ESCI slice: words .622,
# meaning .593, fused .636 here and within .002 of that from .5 to .8 (bench_search.py).
LEXICAL_SHARE = 0.6
# Products that each side brings to the fusion.
CANDIDATES = 200
# Words of a description beyond these are not indexed: nDCG@10 is .622 with 100, .618 with 200, and
# the index is half as large.
MAX_DESCRIPTION_WORDS = 100
MAX_HELD_PRODUCTS = 10_000  # whose words stay cut: some 10 MB


@dataclass(frozen=True, slots=True)
class IndexedProduct:
    """A product as it can be found; `vector` has shape (D,), None leaves it to the words alone."""

    product_id: str
    title: str
    description: str = ""
    category: str = ""
    brand: str = ""
    price: float | None = None
    available: bool = True
    vector: Vector | None = None

    @property
    def text(self) -> str:
        """What the trunk encodes of it."""
        return product_text(self.title, self.description, self.category, self.brand)


@dataclass(frozen=True, slots=True)
class RemovedProduct:
    """A product that the shop no longer has."""

    product_id: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result; `lexical` and `vector` are the two sides' own scores where they exist."""

    product_id: str
    score: float
    lexical: float | None
    vector: float | None
    terms: tuple[str, ...]  # words of the query that the product's text holds


class ProductIndex:
    """Search and neighbours over a catalogue that changes."""

    def __init__(
        self, width: int, device: str = "cpu", *, exact_max_products: int = EXACT_MAX_VECTORS
    ) -> None:
        """Make an empty index of vectors of shape (width,) on a torch device.

        On a CPU and beyond `exact_max_products` vectors are found by a graph (VectorIndex).
        """
        self.width = width
        self._device, self._exact_max_products = device, exact_max_products
        self._products: dict[str, IndexedProduct] = {}
        self._vectors = VectorIndex(width, device, exact_max_vectors=exact_max_products)
        self._words = LexicalIndex()
        self._held: dict[str, frozenset[str]] = {}  # product id -> words, of products found lately

    def __len__(self) -> int:
        """Return the number of products, available or not."""
        return len(self._products)

    def apply(self, updates: Sequence[IndexedProduct | RemovedProduct]) -> None:
        """Put and remove products; of several updates of one product the last counts.

        Raises:
            ValueError: a vector has another width or is not finite; then nothing has changed.
        """
        for update in updates:
            if isinstance(update, IndexedProduct) and update.vector is not None:
                self._vectors.check(update.vector)
        last = {update.product_id: update for update in updates}
        removed: list[LexicalDocument] = []
        added: list[LexicalDocument] = []
        for product_id, update in last.items():
            old = _document(self._products.get(product_id))
            new = _document(update)
            if old != new:
                removed.extend([old] if old else [])
                added.extend([new] if new else [])
            self._keep(update)
        self._words.apply(removed, added)
        self._vectors.put(
            [
                (update.product_id, update.vector, update.available)
                for update in last.values()
                if isinstance(update, IndexedProduct) and update.vector is not None
            ]
        )

    def twin(self, width: int) -> ProductIndex:
        """Return an index of the same products for vectors of another trunk; it has none yet.

        Products and words are shared: `apply` updates to one of the two and bring the other's
        vectors after with `put_vectors`. Vectors of two trunks never meet.
        """
        twin = ProductIndex(width, self._device, exact_max_products=self._exact_max_products)
        twin._products, twin._words = self._products, self._words
        return twin

    def put_vectors(self, vectors: Mapping[str, Vector | None]) -> None:
        """Set the vectors (D,) of products, None takes one away; what is no product has none.

        Raises:
            ValueError: a vector has another width or is not finite; then nothing has changed.
        """
        kept: list[tuple[str, Vector, bool]] = []
        gone: list[str] = []
        for product_id, vector in vectors.items():
            product = self._products.get(product_id)
            if product is None or vector is None:
                gone.append(product_id)
            else:
                self._vectors.check(vector)
                kept.append((product_id, vector, product.available))
        for product_id in gone:
            self._vectors.remove(product_id)
        self._vectors.put(kept)

    def product_ids(self) -> list[str]:
        """Return the ids of all products, available or not."""
        return list(self._products)

    def has_vector(self, product_id: str) -> bool:
        """Say whether a product can be found by its meaning."""
        return product_id in self._vectors

    def get(self, product_id: str) -> IndexedProduct | None:
        """Return a product without its vector (see `vectors_of`), or None."""
        return self._products.get(product_id)

    def sells(self, product_id: str) -> bool:
        """Say whether a product exists and is available."""
        product = self._products.get(product_id)
        return product is not None and product.available

    def vectors_of(self, ids: Sequence[str]) -> tuple[Vector, NDArray[np.bool_]]:
        """Return the unit vectors (n, D) of products, zeros for unknown ones, and which exist."""
        return self._vectors.vectors_of(ids)

    def follow(self) -> VectorChanges:
        """Return what names, for one follower, the products whose vectors come, change and go."""
        return self._vectors.follow()

    def nearest(
        self, vectors: Vector, k: int, exclude: Sequence[Collection[str]] = ()
    ) -> list[list[tuple[str, float]]]:
        """Return for each row of `vectors` (Q, D) the `k` nearest available products with cosine.

        `exclude` holds for each row the products it must not return; ties stand by product id.
        """
        return self._vectors.nearest(vectors, k, exclude)

    def nearest_ids(
        self, vectors: Vector, k: int, exclude: Sequence[Collection[str]] = ()
    ) -> list[list[str]]:
        """Return the products that `nearest` does, in no order and without their cosines."""
        return self._vectors.nearest_ids(vectors, k, exclude)

    def search(self, queries: Sequence[str], vectors: Vector, k: int) -> list[list[Hit]]:
        """Return at most `k` available products for each query, best first, ties by product id.

        Args:
            queries: what was typed, Q texts.
            vectors: the trunk's unit vectors of the queries, (Q, D).
        """
        wide = max(CANDIDATES, k)
        nearest = self._vectors.nearest_scores(vectors, wide)
        return [
            self._fuse(query, vector, near, k, wide)
            for query, vector, near in zip(queries, vectors, nearest, strict=True)
        ]

    def _keep(self, update: IndexedProduct | RemovedProduct) -> None:
        product_id = update.product_id
        self._held.pop(product_id, None)
        if isinstance(update, RemovedProduct):
            self._products.pop(product_id, None)
        else:
            self._products[product_id] = replace(update, vector=None)
        if isinstance(update, RemovedProduct) or update.vector is None:
            self._vectors.remove(product_id)

    def _fuse(
        self, query: str, vector: Vector, near: Mapping[str, float], k: int, wide: int
    ) -> list[Hit]:
        spelled = spelled_tokens(query)
        words = dict(self._words.search(list(spelled), wide))
        ids = sorted(words.keys() | near.keys())
        if not ids:
            return []
        cosines, encoded = self._cosines(vector, ids, near)
        meaning = np.where(encoded, _scaled(cosines, cosines[encoded]), 0.0)
        wording = np.array([*map(words.get, ids, repeat(0.0))])
        fused = LEXICAL_SHARE * _scaled(wording, wording) + (1 - LEXICAL_SHARE) * meaning
        fused = fused.round(SCORE_DIGITS) + 0.0  # + 0.0: no minus zero
        best = np.argsort(-fused, kind="stable")[:k]  # ids are sorted: ties stand by id
        return [
            self._hit(
                ids[row],
                float(fused[row]),
                words.get(ids[row]),
                float(cosines[row]) if encoded[row] else None,
                spelled,
            )
            for row in best.tolist()
        ]

    def _cosines(
        self, vector: Vector, ids: Sequence[str], known: Mapping[str, float]
    ) -> tuple[Scores, NDArray[np.bool_]]:
        """Return the cosines (n,) of a vector to ids, and which have one; most are known."""
        cosines = np.array([*map(known.get, ids, repeat(np.nan))])
        found = ~np.isnan(cosines)
        rest = np.flatnonzero(~found)
        rest_ids = [ids[row] for row in rest.tolist()]
        cosines[rest], found[rest] = self._vectors.cosines(vector, rest_ids)
        return cosines, found

    def _hit(
        self,
        product_id: str,
        score: float,
        lexical: float | None,
        cosine: float | None,
        spelled: Mapping[str, str],
    ) -> Hit:
        if lexical is None:
            return Hit(product_id, score, None, cosine, ())
        terms = _matched_terms(self._words_of(product_id), spelled)
        return Hit(product_id, score, round(lexical, SCORE_DIGITS), cosine, terms)

    def _words_of(self, product_id: str) -> frozenset[str]:
        """Return the words of a product; kept, because some products are found again and again."""
        held = self._held.get(product_id)
        if held is None:
            held = _held_words(self._products[product_id])
            if len(self._held) >= MAX_HELD_PRODUCTS:
                self._held.clear()
            self._held[product_id] = held
        return held


def _held_words(product: IndexedProduct) -> frozenset[str]:
    named = lexical_tokens(f"{product.title}\n{product.category}\n{product.brand}")
    return frozenset({*named, *lexical_tokens(product.description, MAX_DESCRIPTION_WORDS)})


def _matched_terms(held: frozenset[str], spelled: Mapping[str, str]) -> tuple[str, ...]:
    """Return the query's words that the product's text holds, as the query spells them.

    Parts of a matched compound and words that say nothing are left out.
    """
    asked = {token: spelling for token, spelling in spelled.items() if token not in STOP_WORDS}
    found = dict.fromkeys(spelling for token, spelling in asked.items() if token in held)
    return tuple(
        term for term in found if not any(term in other for other in found if other != term)
    )


def _document(product: IndexedProduct | RemovedProduct | None) -> LexicalDocument | None:
    """Return a product's words as the lexical index takes them; None where it must not be found."""
    if product is None or isinstance(product, RemovedProduct) or not product.available:
        return None
    texts = (product.title, product.description, product.category, product.brand)
    columns = tuple(tuple(lexical_tokens(text, MAX_DESCRIPTION_WORDS)) for text in texts)
    return LexicalDocument(product.product_id, columns)


def _scaled(scores: Scores, among: Scores) -> Scores:
    """Return scores on the line from 0 (the least of `among`) to 1 (the greatest of them)."""
    least, most = among.min(initial=np.inf), among.max(initial=-np.inf)
    return (scores - least) / (most - least) if most > least else np.zeros_like(scores)
