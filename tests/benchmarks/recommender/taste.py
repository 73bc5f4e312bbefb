"""Of what knowing every taste would gain over popularity: the share that recommenders reach."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from models.metrics import Estimate, statistic_estimate
from models.recommendation.shopper import Recommender
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.text_encoder import TextEncoder
from tests.benchmarks.figures import print_figure
from tests.benchmarks.recommender.learnt import train_on
from tests.benchmarks.recommender.simulated import K, World, make_world

Triple = tuple[float, float, float]  # of a case: popularity, the recommender, the oracle


def run(seeds: int, events: int) -> None:
    """Print the shares for the recommender without training and for the learnt one."""
    trunk = TextEncoder.load("", max_tokens=128)
    for seed in range(1, seeds + 1):
        world = make_world(seed, events, trunk)
        print(f"taste: shop {seed} with {events:,} events", file=sys.stderr)
        for name, recommender in systems(world, seed):
            show("taste_history_gain", history_cases(world, recommender), name, seed)
            show("taste_search_gain", search_cases(world, recommender), name, seed)


def systems(world: World, seed: int) -> Iterator[tuple[str, Recommender]]:
    """Yield the recommender without training, then the one trained on these histories."""
    yield "similarity", SimilarityRecommender()
    yield "learnt", train_on(world, seed)


def known_users(world: World) -> list[str]:
    """Return today's shoppers who have bought something."""
    return [
        shopper.user_id
        for shopper in world.shop.shoppers
        if any(e.kind == "purchase" for e in world.histories.get(shopper.user_id, ()))
    ]


def history_cases(world: World, recommender: Recommender) -> list[Triple]:
    """Return the mean true utility of the ten recommended from the history alone."""
    shoppers = [world.shopper(user_id) for user_id in known_users(world)]
    cases = []
    for shopper, ours in zip(shoppers, world.lists(recommender, shoppers), strict=True):
        worth = world.shop.true_utilities(world.shop.shopper(shopper.user_id))
        best = sorted(world.allowed(shopper), key=lambda p: -worth[p])[:K]
        cases.append(
            tuple(
                world.utility(shopper.user_id, some)
                for some in (world.popular(shopper), ours, best)
            )
        )
    return cases  # type: ignore[return-value]


def search_cases(
    world: World, recommender: Recommender, users: Sequence[str] | None = None
) -> list[Triple]:
    """Return the chance of a purchase from the ten recommended right after a search."""
    wishes = {user_id: world.wish(user_id) for user_id in users or known_users(world)}
    shoppers = [world.shopper(user_id, event) for user_id, (_, event) in wishes.items()]
    cases = []
    for shopper, ours in zip(shoppers, world.lists(recommender, shoppers), strict=True):
        user_id, (wish, _) = shopper.user_id, wishes[shopper.user_id]
        each = {p: world.purchase_chance(user_id, wish, [p]) for p in world.allowed(shopper)}
        best = sorted(each, key=lambda p: -each[p])[:K]
        cases.append(
            tuple(
                world.purchase_chance(user_id, wish, some)
                for some in (world.popular(shopper), ours, best)
            )
        )
    return cases  # type: ignore[return-value]


def gain_share(cases: Sequence[Triple]) -> Estimate:
    """Return (recommender - popularity) / (oracle - popularity) of the means, by bootstrap."""
    table = np.array(cases)

    def share(rows: np.ndarray) -> float:
        popular, ours, best = table[rows].mean(axis=0)
        return float((ours - popular) / (best - popular))

    return statistic_estimate(share, len(table))


def show(figure: str, cases: Sequence[Triple], system: str, seed: int) -> None:
    """Print a share with the means it is made of."""
    estimate = gain_share(cases)
    popular, ours, best = np.array(cases).mean(axis=0)
    print_figure(
        figure,
        estimate.value,
        "share of the possible gain over popularity",
        system=system,
        interval=[round(estimate.low, 4), round(estimate.high, 4)],
        cases=estimate.cases,
        popularity=round(float(popular), 4),
        reached=round(float(ours), 4),
        oracle=round(float(best), 4),
        seed=seed,
    )
