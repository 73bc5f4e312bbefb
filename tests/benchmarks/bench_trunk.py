"""Speed of the text trunk beside sentence-transformers on the same texts, and whether bits hold.

    python -m tests.benchmarks.bench_trunk [--model FOLDER] [--texts 256] [--runs 5] [--threads 1]

The texts are those of a small shop: short queries, titles, reviews of one to six sentences, drawn
by a fixed seed. Tokens are counted without padding. The two take turns within each run, tokenizing
included, each with its own batching. Also: tokens a second of one query alone, the null trunk, and
the number of rows whose bits change when the batch around them changes (goal 0).
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from models.text.null_encoder import NullEncoder
from models.text_encoder import TextEncoder, TextTrunk
from tests.benchmarks.figures import print_figure

_OPENINGS = (
    "The {thing} arrived on time and",
    "I bought this {thing} for my sister,",
    "Honestly, the {thing}",
)
_VERDICTS = (
    "works exactly as described",
    "broke after two weeks",
    "feels cheap but does the job",
    "is loud",
)
_ENDS = (".", ", and I would buy it again.", ", so I sent it back.", " for the price.")
_THINGS = ("kettle", "guitar strap", "running shoe", "desk lamp", "usb cable", "rain jacket")


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of a shop: a third queries, the rest reviews of one to six sentences."""
    draw = random.Random(seed)

    def sentence() -> str:
        opening, middle, end = (draw.choice(part) for part in (_OPENINGS, _VERDICTS, _ENDS))
        return f"{opening.format(thing=draw.choice(_THINGS))} {middle}{end}"

    return [
        draw.choice(_THINGS)
        if number % 3 == 0
        else " ".join(sentence() for _ in range(draw.randint(1, 6)))
        for number in range(count)
    ]


def tokens_per_s(work: Callable[[], object], tokens: int) -> float:
    """Run `work` once and return tokens a second."""
    started_s = time.perf_counter()
    work()
    return tokens / (time.perf_counter() - started_s)


def changed_rows(trunk: TextTrunk, texts: Sequence[str], seed: int = 1) -> int:
    """Return how many rows have other bits when they stand alone or in a shuffled part."""
    draw = random.Random(seed)
    tokens = trunk.tokenize(texts, "passage")
    whole = trunk.encode(tokens).vectors
    changed: set[int] = set()
    order = draw.sample(range(len(texts)), len(texts))
    for start in range(0, len(order), 7):
        part = order[start : start + draw.randint(1, 7)]
        vectors = trunk.encode([tokens[row] for row in part]).vectors
        changed |= {
            row for row, vector in zip(part, vectors, strict=True)
            if vector.tobytes() != whole[row].tobytes()
        }  # fmt: skip
    return len(changed)


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    started_s = time.perf_counter()
    trunk = TextEncoder.load(options.model, threads=options.threads)
    trunk.warm_up()
    print_figure("trunk_start", time.perf_counter() - started_s, "s", model=trunk.release)
    texts = make_texts(options.texts)
    tokens = sum(len(row.ids) for row in trunk.tokenize(texts, "passage"))

    def ours() -> object:
        return trunk.encode(trunk.tokenize(texts, "passage")).vectors

    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        peer = None
    else:
        peer = SentenceTransformer(str(trunk.trunk_release.folder), device=str(trunk.device))
        peer.max_seq_length = trunk.max_tokens
    rates, peer_rates = [], []
    for _ in range(options.runs):
        rates.append(tokens_per_s(ours, tokens))
        if peer is not None:
            prefixed = [trunk.trunk_release.passage_prefix + text for text in texts]
            peer_rates.append(tokens_per_s(lambda: peer.encode(prefixed), tokens))  # noqa: B023
    where = {"device": str(trunk.device), "threads": torch.get_num_threads()}
    beside = ("sentence-transformers", float(np.median(peer_rates))) if peer_rates else None
    print_figure("trunk_tokens", rates, "tokens/s", peer=beside, model=trunk.release, **where)
    if beside:
        ratios = [a / b for a, b in zip(rates, peer_rates, strict=True)]
        print_figure("trunk_ratio", ratios, "times", goal=">= 1", peer=beside, **where)
    alone = trunk.tokenize(["running shoes"], "query")
    one = [1_000 / tokens_per_s(lambda: trunk.encode(alone), 1) for _ in range(20)]
    print_figure("trunk_one_query", one, "ms", **where)
    print_figure(
        "trunk_changed_rows", changed_rows(trunk, texts), "rows", goal="0", cases=len(texts)
    )
    null = NullEncoder()
    many = make_texts(20_000)
    rate = [
        tokens_per_s(lambda: null.encode(null.tokenize(many, "query")), len(many)) for _ in "123"
    ]
    print_figure("null_trunk_texts", rate, "texts/s", goal=">= 50000")


if __name__ == "__main__":
    main()
