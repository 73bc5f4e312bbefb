"""The product index: what is found, in which order, and that the way there does not matter."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.product_index import (
    Hit,
    IndexedProduct,
    ProductIndex,
    RemovedProduct,
)
from models.search.product_text import MIN_ENCODED_WORDS, product_text
from models.text.null_encoder import NullEncoder

WIDTH = 64
ENCODER = NullEncoder(WIDTH)
TITLES = [
    "Men's running shoes blue",
    "Women's running shoes red",
    "USB-C cable 2 m",
    "iPhone15 case, clear",
    "红米Note12Pro手机壳 防摔",
    "苹果手机数据线 USB-C 快充",
    "纯棉毛巾 三条装",
    "Kitchen towel, cotton",
]


def vectors(*texts: str) -> NDArray[np.float32]:
    """Return hash vectors (n, D) of texts."""
    return ENCODER.encode(ENCODER.tokenize(texts, "passage")).vectors


def product(product_id: str, title: str, **fields: object) -> IndexedProduct:
    """Return a product whose vector is that of its title."""
    return IndexedProduct(product_id, title, vector=vectors(title)[0], **fields)  # type: ignore[arg-type]


def catalogue() -> list[IndexedProduct]:
    """Return a small catalogue in two languages."""
    return [product(f"p{number}", title) for number, title in enumerate(TITLES)]


def index_of(updates: list[IndexedProduct | RemovedProduct]) -> ProductIndex:
    """Return an index that took the updates at once."""
    index = ProductIndex(WIDTH)
    index.apply(updates)
    return index


def found(index: ProductIndex, query: str, k: int = 10) -> list[Hit]:
    """Search for one query."""
    return index.search([query], vectors(query), k)[0]


@pytest.mark.parametrize(
    ("query", "first", "terms"),
    [
        ("running shoe men", "p0", ("running", "shoe", "men")),
        ("usb c cable", "p2", ("usb", "cable")),
        ("usbc-iphone15", "p3", ("iphone15",)),
        ("iphone 15 case", "p3", ("iphone", "15", "case")),
        ("手机壳", "p4", ("手机", "机壳")),
        ("数据线", "p5", ("数据线",)),
        ("ＮＯＴＥ１２ＰＲＯ", "p4", ("note12pro",)),
        ("毛巾", "p6", ("毛巾",)),
    ],
)
def test_the_product_that_holds_the_words_comes_first(
    query: str, first: str, terms: tuple[str, ...]
) -> None:
    """Words, plurals, compounds and Chinese find their product and are named as matched."""
    hit = found(index_of(catalogue()), query)[0]
    assert hit.product_id == first
    assert set(terms) & set(hit.terms)
    assert hit.lexical is not None
    assert hit.lexical > 0


def test_words_that_say_nothing_are_not_named_as_matched() -> None:
    """Stop words and parts of a matched compound stay out of the terms."""
    index = index_of([product("a", "a cable for the usb-c port")])
    assert found(index, "the usb-c for a port")[0].terms == ("usb-c", "port")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        '"',
        '""" OR "',
        "a AND b OR NOT c NEAR(d, 2)",
        "title: * ^ ( ) { } :",
        "-shoes +shoes shoes*",
        "'; DROP TABLE words; --",
        "👍🔥 shoes 👟",
        "\x00\ud7ff�",
        "shoes " * 5_000,
        "很" * 5_000,
    ],
)
def test_no_query_breaks_the_search(query: str) -> None:
    """Search syntax, quotes, emoji and very long queries are plain text."""
    hits = found(index_of(catalogue()), query, k=3)
    assert len(hits) == 3


def test_unavailable_and_removed_products_never_appear() -> None:
    """A sold-out or removed product is in no result; it can come back."""
    index = index_of(catalogue())
    index.apply([product("p0", TITLES[0], available=False), RemovedProduct("p1")])
    query = "running shoes"
    near = index.nearest(vectors(query), 10)[0]
    assert {"p0", "p1"}.isdisjoint({hit.product_id for hit in found(index, query)})
    assert {"p0", "p1"}.isdisjoint({product_id for product_id, _ in near})
    assert index.get("p0") is not None
    assert index.get("p1") is None
    index.apply([product("p0", TITLES[0])])
    assert found(index, query)[0].product_id == "p0"


def test_vectors_of_an_unavailable_product_are_still_known() -> None:
    """What a shopper bought counts for taste after it is sold out."""
    index = index_of([product("p0", TITLES[0], available=False)])
    rows, exist = index.vectors_of(["p0", "nothing"])
    assert exist.tolist() == [True, False]
    np.testing.assert_allclose(rows[0], vectors(TITLES[0])[0], atol=1e-6)
    assert not rows[1].any()


def test_a_product_without_a_vector_is_found_by_its_words() -> None:
    """Until its vector has come, a product is found by words alone."""
    index = index_of([IndexedProduct("p", "garden hose"), product("q", "towel")])
    hit = found(index, "garden hose")[0]
    assert (hit.product_id, hit.vector) == ("p", None)


def test_an_empty_catalogue_gives_empty_lists() -> None:
    """Searching and neighbours in an empty index give nothing, and no error."""
    index = ProductIndex(WIDTH)
    assert index.search(["x", "y"], vectors("x", "y"), 5) == [[], []]
    assert index.nearest(vectors("x"), 5) == [[]]
    assert index.search([], np.zeros((0, WIDTH), np.float32), 5) == []
    assert len(index) == 0


