"""A live run on Apache Kafka, recorded and replayed: every result and sample, byte for byte."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from tests.support.names import Names
from tests.support.release_shop import ReleaseShop
from tests.support.shop_topics import ShopTopics
from tests.support.worker_process import StartWorker, WorkerProcess, worker_environment
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.event import EventKind, Search
from worker.replay.following.differences import Differences
from worker.replay.following.follower import Follower, FollowReport
from worker.replay.following.order import BatchOrder
from worker.replay.following.sample_check import SampleCheck
from worker.replay.following.verify import compare_results
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.record import record
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.settings import Settings
from worker.store.contract import ResultKind
from worker.store.limits import StoreLimits
from worker.store.lookup import Lookup
from worker.store.memory_store import MemoryStore
from worker.topics.layout import create_topics

pytest_plugins = ("tests.support.worker_fixtures",)
pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(600)]

KEY = "a key that both sides know"
PATIENCE_S = 240.0


def live_settings(names: Names, kafka: str, redis_url: str, **more: object) -> Settings:
    """Return the settings of the workers of this test, as the replay needs them."""
    return names.settings(kafka, redis_url, privacy_key=KEY, **more)


def send_load(shop: ShopTopics, count: int, seed: int) -> None:
    """Send a simulated shop's catalogue and events in bursts of random size."""
    chance = random.Random(seed)
    simulated = SimulatedShop(seed=seed, product_count=120, shopper_count=60)
    for event in simulated.catalogue():
        shop.send_raw(event.kind, event.key, event.value)
    shop.flush()
    events = itertools.islice(simulated.events(), count)
    while burst := list(itertools.islice(events, chance.choice((1, 3, 20, 150, 400)))):
        for event in burst:
            shop.send_raw(event.kind, event.key, event.value)
        shop.flush()
        time.sleep(chance.choice((0.0, 0.01, 0.05)))


def kill_in_mid_batch(worker: WorkerProcess) -> None:
    """Send SIGKILL while a batch is in flight."""
    deadline = time.monotonic() + 60
    while worker.metrics()["shopstream_batches_in_flight"] < 1:
        assert time.monotonic() < deadline, worker.log_text()
    worker.kill()


async def replayed(
    settings: Settings, folder: Path, faults: Faults
) -> tuple[FollowReport, Differences, Differences]:
    """Record the topics, replay them, and compare results and samples with the live ones."""
    await record(settings, folder)
    recording = Recording.open(folder, faults)
    store = MemoryStore(StoreLimits.from_settings(settings))
    follower = Follower(recording, BatchOrder(recording), store, Releases(settings), settings, KEY)
    samples = SampleCheck(recording)
    report = await follower.run(samples.add)
    return report, await compare_results(settings, store.results()), samples.compare()


def check_equal(found: Differences) -> None:
    """Every live value stands in the replay with the same bytes, and nothing else does."""
    assert found.is_equal, found.examples
    assert not found.only_replay, found.examples


