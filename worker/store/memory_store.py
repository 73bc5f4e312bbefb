"""MemoryStore: the state store's contract in one process, for replay and tests.

It keeps what Redis would keep, byte for byte and in the same order, but nothing expires: a replay
must not depend on the clock. `redis_store.py` and the scripts in `scripts/` are its twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from worker.store.codec import encode_intent, place_of_record, version_of_record
from worker.store.contract import (
    AddHistory,
    CountPurchase,
    CountReturn,
    ForgetUser,
    PutProduct,
    PutReview,
    RemoveProduct,
    ResultKind,
    ResultWrite,
    StateChange,
    StateStep,
    StateView,
    Version,
    WriteReport,
)
from worker.store.keys import result_suffix
from worker.store.limits import EARLIER_PRODUCTS, StoreLimits
from worker.store.memory.demand import Demand
from worker.store.memory.growing import Growing
from worker.store.memory.texts import Histories, ProductTexts, ReviewTexts
from worker.store.memory.votes import VOTE, Votes
from worker.store.steps import read_users, step_users
from worker.store.tally import SentimentTally


class MemoryStore:
    """`StateStore` without a server. Not thread-safe; every call is one atomic step."""

    def __init__(self, limits: StoreLimits | None = None, growing: Growing | None = None) -> None:
        """Begin empty; `growing` keeps what grows with the log elsewhere, as on disk."""
        self._limits = limits or StoreLimits()
        self._sequence = 0
        self._intents: dict[str, bytes] = {}
        self._tombstones: dict[str, Version] = {}
        self._forgotten_steps: dict[str, int] = {}
        self._growing = growing or Growing()
        self._histories = Histories(self._limits)
        self._demand = Demand(self._limits)
        self._products = ProductTexts()
        self._reviews = ReviewTexts(self._limits)
        self._votes = Votes(self._growing.votes)
        self._results = self._growing.results

    # --- StateStore

    async def apply(self, step: StateStep) -> StateView:
        """Apply the changes in order and read."""
        sequence = step.sequence or self._sequence + 1
        for change in step.changes:
            self._change(change, sequence)
        self._demand.settle_popular()
        self._sequence = sequence
        if step.intent:
            self._intents[step.batch_id] = encode_intent(self._sequence, step.intent)
        return self._view(step)

    async def write(
        self, results: Sequence[ResultWrite], *, batch_id: str = "", sequence: int = 0
    ) -> WriteReport:
        """Write results, only if not older, and drop the intent."""
        written = older = forgotten = 0
        for result in results:
            if self._knows_forgotten(result, sequence):
                forgotten += 1
            elif self._write(result, sequence):
                written += 1
            else:
                older += 1
        if batch_id:
            self._intents.pop(batch_id, None)
        return WriteReport(written=written, older=older, forgotten=forgotten)

    async def pending_intents(self) -> Mapping[str, bytes]:
        """Return batch id -> `{"sequence", "intent"}` of batches applied and not confirmed."""
        return dict(self._intents)

    async def close(self) -> None:
        """Nothing to release."""

    # --- reading back

    async def result(self, kind: ResultKind, id: str) -> bytes | None:
        """Return the JSON that stands under a result's key."""
        return self._results.get(result_suffix(kind, id))

    def results(self) -> Mapping[str, bytes]:
        """Return all results, by key without prefix (`tags:<review>`, …)."""
        return MappingProxyType(self._results)

    def peek_product(self, product_id: str) -> StateView:
        """Return a product's text and reviews as a step would read them; it is no step."""
        text = self._products.read(product_id)
        return StateView(
            self._sequence,
            product_texts={} if text is None else {product_id: text},
            reviews={product_id: self._reviews.read(product_id)},
        )

    async def sentiment(self, product_id: str) -> SentimentTally | None:
        """Return a product's counters; None without a review."""
        return self._votes.tally(product_id)

    # --- steps

    def _is_forgotten(self, user_id: str, version: Version) -> bool:
        tombstone = self._tombstones.get(user_id)
        return tombstone is not None and version <= tombstone

    def _knows_forgotten(self, result: ResultWrite, sequence: int) -> bool:
        user_id = result.user_id
        if user_id is None:
            return False
        if self._is_forgotten(user_id, result.version):
            return True
        is_list = (result.kind, result.id) == (ResultKind.RECOMMENDATIONS, user_id)
        return is_list and 0 < sequence < self._forgotten_steps.get(user_id, 0)

    def _change(self, change: StateChange, sequence: int) -> None:
        match change:
            case AddHistory(user_id, event):
                if not self._is_forgotten(user_id, Version(*event.order)):
                    self._histories.add(user_id, event)
            case CountPurchase(user_id, version, quantities):
                if self._first_time(user_id, version):
                    self._demand.count_purchase(user_id, version.occurred_at_ms, quantities)
            case CountReturn(user_id, version, quantities):
                if self._first_time(user_id, version):
                    self._demand.count_return(user_id, version.occurred_at_ms, quantities)
            case PutProduct(product_id, version, text):
                self._products.put(product_id, version, text)
            case RemoveProduct(product_id, version):
                self._products.put(product_id, version, None)
            case PutReview():
                if not self._is_forgotten(change.user_id, change.version):
                    self._reviews.put(change)
            case ForgetUser(user_id, version):
                if not self._is_forgotten(user_id, version):
                    self._forget(user_id, version, sequence)

    def _first_time(self, user_id: str, version: Version) -> bool:
        return not self._is_forgotten(user_id, version) and self._growing.counted.add(
            version.event_id
        )

    def _forget(self, user_id: str, version: Version, sequence: int) -> None:
        self._tombstones[user_id] = version
        self._forgotten_steps[user_id] = sequence
        self._histories.forget(user_id, version)
        self._demand.forget(user_id, version.occurred_at_ms)
        self._reviews.forget(user_id, version)
        self._results.pop(result_suffix(ResultKind.RECOMMENDATIONS, user_id), None)
        owned = self._growing.owned
        for suffix in owned.of(user_id):
            kind, _, id = suffix.partition(":")
            kept, key = (self._growing.votes, id) if kind == VOTE else (self._results, suffix)
            standing = kept.get(key)
            if standing is None or version_of_record(standing) <= version:
                kept.pop(key, None)
                owned.discard(user_id, suffix)

    def _write(self, result: ResultWrite, step: int) -> bool:
        suffix = result_suffix(result.kind, result.id)
        standing = self._results.get(suffix)
        place = (result.version, step)
        owned = self._growing.owned
        if standing is not None and place_of_record(standing) > place:
            return False
        if result.sentiment is not None:
            if self._votes.is_older(result.id, place):
                return False
            self._votes.replace(result.id, place, result.sentiment)
            if result.user_id is not None:
                owned.add(result.user_id, f"{VOTE}:{result.id}")
        self._results[suffix] = result.value
        if result.user_id is not None and suffix != result_suffix(
            ResultKind.RECOMMENDATIONS, result.user_id
        ):
            owned.add(result.user_id, suffix)
        return True

    def _view(self, step: StateStep) -> StateView:
        bought = [
            product
            for user in read_users(step)
            for product in self._demand.latest_purchases(user, EARLIER_PRODUCTS)
        ]
        return StateView(
            sequence=self._sequence,
            histories={user: self._histories.read(user) for user in read_users(step)},
            forgotten={
                user: self._tombstones[user]
                for user in step_users(step)
                if user in self._tombstones
            },
            popular=self._demand.popular(step.popular_count),
            together=self._demand.together(dict.fromkeys(bought)),
            product_texts={
                product: text
                for product in step.read_products
                if (text := self._products.read(product)) is not None
            },
            reviews={product: self._reviews.read(product) for product in step.read_products},
        )
