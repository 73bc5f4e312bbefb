"""One batch through: prepare → gather → encode → conclude.

Live workers run the four steps as overlapping stages, replays one after the other; what they
compute is the same, because each step sees only what it is given: the events, the state view its
own step read, the models, and the product index as it stood at `Catalogue.apply_pending`. Call
`gather`, `encode` and `conclude` in batch order, each one batch at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from worker.events.dead_letter import dead_letter_message
from worker.events.decode import InvalidEvent
from worker.events.event import Event
from worker.pipeline.batch import Batch, Outcome, OutMessage, OutTopic, Position, TakenEvent
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.changes import state_step
from worker.pipeline.messages import product_messages, record_message, sample_messages
from worker.pipeline.options import PipelineOptions
from worker.pipeline.ranking import Ranking
from worker.pipeline.records import encode_intent, runs_of
from worker.pipeline.samples import SampleMaker
from worker.pipeline.serving import Serving, Trial
from worker.pipeline.stages import (
    Arm,
    EncodedArm,
    EncodedBatch,
    GatheredArm,
    GatheredBatch,
    LiveEvent,
    PipelineModels,
)
from worker.pipeline.stamps import ResultStamp
from worker.pipeline.texts import live_events, own_text, texts_of, tokenize
from worker.pipeline.times import milliseconds
from worker.pipeline.understanding import Answering, faq_passages, review_tags
from worker.pipeline.vector_cache import TextKey, VectorCache
from worker.store.contract import ResultWrite, StateStore, StateView

SENTIMENT = "sentiment"  # the name of the head on the trunk


class Pipeline:
    """The way of a batch; pure of Kafka, Redis and wall-clock time (store and clock are given)."""

    def __init__(
        self,
        *,
        models: PipelineModels,
        store: StateStore,
        clock: Callable[[], datetime] | None,
        options: PipelineOptions,
    ) -> None:
        self._serving = Serving(models)
        self._store = store
        self._clock = clock
        self._options = options
        self._caches: dict[str, VectorCache] = {}  # by the trunk's release
        self._ranking = Ranking(options)
        self._answering = Answering(options)
        self._samples = SampleMaker(options)

    @property
    def serving(self) -> Serving:
        """What the next batch will be bound to."""
        return self._serving

    def swap(self, models: PipelineModels, trial: Trial | None = None) -> Serving:
        """Bind the batches gathered from now on to other models; return what stood before.

        Batches in flight end on the models they began with. From any thread, and it never waits:
        load, check and `warm_up` the models before, and give the catalogue their trunk's vectors.
        """
        before, self._serving = self._serving, Serving(models, trial)
        kept = before.trunks | self._serving.trunks
        self._caches = {trunk: cache for trunk, cache in self._caches.items() if trunk in kept}
        return before

    def warm_up(self, models: PipelineModels | None = None) -> None:
        """Run the trunk once and encode the FAQ: the first batch costs what later ones cost."""
        models = models or self._serving.models
        models.trunk.warm_up()
        keys: list[TextKey] = [("passage", one.match_text) for one in faq_passages(models.faq)]
        if keys:
            encodings = models.trunk.encode(tokenize(models.trunk, keys))
            self._cache_of(models).put(zip(keys, encodings.vectors, strict=True))

    def prepare(self, events: Sequence[tuple[Position, Event | InvalidEvent]]) -> list[TakenEvent]:
        """Tokenize the events' own texts. Reads no state: any thread, any order."""
        models = self._serving.models
        texts = [own_text(event) for _, event in events]
        keys = [text for text in texts if text is not None]
        tokens = iter(tokenize(models.trunk, keys))
        trunk = models.trunk.release
        return [
            TakenEvent(position, event, (next(tokens),) if text is not None else (), trunk)
            for (position, event), text in zip(events, texts, strict=True)
        ]

    async def gather(self, batch: Batch) -> GatheredBatch:
        """Bind the batch to the models of this moment, put it into the state, read what they need.

        Raises:
            StoreUnavailable: the state store cannot be reached; acknowledge nothing of the batch.
        """
        serving = self._serving
        runs = runs_of(batch.events)
        releases = serving.releases
        intent = encode_intent(batch.batch_id, self._options.process_id, releases, runs)
        view = await self._store.apply(state_step(batch, self._options, intent))
        live = live_events(batch, view)
        arms = [
            await self._gather_arm(models, arm, view, events)
            for models, arm, events in serving.arms(live, self._options.privacy_key)
        ]
        return GatheredBatch(batch, runs, view, releases, arms)

    async def _gather_arm(
        self, models: PipelineModels, arm: Arm | None, view: StateView, live: Sequence[LiveEvent]
    ) -> GatheredArm:
        wanted = texts_of(models, view, live, self._options)
        # A review is encoded even when its vector is known: its sentiment reads the token states.
        known = self._cache_of(models).find(key for key in wanted.keys if key not in wanted.reviews)
        to_encode = {
            wanted.own[item.row]: item.taken.tokens[0]
            for item in live
            if item.taken.tokens and item.taken.trunk == models.trunk.release
        }
        others = [key for key in wanted.keys if key not in known and key not in to_encode]
        if others:
            tokens = await asyncio.to_thread(tokenize, models.trunk, others)
            to_encode.update(zip(others, tokens, strict=True))
        to_encode = {key: tokens for key, tokens in to_encode.items() if key not in known}
        return GatheredArm(
            models, arm, view, live, wanted.own, wanted.passages, known, to_encode, wanted.reviews
        )

    def encode(self, gathered: GatheredBatch) -> EncodedBatch:
        """Run each arm's trunk once over every text of the arm; heads read their own rows."""
        return EncodedBatch(gathered, [self._encode_arm(arm) for arm in gathered.arms])

    def _encode_arm(self, gathered: GatheredArm) -> EncodedArm:
        keys = list(gathered.to_encode)
        if not keys:
            return EncodedArm(gathered, gathered.known, {})
        rows = {key: row for row, key in enumerate(keys)}
        head_rows = {SENTIMENT: [rows[key] for key in gathered.reviews]} if gathered.reviews else {}
        trunk = gathered.models.trunk
        encodings = trunk.encode(list(gathered.to_encode.values()), head_rows)
        fresh = dict(zip(keys, encodings.vectors, strict=True))
        self._cache_of(gathered.models).put(fresh.items())
        probabilities = encodings.heads[SENTIMENT] if gathered.reviews else ()
        sentiment = dict(zip(gathered.reviews, probabilities, strict=True))
        return EncodedArm(gathered, {**gathered.known, **fresh}, sentiment)

    def conclude(self, encoded: EncodedBatch, catalogue: Catalogue) -> Outcome:
        """Rank, tag, answer and sample; return all that must be confirmed for the batch."""
        position = catalogue.apply_pending()
        batch = encoded.gathered.batch
        written_at_ms = None if self._clock is None else milliseconds(self._clock())
        step = encoded.gathered.view.sequence
        results: list[ResultWrite] = []
        messages = _dead_letters(batch)
        for arm in encoded.arms:
            models = arm.gathered.models
            stamp = ResultStamp(
                batch.batch_id, models.release, written_at_ms, step, arm.gathered.arm
            )
            self._conclude_arm(arm, catalogue, stamp, results, messages)
        results += self._trending(encoded, catalogue, written_at_ms)
        messages.append(record_message(encoded.gathered, self._options.process_id, position))
        return Outcome(batch.batch_id, results, messages, encoded.gathered.view.sequence)

    def _trending(
        self, encoded: EncodedBatch, catalogue: Catalogue, written_at_ms: int | None
    ) -> list[ResultWrite]:
        """Return what the whole shop buys: it belongs to no shopper, so to no arm."""
        gathered = encoded.gathered
        models = gathered.arms[0].models
        step = gathered.view.sequence
        stamp = ResultStamp(gathered.batch.batch_id, models.release, written_at_ms, step)
        live = (item for arm in gathered.arms for item in arm.live)
        index = catalogue.index_of(models.trunk.release)
        return self._ranking.trending(live, gathered.view, index, stamp)

    def _conclude_arm(
        self,
        encoded: EncodedArm,
        catalogue: Catalogue,
        stamp: ResultStamp,
        results: list[ResultWrite],
        messages: list[OutMessage],
    ) -> None:
        trunk = encoded.gathered.models.trunk.release
        index = catalogue.index_of(trunk)
        answers = self._answering.answers(encoded, index, stamp)
        results += self._ranking.search_results(encoded, index, stamp)
        results += self._ranking.recommendations(encoded, index, stamp)
        results += review_tags(encoded, self._options, stamp)
        results += (write for _, _, write in answers)
        messages += product_messages(encoded, catalogue, trunk)
        messages += sample_messages(
            encoded.gathered, self._samples, [(event, answer) for event, answer, _ in answers]
        )

    def _cache_of(self, models: PipelineModels) -> VectorCache:
        cache = self._caches.get(models.trunk.release)
        if cache is None:
            cache = VectorCache(self._options.vector_cache_entries)
            self._caches[models.trunk.release] = cache
        return cache


def _dead_letters(batch: Batch) -> list[OutMessage]:
    messages: list[OutMessage] = []
    for taken in batch.events:
        if isinstance(taken.event, InvalidEvent):
            key, value, headers = dead_letter_message(taken.event)
            messages.append(OutMessage(OutTopic.DEAD_LETTERS, key, value, headers))
    return messages
