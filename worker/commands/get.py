"""`shopstream get`: what stands in Redis, for people and for machines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import singledispatch

import click
from pydantic import BaseModel
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.store.lookup import Lookup
from worker.store.release_reports import ReleaseStatus, read_status
from worker.store.results import (
    AnswerResult,
    ProductSentiment,
    RankedItem,
    Recommendations,
    ReviewTags,
    SearchResults,
    Trending,
)


class NotFound(ShopstreamError):
    """Nothing stands under this key."""


_Reader = Callable[[Lookup, str, float, str | None], BaseModel | None]
_READERS: dict[str, tuple[str, _Reader]] = {
    "recommendations": (
        "shopper",
        lambda lookup, key, wait_s, after: lookup.recommendations(
            key, wait_s=wait_s, after_event=after
        ),
    ),
    "search": (
        "search event",
        lambda lookup, key, wait_s, after: lookup.search(key, wait_s=wait_s),
    ),
    "query": (
        "query",
        lambda lookup, key, wait_s, after: lookup.query(key, wait_s=wait_s, after_event=after),
    ),
    "tags": (
        "review",
        lambda lookup, key, wait_s, after: lookup.tags(key, wait_s=wait_s, after_event=after),
    ),
    "product": ("product", lambda lookup, key, wait_s, after: lookup.product(key, wait_s=wait_s)),
    "answer": ("question", lambda lookup, key, wait_s, after: lookup.answer(key, wait_s=wait_s)),
    "trending": ("", lambda lookup, key, wait_s, after: lookup.trending(wait_s=wait_s)),
    "release": ("", lambda lookup, key, wait_s, after: _release(lookup, wait_s)),
}
_WITH_EVENTS = ("recommendations", "query", "tags")


@click.command(
    "get",
    epilog="KEY is the shopper (recommendations), the search's event id (search), the query as "
    "typed (query), the review (tags), the product (product: its reviews added up) or the question "
    "(answer); trending and release take none.",
)
@click.argument("kind", type=click.Choice(list(_READERS)))
@click.argument("key", required=False)
@click.option(
    "--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, metavar="S",
    help="Wait at most S seconds for the result.",
)  # fmt: skip
@click.option(
    "--after-event", metavar="ID",
    help="Only a result that knows this event (recommendations, query, tags).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document.")
def command(
    kind: str, key: str | None, wait_s: float, after_event: str | None, as_json: bool
) -> None:
    """Show a result that stands in Redis; status 1 when there is none."""
    named, read = _READERS[kind]
    if bool(named) != bool(key):
        raise click.UsageError(f"{kind} needs a {named}." if named else f"{kind} takes no KEY.")
    if after_event and kind not in _WITH_EVENTS:
        raise click.UsageError(f"--after-event goes with {', '.join(_WITH_EVENTS)}.")
    with Lookup.from_settings(Settings()) as lookup:
        result = read(lookup, key or "", wait_s, after_event)
    if result is None:
        raise NotFound(_absence(kind, named, key, wait_s, after_event))
    if as_json:
        click.echo(result.model_dump_json(indent=2))
    else:
        Console().print(render(result))


def _release(lookup: Lookup, wait_s: float) -> ReleaseStatus | None:
    current = lookup.release(wait_s=wait_s)
    return asyncio.run(read_status(Settings(), current)) if current is not None else None


def _absence(kind: str, named: str, key: str | None, wait_s: float, after: str | None) -> str:
    what = f"There is no {kind} result" + (f" for {named} {key}" if named else "")
    later = f" that knows event {after}" if after else ""
    if wait_s:
        return (
            f"{what}{later} after {wait_s:g} s: check that a worker runs, and "
            "`shopstream dead-letters list` in case the event was refused."
        )
    return f"{what}{later}: it was never made, or has expired; --wait S waits for it."


@singledispatch
def render(result: BaseModel) -> RenderableType:
    """Return a result as people read it."""
    return Text(result.model_dump_json(indent=2))


@render.register
def _(result: Recommendations) -> RenderableType:
    return _items(f"Recommended to {result.user_id}", result.items, result)


@render.register
def _(result: SearchResults) -> RenderableType:
    return _items(f"Found for “{result.query}”", result.items, result)


@render.register
def _(result: Trending) -> RenderableType:
    return _items("Trending", result.items, result)


@render.register
def _(result: ReviewTags) -> RenderableType:
    shares = ", ".join(f"{label} {share:.0%}" for label, share in result.probabilities.items())
    return Group(
        Text(f"Review {result.review_id} of {result.product_id}: {result.sentiment} ({shares})"),
        _origin(result),
    )


@render.register
def _(result: AnswerResult) -> RenderableType:
    lines = [Text(result.question, style="bold")]
    if result.answered and result.source is not None:
        lines.append(Text(result.text or ""))
        lines.append(
            Text(f"from {result.source.kind} {result.source.id}, {result.confidence:.0%} sure")
        )
    else:
        lines.append(Text(f"No answer: the best passage is only {result.confidence:.0%} sure."))
    return Group(*lines, _origin(result))


@render.register
def _(result: ProductSentiment) -> RenderableType:
    trend = "" if result.trend is None else f", the newest 30 days {result.trend:+.2f}"
    return Text(
        f"{result.product_id}: {result.reviews} reviews, {result.positive} positive, "
        f"{result.neutral} neutral, {result.negative} negative; mean {result.mean:+.2f}{trend}"
    )


@render.register
def _(result: ReleaseStatus) -> RenderableType:
    lines = [Text(f"{result.release}, since {result.since}", style="bold")]
    if result.candidate is not None:
        lines.append(Text(f"{result.candidate} on trial with {result.share:.1%} of the shoppers"))
    for refused in result.refused:
        text = f"{refused.release} was refused at {refused.at}: {refused.reason}"
        lines.append(Text(text, style="red"))
    if not result.workers:
        return Group(*lines, Text("No worker says that it runs."))
    table = Table(title=Text("Workers"), title_justify="left")
    for name in ("worker", "release", "candidate", "ready for a rollback", "device", "since"):
        table.add_column(name, overflow="fold")
    for one in result.workers:
        trial = f"{one.candidate} ({one.share:.1%})" if one.candidate is not None else ""
        table.add_row(one.process_id, one.release, trial, one.earlier or "", one.device, one.since)
    return Group(*lines, table)


def _items(
    title: str, items: list[RankedItem], result: Recommendations | SearchResults | Trending
) -> RenderableType:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("", justify="right")
    for name in ("product", "title"):
        table.add_column(name, overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("why", overflow="fold")
    for place, item in enumerate(items, start=1):
        # Text, not markup: a title may hold square brackets
        table.add_row(
            str(place), Text(item.product_id), Text(item.title), f"{item.score:.3f}",
            Text(item.reason.text),
        )  # fmt: skip
    return Group(table if items else Text(f"{title}: nothing fits."), _origin(result))


def _origin(
    result: Recommendations | SearchResults | Trending | ReviewTags | AnswerResult,
) -> Text:
    return Text(
        f"because of event {result.event_id} at {result.occurred_at}; "
        f"written {result.written_at} by {result.release} in batch {result.batch_id}",
        style="dim",
    )
