"""Random steps and results over few shoppers, products and moments, so that they meet often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from hypothesis import strategies as st

from models.recommendation.shopper import ShopperEvent
from worker.store.contract import (
    AddHistory,
    CountPurchase,
    CountReturn,
    ForgetUser,
    PutProduct,
    PutReview,
    RemoveProduct,
    ResultKind,
    ResultWrite,
    SentimentCount,
    StateStep,
    Version,
)
from worker.store.results import version_text

DAY_MS = 86_400_000
USERS = ["u", "v", "用户 3"]
PRODUCTS = [*(f"p{n}" for n in range(6)), "产品/7", 'a"b\\c']
EVENT_IDS = [f"{letter}{n}" for letter in "aAz~-" for n in range(3)]
REVIEW_IDS = ["r1", "r2", "r3", "r4", "r5"]
users, products = st.sampled_from(USERS), st.sampled_from(PRODUCTS)
event_ids, review_ids = st.sampled_from(EVENT_IDS), st.sampled_from(REVIEW_IDS)
moments = st.one_of(
    st.integers(0, 3), st.integers(0, 400).map(lambda day: day * DAY_MS + 1_700_000_000_000)
)
versions = st.builds(Version, moments, event_ids)
quantities = st.dictionaries(products, st.integers(1, 50), min_size=1, max_size=6)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
events = st.builds(
    ShopperEvent,
    occurred_at_ms=moments,
    event_id=event_ids,
    kind=st.sampled_from(["search", "purchase", "review"]),
    query=st.none() | texts,
    product_ids=st.lists(products, max_size=3).map(tuple),
    shown=st.lists(products, max_size=3).map(tuple),
    stars=st.none() | st.sampled_from([1.0, 4.5, 5.0]),
    order_id=st.none() | texts,
    session_id=st.none() | texts,
)

changes = st.one_of(
    st.builds(AddHistory, users, events),
    st.builds(CountPurchase, users, versions, quantities),
    st.builds(CountReturn, users, versions, quantities),
    st.builds(PutProduct, products, versions, texts.map(lambda text: orjson.dumps(text).decode())),
    st.builds(RemoveProduct, products, versions),
    st.builds(PutReview, products, review_ids, users, versions, texts, st.none() | st.just(4.0)),
    st.builds(ForgetUser, users, versions),
)
steps = st.builds(
    StateStep,
    changes=st.lists(changes, max_size=8),
    read_users=st.lists(users, max_size=4),
    read_products=st.lists(products, max_size=3, unique=True),
    popular_count=st.sampled_from([0, 3, 100]),
    batch_id=st.sampled_from(["b1", "b2"]),
    intent=st.sampled_from([b"", b'{"a":1}']),
)


@st.composite
def results(draw: st.DrawFn) -> ResultWrite:
    """One result without its value, which depends on the step of its batch too."""
    version = draw(versions)
    kind = draw(st.sampled_from(list(ResultKind)))
    user = draw(st.none() | users)
    id = {
        ResultKind.RECOMMENDATIONS: user or "u",
        ResultKind.TAGS: draw(review_ids),
        ResultKind.TRENDING: "all",
    }.get(kind, draw(event_ids))
    vote = None
    if kind is ResultKind.TAGS:
        label = draw(st.sampled_from(["negative", "neutral", "positive"]))
        score = draw(st.integers(-1_000_000, 1_000_000))
        vote = SentimentCount(draw(products), label, score, draw(st.integers(0, 40)))
    return ResultWrite(kind, id, version, b"", 3600, user_id=user, sentiment=vote)


@dataclass(frozen=True)
class Write:
    """The results of one batch, spelled with its step."""

    step: int
    results: Sequence[ResultWrite]

    @classmethod
    def of(cls, step: int, found: Sequence[ResultWrite]) -> Write:
        """Give the results their values: what a batch of this step makes of their events."""
        return cls(step, [replace(one, value=_value(one.version, step)) for one in found])


def _value(version: Version, step: int) -> bytes:
    fields = {"version": version_text(version), "step": step, "event_id": version.event_id}
    return orjson.dumps(fields)


# Few steps, so that batches of one event meet in either order.
writes = st.builds(Write.of, st.integers(0, 3), st.lists(results(), max_size=6))
