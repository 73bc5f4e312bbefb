"""What goes through the topic of releases: promotions, rollbacks and candidates on trial.

The topic is compacted under two keys, so a worker that starts reads at most the newest state.
"""

from __future__ import annotations

from typing import Literal

from aiokafka import AIOKafkaProducer
from pydantic import BaseModel, ConfigDict, Field

from worker.settings import Settings
from worker.store.results import CurrentRelease
from worker.topics.client import kafka_errors, producer_options
from worker.topics.layout import TopicLayout

Action = Literal["promote", "rollback", "candidate"]


class ReleaseAnnouncement(BaseModel):
    """One message: what workers are to serve from now on. Raises ValidationError when read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    action: Action = Field(
        description="promote and rollback: serve `release_id` alone; candidate: serve it to a "
        "share of the shoppers beside the current release."
    )
    release_id: str
    url: str = Field(description="The release store.")
    share: float = Field(0.0, ge=0.0, le=1.0, description="Of the shoppers, for a candidate.")
    at: str = Field(description="When it was decided, RFC 3339, UTC.")

    @classmethod
    def of(cls, action: Action, pointer: CurrentRelease, at: str) -> ReleaseAnnouncement:
        """Return the message that goes with a move of the pointer."""
        on_trial = action == "candidate" and pointer.candidate is not None
        return cls(
            action=action,
            release_id=str(pointer.candidate) if on_trial else pointer.release,
            url=pointer.url,
            share=pointer.share if on_trial else 0.0,
            at=at,
        )

    @property
    def key(self) -> bytes:
        """The record's key: a trial does not hide which release is current."""
        return b"candidate" if self.action == "candidate" else b"current"


async def announce(settings: Settings, announcement: ReleaseAnnouncement) -> None:
    """Send a message to every worker; returns when Kafka has it. Raises KafkaUnavailable."""
    topic = TopicLayout.from_settings(settings).releases
    async with kafka_errors(settings):
        producer = AIOKafkaProducer(**producer_options(settings))
        try:
            await producer.start()
            await producer.send_and_wait(
                topic, announcement.model_dump_json().encode(), key=announcement.key
            )
            if announcement.action != "candidate":  # the trial before this is over
                await producer.send_and_wait(topic, None, key=b"candidate")
        finally:
            await producer.stop()
