"""compose.yaml without Docker: Kafka's configuration and our services' commands, as processes.

Kafka's variables go through the very program that its image runs; our services run their own
commands with exactly the environment of the file, host names replaced by the test's servers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.admin import broker_answers, topic_partitions
from tests.support.compose import (
    image_command,
    image_health_command,
    read_services,
    service_environment,
)
from tests.support.kafka_server import START_TIMEOUT_S, KafkaMissing, java_command
from worker.embedded.guarded_process import GuardedProcess
from worker.embedded.ports import LOOPBACK, free_ports

BIN = Path(sys.executable).parent
METRICS_PORT = "9464"
HEALTHY_TIMEOUT_S = 240.0  # two busy cores load torch and the model


@dataclass(frozen=True)
class Deployment:
    """What stands beside our services: where `kafka:19092` and the other addresses are here."""

    bootstrap_servers: str
    addresses: Mapping[str, str]

    def environment(self, service: str) -> dict[str, str]:
        environment = service_environment(read_services()[service], self.addresses)
        return {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment}


def _start_kafka(folder: Path) -> tuple[GuardedProcess, str]:
    """Set up and start Kafka as its image does, from the variables of the file."""
    inside, host, controller = free_ports(3)
    addresses = {
        "kafka:19092": f"{LOOPBACK}:{inside}",
        "localhost:9092": f"{LOOPBACK}:{host}",
        "localhost:19093": f"{LOOPBACK}:{controller}",
        ":19092": f"{LOOPBACK}:{inside}",
        "HOST://:9092": f"HOST://{LOOPBACK}:{host}",
        "CONTROLLER://:19093": f"CONTROLLER://{LOOPBACK}:{controller}",
        "/var/lib/kafka/data": str(folder / "data"),
    }
    environment = service_environment(read_services()["kafka"], addresses)
    environment["PATH"] = os.environ["PATH"]
    defaults, mounted, final = (folder / name for name in ("defaults", "mounted", "final"))
    for part in (defaults, mounted, final):
        part.mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (defaults / name).touch()
    subprocess.run(
        [
            *java_command("kafka.docker.KafkaDockerWrapper"),
            *("setup", "-D", str(defaults), "-M", str(mounted), "-F", str(final)),
        ],
        env=environment,
        check=True,
        capture_output=True,
        timeout=START_TIMEOUT_S,
    )
    process = GuardedProcess(
        "Kafka of compose.yaml",
        [*java_command("kafka.Kafka"), str(final / "server.properties")],
        log_path=folder / "kafka.log",
        stop_s=20.0,
    )
    try:
        process.wait_ready(lambda: broker_answers(f"{LOOPBACK}:{inside}"), START_TIMEOUT_S)
        process.wait_ready(lambda: broker_answers(f"{LOOPBACK}:{host}"), START_TIMEOUT_S)
    except BaseException:
        process.kill()
        raise
    return process, f"{LOOPBACK}:{inside}"


@pytest.fixture(scope="module")
def compose_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Apache Kafka, configured by the file's own variables."""
    try:
        process, bootstrap_servers = _start_kafka(tmp_path_factory.mktemp("compose"))
    except KafkaMissing as missing:
        if os.environ.get("SHOPSTREAM_CI_REQUIRES_KAFKA"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    yield bootstrap_servers
    process.kill()


@pytest.fixture
def deployment(compose_kafka: str, redis_url: str) -> Deployment:
    """Kafka of the file, an empty Redis, and a free port for the metrics."""
    addresses = {
        "kafka:19092": compose_kafka,
        "redis://redis:6379/0": redis_url,
        METRICS_PORT: str(free_ports(1)[0]),
    }
    return Deployment(compose_kafka, addresses)


def _run(
    command: list[str], environment: dict[str, str], *, text: str = "", timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def _create_topics(deployment: Deployment) -> None:
    command = image_command(read_services()["topics"])
    done = _run(command, deployment.environment("topics"))
    assert done.returncode == 0, done.stderr


def test_topics_service_makes_all_topics(deployment: Deployment) -> None:
    """The one-shot service ends with 0, leaves the event topics, and may run again."""
    _create_topics(deployment)
    _create_topics(deployment)
    partitions = topic_partitions(deployment.bootstrap_servers)
    wanted = int(deployment.environment("topics")["SHOPSTREAM_KAFKA_PARTITIONS"])
    for kind in ("searches", "purchases", "returns", "reviews", "questions", "products", "privacy"):
        assert partitions[f"shop.{kind}"] == wanted
    assert "shopstream.dead-letters" in partitions


def _wait_healthy(worker: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
    deadline = time.monotonic() + HEALTHY_TIMEOUT_S
    while _run(image_health_command(), environment).returncode != 0:
        assert worker.poll() is None, "the worker ended before it was healthy"
        assert time.monotonic() < deadline, "the worker did not become healthy"
        time.sleep(0.5)


def test_worker_service_becomes_healthy_works_and_stops(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The worker gets healthy by the image's own check, tags a review, and SIGTERM ends it."""
    _create_topics(deployment)
    service = read_services()["worker"]
    environment = deployment.environment("worker") | {"HOME": str(tmp_path)}
    review = {
        "event_id": "e1",
        "occurred_at": datetime.now(UTC).isoformat(),
        "user_id": "u1",
        "review_id": "r1",
        "product_id": "p1",
        "text": "A wonderful guitar, it stays in tune and sounds great.",
    }
    events = tmp_path / "reviews.jsonl"
    events.write_text(json.dumps(review) + "\n")
    log_path = tmp_path / "worker.log"
    with log_path.open("wb") as log:
        worker = subprocess.Popen(
            image_command(service), env=environment, cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        _wait_healthy(worker, environment)
        produce = ["shopstream", "produce", str(events), "--kind", "review"]
        sent = _run(produce, environment)
        assert sent.returncode == 0, sent.stderr
        tags = _run(["shopstream", "get", "tags", "r1", "--wait", "60", "--json"], environment)
        assert tags.returncode == 0, tags.stderr
        assert json.loads(tags.stdout)["sentiment"] == "positive"
        worker.send_signal(signal.SIGTERM)
        grace_s = float(service["stop_grace_period"].removesuffix("s"))
        assert worker.wait(grace_s) == 0
    except BaseException:
        sys.stderr.write(log_path.read_text()[-4000:])
        raise
    finally:
        worker.kill()
        worker.wait()


def test_retrain_service_waits_for_samples_and_stops(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The learning service says that there are no samples yet, stays up, and SIGTERM ends it."""
    _create_topics(deployment)
    service = read_services()["retrain"]
    home = "/home/shopstream"
    environment = {
        name: value.replace(home, str(tmp_path))
        for name, value in deployment.environment("retrain").items()
    } | {"HOME": str(tmp_path)}
    command = [part.replace(home, str(tmp_path)) for part in image_command(service)]
    log_path = tmp_path / "retrain.log"
    with log_path.open("wb") as log:
        job = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + HEALTHY_TIMEOUT_S
        while "there is nothing to train from" not in log_path.read_text():
            assert job.poll() is None, "the service ended"
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert "Traceback" not in log_path.read_text()
        assert job.poll() is None
        job.send_signal(signal.SIGTERM)
        job.wait(30)
    except BaseException:
        sys.stderr.write(log_path.read_text()[-4000:])
        raise
    finally:
        job.kill()
        job.wait()
