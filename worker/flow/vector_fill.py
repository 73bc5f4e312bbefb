"""Brings a trunk's vectors of all products that lack one into the catalogue, in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from models.product_index import IndexedProduct, Vector
from worker.pipeline.catalogue import Catalogue

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Encode = Callable[[str, Sequence[IndexedProduct]], Awaitable[list[Vector]]]
"""From a trunk's release and products to their vectors by it, as readers of the topic get them."""

_PRODUCTS_AT_ONCE = 256
_LOOKED_AT_AT_ONCE = 5_000
# One forward pass of the item tower, for which a batch may wait; then the batches go.
_FOLLOWED_AT_ONCE = 256
_FOLLOWED_PAUSE_S = 0.01
_PROGRESS_INTERVAL_S = 5.0


class OnThread(Protocol):
    """Runs work on the thread that owns the product index (`Stages.on_ranking_thread`)."""

    async def __call__(self, work: Callable[[], Any]) -> Any:
        """Return what the work returns."""
        ...


async def catch_up(
    catalogue: Catalogue, trunk: str, recommender: object, on_ranking_thread: OnThread
) -> None:
    """Let a recommender take in all products, a few at a time between batches."""
    follow = getattr(recommender, "catch_up", None)
    if follow is None:
        return
    left = 1
    while left:
        left = await on_ranking_thread(lambda: follow(catalogue.index_of(trunk), _FOLLOWED_AT_ONCE))
        await asyncio.sleep(_FOLLOWED_PAUSE_S)


async def fill_vectors(
    catalogue: Catalogue,
    trunk: str,
    encode: Encode,
    on_ranking_thread: OnThread,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Return, once every product has a vector of this trunk, how many were brought for that.

    `tell` hears how many are done, of how many.
    """
    missing = await _missing(catalogue, trunk, on_ranking_thread)
    total, done, logged_s = len(missing), 0, time.monotonic()
    if missing:
        tell(done, total)
        logger.info("%d products lack a vector of %s: bringing them.", total, trunk)
    while missing:
        for start in range(0, len(missing), _PRODUCTS_AT_ONCE):
            chunk = missing[start : start + _PRODUCTS_AT_ONCE]
            found = await on_ranking_thread(partial(catalogue.versions_of, chunk))
            vectors = await encode(trunk, [product for _, product in found.values()])
            filled = {
                product_id: (version, vector)
                for (product_id, (version, _)), vector in zip(found.items(), vectors, strict=True)
            }
            await on_ranking_thread(partial(catalogue.fill, trunk, filled))
            done += len(chunk)
            total = max(total, done)  # some changed meanwhile
            tell(done, total)
            if time.monotonic() - logged_s >= _PROGRESS_INTERVAL_S:
                logged_s = time.monotonic()
                logger.info("Product vectors of %s: %d of %d.", trunk, done, total)
        # Those that changed while they were encoded.
        missing = await _missing(catalogue, trunk, on_ranking_thread)
    return done


async def _missing(catalogue: Catalogue, trunk: str, on_ranking_thread: OnThread) -> list[str]:
    """Go through the catalogue a part at a time: a batch may wait for one."""
    everything = await on_ranking_thread(catalogue.product_ids)
    missing: list[str] = []
    for start in range(0, len(everything), _LOOKED_AT_AT_ONCE):
        part = everything[start : start + _LOOKED_AT_AT_ONCE]
        missing += await on_ranking_thread(partial(catalogue.missing, trunk, part))
    return missing
