"""Products' texts as vectors of a trunk, as the topic of product vectors holds them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from models.product_index import Vector
from models.search.product_vectors import ProductVectors
from models.text_encoder import TextTrunk

logger = logging.getLogger(__name__)

_AT_ONCE = 256


def encode_products(
    trunk: TextTrunk, texts: Sequence[str], known: ProductVectors | None = None
) -> Vector:
    """Return the vectors (N, D) of texts, rounded to float16; `known` ones are not encoded."""
    vectors = np.zeros((len(texts), trunk.width), dtype=np.float32)
    found = known.find(texts) if known is not None else {}
    for place, vector in found.items():
        vectors[place] = vector
    missing = [place for place in range(len(texts)) if place not in found]
    for start in range(0, len(missing), _AT_ONCE):
        places = missing[start : start + _AT_ONCE]
        tokens = trunk.tokenize([texts[place] for place in places], "passage")
        vectors[places] = trunk.encode(tokens).vectors.astype("<f2").astype(np.float32)
        if len(missing) > _AT_ONCE:
            logger.info("%d of %d product texts encoded", start + len(places), len(missing))
    return vectors
