"""releases publish, list, show, promote and rollback on a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from models.releases.gate_record import Comparison, Figure, GateDecision, TestSlice
from models.releases.manifest import TrainedOn
from models.releases.notes import mark_releases
from models.releases.shoppers import encode_shoppers, shopper_mark, shoppers_file
from models.releases.store import ReleaseMissing, ReleaseStore
from tests.support.environment import set_environment
from tests.support.names import Names
from tests.support.tiny_release import write_tiny_release
from tests.support.tiny_trunk import write_tiny_trunk
from worker.commands import shopstream
from worker.settings import Settings
from worker.store.lookup import Lookup
from worker.store.release_pointer import PointerRefused
from worker.topics.layout import TopicLayout, TopicsUnfit
from worker.topics.reader import read_topic
from worker.topics.release_announcements import ReleaseAnnouncement
from worker.topics.release_moves import NotAnnounced

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch,
    kafka_bootstrap: str,
    redis_url: str,
    names: Names,
    tmp_path: Path,
) -> Mapping[str, str]:
    """The worker's variables for this test's own names and store; topics are created."""
    values = names.environment() | {
        "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "SHOPSTREAM_REDIS_URL": redis_url,
        "SHOPSTREAM_RELEASES_URL": str(tmp_path / "store"),
    }
    set_environment(monkeypatch, values)
    run("topics", "create")
    return values


@pytest.fixture
def releases(environment: Mapping[str, str], tmp_path: Path) -> tuple[str, str]:
    """Two published releases of one trunk."""
    trunk = write_tiny_trunk(tmp_path / "tiny-shop")
    for seed in (1, 2):
        write_tiny_release(tmp_path / f"r{seed}", trunk=trunk, seed=seed, code_version="1.2")
    published = [json.loads(run("releases", "publish", str(tmp_path / f"r{seed}"), "--json"))
                 for seed in (1, 2)]  # fmt: skip
    return published[0]["release_id"], published[1]["release_id"]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(shopstream, list(arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def fails(*arguments: str) -> BaseException | None:
    return CliRunner().invoke(shopstream, list(arguments)).exception


def announcements() -> list[ReleaseAnnouncement]:
    async def read() -> list[ReleaseAnnouncement]:
        topic = TopicLayout.from_settings(Settings()).releases
        return [
            ReleaseAnnouncement.model_validate_json(record.value)
            async for record in read_topic(Settings(), topic)
            if record.value is not None
        ]

    return asyncio.run(read())


def test_promote_and_roll_back(
    releases: tuple[str, str], environment: Mapping[str, str], names: Names
) -> None:
    """Each move stands in Redis for storefronts and in Kafka for workers, with the store's URL."""
    first, second = releases
    run("releases", "promote", first)
    assert json.loads(run("releases", "promote", second, "--json"))["earlier"] == [first]
    with Lookup(environment["SHOPSTREAM_REDIS_URL"], prefix=names.key_prefix) as lookup:
        current = lookup.release()
    assert current is not None
    assert (current.release, current.url) == (second, environment["SHOPSTREAM_RELEASES_URL"])
    assert run("releases", "rollback") == f"{first} is current again.\n"
    moves = [(one.action, one.release_id, one.url) for one in announcements()]
    url = environment["SHOPSTREAM_RELEASES_URL"]
    assert moves == [
        ("promote", first, url), ("promote", second, url), ("rollback", first, url),
    ]  # fmt: skip
    assert isinstance(fails("releases", "rollback"), PointerRefused)


def test_a_trial_is_announced_and_ended(releases: tuple[str, str]) -> None:
    """A candidate's share is announced and shown; a rollback ends the trial first."""
    first, second = releases
    run("releases", "promote", first)
    run("releases", "promote", second, "--share", "0.2")
    rows = json.loads(run("releases", "list", "--json"))["releases"]
    assert {row["release_id"]: (row["role"], row["share"]) for row in rows} == {
        first: ("current", 0.8),
        second: ("candidate", 0.2),
    }
    assert f"{second} is taken back; {first} serves all." in run("releases", "rollback")
    assert [(one.action, one.release_id, one.share) for one in announcements()] == [
        ("promote", first, 0.0), ("candidate", second, 0.2), ("rollback", first, 0.0),
    ]  # fmt: skip


