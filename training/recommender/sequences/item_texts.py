"""The text vectors that recommender training reads, made as the worker makes those it serves from.

A product's vector is the trunk's of `models.search.product_text`, a query's the trunk's of
the query.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.text_encoder import Role, TextTrunk
from training.data.rows import ReadReport
from training.evaluation.evaluate_search import read_catalogue
from training.recommender.sequences.event_sequences import EventSequences, UnfitTrainingData

logger = logging.getLogger(__name__)

Values = NDArray[np.float32]
_TEXTS_AT_ONCE = 2_048


def read_product_texts(path: Path, report: ReadReport) -> dict[str, str]:
    """Return product id -> text to encode, of a file of Product fields.

    Raises UnreadableData, or UnfitTrainingData where it holds no product.
    """
    texts = {product.product_id: product.text for product in read_catalogue(path, report)}
    if not texts:
        raise UnfitTrainingData(f"{path} holds no product with a product_id and a title")
    return texts


def with_texts(
    sequences: EventSequences, texts: Mapping[str, str], queries: Sequence[str], trunk: TextTrunk
) -> EventSequences:
    """Return the sequences with the vectors of their items and queries; what lacks a text is told.

    An item without a text has a vector of zeros: it is known by its embedding alone.
    """
    vectors = np.zeros((sequences.items, trunk.width), dtype=np.float32)
    known = [row for row, item in enumerate(sequences.item_ids) if item in texts]
    vectors[known] = _encode([texts[sequences.item_ids[row]] for row in known], "passage", trunk)
    if len(known) < sequences.items:
        logger.warning(
            "%d of %d items have no text: they are known by their embedding alone",
            sequences.items - len(known), sequences.items,
        )  # fmt: skip
    return replace(sequences, text_vectors=vectors, query_vectors=_encode(queries, "query", trunk))


def _encode(texts: Sequence[str], role: Role, trunk: TextTrunk) -> Values:
    """Return the unit vectors of the texts: (n, W)."""
    found = np.empty((len(texts), trunk.width), dtype=np.float32)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        chunk = texts[start : start + _TEXTS_AT_ONCE]
        found[start : start + len(chunk)] = trunk.encode(trunk.tokenize(chunk, role)).vectors
        logger.info("%d of %d texts encoded (%s)", start + len(chunk), len(texts), role)
    return found
