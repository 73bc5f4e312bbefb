"""What a batch sends to Kafka: product vectors, samples, its record."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from models.sample import Sample
from worker.events.event import Event, Product, ProductRemoved, Question
from worker.pipeline.batch import OutMessage, OutTopic
from worker.pipeline.catalogue import TOMBSTONE_VERSION, Catalogue
from worker.pipeline.changes import version_of
from worker.pipeline.product_vectors import encode_product_vector
from worker.pipeline.records import BatchRecord
from worker.pipeline.samples import SampleMaker
from worker.pipeline.stages import EncodedArm, GatheredArm, GatheredBatch, LiveEvent
from worker.store.contract import StateView
from worker.store.results import AnswerResult, version_text


def product_messages(encoded: EncodedArm, catalogue: Catalogue, trunk: str) -> list[OutMessage]:
    """Return the vectors of an arm's products; a removal is a tombstone.

    A product older than what the index holds is not sent: compaction would keep it as the newest.
    """
    messages: list[OutMessage] = []
    for item in encoded.gathered.live:
        event = item.event
        if not isinstance(event, Product | ProductRemoved):
            continue
        version = version_of(event)
        if catalogue.newer_than(event.product_id, version_text(version)):
            continue
        value = None
        if isinstance(event, Product):
            vector = np.asarray(encoded.own(item.row))
            partition = item.taken.position.partition
            value = encode_product_vector(event, version, vector, trunk, partition)
            catalogue.note_sent(event.product_id, version_text(version))
        else:
            catalogue.note_sent(event.product_id, TOMBSTONE_VERSION)
        messages.append(OutMessage(OutTopic.PRODUCT_VECTORS, event.product_id.encode(), value))
    return messages


def publication(
    catalogue: Catalogue, product_ids: Sequence[str], trunk: str, partitions: Collection[int]
) -> list[OutMessage]:
    """Return the records of products as a new trunk has them, those of these partitions alone.

    It must be sent in its place among the batches' messages: a later one may hold a newer version.
    """
    messages: list[OutMessage] = []
    for product, version, partition in catalogue.to_publish(product_ids, trunk, partitions):
        assert product.vector is not None
        value = encode_product_vector(product, version, product.vector, trunk, partition)
        catalogue.note_sent(product.product_id, version)
        messages.append(OutMessage(OutTopic.PRODUCT_VECTORS, product.product_id.encode(), value))
    return messages


def sample_messages(
    gathered: GatheredArm, maker: SampleMaker, answers: Sequence[tuple[Question, AnswerResult]]
) -> list[OutMessage]:
    """Return the labeled samples of an arm's events, keyed by sample id."""
    messages = [
        message for item in gathered.live for message in event_samples(item, gathered.view, maker)
    ]
    for question, answer in answers:
        sample = maker.of_answer(question, answer)
        if sample is not None:
            messages.append(_sample_message(sample, question))
    return messages


def event_samples(item: LiveEvent, view: StateView, maker: SampleMaker) -> list[OutMessage]:
    """Return the samples that one event makes, but for that of its answer."""
    event = item.event
    if isinstance(event, Product | ProductRemoved):
        return []
    samples = maker.of_event(event, view.histories.get(event.user_id, ()))
    return [_sample_message(sample, event) for sample in samples]


def _sample_message(sample: Sample, event: Event) -> OutMessage:
    value = sample.model_dump_json().encode()
    key = sample.sample_id.encode()
    return OutMessage(OutTopic.SAMPLES, key, value, event_id=event.event_id)


def record_message(
    gathered: GatheredBatch, process_id: str, index_position: Sequence[int]
) -> OutMessage:
    """Return the batch's own record."""
    record = BatchRecord(
        batch_id=gathered.batch.batch_id,
        process_id=process_id,
        **dict(gathered.releases),
        runs=list(gathered.runs),
        sequence=gathered.view.sequence,
        index_position=list(index_position),
    )
    return OutMessage(OutTopic.BATCHES, record.batch_id.encode(), record.model_dump_json().encode())
