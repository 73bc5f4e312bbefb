"""Sends the simulated shop's events to Kafka, in the books before they leave."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaProducer

from worker.embedded.demo.ledger import Ledger, SentEvent
from worker.embedded.shop import SimulatedEvent
from worker.settings import Settings
from worker.topics.client import producer_options
from worker.topics.layout import TopicLayout


class Sender:
    """A producer that books what it sends and where Kafka put it."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.fault: BaseException | None = None  # why Kafka did not take an event
        self._layout = TopicLayout.from_settings(settings)
        self._ledger = ledger
        self._producer = AIOKafkaProducer(**producer_options(settings))

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Send what waits, and disconnect."""
        await self._producer.stop()

    async def send(self, event: SimulatedEvent) -> None:
        """Hand an event to the producer."""
        sent = self._ledger.note_sent(event, time.monotonic())
        topic = self._layout.of(event.kind)
        future = await self._producer.send(topic, value=event.value, key=event.key)
        future.add_done_callback(lambda done: self._note_acknowledged(sent, done))

    def _note_acknowledged(self, sent: SentEvent, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self.fault = error
            return
        record = done.result()
        self._ledger.note_position(sent, (record.topic, record.partition, record.offset))