@pytest.mark.parametrize(("model", "count"), [("null", 4_000), ("", 600)])
async def test_a_replay_equals_its_live_run(
    start_worker: StartWorker,
    shop: ShopTopics,
    names: Names,
    kafka_bootstrap: str,
    redis_url: str,
    tmp_path: Path,
    model: str,
    count: int,
) -> None:
    """Two workers, random load, one of them killed: the replay writes the same bytes."""
    chosen = {"model": model, "privacy_key": KEY}
    workers = [start_worker(**chosen), start_worker(**chosen)]
    for worker in workers:
        worker.wait_ready()
    send_load(shop, count // 2, seed=1)
    send_load(shop, count // 2, seed=2)
    kill_in_mid_batch(workers[0])
    workers[0] = start_worker(**chosen)
    workers[0].wait_ready()
    send_load(shop, count // 4, seed=3)
    shop.wait_committed(PATIENCE_S)
    for worker in workers:
        assert worker.terminate() == 0
    settings = live_settings(names, kafka_bootstrap, redis_url, model=model)
    faults = Faults("stop")
    report, results, samples = await replayed(settings, tmp_path / "recording", faults)
    assert report.events >= count + count // 4
    assert report.unconfirmed >= 1
    assert results.equal > count // 2
    check_equal(results)
    assert samples.equal > count // 20
    check_equal(samples)


def pause_in_mid_batch(worker: WorkerProcess, redis_url: str, prefix: str) -> str:
    """Send SIGSTOP while a batch is in flight; return the batch's id."""
    deadline = time.monotonic() + 60
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        while time.monotonic() < deadline:
            worker.pause()
            standing = client.hkeys(f"{prefix}:intents")
            mine = [one for one in standing if one.rpartition("-")[0] in worker.log_text()]
            if mine:
                return mine[0]
            worker.resume()
            time.sleep(0.02)
    raise AssertionError(f"no batch was met in flight:\n{worker.log_text()}")


async def test_a_replay_equals_a_run_whose_partitions_move(
    start_worker: StartWorker,
    shop: ShopTopics,
    names: Names,
    kafka_bootstrap: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """An owner that was taken for dead writes its batch after the next one did: the same bytes."""
    chosen = {"model": "null", "privacy_key": KEY}
    workers = [start_worker(**chosen), start_worker(**chosen)]
    for worker in workers:
        worker.wait_ready()
    late: set[str] = set()
    for number in range(4):
        load = asyncio.create_task(asyncio.to_thread(send_load, shop, 600, number + 1))
        slow = workers[number % 2]
        held = await asyncio.to_thread(pause_in_mid_batch, slow, redis_url, names.key_prefix)
        await load
        await asyncio.to_thread(shop.wait_committed, PATIENCE_S)  # by the other one, all of it
        slow.resume()
        await asyncio.sleep(2)
        late.add(held)
        if not slow.running:
            workers[number % 2] = start_worker(**chosen)
        await asyncio.to_thread(workers[number % 2].wait_ready)
    shop.wait_committed(PATIENCE_S)
    for worker in workers:
        assert worker.terminate() == 0
    settings = live_settings(names, kafka_bootstrap, redis_url, model="null")
    report, results, samples = await replayed(settings, tmp_path / "recording", Faults("stop"))
    assert report.events > 2_400  # the batches held came twice
    recording = Recording.open(tmp_path / "recording", Faults("stop"))
    confirmed = {one.batch_id for one in BatchOrder(recording) if one.confirmed}
    assert late & confirmed, "no batch was written late"
    assert results.equal > 1_000
    check_equal(results)
    check_equal(samples)


def test_a_replay_follows_swaps_trials_and_a_crash(
    start_worker: StartWorker,
    shop: ShopTopics,
    names: Names,
    kafka_bootstrap: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """Releases of two trunks change under load, one as a trial: the replay has the same bytes."""
    settings = live_settings(
        names, kafka_bootstrap, redis_url, model="null", kafka_group=names.group, kafka_partitions=2
    )
    releases = ReleaseShop(tmp_path, settings)
    settings = releases.settings
    asyncio.run(create_topics(settings))
    first = releases.publish("first", trunk_seed=1, head_seed=1)
    second = releases.publish("second", trunk_seed=2, head_seed=2)
    releases.promote(first)
    workers = [start_worker(model="null", privacy_key=KEY) for _ in range(2)]
    for worker in workers:
        worker.wait_ready()
    releases.wait_serving(first, 2)
    send_load(shop, 800, seed=1)
    releases.try_candidate(second, 0.5)
    send_load(shop, 800, seed=2)
    releases.promote(second)
    send_load(shop, 400, seed=3)
    releases.wait_serving(second, 2)
    send_load(shop, 400, seed=4)
    kill_in_mid_batch(workers[0])
    workers[0] = start_worker(model="null", privacy_key=KEY)
    workers[0].wait_ready()
    shop.wait_committed(PATIENCE_S)
    for worker in workers:
        assert worker.terminate() == 0
    report, results, samples = asyncio.run(
        replayed(settings, tmp_path / "recording", Faults("stop"))
    )
    assert {first, second} <= report.releases.keys()
    assert results.equal > 1_000
    check_equal(results)
    check_equal(samples)


def test_the_commands_record_replay_and_explain(
    start_worker: StartWorker,
    shop: ShopTopics,
    names: Names,
    kafka_bootstrap: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """The command line records a live run, proves its replay equal, says why a result stands."""
    worker = start_worker(privacy_key=KEY)
    worker.wait_ready()
    send_load(shop, 300, seed=5)
    shop.wait_committed(PATIENCE_S)
    before = shop.committed()
    assert worker.terminate() == 0
    environment = worker_environment(names, kafka_bootstrap, redis_url, privacy_key=KEY)
    folder, page = tmp_path / "recording", tmp_path / "report.html"
    recorded = shopstream(environment, "record", "--out", str(folder), "--format", "jsonl.gz")
    assert recorded["topics"][shop.layout.batches]["0"]["records"] > 0
    again = shopstream(environment, "record", "--out", str(folder))
    assert again["topics"] == recorded["topics"]
    found = shopstream(
        environment, "replay", "--events", str(folder), "--verify", "--report", str(page)
    )
    assert found["equality"]["results"]["is_equal"], found["equality"]["results"]["examples"]
    assert found["equality"]["samples"]["is_equal"]
    from_topic = shopstream(environment, "replay", "--from-topic")
    assert from_topic["results_digest"] == found["results_digest"]
    beside = f"{names.key_prefix}-again"
    in_redis = shopstream(environment, "replay", "--events", str(folder), "--redis-prefix", beside)
    assert in_redis["results_digest"] == found["results_digest"]
    assert results_under(redis_url, beside) == results_under(redis_url, names.key_prefix)
    assert "byte for byte" in page.read_text(encoding="utf-8")
    with Lookup(redis_url, prefix=names.key_prefix) as lookup:
        event_id = next(
            found_["event_id"]
            for message in shop.read(shop.layout.of(EventKind.SEARCH))
            if (found_ := valid_search(message.value())) is not None
        )
        standing = lookup.search(event_id)
    assert standing is not None
    why = shopstream(environment, "why", event_id, "--events", str(folder))
    assert why["batch"]["batch_id"] == standing.batch_id
    shown = [(one.product_id, one.score) for one in standing.items]
    ranked = [(one["product_id"], one["score"]) for one in why["candidates"]["search"]]
    assert ranked[: len(shown)] == shown
    assert standing.query in [step["query"] for step in why["history"]]
    assert shop.committed() == before


def results_under(redis_url: str, prefix: str) -> dict[str, dict[str, Any]]:
    """Return the results under a key prefix, without when they were written."""
    found: dict[str, dict[str, Any]] = {}
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for kind in ResultKind:
            for key in client.scan_iter(f"{prefix}:{kind.value}:*", count=1_000):
                value = json.loads(client.get(key))
                del value["written_at"]
                found[key.removeprefix(prefix)] = value
    return found


def valid_search(value: bytes | None) -> dict[str, Any] | None:
    """Return a search event, or None for one of the simulated broken records."""
    try:
        return Search.model_validate_json(value or b"", strict=True).model_dump()
    except ValidationError:
        return None


def shopstream(environment: dict[str, str], *arguments: str) -> Any:
    """Run a command with --json and return its document."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSTREAM_")}
    done = subprocess.run(
        [sys.executable, "-m", "worker.commands", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**inherited, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
