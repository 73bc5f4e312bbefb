"""Cold starts with known taste: no history, one search, a product that nobody has bought."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from models.recommendation.shopper import Recommender
from models.text_encoder import TextEncoder
from tests.benchmarks.recommender.simulated import K, World, make_world
from tests.benchmarks.recommender.taste import Triple, known_users, search_cases, show, systems

NEWCOMERS = 200
NEW_PRODUCT_SHARE = 0.1
NEW_SHOWN = 3


def run(seeds: int, events: int) -> None:
    """Print the share of the possible gain for each cold start, over popularity (or chance)."""
    trunk = TextEncoder.load("", max_tokens=128)
    for seed in range(1, seeds + 1):
        world = make_world(seed, events, trunk, withheld_share=NEW_PRODUCT_SHARE)
        print(f"cold starts: shop {seed} with {events:,} events", file=sys.stderr)
        count = len(world.shop.shoppers)
        newcomers = [f"u{number:05d}" for number in range(count, count + NEWCOMERS)]
        for name, recommender in systems(world, seed):
            show("coldstart_no_history_gain", no_history(world, recommender, newcomers), name, seed)
            cases = search_cases(world, recommender, newcomers)
            show("coldstart_one_search_gain", cases, name, seed)
            show("coldstart_new_product_gain", new_products(world, recommender), name, seed)


def no_history(world: World, recommender: Recommender, users: Sequence[str]) -> list[Triple]:
    """Return the mean true utility for shoppers of whom nothing is known: popularity is par."""
    shoppers = [world.shopper(user_id) for user_id in users]
    cases = []
    for shopper, ours in zip(shoppers, world.lists(recommender, shoppers), strict=True):
        user_id = shopper.user_id
        if len(ours) < K:
            raise AssertionError(f"{user_id} got {len(ours)} of {K} products")
        worth = world.shop.true_utilities(world.shop.shopper(user_id))
        best = sorted(worth, key=lambda p: -worth[p])[:K]
        popular = world.utility(user_id, world.popular(shopper))
        cases.append((popular, world.utility(user_id, ours), world.utility(user_id, best)))
    return cases


def new_products(world: World, recommender: Recommender) -> list[Triple]:
    """Return the mean true utility of the three new products that stand highest for a shopper.

    New products are known by their text alone, so popularity says nothing of them: par is one drawn
    by chance, which also counts for each place that a recommender leaves empty.
    """
    shoppers = [world.shopper(user_id) for user_id in known_users(world)]
    cases = []
    ranked = world.lists(recommender, shoppers, k=len(world.shop.products))
    for shopper, listed in zip(shoppers, ranked, strict=True):
        worth = world.shop.true_utilities(world.shop.shopper(shopper.user_id))
        new = [worth[product] for product in world.withheld]
        chance = sum(new) / len(new)
        shown = [worth[product] for product in listed if product in world.withheld][:NEW_SHOWN]
        shown += [chance] * (NEW_SHOWN - len(shown))
        best = sorted(new, reverse=True)[:NEW_SHOWN]
        cases.append((chance, sum(shown) / NEW_SHOWN, sum(best) / NEW_SHOWN))
    return cases
