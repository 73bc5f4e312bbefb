"""Which stored passages the questions to come will be answered from, before their turn comes."""

from __future__ import annotations

from collections.abc import Sequence

from worker.events.event import Event, Product, Question, Review
from worker.pipeline.changes import changes_of
from worker.pipeline.understanding import stored_passages
from worker.pipeline.vector_cache import TextKey
from worker.store.contract import PutProduct, PutReview, ReviewText, StateView
from worker.store.memory_store import MemoryStore


def likely_passages(
    store: object, before: Sequence[Event], events: Sequence[Event], most: int
) -> list[TextKey]:
    """Return the passages that the questions among `events` would be answered from.

    What their turn will find beyond the state of this moment is what comes until then: products and
    reviews among `before`, which is not worked on yet, and among the events themselves. Forgotten
    and corrected reviews are the exception, and asked for when it is their turn. A store in another
    process is not asked at all.
    """
    if not isinstance(store, MemoryStore):
        return []
    coming = _Coming(store)
    keys: dict[TextKey, None] = {}
    for event in before:
        coming.take(event)
    for event in events:
        coming.take(event)
        if isinstance(event, Question) and event.product_id is not None:
            for one in stored_passages(event, coming.view(event.product_id), most):
                keys["passage", one.match_text] = None
    return list(keys)


class _Coming:
    """The texts of products as they will stand."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._products: dict[str, str] = {}
        self._reviews: dict[str, list[ReviewText]] = {}  # by product, newest first

    def take(self, event: Event) -> None:
        """Take what an event will change."""
        if not isinstance(event, Product | Review):
            return
        for change in changes_of(event):
            if isinstance(change, PutProduct):
                self._products[change.product_id] = change.text
            elif isinstance(change, PutReview):
                at_ms = change.version.occurred_at_ms
                found = ReviewText(change.review_id, at_ms, change.text, change.stars)
                self._reviews.setdefault(change.product_id, []).insert(0, found)

    def view(self, product_id: str) -> StateView:
        """Return a product's texts as a step would read them."""
        stands = self._store.peek_product(product_id)
        text = self._products.get(product_id, stands.product_texts.get(product_id))
        return StateView(
            stands.sequence,
            product_texts={} if text is None else {product_id: text},
            reviews={product_id: [*self._reviews.get(product_id, ()), *stands.reviews[product_id]]},
        )
