"""A whole replay without a broker: its document, its page, its lines, and what it refuses."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import click
import pytest

from tests.support.recordings import write_recording
from worker.commands.replay_options import duration_s, moment_ms
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.replay.recordings.recording import NoRecording
from worker.replay.report.page import render, write_report
from worker.replay.report.summary import summary_lines
from worker.replay.run import run_replay
from worker.replay.sources import BadReplay, ReplayJob
from worker.settings import Settings

SETTINGS = Settings(model="null")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    shop = SimulatedShop(seed=3, product_count=40, shopper_count=6)
    events = [*shop.catalogue(), *itertools.islice(shop.events(rate=0.02), 120)]
    records = [
        (one.kind, one.key, one.value, int(one.occurred_at.timestamp() * 1000)) for one in events
    ]
    return write_recording(tmp_path / "recording", records, partitions=2)


async def test_a_comparison_makes_a_document_and_a_page(recorded: Path, tmp_path: Path) -> None:
    """Two arms give figures, a verdict, digests that come again, and one HTML page."""
    job = ReplayJob(
        events=recorded, releases=("current", "popularity"), variants=("few:search_count=3",),
        warm_up_share=0.1, command="shopstream replay …",
    )  # fmt: skip
    shown: list[int] = []
    document = await run_replay(SETTINGS, job, lambda done, total: shown.append(done))
    assert json.loads(json.dumps(document, allow_nan=False))["order"] == "time"
    assert shown[-1] == document["protocol"]["events"]
    assert document["recommendations"]["cases"] > 5
    assert len(document["verdict"]) == 2
    assert len(set(document["results_digest"].values())) == 3
    again = await run_replay(SETTINGS, job)
    assert again["results_digest"] == document["results_digest"]
    page = tmp_path / "out" / "report.html"
    write_report(document, page)
    text = page.read_text(encoding="utf-8")
    assert "popularity" in text
    assert "<svg" in text
    assert document["verdict"][0].split(":")[0] in text
    lines = list(summary_lines(document))
    assert any(line.startswith("recommendations\tndcg@10\tpopularity") for line in lines)
    alone = await run_replay(SETTINGS, ReplayJob(events=recorded))
    assert "nothing to compare" in render(alone)


async def test_what_does_not_fit_together_is_told(recorded: Path, tmp_path: Path) -> None:
    """No source, two of them, no batch records, the live prefix: each is told with what to do."""
    cases = (
        (ReplayJob(), BadReplay, "name one source"),
        (ReplayJob(events=recorded, from_topic=True), BadReplay, "name one source"),
        (ReplayJob(events=recorded, order="batches"), BadReplay, "--order time"),
        (ReplayJob(events=recorded, redis_prefix="shopstream"), BadReplay, "live workers"),
        (ReplayJob(events=tmp_path), NoRecording, "shopstream record"),
    )
    for job, error, words in cases:
        with pytest.raises(error, match=words):
            await run_replay(SETTINGS, job)


async def test_other_settings_than_recorded_are_told(recorded: Path) -> None:
    """A replay with settings that change results says which, and goes on."""
    manifest = recorded / "recording.json"
    facts = json.loads(manifest.read_text(encoding="utf-8"))
    facts["settings"] = {"search_count": 7, "model": "null"}
    manifest.write_text(json.dumps(facts), encoding="utf-8")
    document = await run_replay(SETTINGS, ReplayJob(events=recorded, warm_up_share=0.9))
    assert document["faults"]["other-settings"]["places"] == ["search_count was 7, is 20"]


def test_times_and_spans_are_read_or_refused() -> None:
    """Times need a zone, spans a unit that is known; anything else is wrong usage."""
    assert moment_ms("1970-01-01T00:00:01Z") == 1_000
    assert moment_ms(None) is None
    assert duration_s("36h") == 36 * 3_600
    assert duration_s("90") == 90
    for wrong in ("yesterday", "2025-01-01T00:00:00"):
        with pytest.raises(click.BadParameter):
            moment_ms(wrong)
    for wrong in ("soon", "0s", "-1d"):
        with pytest.raises(click.BadParameter):
            duration_s(wrong)
