"""Product vectors that come with a release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.release import ModelUnavailable
from models.search.product_vectors import FILE_NAME, load_product_vectors, save_product_vectors
from models.text.null_encoder import NullEncoder

TRUNK = NullEncoder(8)


def test_vectors_are_found_by_their_text(tmp_path: Path) -> None:
    """Each text finds its own vector; a text that is not there finds none."""
    texts = [f"product {number}" for number in range(300)]
    vectors = np.random.default_rng(1).standard_normal((300, 8)).astype(np.float32)
    save_product_vectors(tmp_path, TRUNK, texts, vectors)
    known = load_product_vectors(tmp_path, TRUNK)
    assert known is not None
    assert len(known) == 300
    found = known.find(["product 7", "changed since", "product 299", ""])
    assert sorted(found) == [0, 2]
    assert (found[0] == vectors[7].astype(np.float16)).all()
    assert (found[2] == vectors[299].astype(np.float16)).all()


def test_an_empty_file_knows_nothing(tmp_path: Path) -> None:
    """A release of a shop without products is no fault."""
    save_product_vectors(tmp_path, TRUNK, [], np.zeros((0, 8), np.float32))
    known = load_product_vectors(tmp_path, TRUNK)
    assert known is not None
    assert known.find(["x"]) == {}


def test_texts_that_were_cut_elsewhere_are_not_used(tmp_path: Path) -> None:
    """A worker that reads more of a text encodes products itself, as live results need it."""
    save_product_vectors(tmp_path, TRUNK, ["x"], np.ones((1, 8), np.float32))
    assert load_product_vectors(tmp_path, NullEncoder(8, max_tokens=32)) is None


@pytest.mark.parametrize(
    "damage", ["missing", "rubbish", "width", "nan", "digests", "trunk", "nameless"]
)
def test_what_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    """A missing, damaged or foreign file is one clear sentence."""
    vectors = np.ones((2, 8), np.float16)
    digests = np.arange(4, dtype=np.uint64).reshape(2, 2)
    tensors = {"digests": digests, "vectors": vectors}
    made_by = {"trunk": TRUNK.release, "max_tokens": str(TRUNK.max_tokens)}
    match damage:
        case "width":
            tensors["vectors"] = vectors[:, :4].copy()
        case "nan":
            tensors["vectors"] = vectors * np.float16(np.nan)
        case "digests":
            tensors["digests"] = digests[:1].copy()
        case "trunk":
            made_by["trunk"] = "other@01234567"
        case "nameless":
            made_by = {}
    if damage == "rubbish":
        (tmp_path / FILE_NAME).write_bytes(b"rubbish")
    elif damage != "missing":
        save_file(tensors, tmp_path / FILE_NAME, metadata=made_by)
    with pytest.raises(ModelUnavailable, match="build the release again"):
        load_product_vectors(tmp_path, TRUNK)
