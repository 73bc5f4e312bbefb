"""`shopstream retrain` as a process of its own, on a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import redis

from models.releases.store import ReleaseStore
from models.sample import Sample
from tests.support.environment import set_environment
from tests.support.names import Names
from tests.support.review_samples import export, make_reviews
from tests.support.tiny_trunk import write_tiny_trunk
from worker.settings import Settings
from worker.store.lookup import Lookup
from worker.topics.layout import TopicLayout, create_topics
from worker.topics.reader import read_topic
from worker.topics.release_announcements import ReleaseAnnouncement

pytestmark = [pytest.mark.kafka, pytest.mark.redis]
START_TIMEOUT_S = 120.0

Retrain = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch,
    kafka_bootstrap: str,
    redis_url: str,
    names: Names,
    tmp_path: Path,
) -> Mapping[str, str]:
    """The variables of a shop with a tiny trunk, for this process and for the jobs."""
    values = names.environment() | {
        "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "SHOPSTREAM_REDIS_URL": redis_url,
        "SHOPSTREAM_RELEASES_URL": str(tmp_path / "store"),
        "SHOPSTREAM_MODEL": str(write_tiny_trunk(tmp_path / "tiny-shop")),
    }
    set_environment(monkeypatch, values)
    asyncio.run(create_topics(Settings()))
    return values


@pytest.fixture
def retrain(environment: Mapping[str, str], tmp_path: Path) -> Retrain:
    """Start a job on the samples of this test."""

    def start(*options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable, "-m", "worker.commands", "retrain",
                "--samples", str(tmp_path / "samples"), "--part", "sentiment",
                "--min-train", "100", "--min-test", "60", "--json", *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    return start


def send(samples: list[Sample]) -> None:
    from aiokafka import AIOKafkaProducer

    async def produce() -> None:
        settings = Settings()
        servers = settings.kafka_bootstrap_servers
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for sample in samples:
                topic = TopicLayout.from_settings(settings).samples
                await producer.send(topic, sample.model_dump_json().encode())

    asyncio.run(produce())


def announced() -> list[tuple[str, str]]:
    async def read() -> list[tuple[str, str]]:
        settings = Settings()
        topic = TopicLayout.from_settings(settings).releases
        messages = [
            ReleaseAnnouncement.model_validate_json(record.value)
            async for record in read_topic(settings, topic)
            if record.value is not None
        ]
        return [(one.action, one.release_id) for one in messages]

    return asyncio.run(read())


def test_the_loop_from_the_topic_to_the_announcement(
    environment: Mapping[str, str], retrain: Retrain, names: Names
) -> None:
    """Samples of the topic become a release that Redis and Kafka name; again: nothing to do."""
    send([*make_reviews(400)])
    job = retrain()
    out, log = job.communicate()
    assert job.returncode == 0, log
    report = json.loads(out)
    store = ReleaseStore(environment["SHOPSTREAM_RELEASES_URL"])
    assert sorted(store.ids()) == sorted([report["current"], report["release_id"]])
    assert announced() == [("promote", report["current"]), ("promote", report["release_id"])]
    with Lookup(environment["SHOPSTREAM_REDIS_URL"], prefix=names.key_prefix) as lookup:
        pointer = lookup.release()
    assert pointer is not None
    assert (pointer.release, pointer.earlier) == (report["release_id"], [report["current"]])
    again = retrain()
    out, log = again.communicate()
    assert again.returncode == 0, log
    assert "0 new samples" in json.loads(out)["skipped"]["sentiment"]


@pytest.mark.parametrize("moment", ["plan.json", "parts", "gate.sentiment.json"])
def test_a_killed_job_goes_on(
    environment: Mapping[str, str], retrain: Retrain, tmp_path: Path, moment: str
) -> None:
    """SIGKILL in the middle leaves nothing half-published; the next job ends what it began."""
    export(tmp_path / "samples", make_reviews(400))
    seen = tmp_path / "samples" / ".retrain" / "run" / moment
    job = retrain("--no-export")
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not seen.exists():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    store = ReleaseStore(environment["SHOPSTREAM_RELEASES_URL"])
    for release_id in store.ids():
        store.fetch(release_id)
    with redis.Redis.from_url(environment["SHOPSTREAM_REDIS_URL"]) as client:
        client.delete(f"{environment['SHOPSTREAM_REDIS_KEY_PREFIX']}:retrain_lock")  # a minute on
    again = retrain("--no-export")
    out, log = again.communicate()
    assert again.returncode == 0, log
    report = json.loads(out)
    assert report["went_on"] or "new samples" in str(report["skipped"])
    assert len(store.ids()) == 2
    assert len(announced()) == 2


def test_two_jobs_at_once_are_one(
    environment: Mapping[str, str], retrain: Retrain, tmp_path: Path
) -> None:
    """While another holds the lock a job ends with status 1 and says who works."""
    export(tmp_path / "samples", make_reviews(200))
    key = f"{environment['SHOPSTREAM_REDIS_KEY_PREFIX']}:retrain_lock"
    with redis.Redis.from_url(environment["SHOPSTREAM_REDIS_URL"]) as client:
        client.set(key, "gpu-1:4711:x", px=60_000)
    job = retrain("--no-export")
    _, log = job.communicate()
    assert job.returncode == 1
    assert "a retraining job runs already (process 4711 on gpu-1)" in log


def test_without_redis_a_job_does_not_begin(
    environment: Mapping[str, str], retrain: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Redis there is no lock and no job: status 1 and one sentence."""
    monkeypatch.setenv("SHOPSTREAM_REDIS_URL", "redis://127.0.0.1:1/0")
    job = retrain()
    _, log = job.communicate()
    assert job.returncode == 1
    assert "Redis at redis://127.0.0.1:1/0 cannot be reached" in log
    assert "Traceback" not in log


