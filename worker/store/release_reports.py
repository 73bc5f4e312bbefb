"""Which worker serves which release, and which releases were refused: two hashes in Redis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.keys import Keys
from worker.store.results import CurrentRelease

STALE_AFTER_S = 60.0
_FORGOTTEN_AFTER = timedelta(days=1)


class ServingWorker(BaseModel):
    """What one worker serves; it says so again every few seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    process_id: str
    release: str
    trunk: str = Field(description="The release's text trunk, as product vectors name it.")
    candidate: str | None = Field(None, description="The other arm of an A/B trial.")
    share: float = Field(0.0, description="Share of shoppers the candidate serves, 0 to 1.")
    earlier: str | None = Field(None, description="Kept loaded, so that a rollback is at once.")
    device: str = ""
    since: str = Field(description="When it began to, RFC 3339, UTC.")
    seen_at: str = Field(description="When the worker said so last, RFC 3339, UTC.")


class RefusedRelease(BaseModel):
    """Why a release does not serve though it was to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release: str
    reason: str
    process_id: str = Field(description="The worker that refused it.")
    at: str = Field(description="RFC 3339, UTC.")


class ReleaseStatus(CurrentRelease):
    """What is to be served, what each worker serves, and what was refused."""

    workers: list[ServingWorker] = Field([], description="What each living worker serves.")
    refused: list[RefusedRelease] = Field([], description="What is to serve and does not.")


_Model = TypeVar("_Model", bound=BaseModel)


class ReleaseReports:
    """Reads and writes the reports. Errors: `StoreUnavailable`."""

    def __init__(self, address: RedisAddress, *, prefix: str = "shopstream") -> None:
        self._address = address
        keys = Keys(prefix)
        self._serving, self._refused = keys.key("serving"), keys.key("refused")
        self._client: Any = address.async_client()

    @classmethod
    def from_settings(cls, settings: Settings) -> ReleaseReports:
        """Return the reports of these settings; they connect at the first call."""
        return cls(RedisAddress.from_settings(settings), prefix=settings.redis_key_prefix)

    async def serve(self, worker: ServingWorker) -> None:
        """Say what a worker serves."""
        with self._address.errors():
            await self._client.hset(self._serving, worker.process_id, worker.model_dump_json())

    async def refuse(self, refused: RefusedRelease) -> None:
        """Say why a worker does not serve a release."""
        with self._address.errors():
            field = _refusal_field(refused.process_id, refused.release)
            await self._client.hset(self._refused, field, refused.model_dump_json())

    async def accept(self, process_id: str, release: str) -> None:
        """Take back what a worker said against a release."""
        with self._address.errors():
            await self._client.hdel(self._refused, _refusal_field(process_id, release))

    async def leave(self, process_id: str) -> None:
        """Say that a worker has stopped; forget those that were killed long ago."""
        with self._address.errors():
            gone = {process_id}
            for worker in await self._read(self._serving, ServingWorker):
                if _age(worker) > _FORGOTTEN_AFTER:
                    gone.add(worker.process_id)
            await self._client.hdel(self._serving, *gone)
            living = {one.process_id for one in await self._read(self._serving, ServingWorker)}
            void = [
                _refusal_field(one.process_id, one.release)
                for one in await self._read(self._refused, RefusedRelease)
                if one.process_id not in living
            ]
            if void:
                await self._client.hdel(self._refused, *void)

    async def workers(self) -> list[ServingWorker]:
        """Return what the workers that live serve."""
        limit = timedelta(seconds=STALE_AFTER_S)
        with self._address.errors():
            found = await self._read(self._serving, ServingWorker)
        living = [worker for worker in found if _age(worker) <= limit]
        return sorted(living, key=lambda worker: worker.process_id)

    async def refused(self) -> list[RefusedRelease]:
        """Return what the workers that live refused, each release once, newest first."""
        living = {worker.process_id for worker in await self.workers()}
        with self._address.errors():
            found = await self._read(self._refused, RefusedRelease)
        newest: dict[str, RefusedRelease] = {}
        for one in sorted(found, key=lambda refused: refused.at, reverse=True):
            if one.process_id in living:
                newest.setdefault(one.release, one)
        return list(newest.values())

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _read(self, key: str, model: type[_Model]) -> list[_Model]:
        found: list[_Model] = []
        for value in (await self._client.hgetall(key)).values():
            try:
                found.append(model.model_validate_json(value))
            except ValidationError:  # another version's: it says nothing to us
                continue
        return found


async def read_status(settings: Settings, current: CurrentRelease | None) -> ReleaseStatus:
    """Return the whole status beside the pointer. Errors: `StoreUnavailable`."""
    reports = ReleaseReports.from_settings(settings)
    try:
        pointer = current.model_dump() if current is not None else {"release": "", "since": ""}
        return ReleaseStatus(
            **pointer, workers=await reports.workers(), refused=await reports.refused()
        )
    finally:
        await reports.close()


async def read_reports_of(
    settings: Settings, release: str
) -> tuple[list[ServingWorker], RefusedRelease | None]:
    """Return the workers that serve a release, and why one refused it. Errors: as above."""
    status = await read_status(settings, None)
    serving = [worker for worker in status.workers if release in (worker.release, worker.candidate)]
    return serving, next((one for one in status.refused if one.release == release), None)


def now() -> str:
    """Return this moment as the reports spell it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _refusal_field(process_id: str, release: str) -> str:
    return f"{process_id} {release}"


def _age(worker: ServingWorker) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(worker.seen_at)
