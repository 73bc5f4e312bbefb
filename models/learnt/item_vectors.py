"""A recommender's vectors of the products, following a product index from batch to batch.

A product that arrives, changes, sells out or leaves does so here before the next list is made; one
that training never met has its vector from its text alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.learnt.history_batch import UNKNOWN_ITEM
from models.product_index import ProductIndex
from models.recommender import RecommenderNetwork
from models.search.vector_index import VectorIndex

Vector = NDArray[np.float32]

# Products encoded in one product of matrices, whatever their number: other shapes take other
# kernels, with other last bits.
_ITEMS_AT_ONCE = 256


class ItemVectors:
    """The item vectors of the products of one index; one thread at a time."""

    def __init__(
        self,
        network: RecommenderNetwork,
        item_rows: Mapping[str, int],
        index: ProductIndex,
        exact_max_products: int,
    ) -> None:
        """Hold none yet: `refresh` brings them.

        Args:
            network: in evaluation mode; its device does the searching.
            item_rows: product id -> row of the network's item table.
            index: what is followed; not kept.
            exact_max_products: up to so many, a CPU searches exactly.
        """
        self._network = network
        self._item_rows = item_rows
        self._changes = index.follow()
        self._vectors = VectorIndex(
            network.config.width,
            str(network.device),
            exact_max_vectors=exact_max_products,
            unit=bool(network.config.temperature),
        )

    def __len__(self) -> int:
        """Return the number of products with an item vector."""
        return len(self._vectors)

    @property
    def behind(self) -> int:
        """How many products of the index wait to be taken in."""
        return len(self._changes)

    def refresh(self, index: ProductIndex, most: int | None = None) -> None:
        """Take in what changed in the index since the last time, at most so many products."""
        changed = self._changes.take(most)
        there: list[str] = []
        for product_id in changed:
            if index.get(product_id) is not None and self._is_known(product_id):
                there.append(product_id)
            else:
                self._vectors.remove(product_id)
        for start in range(0, len(there), _ITEMS_AT_ONCE):
            ids = there[start : start + _ITEMS_AT_ONCE]
            vectors = self._encode(ids, index)
            self._vectors.put(
                [(i, vector, index.sells(i)) for i, vector in zip(ids, vectors, strict=True)]
            )

    def nearest(
        self, shoppers: Vector, k: int, exclude: Sequence[Collection[str]]
    ) -> list[list[tuple[str, float]]]:
        """Return for each shopper vector (B, D) at most `k` products sold, with scores."""
        return self._vectors.nearest(shoppers, k, exclude)

    def scores(
        self, shopper: Vector, ids: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the scores (n,) of products for a shopper vector (D,), and which have one."""
        return self._vectors.cosines(shopper, ids)

    def vectors_of(self, ids: Sequence[str]) -> Vector:
        """Return the item vectors (n, D), zeros for products without one."""
        return self._vectors.vectors_of(ids)[0]

    def _is_known(self, product_id: str) -> bool:
        return bool(self._network.config.text_width) or product_id in self._item_rows

    @torch.inference_mode()
    def _encode(self, ids: Sequence[str], index: ProductIndex) -> Vector:
        """Return the item vectors of at most `_ITEMS_AT_ONCE` products, (n, D)."""
        width = self._network.config.text_width
        rows = torch.full((_ITEMS_AT_ONCE,), UNKNOWN_ITEM, dtype=torch.int64)
        rows[: len(ids)] = torch.tensor([self._item_rows.get(i, UNKNOWN_ITEM) for i in ids])
        texts = torch.zeros((_ITEMS_AT_ONCE, width), dtype=torch.float32)
        if width:
            texts[: len(ids)] = torch.from_numpy(index.vectors_of(ids)[0])
        device = self._network.device
        vectors = self._network.encode_items(rows.to(device), texts.to(device) if width else None)
        return vectors[: len(ids)].float().cpu().numpy()
