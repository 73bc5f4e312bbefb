"""The trunk without a network: the protocol, the same bits, likeness by shared words."""

from __future__ import annotations

import numpy as np

from models.text.null_encoder import NullEncoder


def test_texts_that_share_words_lie_near_each_other() -> None:
    """Word order does not matter, shared words bring texts near, Chinese goes by character."""
    trunk = NullEncoder()
    texts = ["red running shoes", "shoes, RUNNING red", "red running socks", "coffee machine",
             "红色跑鞋", "跑鞋 红色", "咖啡机"]  # fmt: skip
    vectors = trunk.encode(trunk.tokenize(texts, "query")).vectors
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.999
    assert likeness[0, 2] > 0.5
    assert abs(likeness[0, 3]) < 0.3
    assert likeness[4, 5] > 0.999
    assert abs(likeness[4, 6]) < 0.3


def test_a_text_has_the_same_bits_whatever_stands_beside_it() -> None:
    """Alone or among others, a text's vector is bit for bit the same."""
    trunk = NullEncoder(width=64)
    tokens = trunk.tokenize([f"text {'word ' * n} {n}" for n in range(60)], "passage")
    whole = trunk.encode(tokens).vectors
    for row in range(60):
        assert trunk.encode([tokens[row]]).vectors[0].tobytes() == whole[row].tobytes()


def test_vectors_are_unit_and_odd_texts_have_one() -> None:
    """Empty and symbol-only texts are not an error."""
    trunk = NullEncoder(width=16)
    vectors = trunk.encode(trunk.tokenize(["", "!!!", "a b"], "query")).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert trunk.encode([]).vectors.shape == (0, 16)


def test_heads_say_that_nothing_was_learnt() -> None:
    """Every probability is uniform, one row for each row asked."""
    trunk = NullEncoder(width=16)
    tokens = trunk.tokenize(["good", "bad"], "passage")
    found = trunk.encode(tokens, {"sentiment": [1, 0, 1]}).heads["sentiment"]
    np.testing.assert_allclose(found, np.full((3, 3), 1 / 3))


def test_long_texts_are_cut() -> None:
    """No text has more tokens than the limit."""
    tokens = NullEncoder(max_tokens=32).tokenize(["word " * 100], "query")[0]
    assert (len(tokens.ids), tokens.bucket) == (32, 32)
