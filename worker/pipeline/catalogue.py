"""The product index between two batches: the feed offers updates, the ranking stage applies them.

Only the ranking thread touches the index (`apply_pending`, at the start of a batch, and what says
so below): so a batch sees one state of the catalogue, and its record can name it by a position.

Each text trunk that serves, or soon will, has its own index over the same products. At a position
every product stands in it with the vector that this trunk gives its text, whoever encoded it: so
an index is a function of trunk and position, which a replay can build again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

from models.product_index import IndexedProduct, ProductIndex, RemovedProduct, Vector
from models.release import same_trunk
from worker.pipeline.product_vectors import ProductUpdate

TOMBSTONE_VERSION = ""


class Origin(NamedTuple):
    """Where the newest record of a product came from."""

    trunk: str
    partition: int | None  # of the product's event; None: an older worker did not say


class Catalogue:
    """The product indexes with their position: for each partition of the feed the next offset."""

    def __init__(self, index: ProductIndex, trunk: str = "") -> None:
        """Hold the index of a trunk; without a name it takes every vector and serves any trunk."""
        self._indexes = {trunk: index}
        self._versions: dict[str, str] = {}
        self._origins: dict[str, Origin] = {}
        self._products_of: Counter[Origin] = Counter()
        self._sent: dict[str, str] = {}  # by this process, and not yet back by the feed
        self._overwritten: set[str] = set()  # an older record follows the newest in the topic
        self._pending: list[ProductUpdate] = []
        self._pending_position: tuple[int, ...] = ()
        self._position: tuple[int, ...] = ()
        self._lock = Lock()

    @property
    def index(self) -> ProductIndex:
        """The oldest trunk's index; products and words are those of all."""
        return next(iter(self._indexes.values()))

    @property
    def trunks(self) -> tuple[str, ...]:
        """The trunks that have an index."""
        return tuple(self._indexes)

    @property
    def widths(self) -> dict[str, int]:
        """The width of each trunk's vectors."""
        return {trunk: index.width for trunk, index in list(self._indexes.items())}

    def index_of(self, trunk: str) -> ProductIndex:
        """Return a trunk's index.

        Raises:
            KeyError: the trunk has none.
        """
        found = self._indexes.get(trunk)
        return found if found is not None else self._indexes[""]

    # --- the feed

    def offer(self, updates: Sequence[ProductUpdate], position: tuple[int, ...]) -> None:
        """Hand over updates in the order of the feed, and where the feed stands after them.

        An update carries a vector of every trunk in `trunks`; without one the product is found by
        its words only. Any thread.
        """
        with self._lock:
            self._pending.extend(updates)
            self._pending_position = position

    def apply_pending(self) -> tuple[int, ...]:
        """Apply what was offered and return the position the index now stands at."""
        with self._lock:
            updates, self._pending = self._pending, []
            self._position = self._pending_position
        if updates:
            self._apply(updates)
        return self._position

    def newer_than(self, product_id: str, version: str) -> bool:
        """Say whether the index holds a newer version of this product."""
        return self._versions.get(product_id, "") > version

    # --- trunks; on the ranking thread

    def open_index(self, trunk: str, width: int) -> list[str]:
        """Give a trunk an index without vectors; return the products that `fill` must bring.

        What is offered from now on must carry this trunk's vectors too.
        """
        if trunk in self._indexes:
            return self.missing(trunk)
        for known, index in self._indexes.items():
            if same_trunk(known, trunk):  # a release gave it another name
                self._indexes[trunk] = index
                return self.missing(trunk)
        self._indexes[trunk] = self.index.twin(width)
        return self.product_ids()

    def product_ids(self) -> list[str]:
        """Return the ids of all products, to go through them a part at a time."""
        return self.index.product_ids()

    def missing(self, trunk: str, among: Sequence[str] | None = None) -> list[str]:
        """Return the products, all or those of `among`, that have no vector of this trunk."""
        index = self.index_of(trunk)
        asked = index.product_ids() if among is None else among
        return [one for one in asked if index.get(one) and not index.has_vector(one)]

    def versions_of(self, product_ids: Sequence[str]) -> dict[str, tuple[str, IndexedProduct]]:
        """Return version and content of those products that are still there."""
        found: dict[str, tuple[str, IndexedProduct]] = {}
        for product_id in product_ids:
            product = self.index.get(product_id)
            if product is not None:
                found[product_id] = (self._versions.get(product_id, ""), product)
        return found

    def fill(self, trunk: str, vectors: Mapping[str, tuple[str, Vector]]) -> None:
        """Bring vectors of a trunk: product -> the version that was encoded, and its vector.

        Those of a version that is no longer the newest are left out: the feed brought the newest.
        """
        self.index_of(trunk).put_vectors(
            {
                product_id: vector
                for product_id, (version, vector) in vectors.items()
                if self._versions.get(product_id, "") == version
            }
        )

    def close_index(self, trunk: str) -> None:
        """Drop a trunk's index; one always stays."""
        if len(self._indexes) > 1:
            self._indexes.pop(trunk, None)

    # --- what the topic should hold; on the ranking thread

    def note_sent(self, product_id: str, version: str) -> None:
        """Remember what this process sends to the topic until the feed brings it back."""
        self._sent[product_id] = version

    def is_published(self, trunk: str, partitions: Collection[int]) -> bool:
        """Say whether all products of these partitions have the last record they should have.

        It should hold the newest version, with this trunk's vector.
        """
        foreign = (
            not same_trunk(origin.trunk, trunk) and (origin.partition or 0) in partitions
            for origin, products in self._products_of.items()
            if products
        )
        return not self._overwritten and not any(foreign)

    def unpublished(
        self, trunk: str, partitions: Collection[int], among: Sequence[str] | None = None
    ) -> list[str]:
        """Return the products, all or those of `among`, that hinder `is_published`."""
        asked = self._origins if among is None else among
        return [one for one in asked if self._is_unpublished(one, trunk, partitions)]

    def to_publish(
        self, product_ids: Sequence[str], trunk: str, partitions: Collection[int]
    ) -> list[tuple[IndexedProduct, str, int | None]]:
        """Return (product with this trunk's vector, version, partition) of those to be sent now."""
        index = self.index_of(trunk)
        chosen = [one for one in product_ids if self._is_unpublished(one, trunk, partitions)]
        vectors, found = index.vectors_of(chosen)
        rows: list[tuple[IndexedProduct, str, int | None]] = []
        for product_id, vector, has_vector in zip(chosen, vectors, found, strict=True):
            product = index.get(product_id)
            if product is not None and has_vector:
                origin = self._origins[product_id]
                whole = replace(product, vector=vector)
                rows.append((whole, self._versions[product_id], origin.partition))
        return rows

    def _is_unpublished(self, product_id: str, trunk: str, partitions: Collection[int]) -> bool:
        origin = self._origins.get(product_id)
        if origin is None or product_id in self._sent:
            return False
        if (origin.partition or 0) not in partitions:
            return False
        return product_id in self._overwritten or not same_trunk(origin.trunk, trunk)

    def _apply(self, updates: Sequence[ProductUpdate]) -> None:
        newest: dict[str, ProductUpdate] = {}
        for update in updates:
            product_id = update.product.product_id
            if self._sent.get(product_id) == update.version:
                del self._sent[product_id]
            if isinstance(update.product, RemovedProduct):
                self._versions.pop(product_id, None)
                self._come_from(product_id, None)
                self._overwritten.discard(product_id)
            elif self.newer_than(product_id, update.version):
                self._overwritten.add(product_id)
                continue
            else:
                self._versions[product_id] = update.version
                self._come_from(product_id, Origin(update.release, update.partition))
                self._overwritten.discard(product_id)
            newest[product_id] = update
        (first, index), *others = self._indexes.items()
        index.apply([_with_vector(update, first) for update in newest.values()])
        for trunk, other in others:
            other.put_vectors(
                {product_id: update.vector_of(trunk) for product_id, update in newest.items()}
            )

    def _come_from(self, product_id: str, origin: Origin | None) -> None:
        before = self._origins.pop(product_id, None)
        if before is not None:
            self._products_of[before] -= 1
        if origin is not None:
            self._origins[product_id] = origin
            self._products_of[origin] += 1


def _with_vector(update: ProductUpdate, trunk: str) -> IndexedProduct | RemovedProduct:
    if isinstance(update.product, RemovedProduct):
        return update.product
    return replace(update.product, vector=update.vector_of(trunk))