def test_more_results_than_products_can_be_asked_for() -> None:
    """With k beyond the catalogue every available product comes once."""
    hits = found(index_of(catalogue()), "shoes", k=1_000)
    assert sorted(hit.product_id for hit in hits) == [f"p{n}" for n in range(len(TITLES))]


def test_equal_scores_stand_by_product_id() -> None:
    """Products with the same text come in the order of their ids, also where the list is cut."""
    ids = [f"p{number:04}" for number in range(600)]
    shuffled = ids[:]
    random.Random(1).shuffle(shuffled)
    index = index_of([product(product_id, "green tea") for product_id in shuffled])
    assert [hit.product_id for hit in found(index, "green tea", 50)] == ids[:50]
    near = index.nearest(vectors("green tea"), 50, [{"p0003"}])[0]
    assert [product_id for product_id, _ in near] == [i for i in ids[:51] if i != "p0003"]


def test_excluded_products_make_room_for_the_next() -> None:
    """Each row of `nearest` leaves out its own products and still gives k."""
    index = index_of(catalogue())
    queries = vectors("running shoes", "running shoes")
    free, barred = index.nearest(queries, 3, [[], ["p0", "p1", "unknown"]])
    assert {product_id for product_id, _ in free} > {"p0", "p1"}
    assert len(barred) == 3
    assert {"p0", "p1"}.isdisjoint({product_id for product_id, _ in barred})


def test_a_new_version_of_a_product_replaces_its_words_and_its_vector() -> None:
    """After an update only the new text is found."""
    index = index_of(catalogue())
    index.apply([product("p0", "garden hose")])
    assert found(index, "garden hose")[0].product_id == "p0"
    assert "men" not in found(index, "men's shoes blue")[0].terms


def test_the_last_update_of_a_product_in_one_call_counts() -> None:
    """Updates of one product in one call count in their order."""
    index = index_of([product("a", "old"), RemovedProduct("a"), product("a", "new")])
    assert len(index) == 1
    assert found(index, "new")[0].terms == ("new",)
    index.apply([product("a", "newer"), RemovedProduct("a"), RemovedProduct("never seen")])
    assert found(index, "newer") == []


def test_a_vector_of_another_width_is_refused() -> None:
    """A vector of the wrong width is an error that names both widths, and changes nothing."""
    index = index_of(catalogue())
    with pytest.raises(ValueError, match=r"\(3,\).*\(64,\)"):
        index.apply([IndexedProduct("bad", "bad", vector=np.ones(3, np.float32))])
    assert index.get("bad") is None
    assert all(not hit.terms for hit in found(index, "bad"))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"title": "Milk", "category": "Dairy", "brand": "ACME"}, "Milk. ACME. Dairy"),
        ({"title": "ACME milk", "brand": "Acme"}, "ACME milk"),
        ({"title": "苹果手机壳", "description": "防摔"}, "苹果手机壳. 防摔"),
    ],
)
def test_a_short_title_is_filled_up_for_the_trunk(fields: dict[str, str], text: str) -> None:
    """Brand, category and description follow a short title; a brand is not said twice."""
    assert product_text(**fields) == text


def test_what_the_trunk_reads_is_bounded() -> None:
    """A long description is cut, and a long title needs none of it."""
    assert len(product_text("tea", "leaf " * 1_000).split()) == MIN_ENCODED_WORDS
    assert "leaf" not in product_text("tea " * 30, "leaf")
    assert len(product_text("tea " * 1_000).split()) < 100
    assert len(product_text("茶" * 1_000)) < 200


update = st.one_of(
    st.builds(
        lambda n, title, available: product(f"p{n}", title, available=available),
        st.integers(0, 12),
        st.sampled_from(TITLES),
        st.booleans(),
    ),
    st.builds(lambda n: RemovedProduct(f"p{n}"), st.integers(0, 12)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(update, max_size=40), st.integers(1, 7), st.integers(0, 1_000))
def test_results_depend_only_on_the_set_of_products(
    updates: list[IndexedProduct | RemovedProduct], size: int, seed: int
) -> None:
    """Any batching and order of updates that ends in the same products gives the same results."""
    batched = ProductIndex(WIDTH)
    for start in range(0, len(updates), size):
        batched.apply(updates[start : start + size])
    last = {one.product_id: one for one in updates}
    standing = [one for one in last.values() if isinstance(one, IndexedProduct)]
    random.Random(seed).shuffle(standing)
    fresh = index_of([*standing])
    queries = ["running shoes usb-c", "手机 数据线", "towel"]
    assert batched.search(queries, vectors(*queries), 5) == fresh.search(
        queries, vectors(*queries), 5
    )
    assert batched.nearest(vectors(*queries), 5) == fresh.nearest(vectors(*queries), 5)
    sold = {one.product_id for one in standing if one.available}
    shown = {
        hit.product_id for hits in batched.search(queries, vectors(*queries), 20) for hit in hits
    }
    assert shown == sold


def test_a_query_scores_the_same_alone_and_in_a_batch() -> None:
    """What else is searched for at the same time changes no score."""
    index = index_of([product(f"p{n}", f"{TITLES[n % 8]} {n}") for n in range(300)])
    queries = [f"{title} {n}" for n, title in enumerate(TITLES * 4)]
    together = index.search(queries, vectors(*queries), 10)
    assert together == [found(index, query) for query in queries]
