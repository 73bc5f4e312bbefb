"""The trunk through the retraining job: with the head that reads it, guarded, killed, forgotten."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.learnt.files import load_recommender, save_recommender
from models.recommender import RecommenderConfig, RecommenderNetwork
from models.release import open_trunk, same_trunk, write_manifest
from models.releases.folder import PRODUCT_VECTORS, parts_of
from models.releases.publish import publish_folder
from models.releases.store import ReleaseStore
from models.search.product_vectors import load_product_vectors
from models.text.sentiment import load
from models.text_encoder import TextEncoder
from tests.support.planted_trunk import (
    PRODUCTS,
    deafen,
    make_answers,
    make_purchases,
    make_searches,
    write_products,
)
from tests.support.review_samples import export, forget, make_reviews
from tests.support.tiny_release import write_tiny_head
from tests.support.tiny_trunk import write_tiny_trunk
from training.data.rows import ReadReport
from training.dataset import Row
from training.evaluation.evaluate_search import read_catalogue
from training.gate import GateOptions
from training.job.options import JobOptions
from training.job.run import JobFailed, JobHooks, JobReport, run_job
from training.loop.options import LoopOptions
from training.parts.part import PartContext, TrainablePart
from training.parts.recommender_part import RecommenderPart
from training.parts.sentiment_part import SentimentPart
from training.parts.trunk_part import TrunkPart, TrunkTraining
from training.recommender.train import RecommenderTraining
from training.tasks.train_sentiment import SentimentTraining
from worker.flow.loading import load_release
from worker.settings import Settings

MAX_TOKENS = 32
TRAINING = TrunkTraining(head_steps=20, loop=LoopOptions(learning_rate=3e-3, epochs=16))


class DeafPart(TrunkPart):
    """Trains well, and then can no longer tell apart the words that reviews are made of."""

    def train(
        self, context: PartContext, rows: Sequence[Row], start: Path | None, out: Path
    ) -> dict[str, Any]:
        """Train, and damage what was trained."""
        figures = super().train(context, rows, start, out)
        conventions = open_trunk(out)
        deafen(out)
        write_manifest(out, name=conventions.name, pooling=conventions.pooling)
        (out / PRODUCT_VECTORS / "vectors.safetensors").unlink()
        self._write_vectors(context.load_trunk(out), self._products(rows), out / PRODUCT_VECTORS)
        return figures


@dataclass
class Shop:
    """A store with a base release, samples of every kind, and what the job does to them."""

    store: ReleaseStore
    options: JobOptions
    current: str
    promoted: list[str] = field(default_factory=list)

    def run(self, kind: type[TrunkPart] | None = TrunkPart, **changes: Any) -> JobReport:
        """Run the job once, without a trunk where `kind` is None; what it promotes is current."""
        sentiment = SentimentPart(SentimentTraining(epochs=20, learning_rate=8e-3))
        training = changes.pop("training", TRAINING)
        options = replace(self.options, **changes)
        parts: list[TrainablePart] = [sentiment]
        if kind is not None:
            assert options.products is not None
            parts.append(kind(options.products, (sentiment,), training))
        hooks = JobHooks(lambda: None, self._promote)
        return run_job(options, self.store, self.current, parts, hooks)

    def _promote(self, release_id: str, instead_of: str) -> None:
        assert instead_of == self.current
        self.promoted.append(release_id)
        self.current = release_id


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trunk for all shops of this file."""
    return write_tiny_trunk(tmp_path_factory.mktemp("trunk") / "tiny-shop")


@pytest.fixture
def shop(trunk: Path, tmp_path: Path) -> Shop:
    """A shop whose base release has an untrained trunk and head, and samples of 400 hours."""
    torch.manual_seed(0)
    store = ReleaseStore(tmp_path / "store")
    (tmp_path / "room").mkdir()
    head = write_tiny_head(tmp_path / "head")
    base = publish_folder(store, trunk, tmp_path / "room", heads={"sentiment": head})
    samples = tmp_path / "samples"
    export(samples, [*make_searches(400), *make_answers(400), *make_reviews(400)])
    products = write_products(samples / "products.jsonl")
    options = JobOptions(
        samples,
        tmp_path / "work",
        products,
        min_train=100,
        min_new=20,
        max_tokens=MAX_TOKENS,
        gate=GateOptions(min_cases=60),
    )
    return Shop(store, options, base)


