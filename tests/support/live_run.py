"""A live run without Kafka: two processes on one state store, crashes and races made on purpose."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime
from pathlib import Path

from models.answerer import Answerer
from models.product_index import ProductIndex
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.text.cosine_scale import measure_scales
from models.text.null_encoder import NullEncoder
from models.text_encoder import TextTrunk
from tests.support.recordings import LAYOUT, write_recording
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.decode import EventLimits
from worker.flow.assembly import pipeline_options
from worker.pipeline.batch import Batch, Outcome, OutMessage, OutTopic
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.product_vectors import decode_product_vector
from worker.pipeline.records import record_of_intent
from worker.pipeline.stages import PipelineModels
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.files import PartitionWriter, StoredRecord
from worker.replay.recordings.merge import RecordedEvent, events_by_time
from worker.replay.recordings.recording import PartitionFacts, Recording, write_facts
from worker.settings import Settings
from worker.store.contract import StateStore
from worker.store.memory_store import MemoryStore

SETTINGS = Settings(model="null")
TOPICS = {
    OutTopic.BATCHES: LAYOUT.batches,
    OutTopic.PRODUCT_VECTORS: LAYOUT.product_vectors,
    OutTopic.SAMPLES: LAYOUT.samples,
}


class LiveRun:
    """Two processes that take turns on one state, each with its own place in the product feed."""

    def __init__(
        self,
        folder: Path,
        release: str = "",
        store: StateStore | None = None,
        trunk: TextTrunk | None = None,
    ) -> None:
        self.folder = folder
        self.store: StateStore = store or MemoryStore()
        self.races = 0  # batches that another process took too, and wrote first
        self._trunk = trunk or NullEncoder(max_tokens=SETTINGS.max_text_tokens)
        self._release = release
        self._topics: dict[str, list[OutMessage]] = {topic: [] for topic in TOPICS.values()}
        self._numbers: dict[str, int] = {}

    async def run(self, seed: int, count: int = 160) -> None:
        """Take a simulated shop's events in batches of random sizes; some are never confirmed."""
        chance = random.Random(seed)
        shop = SimulatedShop(seed=seed, product_count=30, shopper_count=8)
        simulated = [*shop.catalogue(), *itertools.islice(shop.events(rate=1.0), count)]
        records = [
            (one.kind, one.key, one.value, int(one.occurred_at.timestamp() * 1000))
            for one in simulated
        ]
        write_recording(self.folder, records, partitions=2)
        events = events_by_time(Recording.open(self.folder, Faults()), EventLimits())
        processes = {name: self._process(name) for name in ("one", "two")}
        places = dict.fromkeys(processes, 0)
        vectors = self._topics[LAYOUT.product_vectors]
        while part := list(itertools.islice(events, chance.choice((1, 2, 5, 20)))):
            part.sort(key=lambda one: one.position)
            name = chance.choice(list(processes))
            pipeline, catalogue = processes[name]
            end = chance.randint(places[name], len(vectors))
            updates = [
                decode_product_vector(one.key, one.value, catalogue.widths)
                for one in vectors[places[name] : end]
            ]
            places[name] = end
            catalogue.offer(updates, (end,))
            if chance.random() < 0.1:
                await self._crash(name, pipeline, part)
            if chance.random() < 0.2:
                other = next(one for one in processes if one != name)
                await self._race((name, *processes[name]), (other, *processes[other]), part)
            else:
                await self._confirm(await self._made(name, pipeline, catalogue, part))
        self._write()

    def _process(self, name: str) -> tuple[Pipeline, Catalogue]:
        trunk = self._trunk
        answerer = Answerer(SETTINGS.answer_threshold, *measure_scales(trunk))
        models = PipelineModels(
            trunk,
            SimilarityRecommender(),
            answerer,
            has_sentiment=isinstance(trunk, NullEncoder),
            release=self._release,
        )
        pipeline = Pipeline(
            models=models,
            store=self.store,
            clock=lambda: datetime.now(UTC),
            options=pipeline_options(SETTINGS, name, "key"),
        )
        return pipeline, Catalogue(ProductIndex(trunk.width), trunk.release)

    def _taken(self, name: str, pipeline: Pipeline, part: list[RecordedEvent]) -> Batch:
        self._numbers[name] = self._numbers.get(name, 0) + 1
        taken = pipeline.prepare([(one.position, one.event) for one in part])
        return Batch(f"{name}-{self._numbers[name]}", taken)

    async def _race(
        self,
        first: tuple[str, Pipeline, Catalogue],
        second: tuple[str, Pipeline, Catalogue],
        part: list[RecordedEvent],
    ) -> None:
        """Move the partition while a batch is in flight: its new owner is done before the old."""
        outcomes = [await self._made(*owner, part) for owner in (first, second)]
        assert outcomes[0].sequence < outcomes[1].sequence
        for outcome in reversed(outcomes):
            await self._confirm(outcome)
        self.races += 1

    async def _made(
        self, name: str, pipeline: Pipeline, catalogue: Catalogue, part: list[RecordedEvent]
    ) -> Outcome:
        gathered = await pipeline.gather(self._taken(name, pipeline, part))
        return pipeline.conclude(pipeline.encode(gathered), catalogue)

    async def _confirm(self, outcome: Outcome) -> None:
        await self.store.write(
            outcome.results, batch_id=outcome.batch_id, sequence=outcome.sequence
        )
        for message in outcome.messages:
            if message.topic in TOPICS:
                self._topics[TOPICS[message.topic]].append(message)

    async def _crash(self, name: str, pipeline: Pipeline, part: list[RecordedEvent]) -> None:
        await pipeline.gather(self._taken(name, pipeline, part))
        for batch_id, intent in (await self.store.pending_intents()).items():
            record = record_of_intent(intent).model_dump_json().encode()
            self._topics[LAYOUT.batches].append(
                OutMessage(OutTopic.BATCHES, batch_id.encode(), record)
            )
            await self.store.write((), batch_id=batch_id)

    def _write(self) -> None:
        facts = Recording.open(self.folder, Faults()).facts
        for topic, messages in self._topics.items():
            writer = PartitionWriter(self.folder / topic / "0", "parquet")
            for offset, message in enumerate(messages):
                writer.add(StoredRecord(offset, 0, message.key, message.value))
            writer.flush()
            count = len(messages)
            facts.topics[topic] = {"0": PartitionFacts(first=0, next=count, records=count)}
        write_facts(self.folder, facts)
