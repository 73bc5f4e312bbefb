"""Typed clients for storefronts: `Lookup` (blocking) and `AsyncLookup` (asyncio).

Every method returns None when nothing stands there. With `wait_s` it waits at most so long for the
result: it subscribes to the result's channel, reads, and then sleeps until the worker writes; it
never polls. `after_event` waits for a result that knows this event: the event's id, or its
`Version` (time and id), which also accepts the result of any newer event.

Errors: `StoreUnavailable`. Both clients may be shared, `Lookup` by threads, `AsyncLookup` by tasks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Self

from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.contract import ResultKind, Version
from worker.store.keys import Keys
from worker.store.results import (
    AnswerResult,
    CurrentRelease,
    ProductSentiment,
    Recommendations,
    ReviewTags,
    SearchResults,
    Trending,
)
from worker.store.wanted import (
    AfterEvent,
    Model,
    Result,
    Wanted,
    want_forgotten,
    want_product,
    want_release,
    want_result,
)


def _normalised(text: str) -> str:
    # imported late: the module loads a Chinese dictionary, which only this lookup needs
    from models.search.lexical_text import normalise_query

    return normalise_query(text)


class _Client:
    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        prefix: str = "shopstream",
        cluster: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        self._address = RedisAddress(url, cluster=cluster, timeout_s=timeout_s)
        self._keys = Keys(prefix)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return a client for the worker's own settings."""
        return cls(
            settings.redis_url.get_secret_value(),
            prefix=settings.redis_key_prefix,
            cluster=settings.redis_cluster,
            timeout_s=settings.redis_timeout_s,
        )

    def _result(
        self, kind: ResultKind, id: str, model: type[Model], after: AfterEvent = None
    ) -> Wanted[Model]:
        return want_result(self._keys, kind, id, model, after)


class Lookup(_Client):
    """Reads results, blocking."""

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        prefix: str = "shopstream",
        cluster: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__(url, prefix=prefix, cluster=cluster, timeout_s=timeout_s)
        self._client: Any = self._address.client()
        self._listener: Any = self._address.one_node().client() if cluster else self._client

    def recommendations(
        self, user_id: str, *, wait_s: float = 0.0, after_event: AfterEvent = None
    ) -> Recommendations | None:
        """Return the products recommended to a shopper."""
        kind = ResultKind.RECOMMENDATIONS
        return self._get(self._result(kind, user_id, Recommendations, after_event), wait_s)

    def search(self, event_id: str, *, wait_s: float = 0.0) -> SearchResults | None:
        """Return the results of a search, by its event's id."""
        return self._get(self._result(ResultKind.SEARCH, event_id, SearchResults), wait_s)

    def query(
        self, text: str, *, wait_s: float = 0.0, after_event: AfterEvent = None
    ) -> SearchResults | None:
        """Return the newest results of a query, whoever searched; spelling is normalised."""
        wanted = self._result(ResultKind.QUERY, _normalised(text), SearchResults, after_event)
        return self._get(wanted, wait_s)

    def tags(
        self, review_id: str, *, wait_s: float = 0.0, after_event: AfterEvent = None
    ) -> ReviewTags | None:
        """Return what a review says."""
        return self._get(self._result(ResultKind.TAGS, review_id, ReviewTags, after_event), wait_s)

    def product(self, product_id: str, *, wait_s: float = 0.0) -> ProductSentiment | None:
        """Return what a product's reviews say together."""
        return self._get(want_product(self._keys, product_id), wait_s)

    def answer(self, question_id: str, *, wait_s: float = 0.0) -> AnswerResult | None:
        """Return the answer to a question; `answered` is false where none was found."""
        return self._get(self._result(ResultKind.ANSWER, question_id, AnswerResult), wait_s)

    def trending(self, *, wait_s: float = 0.0) -> Trending | None:
        """Return what the whole shop buys now."""
        return self._get(self._result(ResultKind.TRENDING, "all", Trending), wait_s)

    def release(self, *, wait_s: float = 0.0) -> CurrentRelease | None:
        """Return what the workers serve now."""
        return self._get(want_release(self._keys), wait_s)

    def is_forgotten(self, user_id: str, version: Version, *, wait_s: float = 0.0) -> bool:
        """Say whether a forget request of this version, or a newer one, is carried out."""
        return self._get(want_forgotten(self._keys, user_id, version), wait_s) is not None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, wanted: Wanted[Result], wait_s: float) -> Result | None:
        with self._address.errors():
            if wait_s <= 0:
                return wanted.content(self._read(wanted))
            deadline = time.monotonic() + wait_s
            with closing(self._listener.pubsub()) as pubsub:
                pubsub.subscribe(wanted.channel)  # its confirmation is the first message
                while (left_s := deadline - time.monotonic()) > 0:
                    if pubsub.get_message(timeout=left_s) is None:
                        continue
                    result = wanted.content(self._read(wanted))
                    if result is not None:
                        return result
            return wanted.content(self._read(wanted))

    def _read(self, wanted: Wanted[Result]) -> Sequence[Any]:
        if len(wanted.commands) == 1:
            return [self._client.execute_command(*wanted.commands[0])]
        with self._client.pipeline(transaction=True) as pipeline:
            for command in wanted.commands:
                pipeline.execute_command(*command)
            replies: Sequence[Any] = pipeline.execute()
        return replies


