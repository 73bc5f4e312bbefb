"""Faust's Kafka transport with the record-batch consumer in it."""

from __future__ import annotations

from typing import ClassVar

from faust.transport.drivers.aiokafka import Transport

from worker.stream.consumer import RecordConsumer


class RecordTransport(Transport):
    """The aiokafka transport; only the consumer differs."""

    Consumer: ClassVar[type[RecordConsumer]] = RecordConsumer
