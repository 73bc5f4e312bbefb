"""The arguments of the scripts `apply.lua` and `write.lua`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import orjson

from worker.store.codec import encode_history_member, encode_product, encode_review, encode_vote
from worker.store.contract import (
    AddHistory,
    CountPurchase,
    CountReturn,
    ForgetUser,
    PutProduct,
    PutReview,
    RemoveProduct,
    ResultWrite,
    StateChange,
    StateStep,
    Version,
)
from worker.store.decay import Decay
from worker.store.keys import result_suffix
from worker.store.limits import (
    EARLIER_PRODUCTS,
    PAIRED_PRODUCTS,
    PURCHASED_PRODUCTS,
    SENTIMENT_DAYS,
    TOGETHER_READ,
    StoreLimits,
)
from worker.store.results import version_text
from worker.store.steps import read_users, step_users

Arguments = list[bytes | str | int]


@lru_cache
def _limits_json(limits: StoreLimits) -> bytes:
    return orjson.dumps(
        {
            "history_max_events": limits.history_max_events,
            "history_ttl_s": limits.history_ttl_s,
            "guard_ttl_s": limits.guard_ttl_s,
            "state_ttl_s": limits.state_ttl_s,
            "reviews_per_product": limits.reviews_per_product,
            "half_life_ms": limits.popularity_half_life_s * 1000.0,
            "popular_max_products": limits.popular_max_products,
            "together_max_products": limits.together_max_products,
            "paired_products": PAIRED_PRODUCTS,
            "earlier_products": EARLIER_PRODUCTS,
            "purchased_products": PURCHASED_PRODUCTS,
            "together_read": TOGETHER_READ,
        }
    )


def apply_arguments(step: StateStep, prefix: str, limits: StoreLimits) -> Arguments:
    """Return the arguments of `apply.lua` for one step."""
    decay = Decay(limits.popularity_half_life_s * 1000.0)
    arguments: Arguments = [
        prefix,
        _limits_json(limits),
        step.batch_id,
        step.intent,
        orjson.dumps(step_users(step)),
        orjson.dumps(list(step.read_products)),
        len(read_users(step)),
        step.popular_count,
        step.sequence,
    ]
    for change in step.changes:
        arguments += _change_arguments(change, decay)
    return arguments


def _change_arguments(change: StateChange, decay: Decay) -> Arguments:
    match change:
        case AddHistory(user_id, event):
            version = version_text(Version(*event.order))
            return ["H", user_id, version, encode_history_member(event)]
        case CountPurchase(user_id, version, quantities):
            span = decay.span_of(version.occurred_at_ms)
            weight = decay.weight(version.occurred_at_ms, span)
            amounts = {product: quantity * weight for product, quantity in quantities.items()}
            return ["P", user_id, version_text(version), span, _flat_json(amounts)]
        case CountReturn(user_id, version, quantities):
            return ["R", user_id, version_text(version), _flat_json(quantities)]
        case PutProduct(product_id, version, text):
            record = encode_product(version, text)
            return ["D", product_id, version_text(version), record, 0]
        case RemoveProduct(product_id, version):
            return ["D", product_id, version_text(version), encode_product(version, None), 1]
        case PutReview(product_id, review_id, user_id, version):
            record = encode_review(change)
            return ["V", user_id, version_text(version), product_id, review_id, record]
        case ForgetUser(user_id, version):
            return ["F", user_id, version_text(version)]


def _flat_json(numbers: Mapping[str, float]) -> bytes:
    # Numbers as text: repr of a double reads back exactly, in Lua too.
    return orjson.dumps([part for item in numbers.items() for part in (item[0], repr(item[1]))])


def write_arguments(
    results: Sequence[ResultWrite], batch_id: str, sequence: int, prefix: str, limits: StoreLimits
) -> Arguments:
    """Return the arguments of `write.lua` for one batch's results."""
    owners = dict.fromkeys(result.user_id for result in results if result.user_id is not None)
    arguments: Arguments = [
        prefix,
        batch_id,
        limits.state_ttl_s,
        SENTIMENT_DAYS,
        orjson.dumps(list(owners)),
        sequence,
    ]
    for result in results:
        vote = result.sentiment
        arguments += [
            result_suffix(result.kind, result.id),
            version_text(result.version),
            result.value,
            result.ttl_s,
            result.user_id or "",
            encode_vote(result.version, sequence, vote) if vote is not None else b"",
            vote.product_id if vote is not None else "",
        ]
    return arguments
