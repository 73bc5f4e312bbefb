"""`shopstream schema`: what a shop sends and what a storefront reads, as schemas."""

from __future__ import annotations

import json
from importlib.metadata import version

import click
from pydantic import BaseModel

from worker.events.event import EventKind
from worker.events.schema import asyncapi, event_schemas, result_schemas
from worker.settings import Settings
from worker.store import results
from worker.topics.layout import TopicLayout

_RESULTS: dict[str, type[BaseModel]] = {
    "recommendations": results.Recommendations,
    "search": results.SearchResults,
    "tags": results.ReviewTags,
    "answer": results.AnswerResult,
    "trending": results.Trending,
    "product": results.ProductSentiment,
}


@click.command("schema")
@click.option("--asyncapi", "as_asyncapi", is_flag=True, help="Print an AsyncAPI 3.0 document.")
def command(as_asyncapi: bool) -> None:
    """Print the JSON Schemas of all events and results."""
    if as_asyncapi:
        layout = TopicLayout.from_settings(Settings())
        document = asyncapi({kind: layout.of(kind) for kind in EventKind}, version("shopstream"))
    else:
        document = {"events": event_schemas(), "results": result_schemas(_RESULTS)}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
