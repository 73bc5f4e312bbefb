"""`shopstream train recommender`: from a file to a folder that serves and is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from models.learnt.files import load_recommender
from models.text_encoder import TextEncoder
from tests.support.planted_shop import planted_sequences
from tests.support.tiny_trunk import write_tiny_trunk
from training.data.interaction_columns import InteractionsError
from training.recommender.checkpoint import CheckpointUnfit
from training.recommender.sequences.event_sequences import UnfitTrainingData
from worker.commands import shopstream

SMALL = (
    "--width", "16", "--blocks", "1", "--heads", "1", "--hidden", "16", "--max-events", "12",
    "--dropout", "0.1", "--epochs", "8", "--min-steps", "0", "--batch-tokens", "300",
    "--learning-rate", "0.01", "--warmup-steps", "5", "--average-decay", "0.9", "--threads", "1",
    "--cpu",
)  # fmt: skip


@pytest.fixture
def interactions(tmp_path: Path) -> Path:
    """200 shoppers who mostly buy p(i + 1) after p(i), a day apart."""
    sequences = planted_sequences()
    lines = ["user_id,item_id,timestamp"]
    for shopper, start in enumerate(sequences.offsets[:-1]):
        rows = sequences.inputs[start : sequences.offsets[shopper + 1]]
        lines += [
            f"u{shopper},p{row},{1_600_000_000 + 86_400 * day}" for day, row in enumerate(rows)
        ]
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(shopstream, ["train", "recommender", *map(str, arguments)])


def test_a_file_becomes_a_recommender_that_evaluation_reads(
    interactions: Path, tmp_path: Path
) -> None:
    """Training's own test figure is what `evaluate recommendations` finds for its folder."""
    out = tmp_path / "recommender"
    asked = ("--interactions", interactions, "--out", out, "--protocol", "leave-one-out")
    done = run(*asked, *SMALL, "--keep-seen", "--json")
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["figures"]["test"]["cases"] == 200
    assert told["figures"]["test"]["ndcg@10"] > 0.6
    assert "2,400 interactions" in done.stderr
    loaded = load_recommender(out)
    assert len(loaded.item_ids) == 40
    assert loaded.lineage["training"]["seed"] == 7
    evaluated = CliRunner().invoke(
        shopstream,
        ["evaluate", "recommendations", "--interactions", str(interactions), "--release", str(out),
         "--keep-seen", "--json"],
    )  # fmt: skip
    assert evaluated.exit_code == 0, evaluated.output
    (found,) = json.loads(evaluated.stdout)["systems"]
    metrics = found["sections"][0]["metrics"]
    assert metrics["ndcg@10"]["value"] == pytest.approx(
        told["figures"]["test"]["ndcg@10"], abs=5e-3
    )


def test_finished_training_resumes_to_the_same(interactions: Path, tmp_path: Path) -> None:
    """Resuming a training that is over trains nothing more; without a checkpoint it is refused."""
    asked = ("--interactions", interactions, "--out", tmp_path / "r", *SMALL, "--json")
    refused = run(*asked, "--resume")
    assert isinstance(refused.exception, CheckpointUnfit)
    first, again = run(*asked), run(*asked, "--resume")
    assert again.exit_code == 0, again.output
    steps = [json.loads(done.stdout)["figures"]["steps"] for done in (first, again)]
    assert steps[0] == steps[1]
    other = run(*asked, "--resume", "--seed", "8")
    assert isinstance(other.exception, CheckpointUnfit)
    assert "seed" in str(other.exception)


def test_wrong_use_and_bad_files_are_told(tmp_path: Path) -> None:
    """No source, two sources, an empty file and lonely events each get one clear sentence."""
    out = ("--out", tmp_path / "r", *SMALL)
    assert "give either" in run(*out).output
    empty = tmp_path / "empty.csv"
    empty.write_text("user_id,item_id\n", "utf-8")
    done = run("--interactions", empty, *out)
    assert isinstance(done.exception, InteractionsError)
    lonely = tmp_path / "lonely.txt"
    lonely.write_text("a x\nb y\nc z\n", "utf-8")
    done = run("--interactions", lonely, *out)
    assert isinstance(done.exception, UnfitTrainingData)
    assert "more history" in str(done.exception)
    assert run("--interactions", lonely, "--samples", tmp_path, *out).exit_code == 2


def test_samples_and_products_become_a_recommender_that_reads_texts(tmp_path: Path) -> None:
    """Exported samples train with the trunk's vectors of products and of what was searched for."""
    trunk = write_tiny_trunk(tmp_path / "trunk")
    products = tmp_path / "products.jsonl"
    products.write_text(
        "\n".join(
            json.dumps({"product_id": f"p{row}", "title": "red shoe" if row % 2 else "blue run"})
            for row in range(6)
        ),
        "utf-8",
    )
    rows = [
        {
            "sample_id": f"s{shopper}",
            "occurred_at": f"2025-03-{1 + shopper % 20:02}T12:00:00+00:00",
            "user": f"u{shopper}",
            "locale": None,
            "history": [
                {"kind": "search", "occurred_at_ms": 1_740_000_000_000 + shopper, "query": "red",
                 "product_ids": [], "stars": None},
                {"kind": "purchase", "occurred_at_ms": 1_740_100_000_000 + shopper, "query": None,
                 "product_ids": [f"p{shopper % 6}"], "stars": None},
            ],
            "next_products": [f"p{(shopper + 2) % 6}"],
            "label_keys": [f"l{shopper}"],
        }
        for shopper in range(60)
    ]  # fmt: skip
    folder = tmp_path / "samples" / "next-item" / "date=2025-03-01"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet")
    done = run(
        "--samples", tmp_path / "samples", "--products", products, "--model", trunk,
        "--out", tmp_path / "r", "--target", "visit", *SMALL, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "60 shoppers, 180 events, 6 items" in done.stderr
    config = load_recommender(tmp_path / "r").network.config
    assert (config.text_width, config.gap_buckets) == (32, 28)
    told = json.loads(done.stdout)
    assert told["data"] == ["samples", "products.jsonl"]
    assert told["trunk"] == TextEncoder.load(trunk).release
