"""A followed replay as a document: judged, beside other releases, resumed after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.text.null_encoder import NullEncoder
from models.text_encoder import Encodings, Tokens
from tests.support.live_run import SETTINGS, LiveRun
from worker.replay.comparing.journal import JournalUnfit
from worker.replay.report.page import render
from worker.replay.report.summary import summary_lines
from worker.replay.run import run_replay
from worker.replay.sources import BadReplay, ReplayJob

SEED = 2
MEASURED = ("recommendations", "search", "sentiment", "answers", "timeline", "off_policy")


class Killed(Exception):
    """The process ends here."""


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    live = LiveRun(tmp_path / "r")
    await live.run(SEED)
    return live.folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the texts of each call of the null trunk."""
    counts: list[int] = []
    plain = NullEncoder.encode

    def counting(
        self: NullEncoder, tokens: Sequence[Tokens], heads: Mapping[str, Sequence[int]] = {}
    ) -> Encodings:
        counts.append(len(tokens))
        return plain(self, tokens, heads)

    monkeypatch.setattr(NullEncoder, "encode", counting)
    return counts


async def test_the_live_run_is_judged(folder: Path) -> None:
    """Following batches gives the figures of the live run's own lists, each event once."""
    document = await run_replay(SETTINGS, ReplayJob(events=folder, warm_up_share=0.0))
    assert document["order"] == "batches"
    protocol, replayed = document["protocol"], document["replayed"]
    assert protocol["repeated_events"] > 0  # after crashes and races
    assert protocol["events"] + protocol["repeated_events"] < replayed["events"]  # less products
    assert protocol["judged_events"] == protocol["events"]
    assert document["recommendations"]["cases"] > 2
    assert document["search"]["searches"] > 20
    by_time = await run_replay(SETTINGS, ReplayJob(events=folder, order="time", warm_up_share=0.0))
    # In a batch with its shopper's forget request a search made no result.
    assert 0 <= by_time["search"]["searches"] - document["search"]["searches"] <= 2
    assert document["sentiment"]["cases"] == by_time["sentiment"]["cases"]
    assert any(line.startswith("search\tndcg@10\tlive") for line in summary_lines(document))
    assert "batch by batch" in render(document)


async def test_releases_are_asked_beside_the_live_run(folder: Path) -> None:
    """Named arms are judged on the same batches; one with the live models says what was live."""
    alone = await run_replay(SETTINGS, ReplayJob(events=folder))
    job = ReplayJob(
        events=folder, order="batches", releases=("same=current", "popularity"),
        variants=("few:recommendation_count=2",),
    )  # fmt: skip
    document = await run_replay(SETTINGS, job)
    assert [arm["name"] for arm in document["arms"]] == ["live", "same", "popularity", "few"]
    assert document["results_digest"]["live"] == alone["results_digest"]["live"]
    cells = document["recommendations"]["segments"]["all"]["recall@10"]
    assert cells["same"]["difference"]["value"] == 0
    assert cells["same"]["value"] == cells["live"]["value"]
    assert cells["few"]["difference"]["value"] < 0
    assert len(document["verdict"]) == 3
    assert "beside it same" in render(document)
    json.dumps(document, allow_nan=False)


async def test_a_followed_replay_goes_on_after_a_kill(
    folder: Path, tmp_path: Path, encoded: list[int]
) -> None:
    """Cut short at any point and run again it ends on the same document, asking nothing twice."""

    def job(journal: Path | None) -> ReplayJob:
        return ReplayJob(
            events=folder, order="batches", releases=("popularity",), journal=journal,
            warm_up_share=0.0,
        )  # fmt: skip

    whole = await run_replay(SETTINGS, job(None))
    texts = sum(encoded)
    journal = tmp_path / "journal"

    def kill(done: int, total: int) -> None:
        if done > total * 0.7:
            raise Killed

    with pytest.raises(Killed):
        await run_replay(SETTINGS, job(journal), kill)
    with journal.open("ab") as file:
        file.write(b"\x99\x00\x00\x00torn")
    encoded.clear()
    again = await run_replay(SETTINGS, job(journal))
    assert again["results_digest"] == whole["results_digest"]
    for name in MEASURED:
        assert again[name] == whole[name], name
    assert sum(encoded) < texts * 0.8
    with pytest.raises(JournalUnfit, match="other events"):
        await run_replay(SETTINGS, ReplayJob(events=folder, journal=journal))
    with pytest.raises(BadReplay, match="--journal"):
        await run_replay(SETTINGS, ReplayJob(events=folder, journal=journal, redis_prefix="beside"))


async def test_until_and_the_judged_span_hold_for_batches(folder: Path) -> None:
    """`--until` stops, `--judge-from` leaves out what only warms the state."""
    whole: dict[str, Any] = await run_replay(SETTINGS, ReplayJob(events=folder, warm_up_share=0.0))
    first_ms, last_ms = whole["protocol"]["first_ms"], whole["protocol"]["last_ms"]
    middle_ms = (first_ms + last_ms) // 2
    late = await run_replay(SETTINGS, ReplayJob(events=folder, judge_from_ms=middle_ms))
    assert late["results_digest"] == whole["results_digest"]
    assert 0 < late["protocol"]["judged_events"] < whole["protocol"]["judged_events"]
    early = await run_replay(SETTINGS, ReplayJob(events=folder, until_ms=middle_ms))
    assert early["replayed"]["events"] < whole["replayed"]["events"]
    assert early["protocol"]["last_ms"] < middle_ms
