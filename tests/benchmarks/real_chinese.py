"""Chinese reviews and products through a worker on the bilingual encoder."""

from __future__ import annotations

import csv
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.metrics import evaluate_classification, mean_estimate, ndcg
from models.product_index import IndexedProduct, ProductIndex
from models.text.sentiment import LABELS
from tests.benchmarks.figures import print_figure, shared_file
from tests.benchmarks.live_shop import live_shop
from training.data.reviews import part_of
from worker.embedded.shop.records import SimulatedEvent, Wish
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.event import EventKind

ENCODER = "multilingual-e5-small-zh-en"
NEGATIVE, NEUTRAL, POSITIVE = range(3)


def run_chinese_reviews(most: int = 300) -> None:
    """Tags in Redis against the labels (0/1), on reviews that training held out."""
    model = str(shared_file("models", ENCODER))
    data = shared_file("data", "sentiment")
    sources = {
        "chnsenticorp": (data / "chnsenticorp" / "test.tsv", "text_a"),
        "shopping_reviews_zh": (data / "shopping_reviews_zh.csv", "review"),
    }
    with live_shop(model=model) as shop:
        for name, (path, field) in sources.items():
            rows = _held_out(_rows(path), field, most)
            # In the file's own form: its map of docs/maps is part of what is tried.
            file = shop.folder / f"{name}{path.suffix}"
            _write(file, rows)
            shop.send(file, EventKind.REVIEW, name)
            tags = [shop.lookup.tags(f"{name}-{n}") for n in range(2, len(rows) + 2)]
            if missing := tags.count(None):
                raise SystemExit(f"{missing} of {len(rows)} reviews of {name} have no tags")
            probabilities = np.array([[t.probabilities[x] for x in LABELS] for t in tags if t])
            truth = [POSITIVE if row["label"] == "1" else NEGATIVE for row in rows]
            _print_reviews(name, truth, probabilities)


def _print_reviews(name: str, truth: Sequence[int], probabilities: np.ndarray) -> None:
    neutral = float((probabilities.argmax(axis=1) == NEUTRAL).mean())
    # The labels know no neutral: the two they chose between are compared.
    signs = np.delete(probabilities, NEUTRAL, axis=1)
    signs = signs / signs.sum(axis=1, keepdims=True)
    report = evaluate_classification(
        [0 if label == NEGATIVE else 1 for label in truth], signs, ("negative", "positive")
    )
    share = truth.count(POSITIVE) / len(truth)
    for figure, estimate in (("accuracy", report.accuracy), ("macro_f1", report.macro_f1)):
        print_figure(
            f"{name}_{figure}", estimate.value, "share",
            peer=("always the commoner label", max(share, 1 - share)),
            interval=[estimate.low, estimate.high], cases=estimate.cases,
            called_neutral=round(neutral, 4), ece=round(report.ece.value, 4),
        )  # fmt: skip


def run_chinese_search(most: int = 300) -> None:
    """nDCG@10 of Chinese searches in Redis, by what the simulated shop knows to be relevant."""
    model = str(shared_file("models", ENCODER))
    simulated = SimulatedShop(locale="zh")
    catalogue = list(simulated.catalogue())
    searches = list(itertools.islice(_first_searches(simulated), most))
    with live_shop(model=model) as shop:
        shop.send_rows([event.content() for event in catalogue], EventKind.PRODUCT)
        time.sleep(2)  # the last vectors come back through the feed
        shop.send_rows([event.content() for event in searches], EventKind.SEARCH)
        results = [shop.lookup.search(event.event_id) for event in searches]
    index = _by_words(catalogue)
    empty = np.zeros((1, 1), dtype=np.float32)
    ours, theirs = [], []
    for event, result in zip(searches, results, strict=True):
        assert isinstance(event.truth, Wish)
        gains = simulated.true_relevance(event.truth)
        ours.append(ndcg([item.product_id for item in result.items] if result else [], gains, 10))
        hits = index.search([event.truth.text], empty, 10)[0]
        theirs.append(ndcg([hit.product_id for hit in hits], gains, 10))
    estimate = mean_estimate(ours)
    print_figure(
        "chinese_search_ndcg10_in_redis", estimate.value, "nDCG@10",
        peer=("BM25 alone, Chinese segmented", float(np.mean(theirs))),
        interval=[estimate.low, estimate.high], cases=estimate.cases, products=len(catalogue),
    )  # fmt: skip


def _first_searches(simulated: SimulatedShop) -> list[SimulatedEvent]:
    """Return the searches among the shop's first events, each wording once."""
    seen: dict[str, SimulatedEvent] = {}
    for event in itertools.islice(simulated.events(), 5_000):
        if event.kind is EventKind.SEARCH and isinstance(event.truth, Wish):
            seen.setdefault(event.truth.text, event)
    return list(seen.values())


def _by_words(catalogue: Sequence[SimulatedEvent]) -> ProductIndex:
    """Return an index of the products without vectors."""
    names = ("product_id", "title", "description", "category", "brand")
    fields = [event.content() for event in catalogue]
    index = ProductIndex(1)
    index.apply([IndexedProduct(**{name: one[name] for name in names}) for one in fields])
    return index


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        if path.suffix == ".tsv":
            return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        return list(csv.DictReader(lines))


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    with path.open("w", encoding="utf-8", newline="") as out:
        if path.suffix == ".tsv":
            out.writelines("\t".join(cells) + "\n" for cells in table)
        else:
            csv.writer(out).writerows(table)


def _held_out(rows: Sequence[dict[str, str]], field: str, most: int) -> list[dict[str, str]]:
    """Return rows that training held out, spread over the file, each text on one line."""
    held = [row | {field: " ".join(row[field].split())} for row in rows]
    held = [row for row in held if row[field] and part_of(row[field]) == "test"]
    return held[:: max(1, len(held) // most)][:most]
