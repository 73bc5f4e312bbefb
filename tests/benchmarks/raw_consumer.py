"""The peer of the null model: a confluent-kafka consumer that does the same decode and writes.

No agents, no groups, no batcher, no tokenizing, no ranking, no messages: it consumes 500 records at
a time, decodes them with the worker's own function, makes the same changes in Redis in one step and
writes results of the same kinds (with empty lists) in another, and commits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson
from confluent_kafka import Consumer, Message

from tests.benchmarks.bench_servers import BenchServers
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import Event, Question, Review, Search
from worker.pipeline.batch import Batch, Position, TakenEvent
from worker.pipeline.changes import state_step, version_of
from worker.pipeline.options import PipelineOptions
from worker.store.connection import RedisAddress
from worker.store.contract import ResultKind, ResultWrite, SentimentCount
from worker.store.redis_store import RedisStore
from worker.store.results import version_text
from worker.topics.layout import TopicLayout

RECORDS = 500
TTL_S = 3_600
OPTIONS = PipelineOptions(process_id="raw", privacy_key=b"raw")
LIMITS = EventLimits()


def raw_rate(servers: BenchServers, layout: TopicLayout, count: int) -> float:
    """Return events/s over the `count` events that stand in the layout's topics."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers.bootstrap_servers,
            "group.id": f"raw-{layout.event_prefix}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(list(layout.events))
    prefix = f"raw-{layout.event_prefix}"
    try:
        return asyncio.run(_run(servers, prefix, consumer, layout, count))
    finally:
        consumer.close()


async def _run(
    servers: BenchServers, prefix: str, consumer: Consumer, layout: TopicLayout, count: int
) -> float:
    store = RedisStore(RedisAddress(servers.redis_url), prefix=prefix)
    done = 0
    start = 0.0
    while done < count:
        messages = consumer.consume(RECORDS, 1.0)
        start = start or time.monotonic()  # joining the group is no work
        if not messages:
            continue
        taken = [_taken(message, layout) for message in messages]
        batch = Batch(f"raw-{done}", taken)
        await store.apply(state_step(batch, OPTIONS, b"{}"))
        await store.write(_results(taken), batch_id=batch.batch_id)
        consumer.commit(asynchronous=True)
        done += len(messages)
    rate = done / (time.monotonic() - start)
    await store.close()
    return rate


def _taken(message: Message, layout: TopicLayout) -> TakenEvent:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    raw = RawRecord(
        topic, partition, offset, message.key(), message.value(), message.timestamp()[1]
    )
    return TakenEvent(
        Position(topic, partition, offset), decode_event(layout.kind_of(topic), raw, LIMITS)
    )


def _results(taken: Sequence[TakenEvent]) -> list[ResultWrite]:
    results: list[ResultWrite] = []
    newest: dict[str, Event] = {}
    for one in taken:
        event = one.event
        if isinstance(event, InvalidEvent):
            continue
        if isinstance(event, Search):
            results.append(
                _result(ResultKind.SEARCH, event.event_id, event, {"query": event.query})
            )
            results.append(_result(ResultKind.QUERY, event.query, event, {"query": event.query}))
        elif isinstance(event, Review):
            sentiment = SentimentCount(event.product_id, "neutral", 0, 0)
            results.append(_result(ResultKind.TAGS, event.review_id, event, {}, sentiment))
        elif isinstance(event, Question):
            results.append(_result(ResultKind.ANSWER, event.question_id, event, {}))
        if hasattr(event, "user_id"):
            newest[event.user_id] = event
    return results + [
        _result(ResultKind.RECOMMENDATIONS, user, event, {"user_id": user})
        for user, event in newest.items()
    ]


def _result(
    kind: ResultKind,
    id: str,
    event: Event,
    fields: dict[str, str],
    sentiment: SentimentCount | None = None,
) -> ResultWrite:
    version = version_of(event)
    value = orjson.dumps(
        {
            "version": version_text(version),
            "event_id": event.event_id,
            "occurred_at": "2025-01-06T08:00:00.000Z",
            "written_at": "2025-01-06T08:00:00.000Z",
            "release": "raw",
            "batch_id": "raw",
            "items": [],
            **fields,
        }
    )
    user_id = getattr(event, "user_id", None)
    return ResultWrite(kind, id, version, value, TTL_S, user_id, sentiment)