class AsyncLookup(_Client):
    """Reads results on an event loop."""

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        prefix: str = "shopstream",
        cluster: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__(url, prefix=prefix, cluster=cluster, timeout_s=timeout_s)
        self._client: Any = self._address.async_client()
        self._listener: Any = self._address.one_node().async_client() if cluster else self._client

    async def recommendations(
        self, user_id: str, *, wait_s: float = 0.0, after_event: AfterEvent = None
    ) -> Recommendations | None:
        """Return the products recommended to a shopper."""
        kind = ResultKind.RECOMMENDATIONS
        return await self._get(self._result(kind, user_id, Recommendations, after_event), wait_s)

    async def search(self, event_id: str, *, wait_s: float = 0.0) -> SearchResults | None:
        """Return the results of a search, by its event's id."""
        return await self._get(self._result(ResultKind.SEARCH, event_id, SearchResults), wait_s)

    async def query(
        self, text: str, *, wait_s: float = 0.0, after_event: AfterEvent = None
    ) -> SearchResults | None:
        """Return the newest results of a query, whoever searched; spelling is normalised."""
        wanted = self._result(ResultKind.QUERY, _normalised(text), SearchResults, after_event)
        return await self._get(wanted, wait_s)

    async def tags(
        self, review_id: str, *, wait_s: float = 0.0, after_event: AfterEvent = None
    ) -> ReviewTags | None:
        """Return what a review says."""
        wanted = self._result(ResultKind.TAGS, review_id, ReviewTags, after_event)
        return await self._get(wanted, wait_s)

    async def product(self, product_id: str, *, wait_s: float = 0.0) -> ProductSentiment | None:
        """Return what a product's reviews say together."""
        return await self._get(want_product(self._keys, product_id), wait_s)

    async def answer(self, question_id: str, *, wait_s: float = 0.0) -> AnswerResult | None:
        """Return the answer to a question; `answered` is false where none was found."""
        return await self._get(self._result(ResultKind.ANSWER, question_id, AnswerResult), wait_s)

    async def trending(self, *, wait_s: float = 0.0) -> Trending | None:
        """Return what the whole shop buys now."""
        return await self._get(self._result(ResultKind.TRENDING, "all", Trending), wait_s)

    async def release(self, *, wait_s: float = 0.0) -> CurrentRelease | None:
        """Return what the workers serve now."""
        return await self._get(want_release(self._keys), wait_s)

    async def is_forgotten(self, user_id: str, version: Version, *, wait_s: float = 0.0) -> bool:
        """Say whether a forget request of this version, or a newer one, is carried out."""
        return await self._get(want_forgotten(self._keys, user_id, version), wait_s) is not None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._listener.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _get(self, wanted: Wanted[Result], wait_s: float) -> Result | None:
        with self._address.errors():
            if wait_s <= 0:
                return wanted.content(await self._read(wanted))
            deadline = time.monotonic() + wait_s
            async with self._listener.pubsub() as pubsub:
                await pubsub.subscribe(wanted.channel)  # its confirmation is the first message
                while (left_s := deadline - time.monotonic()) > 0:
                    if await pubsub.get_message(timeout=left_s) is None:
                        continue
                    result = wanted.content(await self._read(wanted))
                    if result is not None:
                        return result
            return wanted.content(await self._read(wanted))

    async def _read(self, wanted: Wanted[Result]) -> Sequence[Any]:
        if len(wanted.commands) == 1:
            return [await self._client.execute_command(*wanted.commands[0])]
        async with self._client.pipeline(transaction=True) as pipeline:
            for command in wanted.commands:
                pipeline.execute_command(*command)
            replies: Sequence[Any] = await pipeline.execute()
        return replies
