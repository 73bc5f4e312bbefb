"""Speed, recall and memory of retrieval over item vectors, beside a plain product and sort.

    python -m tests.benchmarks.bench_retrieval [--products 1000 100000 1000000] [--batch 64]

Item vectors are made: 40 directions of falling weight and noise of their own, 128 numbers, of
different lengths, as a network without cosine scores learns them; shopper vectors likewise. All
ways run in this process on the same vectors, in batches of `--batch` shoppers. Times are processor
times (set OMP_NUM_THREADS=1), which other work on the machine disturbs less. `retrieval_share_N`
is what finding `POOL` candidates (what the learnt recommender asks for) adds to the batch's own
model time: one pass of the default trunk over a query of each shopper and one of the
recommender's network over histories of `--events`, with what the reasons need.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from models.learnt.event_attribution import encode_with_parts
from models.learnt.history_batch import PURCHASE, HistoryBatch
from models.recommender import RecommenderConfig, RecommenderNetwork
from models.search.vector_index import EXACT_MAX_VECTORS, VectorIndex
from models.text_encoder import TextEncoder
from tests.benchmarks.figures import print_figure

WIDTH, DIRECTIONS = 128, 40
K, POOL = 10, 50
RUNS = 5
LOAD_AT_ONCE = 10_000
PLAIN_AT_ONCE = 8  # rows sorted at once, so that a million products fit in memory
SHARE_GOAL = 0.2

Vector = NDArray[np.float32]
Result = TypeVar("Result")


class Made:
    """Vectors of one seed."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)
        falling = 1 / np.sqrt(1 + np.arange(DIRECTIONS))
        directions = self._generator.standard_normal((DIRECTIONS, WIDTH))
        self._directions = (directions * falling[:, None]).astype(np.float32)

    def vectors(self, count: int) -> Vector:
        """Return vectors (n, D)."""
        shares = self._generator.standard_normal((count, DIRECTIONS), dtype=np.float32)
        noise = self._generator.standard_normal((count, WIDTH), dtype=np.float32)
        return shares @ self._directions + np.float32(0.3) * noise


def times_s(work: Callable[[], object], runs: int = RUNS) -> list[float]:
    """Return how much processor time each run took, after one that does not count."""
    work()
    return [timed(work)[1] for _ in range(runs)]


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return what the work gave, and the processor time it took in seconds."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def plain(items: Vector, shoppers: Vector, k: int) -> list[list[int]]:
    """Return the best `k` rows of each shopper by a product and a sort of all scores."""
    found: list[list[int]] = []
    for start in range(0, len(shoppers), PLAIN_AT_ONCE):
        scores = shoppers[start : start + PLAIN_AT_ONCE] @ items.T
        found.extend(np.argsort(-scores, axis=1)[:, :k].tolist())
    return found


def filled(items: Vector, exact_max: int) -> tuple[VectorIndex, float]:
    """Return an index of the vectors and how many seconds it took."""
    index = VectorIndex(WIDTH, exact_max_vectors=exact_max, unit=False)
    taken_s = 0.0
    for first in range(0, len(items), LOAD_AT_ONCE):
        load = [(str(first + row), v, True) for row, v in enumerate(items[first:][:LOAD_AT_ONCE])]
        taken_s += timed(lambda load=load: index.put(load))[1]
    return index, taken_s


def recall(found: list[list[tuple[str, float]]], expected: list[list[int]]) -> float:
    """Return the share of the expected rows that were found."""
    hits = [
        len({int(item_id) for item_id, _ in a} & set(b))
        for a, b in zip(found, expected, strict=True)
    ]
    return sum(hits) / sum(map(len, expected))


def model_time_s(batch: int, events: int) -> float:
    """Return the median time of trunk and network for a batch of shoppers."""
    trunk = TextEncoder.load("", device="cpu")
    tokens = trunk.tokenize([f"blue running shoes size {n}" for n in range(batch)], "query")
    config = RecommenderConfig(items=1_000, text_width=trunk.width, gap_buckets=32)
    network = RecommenderNetwork(config).eval()
    count = batch * events
    history = HistoryBatch(
        lengths=torch.full((batch,), events),
        kinds=torch.full((count,), PURCHASE),
        item_rows=torch.randint(1_000, (count,)),
        vectors=torch.randn(count, trunk.width),
        gaps_s=torch.full((count,), 3_600.0),
        stars=torch.zeros(count),
    )

    def work() -> None:
        with torch.inference_mode():
            trunk.encode(tokens)
            encode_with_parts(network, history)

    return float(np.median(times_s(work)))


def measure(count: int, batch: int, events: int, ways: Sequence[str]) -> None:
    """Print the figures of one number of products."""
    made = Made()
    items, shoppers = made.vectors(count), made.vectors(batch)
    expected, plain_s = timed(lambda: plain(items, shoppers, K))
    peer = ("matrix product and sort", batch / plain_s)
    served_s: list[float] = []
    model_s: float | None = None
    for way, exact_max in (("exact", count), ("graph", 0)):
        if way not in ways:
            continue
        index, built_s = filled(items, exact_max)
        taken = times_s(lambda index=index: index.nearest(shoppers, K))
        name = f"retrieval_{count}_{way}"
        print_figure(name, [batch / t for t in taken], "shoppers/s", peer=peer, batch=batch, k=K)
        lone = times_s(lambda index=index: index.nearest(shoppers[:1], K))
        print_figure(f"{name}_lone", [t * 1e3 for t in lone], "ms", k=K)
        print_figure(f"{name}_build", built_s, "s")
        print_figure(f"{name}_memory", index.memory_bytes / 2**20, "MB", width=WIDTH)
        found = recall(index.nearest(shoppers, K), expected)
        print_figure(f"{name}_recall10", found, "share", cases=batch)
        if (way == "exact") == (count <= EXACT_MAX_VECTORS):
            model_s = model_time_s(batch, events)
            served_s = times_s(lambda index=index: index.nearest(shoppers, POOL))
    if model_s is None:
        return
    label = "1m" if count == 1_000_000 else str(count)
    print_figure(
        f"retrieval_share_{label}",
        [t / model_s for t in served_s],
        "of the model time",
        goal=f"<= {SHARE_GOAL}",
        model_ms=round(model_s / batch * 1e3, 3),
        retrieval_ms=round(float(np.median(served_s)) / batch * 1e3, 3),
        batch=batch,
        history_events=events,
        candidates=POOL,
    )


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description="speed and recall of retrieval")
    parser.add_argument("--products", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=64, help="shoppers served at once")
    parser.add_argument("--events", type=int, default=50, help="events of a history")
    parser.add_argument("--ways", nargs="+", default=["exact", "graph"], help="which to measure")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    for count in arguments.products:
        measure(count, arguments.batch, arguments.events, arguments.ways)


if __name__ == "__main__":
    main()
