"""The worker's page over HTTP: metrics, and health with its reasons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from worker.embedded.ports import LOOPBACK, free_ports
from worker.page.health import HealthServer, PortTaken
from worker.page.metrics import METRICS, WorkerMetrics


class Answers:
    """Checks whose answers a test sets."""

    def __init__(self) -> None:
        self.redis: str | Exception | None = None
        self.hangs = False

    async def check_redis(self) -> str | None:
        if isinstance(self.redis, Exception):
            raise self.redis
        return self.redis

    async def check_kafka(self) -> str | None:
        if self.hangs:
            await asyncio.sleep(60)
        return None


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def url(answers: Answers) -> AsyncIterator[str]:
    port = free_ports(1)[0]
    checks = {"redis": answers.check_redis, "kafka": answers.check_kafka}
    server = HealthServer(port, WorkerMetrics(), checks)
    await server.start()
    yield f"http://{LOOPBACK}:{port}"
    await server.stop()


async def fetch(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_a_well_worker_is_healthy(url: str) -> None:
    """All checks pass: 200."""
    assert await fetch(f"{url}/health") == (200, '{"healthy": true, "reasons": {}}')


async def test_reasons_name_what_is_wrong(url: str, answers: Answers) -> None:
    """A failed check, an exception and a check that hangs: 503 with a reason each."""
    answers.redis = "Redis does not answer"
    status, text = await fetch(f"{url}/health")
    assert status == 503
    assert '"redis": "Redis does not answer"' in text
    answers.redis, answers.hangs = RuntimeError("gone"), True
    status, text = await fetch(f"{url}/health")
    assert status == 503
    assert '"redis": "gone"' in text
    assert '"kafka": "no answer within 2 s"' in text


async def test_every_documented_metric_is_exported(url: str) -> None:
    """The page holds a TYPE line for each metric of the list, of the documented type."""
    status, text = await fetch(f"{url}/metrics")
    assert status == 200
    for spec in METRICS:
        assert f"# TYPE {spec.name} {spec.type}" in text


async def test_a_taken_port_is_one_clear_sentence(url: str) -> None:
    """Two workers with one metrics port: the second says which setting to change."""
    taken = HealthServer(int(url.rpartition(":")[2]), WorkerMetrics(), {})
    with pytest.raises(PortTaken, match="SHOPSTREAM_METRICS_PORT"):
        await taken.start()


async def test_port_0_opens_nothing() -> None:
    """Without a port there is no page, and stopping is harmless."""
    server = HealthServer(0, WorkerMetrics(), {})
    await server.start()
    await server.stop()
