"""The catalogue with several trunks: one index each, and what the topic of products should hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from models.product_index import IndexedProduct, ProductIndex, RemovedProduct
from worker.events.event import Product
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.messages import publication
from worker.pipeline.product_vectors import (
    ProductUpdate,
    ProductVectorError,
    as_published,
    decode_product_vector,
    encode_product_vector,
)

ONE, TWO = "one@1", "two@2"


def vector(place: int, width: int) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[place % width]


def update(
    product_id: str, version: str = "1", *, trunk: str = ONE, partition: int = 0, **more: Any
) -> ProductUpdate:
    product = IndexedProduct(product_id, f"tea {product_id}", vector=vector(0, 4), **more)
    return ProductUpdate(product, version, trunk, partition)


def with_other(one: ProductUpdate, trunk: str, place: int) -> ProductUpdate:
    return ProductUpdate(
        one.product, one.version, one.release, one.partition, {trunk: vector(place, 6)}
    )


def new_catalogue(*updates: ProductUpdate) -> Catalogue:
    catalogue = Catalogue(ProductIndex(4), ONE)
    catalogue.offer(updates, (len(updates),))
    catalogue.apply_pending()
    return catalogue


def found(catalogue: Catalogue, trunk: str, place: int, width: int) -> list[str]:
    index = catalogue.index_of(trunk)
    return [one for one, score in index.nearest(vector(place, width)[None], 9)[0] if score > 0.5]


def test_a_second_trunk_is_filled_while_products_change() -> None:
    """What changed or went while its old text was encoded keeps what the feed brought."""
    catalogue = new_catalogue(update("a"), update("b"), update("c"))
    catalogue.open_index(TWO, 6)
    encoded = catalogue.versions_of(catalogue.missing(TWO))
    changed = with_other(update("b", "2"), TWO, 5)
    removed = ProductUpdate(RemovedProduct("c"), "", "")
    catalogue.offer([changed, removed], (5,))
    catalogue.apply_pending()
    catalogue.fill(TWO, {one: (version, vector(1, 6)) for one, (version, _) in encoded.items()})
    assert catalogue.missing(TWO) == []
    assert found(catalogue, TWO, 1, 6) == ["a"]
    assert found(catalogue, TWO, 5, 6) == ["b"]
    assert catalogue.index_of(TWO).get("c") is None
    assert found(catalogue, ONE, 0, 4) == ["a", "b"]


def test_the_oldest_trunk_goes_and_the_other_goes_on() -> None:
    """After the first index is dropped, updates reach products, words and the one that is left."""
    catalogue = new_catalogue(update("a"))
    catalogue.open_index(TWO, 6)
    catalogue.fill(TWO, {"a": ("1", vector(1, 6))})
    catalogue.close_index(ONE)
    catalogue.offer([with_other(update("b"), TWO, 2)], (2,))
    catalogue.apply_pending()
    assert catalogue.trunks == (TWO,)
    hits = catalogue.index_of(TWO).search(["tea"], vector(2, 6)[None], 5)[0]
    assert {hit.product_id for hit in hits} == {"a", "b"}
    with pytest.raises(KeyError):
        catalogue.index_of(ONE)
    catalogue.close_index(TWO)
    assert catalogue.trunks == (TWO,)


def test_the_same_products_whatever_the_order_of_trunks() -> None:
    """An index is a function of trunk and position: opened early or late, it answers the same."""
    updates = [with_other(update(str(n)), TWO, n) for n in range(40)]
    early, late = Catalogue(ProductIndex(4), ONE), Catalogue(ProductIndex(6), TWO)
    early.open_index(TWO, 6)
    for start in range(0, 40, 7):
        early.offer(updates[start : start + 7], (start,))
        early.apply_pending()
    late.offer(updates, (40,))
    late.apply_pending()
    query = np.ones((1, 6), dtype=np.float32)
    assert early.index_of(TWO).search(["tea 3"], query, 20) == late.index_of(TWO).search(
        ["tea 3"], query, 20
    )


def test_only_the_owner_s_products_of_another_trunk_are_published() -> None:
    """After a swap a worker sends its partitions' products, with the new vectors, once."""
    catalogue = new_catalogue(
        update("a"), update("b", partition=1), update("c", trunk=TWO), update("d")
    )
    catalogue.open_index(TWO, 6)
    catalogue.fill(TWO, {one: ("1", vector(1, 6)) for one in catalogue.missing(TWO)})
    assert catalogue.unpublished(TWO, {0}) == ["a", "d"]
    messages = publication(catalogue, ["a", "b", "c", "d"], TWO, {0})
    assert [message.key for message in messages] == [b"a", b"d"]
    value = orjson.loads(messages[0].value or b"")
    assert (value["release"], value["version"], value["partition"]) == (TWO, "1", 0)
    assert catalogue.unpublished(TWO, {0}) == []  # sent, and not yet back
    back = [decode_product_vector(m.key, m.value, {TWO: 6}) for m in messages]
    catalogue.offer(back, (9,))
    catalogue.apply_pending()
    assert catalogue.unpublished(TWO, {0}) == []
    assert catalogue.unpublished(TWO, {0, 1}) == ["b"]


