"""What `apply.lua` answers, read into a `StateView`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from worker.store.codec import decode_product, decode_review, parse_version
from worker.store.contract import ReviewText, StateStep, StateView
from worker.store.decay import Decay, Popular
from worker.store.scripts.history_cache import HistoryCache
from worker.store.steps import read_users, step_users

_Scores = list[tuple[str, float]]


def read_view(step: StateStep, reply: Sequence[Any], cache: HistoryCache) -> StateView:
    """Return the view of one step; the places of `reply` are those of the script's last line."""
    sequence, tombstones, histories, bought, rows, products, reviews, popular, clock = reply
    return StateView(
        sequence=sequence,
        histories={
            user: cache.decode(user, history)
            for user, history in zip(read_users(step), histories, strict=True)
        },
        forgotten={
            user: parse_version(version.decode())
            for user, version in zip(step_users(step), tombstones, strict=True)
            if version
        },
        popular=_popular(popular, clock),
        together={
            product.decode(): _pairs(row)
            for product, row in zip(bought, _list(rows), strict=True)
            if row
        },
        product_texts={
            product: text
            for product, record in zip(step.read_products, products, strict=True)
            if record is not None and (text := decode_product(record)) is not None
        },
        reviews={
            product: _reviews(texts)
            for product, texts in zip(step.read_products, reviews, strict=True)
        },
    )


def _list(joined: bytes) -> list[Any]:
    parsed: list[Any] = orjson.loads(b"[%b]" % joined)
    return parsed


def _reviews(texts: bytes) -> list[ReviewText]:
    return [decode_review(record) for record in _list(texts)]


def _pairs(row: Sequence[str]) -> _Scores:
    return list(zip(row[::2], map(float, row[1::2]), strict=True))


def _popular(ranking: Sequence[bytes], clock: Sequence[bytes]) -> _Scores:
    if not clock:
        return []
    span, newest_ms, half_life_ms = map(float, clock)
    pairs = _pairs([part.decode() for part in ranking])
    return Popular(Decay(half_life_ms), int(span), int(newest_ms)).decayed(pairs)
