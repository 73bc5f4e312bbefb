"""Which texts of a batch its models read, and their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.answerer import Passage
from models.search.product_text import product_text
from models.text_encoder import Role, TextTrunk, Tokens
from worker.events.decode import InvalidEvent
from worker.events.event import Event, Forget, Product, ProductRemoved, Question, Review, Search
from worker.pipeline.batch import Batch
from worker.pipeline.changes import version_of
from worker.pipeline.options import PipelineOptions
from worker.pipeline.stages import LiveEvent, PipelineModels, questions_of
from worker.pipeline.understanding import faq_passages, stored_passages
from worker.pipeline.vector_cache import TextKey
from worker.store.contract import StateView


@dataclass(frozen=True, slots=True)
class WantedTexts:
    """The texts of some events of a batch, each text once."""

    own: Mapping[int, TextKey]  # row -> the event's own text
    passages: Mapping[int, Sequence[Passage]]  # row of a question -> passages to choose from
    reviews: Sequence[TextKey]  # texts whose sentiment is asked, each once
    keys: Sequence[TextKey]  # all of them, and those of the histories


def own_text(event: Event | InvalidEvent) -> TextKey | None:
    """Return the text of an event that the trunk reads."""
    if isinstance(event, Search):
        return ("query", event.query)
    if isinstance(event, Question):
        return ("query", event.text)
    if isinstance(event, Review):
        return ("passage", event.text)
    if isinstance(event, Product):
        return (
            "passage",
            product_text(event.title, event.description, event.category, event.brand),
        )
    return None


def live_events(batch: Batch, view: StateView) -> list[LiveEvent]:
    """Return the valid events but those of shoppers who were forgotten after them."""
    live: list[LiveEvent] = []
    for row, taken in enumerate(batch.events):
        event = taken.event
        if isinstance(event, InvalidEvent):
            continue
        if not isinstance(event, Product | ProductRemoved | Forget):
            forgotten = view.forgotten.get(event.user_id)
            if forgotten is not None and version_of(event) <= forgotten:
                continue
        live.append(LiveEvent(row, taken, event))
    return live


def texts_of(
    models: PipelineModels, view: StateView, live: Sequence[LiveEvent], options: PipelineOptions
) -> WantedTexts:
    """Return every text that these models will read of these events."""
    own = {item.row: text for item in live if (text := own_text(item.event)) is not None}
    passages = {
        item.row: stored_passages(question, view, options.passages_per_question)
        for item, question in questions_of(live)
    }
    reviews = dict.fromkeys(
        own[item.row] for item in live if models.has_sentiment and isinstance(item.event, Review)
    )
    faq = faq_passages(models.faq) if passages else []
    read = [one for found in passages.values() for one in (*found, *faq)]
    keys = dict.fromkeys(
        [
            *own.values(),
            *_taste_texts(view, live, options.recent_queries),
            *(("passage", one.match_text) for one in read),
        ]
    )
    return WantedTexts(own, passages, list(reviews), list(keys))


def tokenize(trunk: TextTrunk, keys: Sequence[TextKey]) -> list[Tokens]:
    """Return the tokens of each text; safe in any thread."""
    tokens: list[Tokens | None] = [None] * len(keys)
    roles: tuple[Role, Role] = ("query", "passage")
    for role in roles:
        places = [place for place, key in enumerate(keys) if key[0] == role]
        found = trunk.tokenize([keys[place][1] for place in places], role) if places else []
        for place, one in zip(places, found, strict=True):
            tokens[place] = one
    return [one for one in tokens if one is not None]


def _taste_texts(view: StateView, live: Sequence[LiveEvent], most: int) -> Iterator[TextKey]:
    """Yield the recent queries of the shoppers whose lists will be made."""
    shoppers = {
        item.event.user_id
        for item in live
        if not isinstance(item.event, Product | ProductRemoved | Forget | Question)
    }
    for shopper, events in view.histories.items():
        if shopper in shoppers:
            queries = [event.query for event in events if event.kind == "search" and event.query]
            for query in queries[-most:]:
                yield ("query", query)
