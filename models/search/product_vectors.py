"""Vectors of products that come with a release: `product_vectors/vectors.safetensors`.

A vector is found by the text it was made of, not by the product: so a product whose text has
changed since has none, and needs no version. The file names the trunk that made the vectors and
the length at which it cut texts, so that they never serve another one. Letters: N vectors, D width.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.release import same_trunk
from models.releases.manifest import ModelUnavailable
from models.text_encoder import TextTrunk

logger = logging.getLogger(__name__)

Vector = NDArray[np.float32]

FILE_NAME = "vectors.safetensors"
_DIGEST_BYTES = 16


class ProductVectors:
    """Read-only; safe between threads."""

    def __init__(self, digests: NDArray[np.uint64], vectors: NDArray[np.float16]) -> None:
        """Hold vectors (N, D) by the digests (N, 2) of their texts."""
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        self._digests = digests[order]
        self._vectors = vectors[order]

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._digests)

    @property
    def width(self) -> int:
        """D."""
        return int(self._vectors.shape[1])

    def find(self, texts: Sequence[str]) -> Mapping[int, Vector]:
        """Return place in `texts` -> vector (D,) of those that are known."""
        asked = _digests(texts)
        places = np.searchsorted(self._digests[:, 0], asked[:, 0])
        found: dict[int, Vector] = {}
        for place, (row, digest) in enumerate(zip(places.tolist(), asked, strict=True)):
            while row < len(self._digests) and self._digests[row, 0] == digest[0]:
                if self._digests[row, 1] == digest[1]:
                    found[place] = self._vectors[row].astype(np.float32)
                    break
                row += 1
        return found


def save_product_vectors(
    folder: Path, trunk: TextTrunk, texts: Sequence[str], vectors: Vector
) -> None:
    """Write a trunk's vectors (N, D) of texts (`models.search.product_text`)."""
    if vectors.ndim != 2 or len(texts) != len(vectors) or not np.isfinite(vectors).all():
        raise ValueError("one finite vector a text is needed, of shape (N, D)")
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {"digests": _digests(texts)}
    tensors["vectors"] = vectors.astype(np.float16)
    made_by = {"trunk": trunk.release, "max_tokens": str(trunk.max_tokens)}
    save_file(tensors, folder / FILE_NAME, metadata=made_by)


def load_product_vectors(folder: Path, trunk: TextTrunk) -> ProductVectors | None:
    """Read a folder that `save_product_vectors` wrote; None: this trunk cuts texts elsewhere.

    Raises ModelUnavailable: the file is damaged, or holds the vectors of another trunk.
    """
    path = folder / FILE_NAME
    try:
        with safe_open(path, framework="np") as file:
            made_by = file.metadata() or {}
            digests, vectors = file.get_tensor("digests"), file.get_tensor("vectors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelUnavailable(
            f"{path} cannot be read ({error}): build the release again."
        ) from error
    if not same_trunk(made_by.get("trunk", ""), trunk.release):
        raise ModelUnavailable(
            f"{path} holds vectors of the trunk {made_by.get('trunk', 'unknown')}, the release has "
            f"{trunk.release}: build the release again."
        )
    fits = digests.shape == (len(vectors), 2) and vectors.shape == (len(vectors), trunk.width)
    if not fits or digests.dtype != np.uint64 or not np.isfinite(vectors).all():
        raise ModelUnavailable(
            f"{path} holds vectors of shape {vectors.shape}, or some that are not finite; the "
            f"trunk gives {trunk.width} numbers each: build the release again."
        )
    if made_by.get("max_tokens") != str(trunk.max_tokens):
        logger.warning(
            "The release's product vectors were made of texts cut at %s tokens, here at %d: they "
            "are not used.",
            made_by.get("max_tokens"),
            trunk.max_tokens,
        )
        return None
    return ProductVectors(digests, vectors)


def _digests(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return the first 128 bits of each text's sha256 as (N, 2)."""
    joined = b"".join(
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]
        for text in texts
    )
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64).reshape(-1, 2)
