"""Starts what follows releases in a worker: which models it begins with, and how they change."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from models.releases.manifest import ModelUnavailable
from models.releases.store import ReleaseStore
from worker.events.event import EventKind
from worker.flow.background_encoder import BackgroundEncoder
from worker.flow.flow import Flow
from worker.flow.loading import LoadedModels, ModelsUnavailable, load_models, load_release
from worker.flow.product_feed import ProductFeed
from worker.flow.product_publisher import ProductPublisher
from worker.flow.release.check import require_heads, require_memory, require_sense
from worker.flow.release.switch import ReleaseSwitch
from worker.flow.release.thread import BackgroundThread
from worker.flow.release.topic import listen_for_releases
from worker.flow.release.watch import ReleaseWatch
from worker.page.metrics import WorkerMetrics
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.stages import PipelineModels
from worker.settings import Settings
from worker.store.release_pointer import ReleasePointer
from worker.store.release_reports import ReleaseReports
from worker.store.results import CurrentRelease
from worker.stream.chunk import WorkerControl
from worker.topics.layout import TopicLayout

logger = logging.getLogger(__name__)

_EARLIER_TRIED = 3


@dataclass(frozen=True, slots=True)
class ServingParts:
    """The parts of a worker that a swap touches."""

    pipeline: Pipeline
    catalogue: Catalogue
    flow: Flow
    feed: ProductFeed
    encoder: BackgroundEncoder
    metrics: WorkerMetrics


def load_first(settings: Settings, pointer: CurrentRelease | None) -> LoadedModels:
    """Load what a worker begins with: the current release, else one before it, else its own models.

    Raises ModelsUnavailable when its own models cannot be loaded either.
    """
    if pointer is not None and pointer.url:
        for release in (pointer.release, *pointer.earlier[:_EARLIER_TRIED]):
            try:
                loaded = _fetch(settings, pointer.url, release)
                require_sense(loaded.models)
                return loaded
            except ModelsUnavailable as error:
                logger.error("This worker cannot begin with release %s: %s", release, error)
        logger.error("No release can be loaded: this worker begins with its own models.")
    return load_models(settings)


async def follow_releases(
    settings: Settings,
    process_id: str,
    device: str,
    parts: ServingParts,
    pointer: ReleasePointer,
    control: WorkerControl,
    stack: AsyncExitStack,
) -> None:
    """Start following the pointer; `stack` ends it."""
    layout = TopicLayout.from_settings(settings)
    publisher = _publisher(parts, layout.of(EventKind.PRODUCT))
    parts.flow.assignment_listeners.append(publisher.wake)
    switch = ReleaseSwitch(
        pipeline=parts.pipeline,
        catalogue=parts.catalogue,
        stages=parts.flow.stages,
        feed=parts.feed,
        encoder=parts.encoder,
        publisher=publisher,
        metrics=parts.metrics,
        keep_previous=settings.keep_previous_release,
    )
    reports = ReleaseReports.from_settings(settings)
    stack.push_async_callback(reports.close)
    stack.push_async_callback(reports.leave, process_id)
    thread = BackgroundThread("release")
    stack.callback(thread.close)
    watch = ReleaseWatch(
        process_id=process_id,
        device=device,
        pointer=pointer,
        reports=reports,
        switch=switch,
        load=partial(_load_warm, settings, parts.pipeline),
        thread=thread,
        metrics=parts.metrics,
    )
    listening = listen_for_releases(settings, layout.releases, watch.wake)
    for name, work in {
        "product publisher": publisher.run(),
        "release watch": watch.run(),
        "release report": watch.keep_reporting(),
        "release topic": listening,
    }.items():
        stack.callback(control.spawn(work, name=name).cancel)


def _publisher(parts: ServingParts, products: str) -> ProductPublisher:
    stages = parts.flow.stages
    return ProductPublisher(
        parts.catalogue,
        trunk=lambda: parts.pipeline.serving.models.trunk.release,
        owned=lambda: parts.flow.owned(products),
        on_ranking_thread=stages.on_ranking_thread,
        send=stages.send_beside,
        metrics=parts.metrics,
    )


def _load_warm(settings: Settings, pipeline: Pipeline, release: str, url: str) -> LoadedModels:
    """Load a release beside those that serve, and try it; raises ModelsUnavailable."""
    before = pipeline.serving.models
    loaded = _fetch(settings, url, release, beside=before)
    require_heads(before, loaded.models)
    require_sense(loaded.models)
    pipeline.warm_up(loaded.models)
    return loaded


def _fetch(
    settings: Settings, url: str, release: str, beside: PipelineModels | None = None
) -> LoadedModels:
    """Fetch a release from the store and load it."""
    trunk = beside.trunk if beside is not None else None
    try:
        # The store that this worker is told of first: a folder may be mounted under many names.
        store = ReleaseStore(settings.releases_url or url, max_bytes=settings.release_max_bytes)
        if beside is not None:
            require_memory(store.manifest(release), str(getattr(trunk, "device", "cpu")))
        folder = store.fetch(release)
    except ModelUnavailable as error:
        raise ModelsUnavailable(str(error)) from error
    return load_release(settings, folder, trunk)
