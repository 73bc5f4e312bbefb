"""The lists of shoppers and samples in a release, and the marks of forgotten shoppers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.releases.manifest import ManifestUnreadable
from models.releases.notes import forgotten_in, mark_releases, note_refusals, refusals_of
from models.releases.shoppers import (
    decode_shoppers,
    encode_samples,
    encode_shoppers,
    is_among,
    merge_samples,
    merge_shoppers,
    shopper_mark,
    shoppers_file,
)
from models.releases.store import ReleaseStore
from tests.support.tiny_release import write_tiny_release

JANUARY, MARCH = datetime(2025, 1, 1, 23, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC)
TRAINED = {"kind": "review", "samples": 3, "shoppers": 2, "first": None, "last": None}


def test_shoppers_are_seven_bytes_each_without_their_names() -> None:
    """The list holds marks and days alone, in an order that tells nothing of the samples'."""
    content = encode_shoppers({"anna": MARCH, "bert": JANUARY})
    assert len(content) == 14
    assert content == encode_shoppers({"bert": JANUARY, "anna": MARCH})
    assert b"anna" not in content
    assert decode_shoppers(content) == {
        shopper_mark("anna"): (MARCH - datetime(1970, 1, 1, tzinfo=UTC)).days,
        shopper_mark("bert"): (JANUARY - datetime(1970, 1, 1, tzinfo=UTC)).days,
    }


def test_joined_lists_keep_the_oldest_day() -> None:
    """A shopper in both lists counts once, from the first sample on."""
    joined = merge_shoppers(encode_shoppers({"anna": MARCH}), encode_shoppers({"anna": JANUARY}))
    assert joined == encode_shoppers({"anna": JANUARY})


def test_samples_are_found_again() -> None:
    """A list tells its own samples from others, also when it is joined of two."""
    content = merge_samples(encode_samples(["a", "b"]), encode_samples(["b", "c"]))
    assert is_among(["a", "x", "c"], content).tolist() == [True, False, True]
    assert is_among(["a"], b"").tolist() == [False]
    assert len(content) == 24


def test_cut_lists_are_refused() -> None:
    """A list that lost bytes is no list."""
    with pytest.raises(ManifestUnreadable, match="cut"):
        decode_shoppers(b"12345678")
    with pytest.raises(ManifestUnreadable, match="cut"):
        is_among(["a"], b"123")


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    """A store with one release whose head was trained on anna (January) and bert (March)."""
    shoppers = encode_shoppers({"anna": JANUARY, "bert": MARCH})
    write_tiny_release(
        tmp_path / "r", lineage_files={shoppers_file("sentiment"): shoppers},
        data={"sentiment": TRAINED},
    )  # fmt: skip
    found = ReleaseStore(tmp_path / "store")
    found.publish(tmp_path / "r")
    return found


def test_a_release_is_marked_for_whom_it_knows(store: ReleaseStore) -> None:
    """Forgotten shoppers among the trained ones mark it; strangers and who came back do not."""
    (release_id,) = store.ids()
    february = datetime(2025, 2, 1, tzinfo=UTC)
    asked = {shopper_mark("carl"): february, shopper_mark("bert"): february}
    assert mark_releases(store, asked) == {}
    assert forgotten_in(store, release_id) == {}
    marked = mark_releases(store, {shopper_mark("anna"): february})
    assert marked == {release_id: {"sentiment": [shopper_mark("anna")]}}
    assert mark_releases(store, {}) == marked  # what is known stays known
    store.fetch(release_id)


def test_refused_candidates_are_remembered_to_a_limit(store: ReleaseStore) -> None:
    """The newest twenty refusals stand beside the release they were to replace."""
    from models.releases.gate_record import GateDecision, TestSlice

    (release_id,) = store.ids()
    assert refusals_of(store, release_id) == []
    for number in range(25):
        decision = GateDecision(
            part="sentiment", passed=False, rule="gain", reasons=(f"r{number}",), candidate="c",
            current=release_id, primary=None, false_pass_rate=0.025, decided_at="2025-03-01",
            test_slice=TestSlice(first=None, last=None, cases=1),
        )  # fmt: skip
        note_refusals(store, release_id, [decision])
    reasons = [decision.reasons[0] for decision in refusals_of(store, release_id)]
    assert reasons == [f"r{number}" for number in range(5, 25)]