def test_tiny_samples_are_status_1(
    environment: Mapping[str, str], retrain: Retrain, tmp_path: Path
) -> None:
    """Too few samples end with status 1 and the number needed."""
    export(tmp_path / "samples", make_reviews(30))
    job = retrain("--no-export")
    _, log = job.communicate()
    assert job.returncode == 1
    assert "30 samples are too few: 160 are needed" in log
    assert "Traceback" not in log


def test_every_goes_on_after_a_sentence(
    environment: Mapping[str, str], retrain: Retrain, tmp_path: Path
) -> None:
    """With --every too few samples are a line in the log, and the next rounds do their work."""
    export(tmp_path / "samples", make_reviews(30))
    job = retrain("--no-export", "--every", "1s")
    assert job.stdout is not None
    assert job.stderr is not None
    try:
        told = next(line for line in job.stderr if "too few" in line)
        assert "30 samples are too few: 160 are needed" in told
        export(tmp_path / "samples", make_reviews(400))
        rounds = [json.loads(job.stdout.readline()) for _ in range(2)]
        assert rounds[0]["release_id"] is not None
        assert [one["passed"] for one in rounds[0]["parts"]] == [True]
        assert rounds[1]["current"] == rounds[0]["release_id"]
        assert "0 new samples" in rounds[1]["skipped"]["sentiment"]
        assert job.poll() is None
    finally:
        job.terminate()
        job.communicate()
    assert [action for action, _ in announced()] == ["promote", "promote"]


def test_a_share_makes_a_trial_of_what_passed(
    environment: Mapping[str, str], retrain: Retrain, names: Names, tmp_path: Path
) -> None:
    """With --share the better release is announced as a candidate, and the current one stays."""
    export(tmp_path / "samples", make_reviews(400))
    job = retrain("--no-export", "--share", "0.25")
    out, log = job.communicate()
    assert job.returncode == 0, log
    report = json.loads(out)
    base, candidate = report["current"], report["release_id"]
    assert candidate not in (None, base)
    assert announced() == [("promote", base), ("candidate", candidate)]
    with Lookup(environment["SHOPSTREAM_REDIS_URL"], prefix=names.key_prefix) as lookup:
        pointer = lookup.release()
    assert pointer is not None
    assert (pointer.release, pointer.candidate, pointer.share) == (base, candidate, 0.25)


@pytest.mark.parametrize("wrong", ["trunks", "sentiment,nothing"])
def test_an_unknown_part_is_wrong_usage(
    environment: Mapping[str, str], retrain: Retrain, wrong: str
) -> None:
    """A part that is none is status 2 and names those that are."""
    job = retrain("--parts", wrong)
    _, log = job.communicate()
    assert job.returncode == 2
    assert "is none of sentiment, recommender, trunk or all" in log
