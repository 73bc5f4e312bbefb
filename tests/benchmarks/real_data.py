"""The main job on public data: through Kafka, the worker and Redis, judged by what stands there.

    python -m tests.benchmarks.real_data [search sentiment grocery questions chinese-reviews …]

Starts the embedded broker and Redis and `shopstream worker`, sends the data with `shopstream
produce` and the maps of docs/maps, reads the results with the lookup client, prints one JSON line a
figure. Skips, saying so, where the optional data is absent.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.metrics import evaluate_classification, hit_rate, mean_estimate, ndcg
from models.text.sentiment import LABELS
from tests.benchmarks.figures import print_figure, shared_file
from tests.benchmarks.live_shop import live_shop
from tests.benchmarks.real_chinese import run_chinese_reviews, run_chinese_search
from tests.benchmarks.real_questions import run_questions
from training.data.reviews import part_of
from worker.events.event import EventKind

SPLIT_WEEK = 32


def run_search() -> None:
    """nDCG@10 of the ESCI slice's queries in Redis: all its products are the catalogue."""
    products = shared_file("data", "search", "esci-us", "ubi_ecommerce_products.json.gz")
    judged = json.loads(
        shared_file("data", "search", "esci-us", "esci_us_judgments.json").read_text()
    )
    queries = {row["query"]: row["ratings"] for row in judged["judgmentRatings"]}
    searches = [
        {
            "event_id": f"q{number}",
            "user_id": f"shopper-{number}",
            "occurred_at": "2026-02-01T00:00:00Z",
            "query": query,
        }
        for number, query in enumerate(queries)
    ]
    with live_shop() as shop:
        shop.send(products, EventKind.PRODUCT, "esci_products")
        time.sleep(2)  # the last vectors come back through the feed
        shop.send_rows(searches, EventKind.SEARCH)
        values = []
        for number, ratings in enumerate(queries.values()):
            result = shop.lookup.search(f"q{number}")
            ranked = [item.product_id for item in result.items] if result else []
            gains = {r["docId"]: float(r["rating"]) for r in ratings if float(r["rating"]) > 0}
            values.append(ndcg(ranked, gains, 10))
    estimate = mean_estimate(values)
    print_figure(
        "esci_ndcg10_in_redis",
        estimate.value,
        "nDCG@10",
        peer=("BM25, published with the data", 0.554),
        interval=[estimate.low, estimate.high],
        cases=estimate.cases,
    )


def run_sentiment() -> None:
    """Tags in Redis against the stars, on the Amazon reviews that training held out."""
    source = shared_file("data", "reviews", "amazon_musical_instruments_5core.jsonl.gz")
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["reviewText"] and part_of(row["reviewText"]) == "test"]
    with live_shop() as shop:
        file = shop.folder / "held_out.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        shop.send(file, EventKind.REVIEW, "amazon_reviews")
        truth, probabilities = [], []
        for row in rows:
            tags = shop.lookup.tags(f"{row['reviewerID']}-{row['asin']}")
            if tags is None:
                continue
            stars = row["overall"]
            truth.append(0 if stars <= 2 else 1 if stars < 4 else 2)
            probabilities.append([tags.probabilities[label] for label in LABELS])
    report = evaluate_classification(truth, np.array(probabilities), LABELS)
    majority = max(Counter(truth).values()) / len(truth)
    for name, estimate, peer in (
        ("amazon_sentiment_accuracy", report.accuracy, ("always positive", majority)),
        ("amazon_sentiment_macro_f1", report.macro_f1, ("always positive", 0.31)),
    ):
        interval = [estimate.low, estimate.high]
        print_figure(
            name, estimate.value, "share", peer=peer, interval=interval, cases=estimate.cases
        )


def run_grocery(households: int = 400) -> None:
    """HR@10 of the next basket after week 32, from the lists that stand in Redis then."""
    folder = ("data", "recommendation", "complete-journey")
    table = pq.read_table(shared_file(*folder, "transactions_weeks_01_40.parquet"))
    chosen = sorted(set(table["household_id"].to_pylist()))[:: max(1, 2469 // households)]
    table = table.filter(pc.is_in(table["household_id"], pc.cast(chosen, "int64")))
    past = table.filter(pc.less_equal(table["week"], SPLIT_WEEK))
    future = table.filter(pc.greater(table["week"], SPLIT_WEEK)).sort_by("transaction_timestamp")
    sold = set(past["product_id"].to_pylist())
    products = pq.read_table(shared_file(*folder, "products.parquet"))
    products = products.filter(pc.is_in(products["product_id"], pc.cast(list(sold), "int64")))
    baskets: dict[str, set[str]] = {}
    first: dict[int, int] = {}
    for row in future.select(["household_id", "basket_id", "product_id"]).to_pylist():
        if first.setdefault(row["household_id"], row["basket_id"]) == row["basket_id"]:
            baskets.setdefault(str(row["household_id"]), set()).add(str(row["product_id"]))
    counts = Counter(str(product) for product in past["product_id"].to_pylist())
    popular = [product for product, _ in counts.most_common(10)]
    with live_shop(model="null") as shop:
        pq.write_table(products, shop.folder / "products.parquet")
        ordered = past.sort_by([("transaction_timestamp", "ascending"), ("basket_id", "ascending")])
        pq.write_table(ordered, shop.folder / "past.parquet")
        shop.send(shop.folder / "products.parquet", EventKind.PRODUCT, "complete_journey_products")
        time.sleep(2)
        shop.send(shop.folder / "past.parquet", EventKind.PURCHASE, "complete_journey_purchases")
        ours, theirs = [], []
        for household, basket in baskets.items():
            result = shop.lookup.recommendations(household)
            ranked = [item.product_id for item in result.items] if result else []
            ours.append(hit_rate(ranked, basket, 10))
            theirs.append(hit_rate(popular, basket, 10))
    estimate = mean_estimate(ours)
    print_figure(
        "journey_next_basket_hr10",
        estimate.value,
        "HR@10",
        peer=("popularity", float(np.mean(theirs))),
        interval=[estimate.low, estimate.high],
        cases=estimate.cases,
    )


TASKS = {
    "search": run_search,
    "sentiment": run_sentiment,
    "grocery": run_grocery,
    "questions": run_questions,
    "chinese-reviews": run_chinese_reviews,
    "chinese-search": run_chinese_search,
}


def main() -> None:
    """Run the named tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(TASKS), choices=[*TASKS, []])
    for task in parser.parse_args().tasks or TASKS:
        TASKS[task]()


if __name__ == "__main__":
    main()
