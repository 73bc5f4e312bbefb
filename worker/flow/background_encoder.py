"""Product texts encoded between live batches, in jobs so small that those hardly wait.

A release with a new trunk needs vectors of all products before it may serve, and later of every
product that a worker with another trunk sends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from models.product_index import IndexedProduct, Vector
from models.text_encoder import TextTrunk, Tokens
from worker.pipeline.product_vectors import as_published

# A live batch waits for one job at most.
_JOB_S = 0.008
_FIRST_JOB_TOKENS = 128
# Of the device's time while events come: the rest is theirs.
_SHARE = 0.2


class KnownVectors(Protocol):
    """Vectors that a release brought (`models.search.product_vectors.ProductVectors`)."""

    def find(self, texts: Sequence[str]) -> Mapping[int, Vector]:
        """Return place in `texts` -> vector (D,) of those that are known."""
        ...


class BackgroundEncoder:
    """Encodes products by the trunks it was given, on the device that live batches use."""

    def __init__(
        self,
        on_device: Callable[[Callable[[], tuple[Vector, float]]], Awaitable[tuple[Vector, float]]],
        is_idle: Callable[[], bool],
        brought: Callable[[str, str, int], None] = lambda trunk, source, count: None,
    ) -> None:
        """Run jobs with `on_device`, one at a time; `is_idle` says whether any events wait.

        `brought` hears for a trunk how many vectors came from a `release`, and were `encoded`.
        """
        self._on_device = on_device
        self._is_idle = is_idle
        self._brought = brought
        self._trunks: dict[str, TextTrunk] = {}
        self._known: dict[str, KnownVectors] = {}
        self._job_tokens: dict[str, int] = {}

    def add(self, trunk: TextTrunk, known: KnownVectors | None = None) -> None:
        """Take a trunk, and the vectors that came with its release."""
        self._trunks[trunk.release] = trunk
        if known is not None:
            self._known[trunk.release] = known

    def remove(self, trunk: str) -> None:
        """Let a trunk go."""
        for kept in (self._trunks, self._known, self._job_tokens):
            kept.pop(trunk, None)

    async def encode(self, trunk: str, products: Sequence[IndexedProduct]) -> list[Vector]:
        """Return each product's vector (D,) by a trunk, as readers of the topic get it."""
        texts = [one.text for one in products]
        known = self._known.get(trunk)
        vectors: dict[int, Vector] = dict(known.find(texts)) if known is not None else {}
        wanted = [place for place in range(len(texts)) if place not in vectors]
        self._brought(trunk, "release", len(vectors))
        self._brought(trunk, "encoded", len(wanted))
        encoder = self._trunks[trunk]
        tokens = await asyncio.to_thread(
            encoder.tokenize, [texts[place] for place in wanted], "passage"
        )
        # Texts of one length stand together, so that a job runs in few shapes.
        queue = sorted(zip(wanted, tokens, strict=True), key=lambda pair: pair[1].bucket)
        while queue:
            count = self._job_size(trunk, [one for _, one in queue])
            job, queue = queue[:count], queue[count:]
            found = await self._run(trunk, encoder, [one for _, one in job])
            vectors.update((place, vector) for (place, _), vector in zip(job, found, strict=True))
        return [as_published(vectors[place]) for place in range(len(texts))]

    def _job_size(self, trunk: str, texts: Sequence[Tokens]) -> int:
        """Return how many of these texts, the first at least, make one job."""
        most = self._job_tokens.get(trunk, _FIRST_JOB_TOKENS)
        tokens = 0
        for count, one in enumerate(texts):
            tokens += one.bucket
            if count and tokens > most:
                return count
        return len(texts)

    async def _run(self, trunk: str, encoder: TextTrunk, tokens: Sequence[Tokens]) -> Vector:
        vectors, took_s = await self._on_device(partial(_timed, encoder, tokens))
        used = sum(one.bucket for one in tokens)
        # Towards the wished time, by half or double at most: one slow job is no measure.
        factor = min(2.0, max(0.5, _JOB_S / max(took_s, 1e-6)))
        self._job_tokens[trunk] = max(16, int(used * factor))
        if not self._is_idle():
            await asyncio.sleep(took_s * (1 / _SHARE - 1))
        return vectors


def _timed(encoder: TextTrunk, tokens: Sequence[Tokens]) -> tuple[Vector, float]:
    started_s = time.perf_counter()
    vectors = np.asarray(encoder.encode(tokens).vectors)
    return vectors, time.perf_counter() - started_s
