"""The agents: one a topic, each receiving record batches and passing them to the intake."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Any

from mode.supervisors import CrashingSupervisor

from worker.stream.chunk import Chunk
from worker.stream.intake import Intake


def add_agents(app: Any, topics: Sequence[str], intake: Intake) -> None:
    """Give every topic its agent.

    The streams carry `Chunk`s, no Faust events: no decoding, no acknowledgement, no sensor. An
    exception in an agent ends the worker; Faust's default would restart the agent and go on without
    the chunk.
    """
    for topic in topics:
        app.agent(
            app.topic(topic, key_serializer="raw", value_serializer="raw"),
            name=f"shopstream.{topic}",
            supervisor_strategy=CrashingSupervisor,
        )(_deliver_to(intake))


def _deliver_to(intake: Intake) -> Any:
    async def deliver(stream: AsyncIterable[Chunk]) -> None:
        async for chunk in stream:
            intake.deliver(chunk)

    return deliver
