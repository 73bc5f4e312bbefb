"""Speed of the product index on made catalogues: loading, updates, searches, neighbours.

    python -m tests.benchmarks.bench_index [--products 10000 100000] [--batch 32]

Words follow Zipf's law (exponent 1, 100,000 words; 10 to a title, 30 to a description); a query has
one frequent, one middling and one rare word, or for the worst case nothing but the most frequent
ones. Times are of one thread where OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.product_index import IndexedProduct, ProductIndex
from tests.benchmarks.figures import print_figure

WIDTH = 384
VOCABULARY = 100_000
TITLE_WORDS, DESCRIPTION_WORDS = 10, 30
LOAD_AT_ONCE = 5_000
RUNS = 7
K = 20


def word(rank: int) -> str:
    """Return the made word of a rank: letters only, so that it is one token."""
    letters = "".join(chr(ord("a") + rank // 26**place % 26) for place in range(4))
    return f"{letters}o"


class MadeCatalogue:
    """Products of words by Zipf's law with random unit vectors; seeded."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)
        weights = 1 / np.arange(1, VOCABULARY + 1)
        self._cumulated = np.cumsum(weights / weights.sum())

    def products(self, first: int, count: int) -> list[IndexedProduct]:
        """Return products numbered from `first`."""
        words = self._generator.random((count, TITLE_WORDS + DESCRIPTION_WORDS))
        ranks = np.searchsorted(self._cumulated, words).tolist()
        vectors = self.vectors(count)
        return [
            IndexedProduct(
                f"p{first + row:08}",
                " ".join(map(word, ranks[row][:TITLE_WORDS])),
                " ".join(map(word, ranks[row][TITLE_WORDS:])),
                f"category{row % 200}",
                f"brand{row % 5_000}",
                vector=vectors[row],
            )
            for row in range(count)
        ]

    def vectors(self, count: int) -> NDArray[np.float32]:
        """Return random vectors (count, D)."""
        return self._generator.standard_normal((count, WIDTH), dtype=np.float32)

    def queries(self, count: int) -> list[str]:
        """Return queries of a frequent, a middling and a rare word."""
        ranks = self._generator.integers((5, 200, 5_000), (200, 5_000, 50_000), size=(count, 3))
        return [" ".join(map(word, row)) for row in ranks.tolist()]


def times_ms(work: Callable[[], object]) -> list[float]:
    """Return how long each run took."""
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def batches(catalogue: MadeCatalogue, count: int) -> Iterator[Sequence[IndexedProduct]]:
    """Yield `count` products in loads."""
    for first in range(0, count, LOAD_AT_ONCE):
        yield catalogue.products(first, min(LOAD_AT_ONCE, count - first))


def measure(count: int, batch: int) -> None:
    """Fill an index with `count` products and print its figures."""
    catalogue, index, loading = MadeCatalogue(), ProductIndex(WIDTH), 0.0
    for products in batches(catalogue, count):
        start = time.perf_counter()
        index.apply(products)
        loading += time.perf_counter() - start
    name = f"index_{count}"
    print_figure(f"{name}_load_rate", count / loading, "products/s")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print_figure(f"{name}_resident_memory", memory, "MB")

    changed = catalogue.products(0, 100)
    print_figure(
        f"{name}_update_time",
        [t / 100 for t in times_ms(lambda: index.apply(changed))],
        "ms/product",
    )
    vectors = catalogue.vectors(batch)
    per_query = [t / batch for t in times_ms(lambda: index.nearest(vectors, K))]
    print_figure(f"{name}_nearest_time", per_query, "ms/query", batch=batch)
    queries = catalogue.queries(batch)
    per_query = [t / batch for t in times_ms(lambda: index.search(queries, vectors, K))]
    print_figure(f"{name}_search_time", per_query, "ms/query", batch=batch)
    one = vectors[:1]
    common = " ".join(map(word, range(7)))
    for figure, query in (("common_word", word(3)), ("common_words", common)):
        taken = times_ms(lambda query=query: index.search([query], one, K))
        print_figure(f"{name}_search_{figure}_time", taken, "ms/query", batch=1)


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description="speed of the product index")
    parser.add_argument("--products", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--batch", type=int, default=32, help="queries searched at once")
    arguments = parser.parse_args()
    for count in arguments.products:
        measure(count, arguments.batch)


if __name__ == "__main__":
    main()
