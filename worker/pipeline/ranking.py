"""Ranked lists: search results, recommendations, trending."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from models.product_index import Hit, ProductIndex
from models.recommendation.rules import recommend_within
from models.recommendation.shopper import Demand, Recommendation, Shopper
from models.search.lexical_text import normalise_query
from worker.events.event import Purchase, Return, Search
from worker.pipeline.causes import causes_of
from worker.pipeline.changes import version_of
from worker.pipeline.options import PipelineOptions
from worker.pipeline.stages import EncodedArm, LiveEvent
from worker.pipeline.stamps import ResultStamp
from worker.store.contract import ResultKind, ResultWrite, StateView
from worker.store.results import Recommendations, SearchResults, Trending

_MATCHES = {"en": "matches your search: {terms}", "zh": "与您的搜索相符：{terms}"}
_SIMILAR = {"en": "similar in meaning to your search", "zh": "与您的搜索含义相近"}
_POPULAR = {"en": "popular now", "zh": "当前热销"}


def language_of(locale: str | None) -> str:
    """Return the language of reason texts: Chinese for zh locales, English otherwise."""
    return "zh" if locale is not None and locale.lower().startswith("zh") else "en"


class Ranking:
    """Makes the ranked lists of one batch from its vectors, its state and the product index."""

    def __init__(self, options: PipelineOptions) -> None:
        self._options = options

    def search_results(
        self, encoded: EncodedArm, index: ProductIndex, stamp: ResultStamp
    ) -> list[ResultWrite]:
        """Return each search's results, under its event id and under its normalised query."""
        searches = [
            (item.event, encoded.own(item.row))
            for item in encoded.gathered.live
            if isinstance(item.event, Search)
        ]
        if not searches:
            return []
        hits = index.search(
            [search.query for search, _ in searches],
            np.stack([vector for _, vector in searches]),
            self._options.search_count,
        )
        writes: list[ResultWrite] = []
        for (search, _), found in zip(searches, hits, strict=True):
            version = version_of(search)
            language = language_of(search.locale)
            result = SearchResults.model_validate(
                {
                    **stamp.fields(version),
                    "query": search.query,
                    "items": [_search_item(hit, index, language) for hit in found],
                }
            )
            value = result.model_dump_json().encode()
            writes.append(
                ResultWrite(
                    ResultKind.SEARCH,
                    search.event_id,
                    version,
                    value,
                    self._options.search_ttl_s,
                    user_id=search.user_id,
                )
            )
            writes.append(
                ResultWrite(
                    ResultKind.QUERY,
                    normalise_query(search.query),
                    version,
                    value,
                    self._options.query_ttl_s,
                )
            )
        return writes

    def recommendations(
        self, encoded: EncodedArm, index: ProductIndex, stamp: ResultStamp
    ) -> list[ResultWrite]:
        """Return one list a shopper of the batch, however many events the shopper has in it."""
        view = encoded.gathered.view
        causes = causes_of(encoded.gathered.live, view.histories)
        if not causes:
            return []
        shoppers = [
            Shopper(
                user_id=user_id,
                now_ms=cause.version.occurred_at_ms,
                events=view.histories.get(user_id, ()),
                query_vectors=_query_vectors(encoded, user_id),
                locale=cause.locale,
            )
            for user_id, cause in causes.items()
        ]
        demand = Demand(popular=view.popular, together=view.together)
        options, recommender = self._options, encoded.gathered.models.recommender
        lists = recommend_within(
            options.rules, recommender, shoppers, demand, index, options.recommendation_count
        )
        writes: list[ResultWrite] = []
        for shopper, items in zip(shoppers, lists, strict=True):
            version = causes[shopper.user_id].version
            result = Recommendations.model_validate(
                {
                    **stamp.fields(version),
                    "user_id": shopper.user_id,
                    "items": [_recommended_item(item, index) for item in items],
                }
            )
            writes.append(
                ResultWrite(
                    ResultKind.RECOMMENDATIONS,
                    shopper.user_id,
                    version,
                    result.model_dump_json().encode(),
                    self._options.recommendations_ttl_s,
                    user_id=shopper.user_id,
                )
            )
        return writes

    def trending(
        self,
        live: Iterable[LiveEvent],
        view: StateView,
        index: ProductIndex,
        stamp: ResultStamp,
    ) -> list[ResultWrite]:
        """Return the trending list, when the batch bought or returned anything."""
        events = [item.event for item in live if isinstance(item.event, Purchase | Return)]
        if not events:
            return []
        version = max(version_of(event) for event in events)
        reason = _reason("popular", _POPULAR["en"])
        sold = ((i, score) for i, score in view.popular if index.sells(i))
        items = [
            _item(product_id, score, reason, index)
            for product_id, score in islice(sold, self._options.trending_count)
        ]
        result = Trending.model_validate({**stamp.fields(version), "items": items})
        value = result.model_dump_json().encode()
        return [
            ResultWrite(ResultKind.TRENDING, "all", version, value, self._options.trending_ttl_s)
        ]


def _query_vectors(encoded: EncodedArm, user_id: str) -> dict[str, np.ndarray]:
    queries = [
        event.query
        for event in encoded.gathered.view.histories.get(user_id, ())
        if event.kind == "search" and event.query is not None
    ]
    return {
        query: encoded.texts[("query", query)]
        for query in queries
        if ("query", query) in encoded.texts
    }


# Items are plain data: a result validates them with itself, in a quarter of the time that a call of
# each one's own constructor takes.


def _search_item(hit: Hit, index: ProductIndex, language: str) -> dict[str, object]:
    if hit.terms:
        text = _MATCHES[language].format(terms=", ".join(hit.terms))
    else:
        text = _SIMILAR[language]
    return _item(hit.product_id, hit.score, _reason("matches", text, hit.terms), index)


def _recommended_item(item: Recommendation, index: ProductIndex) -> dict[str, object]:
    reason = _reason(item.reason.kind, item.reason.text, item.reason.because)
    return _item(item.product_id, item.score, reason, index)


def _item(
    product_id: str, score: float, reason: dict[str, object], index: ProductIndex
) -> dict[str, object]:
    """Return a `RankedItem` as plain data."""
    product = index.get(product_id)
    title = product.title if product is not None else ""
    return {"product_id": product_id, "title": title, "score": score, "reason": reason}


def _reason(kind: str, text: str, because: Sequence[str] = ()) -> dict[str, object]:
    """Return a `ReasonJson` as plain data."""
    return {"kind": kind, "text": text, "because": list(because)}
