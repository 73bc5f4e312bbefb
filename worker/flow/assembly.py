"""Puts a worker's parts together from its settings, in the order in which they may fail.

What a person can mend is checked first and cheaply (broker, topics, Redis), then the models are
loaded, then the products are read; only then does the flow take events.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial

from models.product_index import ProductIndex
from models.recommendation.rules import RecommendationRules
from worker.events.decode import EventLimits
from worker.flow.background_encoder import BackgroundEncoder
from worker.flow.checks import health_checks
from worker.flow.flow import Flow
from worker.flow.lag import LagWatch
from worker.flow.loading import LoadedModels
from worker.flow.outbox import Outbox
from worker.flow.product_feed import ProductFeed
from worker.flow.recovery import publish_unconfirmed
from worker.flow.release.following import ServingParts, follow_releases, load_first
from worker.page.health import HealthServer
from worker.page.metrics import WorkerMetrics
from worker.pipeline.batch import OutTopic
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.options import PipelineOptions
from worker.pipeline.pipeline import Pipeline
from worker.settings import Settings
from worker.store.redis_store import RedisStore
from worker.store.release_pointer import ReleasePointer
from worker.stream.chunk import WorkerControl
from worker.topics.layout import TopicLayout, check_topics, create_topics

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_flow(settings: Settings, control: WorkerControl) -> AsyncIterator[Flow]:
    """Yield a started flow that is ready for events: what `run_worker` enters."""
    async with AsyncExitStack() as stack:
        yield await _open(settings, control, stack)


async def _open(settings: Settings, control: WorkerControl, stack: AsyncExitStack) -> Flow:
    """Start everything; `stack` closes it in reverse order."""
    process_id = secrets.token_hex(6)
    metrics = WorkerMetrics()
    metrics.add_process_figures()
    layout = TopicLayout.from_settings(settings)
    logger.info("This process is %s.", process_id)

    await _prepare_topics(settings)
    store = RedisStore.from_settings(settings)
    stack.push_async_callback(store.close)
    await store.open()
    outbox = Outbox(settings, out_topics(layout))
    stack.push_async_callback(outbox.stop)
    await outbox.start()

    pointer = ReleasePointer.from_settings(settings)
    stack.push_async_callback(pointer.close)
    loaded = await asyncio.to_thread(load_first, settings, await pointer.read())
    _note_models(metrics, process_id, loaded)
    privacy_key = await store.privacy_key(settings)
    pipeline = Pipeline(
        models=loaded.models,
        store=store,
        clock=lambda: datetime.now(UTC),
        options=pipeline_options(settings, process_id, privacy_key),
    )
    await asyncio.to_thread(pipeline.warm_up)
    trunk = loaded.models.trunk
    exact_max_products = settings.exact_search_max_products
    index = ProductIndex(trunk.width, loaded.device, exact_max_products=exact_max_products)
    catalogue = Catalogue(index, trunk.release)
    flow = Flow(
        process_id=process_id,
        pipeline=pipeline,
        catalogue=catalogue,
        store=store,
        outbox=outbox,
        kind_of=layout.kind_of,
        limits=EventLimits(
            settings.max_event_bytes, settings.max_text_chars, settings.max_future_s
        ),
        batch_max_tokens=settings.batch_max_tokens,
        batch_max_events=settings.batch_max_events,
        metrics=metrics,
    )
    encoder = BackgroundEncoder(
        flow.stages.on_model_thread,
        lambda: flow.is_idle,
        partial(_note_vectors, metrics),
    )
    encoder.add(trunk, loaded.product_vectors)
    feed = ProductFeed(
        settings,
        topic=layout.product_vectors,
        catalogue=catalogue,
        encode=encoder.encode,
        on_ranking_thread=flow.stages.on_ranking_thread,
        metrics=metrics,
    )
    stack.push_async_callback(feed.stop)
    page = HealthServer(settings.metrics_port, metrics, health_checks(flow, store, outbox, feed))
    stack.push_async_callback(page.stop)
    await page.start()
    await feed.load()
    stack.callback(control.spawn(feed.follow(), name="product feed").cancel)
    if settings.metrics_port:
        lag = LagWatch(settings, lambda: flow.assigned, metrics)
        stack.callback(control.spawn(lag.run(), name="lag watch").cancel)

    await publish_unconfirmed(store, outbox)
    await store.announce_release(loaded.models.release, datetime.now(UTC).isoformat())
    parts = ServingParts(pipeline, catalogue, flow, feed, encoder, metrics)
    await follow_releases(settings, process_id, loaded.device, parts, pointer, control, stack)
    stack.push_async_callback(flow.stop)
    flow.start(control.fail)
    return flow


async def _prepare_topics(settings: Settings) -> None:
    created = await create_topics(settings)
    if created:
        logger.info("Created the topics %s.", ", ".join(created))
    await check_topics(settings)


def out_topics(layout: TopicLayout) -> dict[OutTopic, str]:
    """Return the full name of each internal topic the pipeline writes."""
    return {
        OutTopic.SAMPLES: layout.samples,
        OutTopic.DEAD_LETTERS: layout.dead_letters,
        OutTopic.PRODUCT_VECTORS: layout.product_vectors,
        OutTopic.BATCHES: layout.batches,
    }


def pipeline_options(settings: Settings, process_id: str, privacy_key: str) -> PipelineOptions:
    """Return the pipeline's part of the settings."""
    return PipelineOptions(
        process_id=process_id,
        privacy_key=privacy_key.encode(),
        recommendation_count=settings.recommendation_count,
        search_count=settings.search_count,
        trending_count=settings.trending_count,
        recommendations_ttl_s=settings.recommendations_ttl_s,
        search_ttl_s=settings.search_ttl_s,
        query_ttl_s=settings.query_ttl_s,
        tags_ttl_s=settings.tags_ttl_s,
        answer_ttl_s=settings.answer_ttl_s,
        attribution_window_s=settings.attribution_window_s,
        vector_cache_entries=settings.vector_cache_entries,
        recent_queries=settings.recent_queries,
        rules=recommendation_rules(settings),
    )


def recommendation_rules(settings: Settings) -> RecommendationRules:
    """Return the shop's rules for recommendations: the settings `recommend_…`."""
    names = (rule.name for rule in fields(RecommendationRules))
    return RecommendationRules(**{name: getattr(settings, f"recommend_{name}") for name in names})


def _note_vectors(metrics: WorkerMetrics, trunk: str, source: str, count: int) -> None:
    metrics.product_vectors_brought.labels(trunk, source).inc(count)


def _note_models(metrics: WorkerMetrics, process_id: str, loaded: LoadedModels) -> None:
    release = loaded.models.release
    logger.info("Models: release %s on %s in %s.", release, loaded.device, loaded.dtype)
    metrics.worker_info.labels(process_id, loaded.device, loaded.dtype).set(1)
