"""Promotions, trials and rollbacks: the pointer moves first, then the workers are told."""

from __future__ import annotations

from datetime import UTC, datetime

from models.releases.folder import require_sound
from models.releases.store import ReleaseStore
from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.store.release_pointer import ReleasePointer
from worker.store.results import CurrentRelease
from worker.topics.client import KafkaUnavailable
from worker.topics.layout import TopicLayout, ensure_topic
from worker.topics.release_announcements import Action, ReleaseAnnouncement, announce


class NoStore(ShopstreamError):
    """No release store is configured."""


class NotAnnounced(ShopstreamError):
    """The pointer moved, but Kafka did not take the message."""


def open_store(settings: Settings) -> ReleaseStore:
    """Return the configured release store. Raises NoStore, ModelUnavailable."""
    if not settings.releases_url:
        raise NoStore(
            "no release store is set: set SHOPSTREAM_RELEASES_URL to a folder or a URL such as "
            "s3://bucket/releases"
        )
    return ReleaseStore(settings.releases_url, max_bytes=settings.release_max_bytes)


async def promote(
    settings: Settings, release_id: str, *, instead_of: str | None = None
) -> CurrentRelease:
    """Make a release current and tell every worker; returns the pointer as it is now.

    Raises ModelUnavailable (no such release), TopicsUnfit, PointerRefused, StoreUnavailable,
    NotAnnounced.
    """
    store = open_store(settings)
    require_sound(store.manifest(release_id), release_id, max_bytes=settings.release_max_bytes)
    return await _move(settings, "promote", store.url, release_id, instead_of=instead_of)


async def try_candidate(settings: Settings, release_id: str, share: float) -> CurrentRelease:
    """Let a release serve a share of the shoppers, 0 to 1; raises as `promote`."""
    store = open_store(settings)
    require_sound(store.manifest(release_id), release_id, max_bytes=settings.release_max_bytes)
    return await _move(settings, "candidate", store.url, release_id, share=share)


async def roll_back(settings: Settings) -> CurrentRelease:
    """End a running trial, or else bring the release before back; raises as `promote`."""
    return await _move(settings, "rollback")


async def read_pointer(settings: Settings) -> CurrentRelease | None:
    """Return what is current; raises StoreUnavailable."""
    pointer = ReleasePointer.from_settings(settings)
    try:
        return await pointer.read()
    finally:
        await pointer.close()


async def _move(
    settings: Settings,
    action: Action,
    url: str = "",
    release_id: str = "",
    *,
    share: float = 0.0,
    instead_of: str | None = None,
) -> CurrentRelease:
    away = await _kafka_away(settings)
    pointer = ReleasePointer.from_settings(settings)
    try:
        match action:
            case "promote":
                now = await pointer.promote(release_id, url, instead_of=instead_of)
            case "candidate":
                now = await pointer.try_candidate(release_id, share)
            case "rollback":
                now = await pointer.roll_back()
    finally:
        await pointer.close()
    at = datetime.now(UTC).isoformat()
    try:
        if away is not None:
            raise away
        await announce(settings, ReleaseAnnouncement.of(action, now, at))
    except KafkaUnavailable as error:
        raise NotAnnounced(
            f"{now.release} is current in Redis, but the workers were not told by Kafka ({error}); "
            "those that start follow it, the others when `shopstream releases promote "
            f"{now.release}` is run again."
        ) from error
    return now


async def _kafka_away(settings: Settings) -> KafkaUnavailable | None:
    """See that the topic of releases stands before anything moves, so that nothing is half done.

    Kafka away is no reason not to move: the key is the authority, and a rollback may not wait.
    Raises TopicsUnfit: the topic is missing and may not be created.
    """
    try:
        await ensure_topic(settings, TopicLayout.from_settings(settings).releases)
    except KafkaUnavailable as error:
        return error
    return None
