"""Fixtures of the integration tests: Apache Kafka, shared by the run or a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kafka_server import KafkaMissing, KafkaServer

BOOTSTRAP_VARIABLE = "SHOPSTREAM_TEST_KAFKA_BOOTSTRAP_SERVERS"
REQUIRED_VARIABLE = "SHOPSTREAM_CI_REQUIRES_KAFKA"


def _make_kafka(folder: Path) -> KafkaServer:
    try:
        return KafkaServer(folder)
    except KafkaMissing as missing:
        if os.environ.get(REQUIRED_VARIABLE):
            pytest.fail(f"{missing}, and {REQUIRED_VARIABLE} is set")
        pytest.skip(f"{missing}, or set {BOOTSTRAP_VARIABLE}")


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a broker that all tests share; use `names` for topics and groups."""
    given = os.environ.get(BOOTSTRAP_VARIABLE)
    if given:
        yield given
        return
    server = _make_kafka(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server.bootstrap_servers
    server.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """A started broker of the test's own, which it may stop, kill and restart."""
    server = _make_kafka(tmp_path)
    server.start()
    yield server
    server.kill()
