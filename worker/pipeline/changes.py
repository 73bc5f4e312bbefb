"""From events to the state step of their batch: what to change, in order, and what to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import orjson

from models.recommendation.shopper import ShopperEvent
from worker.events.decode import InvalidEvent
from worker.events.event import (
    Event,
    Forget,
    Item,
    Product,
    ProductRemoved,
    Purchase,
    Question,
    Return,
    Review,
    Search,
)
from worker.pipeline.batch import Batch
from worker.pipeline.options import PipelineOptions
from worker.store.contract import (
    AddHistory,
    CountPurchase,
    CountReturn,
    ForgetUser,
    PutProduct,
    PutReview,
    RemoveProduct,
    StateChange,
    StateStep,
    Version,
)


def version_of(event: Event) -> Version:
    """Return what orders this event's results: its time, then its id."""
    return Version(event.occurred_at_ms, event.event_id)


def state_step(batch: Batch, options: PipelineOptions, intent: bytes) -> StateStep:
    """Return the batch's one step on the state store."""
    events = [taken.event for taken in batch.events if not isinstance(taken.event, InvalidEvent)]
    shoppers = [event for event in events if isinstance(event, Search | Purchase | Return | Review)]
    questions = [event for event in events if isinstance(event, Question)]
    sells = any(isinstance(event, Purchase | Return) for event in events)
    return StateStep(
        changes=[change for event in events for change in changes_of(event)],
        read_users=_unique([event.user_id for event in shoppers]),
        read_products=_unique([event.product_id for event in questions if event.product_id]),
        popular_count=options.popular_count if shoppers or sells else 0,
        batch_id=batch.batch_id,
        intent=intent,
    )


def changes_of(event: Event) -> Iterator[StateChange]:
    """Yield the changes one event makes, in order."""
    version = version_of(event)
    if isinstance(event, Product):
        yield PutProduct(event.product_id, version, _product_json(event))
    elif isinstance(event, ProductRemoved):
        yield RemoveProduct(event.product_id, version)
    elif isinstance(event, Forget):
        yield ForgetUser(event.user_id, version)
    else:
        # Counting reads the shopper's earlier purchases, so it comes before the event joins them.
        if isinstance(event, Purchase):
            yield CountPurchase(event.user_id, version, _quantities(event.items))
        elif isinstance(event, Return):
            yield CountReturn(event.user_id, version, _quantities(event.items))
        elif isinstance(event, Review):
            yield PutReview(
                event.product_id, event.review_id, event.user_id, version, event.text, event.stars
            )
        yield AddHistory(event.user_id, history_event(event))


def history_event(event: Search | Purchase | Return | Review | Question) -> ShopperEvent:
    """Return what a shopper's history keeps of an event."""
    at, event_id, session_id = event.occurred_at_ms, event.event_id, event.session_id
    if isinstance(event, Search):
        return ShopperEvent(
            at,
            event_id,
            "search",
            query=event.query,
            shown=tuple(event.shown),
            session_id=session_id,
        )
    if isinstance(event, Purchase | Return):
        return ShopperEvent(
            at,
            event_id,
            "purchase" if isinstance(event, Purchase) else "return",
            product_ids=tuple(_quantities(event.items)),
            order_id=event.order_id,
            session_id=session_id,
        )
    if isinstance(event, Review):
        return ShopperEvent(
            at,
            event_id,
            "review",
            product_ids=(event.product_id,),
            stars=event.stars,
            session_id=session_id,
        )
    products = (event.product_id,) if event.product_id else ()
    return ShopperEvent(at, event_id, "question", product_ids=products, session_id=session_id)


def _quantities(items: Sequence[Item]) -> dict[str, int]:
    quantities: Counter[str] = Counter()
    for item in items:
        quantities[item.product_id] += item.quantity
    return dict(quantities)


def _product_json(product: Product) -> str:
    fields = {
        "title": product.title,
        "description": product.description,
        "category": product.category,
        "brand": product.brand,
        "price": product.price,
        "available": product.available,
    }
    return orjson.dumps(fields).decode()


def _unique(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