def test_show_says_all_about_a_release(environment: Mapping[str, str], tmp_path: Path) -> None:
    """Parts, samples, the gate's numbers and forgotten shoppers stand on the page and in JSON."""
    figure = Figure(value=0.81, low=0.79, high=0.83, cases=400)
    gain = Figure(value=0.02, low=0.005, high=0.04, cases=400)
    compared = Comparison(metric="accuracy", candidate=figure, current=figure, difference=gain)
    decision = GateDecision(
        part="sentiment", passed=True, rule="gain", reasons=(), candidate="new", current="old",
        primary=compared, test_slice=TestSlice(first="2025-03-01", last="2025-03-08", cases=400),
        false_pass_rate=0.025, decided_at="2025-03-09",
    )  # fmt: skip
    data = TrainedOn(kind="review", samples=900, shoppers=2, first="2025-01-01", last="2025-02-28")
    shoppers = {name: datetime(2025, 1, 1, tzinfo=UTC) for name in ("anna", "bert")}
    write_tiny_release(
        tmp_path / "r", lineage_files={shoppers_file("sentiment"): encode_shoppers(shoppers)},
        gate=[decision], data={"sentiment": data}, metrics={"accuracy": 0.81},
    )  # fmt: skip
    release_id = json.loads(run("releases", "publish", str(tmp_path / "r"), "--json"))["release_id"]
    run("releases", "promote", release_id)
    store = ReleaseStore(environment["SHOPSTREAM_RELEASES_URL"])
    mark_releases(store, {shopper_mark("bert"): datetime(2025, 3, 1, tzinfo=UTC)})
    page = run("releases", "show")
    for part in (
        release_id, "current", "accuracy: 0.8100 -> 0.8100", "0.0200 [0.0050, 0.0400]", "900",
        "1 shopper(s) forgotten", shopper_mark("bert"), "2.5%",
    ):  # fmt: skip
        assert part in " ".join(page.split()), part
    shown: dict[str, Any] = json.loads(run("releases", "show", release_id, "--json"))
    assert shown["forgotten"] == {"sentiment": [shopper_mark("bert")]}
    assert shown["manifest"]["gate"][0]["primary"]["difference"]["low"] == 0.005
    (row,) = json.loads(run("releases", "list", "--json"))["releases"]
    assert (row["gate"], row["forgotten_shoppers"]) == ("passed", 1)


def test_what_is_not_there_is_not_promoted(releases: tuple[str, str]) -> None:
    """A release that the store lacks moves nothing and is named."""
    error = fails("releases", "promote", "tiny-shop-000000000000")
    assert isinstance(error, ReleaseMissing)
    assert announcements() == []


def test_a_lost_kafka_is_said(releases: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Kafka the pointer moves, the sentence says who was not told, and again mends it."""
    first, _ = releases
    with monkeypatch.context() as patch:
        patch.setenv("SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        assert isinstance(fails("releases", "promote", first), NotAnnounced)
    assert json.loads(run("releases", "show", "--json"))["release_id"] == first
    run("releases", "promote", first)
    assert [one.release_id for one in announcements()] == [first]


def test_a_missing_topic_is_created_before_anything_moves(
    releases: tuple[str, str], monkeypatch: pytest.MonkeyPatch, names: Names
) -> None:
    """Where nobody made the topics yet a promotion makes that of releases, and is whole."""
    first, _ = releases
    monkeypatch.setenv("SHOPSTREAM_INTERNAL_TOPIC_PREFIX", f"{names.internal_prefix}fresh-")
    run("releases", "promote", first)
    assert [one.release_id for one in announcements()] == [first]


def test_a_topic_that_cannot_be_made_leaves_the_pointer(
    releases: tuple[str, str], monkeypatch: pytest.MonkeyPatch, names: Names
) -> None:
    """A broker that refuses the topic ends a promotion before the key has moved."""
    first, second = releases
    run("releases", "promote", first)
    with monkeypatch.context() as patch:
        patch.setenv("SHOPSTREAM_INTERNAL_TOPIC_PREFIX", f"{names.internal_prefix}fresh-")
        patch.setenv("SHOPSTREAM_KAFKA_REPLICATION_FACTOR", "9")
        assert isinstance(fails("releases", "promote", second), TopicsUnfit)
    assert json.loads(run("releases", "show", "--json"))["release_id"] == first


def test_a_trunk_becomes_a_release(environment: Mapping[str, str], tmp_path: Path) -> None:
    """A hub folder and a head are published as one release that loads."""
    trunk = write_tiny_trunk(tmp_path / "shop-bert")
    said = run("releases", "publish", str(trunk), "--name", "shop")
    release_id = said.split()[0]
    assert release_id.startswith("shop-")
    folder = ReleaseStore(environment["SHOPSTREAM_RELEASES_URL"]).fetch(release_id)
    assert (folder / "model.safetensors").read_bytes() == (trunk / "model.safetensors").read_bytes()