def test_a_newer_version_on_its_way_is_never_overwritten() -> None:
    """A product of which this worker sent a newer version, or a removal, is not sent again."""
    catalogue = new_catalogue(update("a"), update("b"))
    catalogue.open_index(TWO, 6)
    catalogue.fill(TWO, {one: ("1", vector(1, 6)) for one in ("a", "b")})
    catalogue.note_sent("a", "2")
    catalogue.note_sent("b", "")
    assert publication(catalogue, ["a", "b"], TWO, {0}) == []


def test_a_record_that_hides_a_newer_one_is_put_right() -> None:
    """When an older record follows a newer in the topic, its owner sends the newer again."""
    catalogue = new_catalogue(update("a", "2"))
    assert catalogue.unpublished(ONE, {0}) == []
    catalogue.offer([update("a", "1")], (2,))
    catalogue.apply_pending()
    assert catalogue.unpublished(ONE, {0}) == ["a"]
    (message,) = publication(catalogue, ["a"], ONE, {0})
    assert orjson.loads(message.value or b"")["version"] == "2"
    catalogue.offer([decode_product_vector(message.key, message.value, 4)], (3,))
    catalogue.apply_pending()
    assert catalogue.unpublished(ONE, {0}) == []


def test_a_trunk_under_another_name_keeps_its_vectors() -> None:
    """A release that renames its trunk encodes nothing and sends nothing again."""
    catalogue = new_catalogue(update("a"), update("b", trunk="renamed@1"))
    assert catalogue.open_index("again@1", 4) == []
    assert found(catalogue, "again@1", 0, 4) == ["a", "b"]
    assert catalogue.is_published("again@1", {0})
    catalogue.offer([update("c")], (3,))
    catalogue.apply_pending()
    assert catalogue.missing("again@1") == []
    catalogue.close_index(ONE)
    assert found(catalogue, "again@1", 0, 4) == ["a", "b", "c"]


def test_published_vectors_have_the_bits_of_encoded_ones() -> None:
    """A vector that this worker encodes equals the one that readers of the topic get."""
    whole = np.random.default_rng(0).standard_normal(32).astype(np.float32)
    product = Product.model_validate(
        {
            "event_id": "p", "occurred_at": "2026-03-01T12:00:00Z", "product_id": "a",
            "title": "tea",
        }
    )  # fmt: skip
    record = encode_product_vector(product, "1", whole, ONE, 3)
    read = decode_product_vector(b"a", record, 32)
    assert isinstance(read.product, IndexedProduct)
    assert read.product.vector is not None
    assert read.partition == 3
    assert (read.product.vector == as_published(whole)).all()


def test_vectors_that_are_no_numbers_are_refused() -> None:
    """A record with NaN must not reach the index."""
    product = IndexedProduct("a", "tea")
    record = encode_product_vector(product, "1", np.full(4, np.nan, np.float32), ONE)
    with pytest.raises(ProductVectorError, match="finite"):
        decode_product_vector(b"a", record, {ONE: 4})