def guards_of(report: JobReport) -> dict[str, bool]:
    """Return guard -> whether it held, of the first decision."""
    return {one.metric: one.passed for one in report.decisions[0].guards}


def test_a_better_trunk_is_released_with_all_that_reads_it(shop: Shop) -> None:
    """The trunk learns searches and answers; its head and its product vectors come along."""
    base = shop.current
    report = shop.run()
    (decision,) = report.decisions
    assert (decision.part, decision.passed) == ("trunk", True), decision.reasons
    assert decision.primary is not None
    assert decision.primary.metric == "ndcg@10"
    assert decision.primary.candidate.value > decision.primary.current.value + 0.1
    assert {
        "search ndcg@10", "search hr@10", "answers ndcg@10", "answers mrr", "answers p@1",
        "language (less loss)", "sentiment accuracy", "sentiment macro_f1",
        "sentiment calibration",
    } <= guards_of(report).keys()  # fmt: skip
    assert report.skipped == {"sentiment": "it was trained with the new trunk"}
    assert report.release_id is not None
    assert shop.promoted == [report.release_id]
    manifest = shop.store.manifest(report.release_id)
    assert manifest.parents == (base,)
    assert manifest.data["trunk"].kind == "answer and search"
    assert manifest.data["sentiment"].kind == "review"
    folder = shop.store.fetch(report.release_id)
    encoder = TextEncoder.load(folder, device="cpu", max_tokens=MAX_TOKENS)
    weights = encoder.trunk_release.weights_checksum
    assert load(parts_of(folder).heads["sentiment"]).trunk_weights == weights
    known = load_product_vectors(folder / PRODUCT_VECTORS, encoder)
    assert known is not None
    assert len(known) == len(PRODUCTS)
    text = PRODUCTS["p-red-shoe"]
    fresh = encoder.encode(encoder.tokenize([text], "passage")).vectors[0]
    assert np.allclose(known.find([text])[0], fresh, atol=1e-3)
    again = shop.run()
    assert again.release_id is None
    assert "0 new samples" in again.skipped["trunk"]
    assert "0 new samples" in again.skipped["sentiment"]


def test_poisoned_searches_are_refused(shop: Shop) -> None:
    """A trunk that learnt purchases of anything but what was meant does not pass, nor its head."""
    shop.run()
    current = shop.current
    poisoned = make_searches(500, first=400, seed=2, shuffled=True)
    export(shop.options.samples, [*poisoned, *make_searches(200, first=900, seed=3)])
    report = shop.run()
    (decision,) = report.decisions
    assert (decision.part, decision.passed) == ("trunk", False)
    assert "does not lie above 0" in decision.reasons[0]
    assert (report.release_id, shop.current) == (None, current)
    assert len(shop.store.ids()) == 2


def test_a_trunk_that_ruins_sentiment_is_stopped(shop: Shop) -> None:
    """Better search does not pay for reviews that are no longer understood: nothing is released."""
    assert shop.run(None).release_id is not None
    current = shop.current
    report = shop.run(DeafPart, force=True)
    trunk = report.decisions[0]
    assert trunk.part == "trunk"
    assert trunk.primary is not None
    assert trunk.primary.difference.low > 0
    assert not trunk.passed
    assert guards_of(report)["sentiment accuracy"] is False
    assert any("sentiment accuracy falls by" in reason for reason in trunk.reasons)
    assert "trunk" not in shop.store.manifest(shop.current).data
    assert shop.current == current or shop.store.manifest(shop.current).parents == (current,)


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


