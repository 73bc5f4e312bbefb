"""The recommender through the retraining job, judged by the lists the worker would serve."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from models.learnt.files import load_recommender, save_recommender
from models.recommender import RecommenderConfig, RecommenderNetwork
from models.releases.folder import parts_of
from models.releases.publish import publish_folder
from models.releases.store import ReleaseStore
from models.sample import HistoryItem, NextItemSample
from models.text.null_encoder import NullEncoder
from tests.support.review_samples import export
from tests.support.tiny_trunk import write_tiny_trunk
from training.gate import GateOptions
from training.job.options import JobOptions
from training.job.run import JobHooks, run_job
from training.parts.recommender_part import RecommenderPart
from training.parts.shop_replay import shop_demand, shoppers_of
from training.recommender.train import RecommenderTraining

ITEMS, SHOPPERS, ORDERS = 40, 120, 5
NETWORK: dict[str, Any] = {"width": 16, "blocks": 1, "heads": 1, "hidden": 16, "dropout": 0.0}
START = datetime(2025, 1, 1, tzinfo=UTC)


def planted_purchases() -> list[NextItemSample]:
    """Return the samples of shoppers who walk through one fixed cycle of all items."""
    draw = Random(3)
    cycle = draw.sample(range(ITEMS), ITEMS)
    after = {one: cycle[(place + 1) % ITEMS] for place, one in enumerate(cycle)}
    found = []
    for shopper in range(SHOPPERS):
        item, moment = draw.randrange(ITEMS), START + timedelta(minutes=draw.randrange(60_000))
        history: list[HistoryItem] = []
        for order in range(ORDERS):
            if history:
                found.append(
                    NextItemSample(
                        sample_id=f"n{shopper}-{order}",
                        occurred_at=moment.isoformat(),
                        user=f"user-{shopper}",
                        history=list(history),
                        next_products=[f"item-{item}"],
                        label_keys=[f"l{shopper}-{order}"],
                    )
                )
            bought_ms = round(moment.timestamp() * 1000)
            history.append(
                HistoryItem(kind="purchase", occurred_at_ms=bought_ms, product_ids=[f"item-{item}"])
            )
            item, moment = after[item], moment + timedelta(hours=draw.randrange(1, 48))
    return found


def test_a_trained_recommender_replaces_a_random_one(tmp_path: Path) -> None:
    """The job trains on the past, wins on the newest purchases, and releases it beside the rest."""
    torch.manual_seed(0)
    config = RecommenderConfig(items=ITEMS, **NETWORK)
    items = [f"item-{number}" for number in range(ITEMS)]
    save_recommender(tmp_path / "random", RecommenderNetwork(config).eval(), items)
    store = ReleaseStore(tmp_path / "store")
    (tmp_path / "room").mkdir()
    base = publish_folder(
        store, write_tiny_trunk(tmp_path / "tiny"), tmp_path / "room",
        recommender=tmp_path / "random",
    )  # fmt: skip
    promoted: list[tuple[str, str]] = []
    options = JobOptions(
        export(tmp_path / "samples", planted_purchases()),
        tmp_path / "work",
        min_train=100,
        gate=GateOptions(min_cases=60),
    )
    part = RecommenderPart(
        None, RecommenderTraining(epochs=40, learning_rate=2e-2, warmup_steps=10), **NETWORK
    )
    hooks = JobHooks(lambda: None, lambda new, old: promoted.append((new, old)))
    report = run_job(options, store, base, [part], hooks)
    (decision,) = report.decisions
    assert decision.passed, decision.reasons
    assert decision.primary is not None
    assert decision.primary.metric == "hr@10"
    assert decision.primary.candidate.value > 0.9 > decision.primary.current.value
    assert report.release_id is not None
    assert promoted == [(report.release_id, base)]
    folder = parts_of(store.fetch(report.release_id)).recommender
    assert folder is not None
    assert sorted(load_recommender(folder).item_ids) == sorted(items)
    data = store.manifest(report.release_id).data["recommender"]
    assert (data.kind, data.warm_start) == ("next-item", False)
    # with nothing new to learn the same network is no gain: it stays unreleased
    again = run_job(replace(options, force=True), store, report.release_id, [part], hooks)
    assert again.release_id is None


def test_shoppers_and_demand_are_those_of_the_moment() -> None:
    """A sample's shopper knows what came before the purchase; demand counts as the worker does."""
    first, second = (
        sample.model_dump() for sample in planted_purchases()[:2]
    )  # of one shopper, one after the other
    (shopper,) = shoppers_of([second], NullEncoder())
    assert [event.product_ids[0] for event in shopper.events] == [
        item["product_ids"][0] for item in second["history"]
    ]
    assert all(event.occurred_at_ms < shopper.now_ms for event in shopper.events)
    demand = shop_demand([first, second], shopper.now_ms)
    popular = dict(demand.popular)
    assert popular[second["next_products"][0]] == pytest.approx(1.0)
    assert popular[first["next_products"][0]] < 1.0
    before, bought = first["history"][0]["product_ids"][0], first["next_products"][0]
    assert dict(demand.together[before])[bought] == 0.5
