"""The product index of each process start, brought to the position that a batch met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.product_index import IndexedProduct, ProductIndex
from models.search.product_vectors import ProductVectors
from models.text_encoder import TextTrunk
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.product_vectors import (
    ProductUpdate,
    ProductVectorError,
    as_published,
    decode_product_vector,
)
from worker.replay.recordings.recording import Recording

_ENCODED_AT_ONCE = 256


class RecordedCatalogue:
    """A catalogue that follows the recorded product vectors."""

    def __init__(
        self, recording: Recording, trunk: TextTrunk, known: Mapping[str, ProductVectors]
    ) -> None:
        """Begin without products; `known` holds vectors that came with a release, by trunk."""
        self.catalogue = Catalogue(ProductIndex(trunk.width), trunk.release)
        self._trunks = {trunk.release: trunk}
        self._known = known
        self._recording = recording
        self._topic = recording.layout.product_vectors
        self._position: list[int] = []

    def serve(self, trunk: TextTrunk) -> None:
        """Give a trunk an index over the products that stand there now."""
        if trunk.release in self._trunks:
            return
        self._trunks[trunk.release] = trunk
        catalogue = self.catalogue
        catalogue.open_index(trunk.release, trunk.width)
        missing = catalogue.missing(trunk.release)
        for start in range(0, len(missing), _ENCODED_AT_ONCE):
            found = catalogue.versions_of(missing[start : start + _ENCODED_AT_ONCE])
            vectors = self._encode(trunk, [product for _, product in found.values()])
            catalogue.fill(
                trunk.release,
                {
                    product_id: (version, vector)
                    for (product_id, (version, _)), vector in zip(
                        found.items(), vectors, strict=True
                    )
                },
            )

    def advance(self, position: Sequence[int]) -> None:
        """Bring the index to a position: for each partition the next offset."""
        updates: list[ProductUpdate] = []
        for partition, end in enumerate(position):
            start = self._position[partition] if partition < len(self._position) else 0
            if end > start:
                updates += self._read(partition, start, end)
        self._position = list(position)
        self.catalogue.offer(self._complete(updates), tuple(position))

    def _read(self, partition: int, start: int, end: int) -> list[ProductUpdate]:
        updates: list[ProductUpdate] = []
        faults = self._recording.faults
        for record in self._recording.log(self._topic, partition).read(start, end - 1):
            try:
                updates.append(
                    decode_product_vector(record.key, record.value, self.catalogue.widths)
                )
            except ProductVectorError as error:
                place = f"{self._topic}:{partition}:{record.offset} ({error})"
                faults.note("unreadable-product-vector", place)
        return updates

    def _complete(self, updates: list[ProductUpdate]) -> list[ProductUpdate]:
        """Give every product the vectors of all trunks that have an index, as a live feed does."""
        for release, trunk in self._trunks.items():
            lacking = [
                place
                for place, update in enumerate(updates)
                if isinstance(update.product, IndexedProduct) and update.vector_of(release) is None
            ]
            products = [
                product
                for place in lacking
                if isinstance(product := updates[place].product, IndexedProduct)
            ]
            for place, vector in zip(lacking, self._encode(trunk, products), strict=True):
                others = {**updates[place].others, release: vector}
                updates[place] = replace(updates[place], others=others)
        return updates

    def _encode(
        self, trunk: TextTrunk, products: Sequence[IndexedProduct]
    ) -> list[NDArray[np.float32]]:
        return encode_products(trunk, products, self._known.get(trunk.release))


def encode_products(
    trunk: TextTrunk, products: Sequence[IndexedProduct], known: ProductVectors | None = None
) -> list[NDArray[np.float32]]:
    """Return each product's vector (D,) by a trunk, as readers of the topic get it."""
    texts = [one.text for one in products]
    vectors = dict(known.find(texts)) if known is not None and texts else {}
    wanted = [place for place in range(len(texts)) if place not in vectors]
    if wanted:
        tokens = trunk.tokenize([texts[place] for place in wanted], "passage")
        vectors.update(zip(wanted, trunk.encode(tokens).vectors, strict=True))
    return [as_published(vectors[place]) for place in range(len(texts))]
