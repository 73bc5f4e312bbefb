"""Records of the compacted topic of product vectors: a product, its vector, who encoded it.

JSON, so that any consumer can read it; the vector is little-endian float16 in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from models.product_index import IndexedProduct, RemovedProduct
from models.release import same_trunk
from worker.events.event import Product
from worker.store.contract import Version
from worker.store.results import version_text


class ProductVectorError(ValueError):
    """A record of the product-vectors topic cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class ProductUpdate:
    """One record, decoded: what to do with the product index, and how new it is.

    `product.vector` is the record's own, of the trunk `release`; `others` holds those of further
    trunks, by trunk.
    """

    product: IndexedProduct | RemovedProduct
    version: str
    release: str
    partition: int | None = None  # of the product's event; None: an older worker did not say
    others: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def vector_of(self, trunk: str) -> NDArray[np.float32] | None:
        """Return the product's vector by a trunk, or None; an empty name takes the record's own."""
        if isinstance(self.product, RemovedProduct):
            return None
        if not trunk or same_trunk(trunk, self.release):
            return self.product.vector
        return self.others.get(trunk)


def as_published(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors as whoever reads them from the topic gets them: rounded to float16."""
    return vectors.astype("<f2").astype(np.float32)


def encode_product_vector(
    product: Product | IndexedProduct,
    version: Version | str,
    vector: NDArray[np.float32],
    release: str,
    partition: int | None = None,
) -> bytes:
    """Return the record's value for a product and its unit vector of shape (D,).

    Args:
        version: of the product's event, or as another record spells it.
        release: the text trunk that encoded it.
        partition: the partition of the product's event; who owns it sends this record again when
            another trunk serves.
    """
    return orjson.dumps(
        {
            "version": version if isinstance(version, str) else version_text(version),
            "release": release,
            "partition": partition,
            "product": {
                "product_id": product.product_id,
                "title": product.title,
                "description": product.description,
                "category": product.category,
                "brand": product.brand,
                "price": product.price,
                "available": product.available,
            },
            "width": int(vector.shape[0]),
            "vector": base64.b64encode(vector.astype("<f2").tobytes()).decode(),
        }
    )


def decode_product_vector(
    key: bytes | None, value: bytes | None, widths: int | Mapping[str, int]
) -> ProductUpdate:
    """Read one record.

    Args:
        widths: the width of every vector, or of the trunks that are known by name.

    Raises:
        ProductVectorError: the record is not one of ours, or its vector has another width.
    """
    if key is None:
        raise ProductVectorError("a record without a key; its product is unknown")
    if value is None:
        return ProductUpdate(RemovedProduct(key.decode()), version="", release="")
    try:
        record = orjson.loads(value)
        vector = np.frombuffer(base64.b64decode(record["vector"]), dtype="<f2").astype(np.float32)
        product = IndexedProduct(**record["product"], vector=vector)
        version, release = str(record["version"]), str(record["release"])
        partition = None if record.get("partition") is None else int(record["partition"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProductVectorError(f"not a product vector: {error!r}") from error
    width = widths if isinstance(widths, int) else widths.get(release, len(vector))
    if vector.shape != (width,) or not np.isfinite(vector).all():
        raise ProductVectorError(
            f"product {product.product_id!r} has a vector of {vector.shape[0]} numbers from release"
            f" {release!r}; that trunk gives {width} finite ones: empty the product-vectors topic"
            " and send the products again, or run the trunk that made it"
        )
    return ProductUpdate(product, version, release, partition)
