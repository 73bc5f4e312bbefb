"""What a lookup reads, how the replies become a result, and when a waiting one is content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from worker.store.codec import parse_version
from worker.store.contract import ResultKind, StoreUnavailable, Version
from worker.store.keys import Keys
from worker.store.limits import TREND_DAYS
from worker.store.results import CurrentRelease, ProductSentiment
from worker.store.tally import COUNTERS, SentimentTally

Result = TypeVar("Result")
Model = TypeVar("Model", bound=BaseModel)
Command = tuple[str | int, ...]
AfterEvent = str | Version | None


@dataclass(frozen=True, slots=True)
class Wanted(Generic[Result]):
    """One thing to look up. `commands` run as one transaction; `parse` reads their replies."""

    channel: str
    commands: Sequence[Command]
    parse: Callable[[Sequence[Any]], Result | None]
    is_enough: Callable[[Result, Sequence[Any]], bool] = lambda result, replies: True

    def content(self, replies: Sequence[Any]) -> Result | None:
        """Return the result when it is there and late enough, else None."""
        result = self.parse(replies)
        return result if result is not None and self.is_enough(result, replies) else None


def want_result(
    keys: Keys, kind: ResultKind, id: str, model: type[Model], after_event: AfterEvent
) -> Wanted[Model]:
    """Return how to look up a result of one kind."""
    key = keys.result(kind, id)
    commands: list[Command] = [("GET", key)]
    by_history = kind == ResultKind.RECOMMENDATIONS and isinstance(after_event, str)
    if by_history:  # tells when that event happened, so that a newer result is enough too
        commands.append(("ZRANGE", keys.key("history", id), 0, -1))
    return Wanted(
        channel=keys.channel(kind, id),
        commands=commands,
        parse=lambda replies: _parse(model, replies[0], key),
        is_enough=lambda result, replies: _is_after(
            result, after_event, replies[1] if by_history else ()
        ),
    )


def want_product(keys: Keys, product_id: str) -> Wanted[ProductSentiment]:
    """Return how to look up a product's sentiment."""

    def parse(replies: Sequence[Any]) -> ProductSentiment | None:
        tally = SentimentTally.from_redis(*replies)
        return tally.summary(product_id) if tally is not None and tally.reviews else None

    return Wanted(
        channel=keys.channel("product", product_id),
        commands=[
            ("HMGET", keys.key("sentiment", product_id), *COUNTERS),
            ("ZREVRANGE", keys.key("sentiment_days", product_id), 0, TREND_DAYS - 1),
        ],
        parse=parse,
    )


def want_release(keys: Keys) -> Wanted[CurrentRelease]:
    """Return how to look up the current release."""
    key = keys.key("release")
    return Wanted(
        channel=keys.channel("release"),
        commands=[("GET", key)],
        parse=lambda replies: _parse(CurrentRelease, replies[0], key),
    )


def want_forgotten(keys: Keys, user_id: str, version: Version) -> Wanted[Version]:
    """Return how to look up whether a shopper is forgotten up to `version`."""
    return Wanted(
        channel=keys.channel("forgotten", user_id),
        commands=[("GET", keys.key("forgotten", user_id))],
        parse=lambda replies: parse_version(replies[0].decode()) if replies[0] else None,
        is_enough=lambda standing, replies: standing >= version,
    )


def _parse(model: type[Model], text: bytes | None, key: str) -> Model | None:
    if text is None:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise StoreUnavailable(
            f"{key} holds no {model.__name__} of this version of shopstream: upgrade the client, "
            "or set the prefix that the worker writes under."
        ) from error


def _is_after(result: BaseModel, after: AfterEvent, history: Sequence[bytes]) -> bool:
    if after is None:
        return True
    standing: str = result.version  # type: ignore[attr-defined]
    if isinstance(after, str):
        if result.event_id == after:  # type: ignore[attr-defined]
            return True
        beginning = b"[" + orjson.dumps(after) + b","
        times = [orjson.loads(member)[1] for member in history if member.startswith(beginning)]
        if not times:
            return False
        after = Version(max(times), after)
    return parse_version(standing) >= after