@pytest.mark.parametrize("moves", [2, 3])
def test_a_job_killed_again_and_again_ends_its_work(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Killed before every second or third renaming, each job goes on, and one release comes out."""
    short = replace(TRAINING, loop=replace(TRAINING.loop, epochs=6))
    left = 0

    def killing(move: Any) -> Any:
        def count(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return move(*arguments, **more)

        return count

    base, kills, report = shop.current, 0, None
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killing(Path.rename))
        patch.setattr(os, "replace", killing(os.replace))
        while not shop.promoted:
            left = moves
            assert kills < 20
            try:
                report = shop.run(training=short)
            except Killed:
                kills += 1
            for release_id in shop.store.ids():
                shop.store.fetch(release_id)
    assert kills >= 3
    last = shop.run(training=short)
    assert last.release_id is None
    assert sorted(shop.store.ids()) == sorted({base, shop.current})
    assert len(shop.promoted) == 1
    assert report is None or report.went_on
    assert not (shop.options.work / "run").exists()


def test_a_forgotten_shopper_leaves_the_trunk(shop: Shop) -> None:
    """The next trunk begins at the one that has seen no samples, and learns without the shopper."""
    shop.run()
    known = shop.current
    export(shop.options.samples, [forget("user-5", hour=10_000)])
    export(shop.options.samples, [*make_searches(200, first=400, seed=1)])
    report = shop.run(force=True)
    assert report.marked == {known: 1}
    trunk = report.decisions[0]
    assert (trunk.part, trunk.rule) == ("trunk", "no-loss")
    manifest = shop.store.manifest(shop.current)
    if trunk.passed:
        assert not manifest.data["trunk"].warm_start
    else:
        assert "interval does not lie above" in trunk.reasons[0]


def test_changed_products_renew_the_vectors_of_a_release(shop: Shop) -> None:
    """A release that brings vectors brings those of the newest catalogue, also for a new head."""
    shop.run()
    assert shop.options.products is not None
    with shop.options.products.open("a", encoding="utf-8") as file:
        file.write('{"product_id": "new", "title": "good shoe"}\n')
    export(shop.options.samples, make_reviews(600, first=400, seed=9))
    no_gain_needed = GateOptions(rule="no-loss", margin=0.5, min_cases=60)
    report = shop.run(gate=no_gain_needed)
    assert [one.part for one in report.decisions] == ["sentiment"]
    assert report.release_id is not None
    folder = shop.store.fetch(report.release_id)
    encoder = TextEncoder.load(folder, device="cpu", max_tokens=MAX_TOKENS)
    vectors = load_product_vectors(folder / PRODUCT_VECTORS, encoder)
    assert vectors is not None
    products = list(read_catalogue(shop.options.products, ReadReport()))
    assert len(vectors.find([one.text for one in products])) == len(PRODUCTS) + 1


def test_without_what_its_head_needs_a_trunk_is_not_trained(shop: Shop, tmp_path: Path) -> None:
    """A trunk whose head could not follow is left alone, and the report says what is missing."""
    samples = tmp_path / "no-reviews"
    export(samples, [*make_searches(400), *make_answers(400), *make_reviews(40)])
    write_products(samples / "products.jsonl")
    with pytest.raises(JobFailed, match="trained anew: 40 samples are too few: 160 are needed"):
        shop.run(samples=samples, products=samples / "products.jsonl")
    assert shop.promoted == []


def test_a_recommender_that_reads_the_trunk_follows_it(
    shop: Shop, trunk: Path, tmp_path: Path
) -> None:
    """A recommender of text vectors is trained anew on the new trunk, judged, and loads with it."""
    network: dict[str, Any] = {"width": 16, "blocks": 1, "heads": 1, "hidden": 16, "dropout": 0.0}
    config = RecommenderConfig(items=len(PRODUCTS), text_width=32, **network)
    untrained = RecommenderNetwork(config).eval()
    bound_to = {"trunk": open_trunk(trunk).content_id}
    save_recommender(tmp_path / "recommender", untrained, list(PRODUCTS), bound_to)
    base = publish_folder(
        shop.store, trunk, tmp_path / "room-2", name="whole", recommender=tmp_path / "recommender"
    )
    export(shop.options.samples, make_purchases(100))
    assert shop.options.products is not None
    recommender = RecommenderPart(
        shop.options.products,
        RecommenderTraining(epochs=30, learning_rate=2e-2, warmup_steps=10),
        **network,
    )
    part = TrunkPart(shop.options.products, (recommender,), TRAINING)
    options = replace(shop.options, gate=GateOptions(min_cases=60, guard_limit=0.1))
    hooks = JobHooks(lambda: None, lambda new, old: None)
    report = run_job(options, shop.store, base, [part, recommender], hooks)
    decision = report.decisions[0]
    assert decision.passed, decision.reasons
    assert "recommender hr@10" in guards_of(report)
    assert report.skipped == {"recommender": "it was trained with the new trunk"}
    assert report.release_id is not None
    folder = shop.store.fetch(report.release_id)
    lineage = load_recommender(folder / "recommender").lineage
    assert same_trunk(str(lineage["trunk"]), open_trunk(folder).content_id)
    assert not same_trunk(str(lineage["trunk"]), bound_to["trunk"])
    settings = Settings(model="null", device="cpu", max_text_tokens=MAX_TOKENS)
    assert load_release(settings, folder).models.release == report.release_id
