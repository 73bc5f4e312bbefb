"""`shopstream forget`: removes a shopper from Redis and, through the workers, from what follows."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

import click
from aiokafka import AIOKafkaProducer
from pydantic import ValidationError

from worker.errors import ShopstreamError
from worker.events.event import EventKind, Forget
from worker.settings import Settings
from worker.store.contract import Version
from worker.store.lookup import AsyncLookup
from worker.topics.client import kafka_errors, producer_options
from worker.topics.layout import TopicLayout


class NotForgotten(ShopstreamError):
    """The request was sent, but no worker carried it out in time."""


@click.command("forget")
@click.argument("user")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, metavar="S",
    help="Wait at most S seconds until a worker has carried it out.",
)  # fmt: skip
def command(user: str, wait_s: float) -> None:
    """Forget all that shopper USER did until now.

    Sends a Forget event. The workers delete the shopper's history, results and review texts, and
    ignore what arrives late. Sums that name nobody stay.
    """
    try:
        request = Forget(
            event_id=f"forget:{uuid.uuid4()}", occurred_at=datetime.now(UTC), user_id=user
        )
    except ValidationError as error:
        raise click.UsageError(f"{user!r} is no user id: {error.errors()[0]['msg']}.") from error
    asyncio.run(_forget(Settings(), request, wait_s))


async def _forget(settings: Settings, request: Forget, wait_s: float) -> None:
    topic = TopicLayout.from_settings(settings).of(EventKind.FORGET)
    await _send(settings, topic, request)
    if not wait_s:
        click.echo(f"The request to forget {request.user_id} stands in {topic}.")
        return
    version = Version(request.occurred_at_ms, request.event_id)
    async with AsyncLookup.from_settings(settings) as lookup:
        if not await lookup.is_forgotten(request.user_id, version, wait_s=wait_s):
            raise NotForgotten(
                f"The request to forget {request.user_id} stands in {topic}, but no worker carried "
                f"it out within {wait_s:g} s: check that one runs; it will do so when it starts."
            )
    click.echo(f"{request.user_id} is forgotten.")


async def _send(settings: Settings, topic: str, request: Forget) -> None:
    value = request.model_dump_json(exclude_none=True).encode()
    async with kafka_errors(settings):
        producer = AIOKafkaProducer(**producer_options(settings))
        try:
            await producer.start()
            await producer.send_and_wait(topic, value, key=request.user_id.encode())
        finally:
            await producer.stop()
