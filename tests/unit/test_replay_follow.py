"""Following batch records: a run of two processes made here, and what a broken recording does."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.text_encoder import TextEncoder
from tests.support.live_run import SETTINGS, LiveRun
from tests.support.recordings import LAYOUT
from tests.support.tiny_trunk import write_tiny_trunk
from worker.replay.following.differences import Differences
from worker.replay.following.follower import Follower, FollowReport
from worker.replay.following.order import BatchOrder
from worker.replay.following.sample_check import SampleCheck
from worker.replay.recordings.faults import Faults, ReplayStopped
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.replay.report.summary import difference_text
from worker.settings import Settings
from worker.store.memory_store import MemoryStore


async def follow(
    folder: Path, faults: Faults, settings: Settings = SETTINGS
) -> tuple[FollowReport, MemoryStore, SampleCheck]:
    recording = Recording.open(folder, faults)
    store = MemoryStore()
    samples = SampleCheck(recording)
    follower = Follower(
        recording, BatchOrder(recording), store, Releases(settings), settings, "key"
    )
    return await follower.run(samples.add), store, samples


@pytest.mark.parametrize("seed", range(3))
async def test_a_followed_run_has_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """Whatever the batches, turns, crashes, races and places in the feed, all bytes agree."""
    live = LiveRun(tmp_path / "r")
    await live.run(seed)
    report, store, samples = await follow(live.folder, Faults("stop"))
    assert report.unconfirmed > 0
    assert live.races > 0
    assert isinstance(live.store, MemoryStore)
    found = Differences()
    keys = {*live.store.results(), *store.results()}
    for key in keys:
        found.compare(key, live.store.results().get(key), store.results().get(key))
    for product in {f"p{1000 + n}" for n in range(30)}:
        assert await live.store.sentiment(product) == await store.sentiment(product)
    assert found.equal == len(keys) > 100, found.examples
    compared = samples.compare()
    assert compared.is_equal, compared.examples
    assert compared.equal > 10
    assert not compared.only_replay


async def test_missing_events_stop_or_are_counted(tmp_path: Path) -> None:
    """A lost file of events is told by batch and offsets; with `skip` the rest is replayed."""
    live = LiveRun(tmp_path / "r")
    await live.run(1)
    folder = next((live.folder / LAYOUT.events[0]).iterdir())
    next(folder.glob("*.parquet")).unlink()
    with pytest.raises(ReplayStopped, match="missing-events"):
        await follow(live.folder, Faults("stop"))
    faults = Faults("skip")
    report, store, _ = await follow(live.folder, faults)
    assert faults.counts["missing-events"] > 0
    assert report.results > 0
    assert store.results()


async def test_a_release_that_is_gone_stops_or_is_counted(tmp_path: Path) -> None:
    """Batches of a release that cannot be had are named; skipped, they only change the state."""
    live = LiveRun(tmp_path / "r", release="long-gone")
    await live.run(1)
    with pytest.raises(ReplayStopped, match="long-gone"):
        await follow(live.folder, Faults("stop"))
    faults = Faults("skip")
    report, store, _ = await follow(live.folder, faults)
    assert faults.counts["release-gone"] == report.batches == report.unconfirmed
    assert not store.results()


def test_differences_say_how_far_apart_results_lie() -> None:
    """Numbers, order and items are told apart; `written_at` is no matter."""
    found = Differences()
    live = (
        b'{"version":"1","written_at":"now","items":[{"product_id":"p","score":0.5},'
        b'{"product_id":"r","score":0.25}]}'
    )
    turned = (
        b'{"version":"1","written_at":"now","items":[{"product_id":"r","score":0.251},'
        b'{"product_id":"p","score":0.25}]}'
    )
    found.compare("search:a", live, live.replace(b"now", b"then"))
    found.compare("search:b", live, live.replace(b"0.5", b"0.502"))
    found.compare("search:c", live, live.replace(b'"p"', b'"q"'))
    found.compare("query:c", live, turned)
    found.compare("search:d", live, None)
    found.compare("search:e", None, live)
    assert (found.equal, found.different) == (1, 3)
    assert (found.same_items, found.reordered, found.other_items) == (1, 1, 1)
    assert (found.only_live, found.only_replay) == (1, 1)
    assert found.scores == 5
    assert found.max_score_difference == pytest.approx(0.25)
    assert found.mean_score_difference == pytest.approx((0.002 + 0 + 0 + 0.25 + 0.001) / 5)
    assert found.mean_overlap == pytest.approx((1 + 1 / 3 + 1) / 3, abs=0.1)
    assert found.by_kind == {"search": 2, "query": 1}
    assert not found.is_equal


def test_other_labels_and_answers_are_other_results() -> None:
    """A tag with other probabilities says the same; with another label it does not."""
    found = Differences()
    tags = (
        b'{"version":"1","sentiment":"neutral","confidence":0.5,'
        b'"probabilities":{"negative":0.2,"neutral":0.5,"positive":0.3}}'
    )
    found.compare("tags:a", tags, tags.replace(b"0.2", b"0.21"))
    found.compare("tags:b", tags, tags.replace(b'"sentiment":"neutral"', b'"sentiment":"positive"'))
    answer = b'{"answered":true,"text":"yes","source":{"id":"p"},"confidence":0.75}'
    found.compare("answer:a", answer, answer.replace(b"0.75", b"0.5"))
    found.compare("answer:b", answer, answer.replace(b"yes", b"no"))
    assert (found.same_items, found.other_items) == (2, 2)
    assert found.max_score_difference == pytest.approx(0.25)
    assert found.mean_overlap is None


async def test_another_numeric_path_is_measured(tmp_path: Path) -> None:
    """A float32 run replayed in bfloat16 differs; the report says in what, by how much."""
    model = write_tiny_trunk(tmp_path / "trunk")
    live = LiveRun(tmp_path / "r", trunk=TextEncoder.load(model, device="cpu", dtype="float32"))
    await live.run(1)
    assert isinstance(live.store, MemoryStore)
    found = {}
    for dtype in ("float32", "bfloat16"):
        settings = Settings(model=str(model), device="cpu", dtype=dtype)  # type: ignore[arg-type]
        _, store, _ = await follow(live.folder, Faults("stop"), settings)
        found[dtype] = Differences()
        for key in {*live.store.results(), *store.results()}:
            found[dtype].compare(key, live.store.results().get(key), store.results().get(key))
    assert found["float32"].is_equal, found["float32"].examples[:1]
    other = found["bfloat16"]
    assert other.different > 50
    assert other.same_items + other.reordered + other.other_items == other.different
    assert other.same_items > 0
    assert 0 < other.mean_score_difference < other.max_score_difference < 0.5
    assert 0 < (other.mean_overlap or 0) <= 1
    assert "scores lie" in difference_text(other.as_json())
