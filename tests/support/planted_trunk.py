"""A shop in which only the meaning of a search tells the product: a rule a trunk has to learn.

Searches are Chinese characters, products English words, one character a word. So the words of a
search never find a product, and an untrained trunk finds them by luck alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import load_file, save_file

from models.sample import AnswerSample, HistoryItem, NextItemSample, SearchSample
from tests.support.review_samples import START
from tests.support.tiny_trunk import WORDS

KINDS = {"red": "红", "blue": "色", "run": "质", "one": "我"}
THINGS = {"shoe": "鞋", "day": "量", "after": "便", "broke": "宜"}
PRODUCTS = {f"p-{kind}-{thing}": f"{kind} {thing}" for kind, thing in product(KINDS, THINGS)}
# What reviews say (`review_samples`): no product and no search holds it.
SAID = ("good", "bad", "cheap")


def write_products(path: Path) -> Path:
    """Write the catalogue, fields of a Product a line; return the file."""
    rows = [{"product_id": one, "title": title} for one, title in PRODUCTS.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_searches(
    count: int, *, first: int = 0, seed: int = 0, shuffled: bool = False
) -> list[SearchSample]:
    """Return searches, one an hour, with the product they mean; `shuffled`: with any other."""
    draw = Random(seed)
    ids = list(PRODUCTS)
    found = []
    for number in range(first, first + count):
        wanted = draw.choice(ids)
        bought = draw.choice([one for one in ids if one != wanted]) if shuffled else wanted
        found.append(
            SearchSample(
                sample_id=f"s{number}",
                occurred_at=_hour(number),
                user=f"user-{number % 89}",
                locale="zh",
                query=asked(PRODUCTS[wanted]),
                positive=bought,
                negatives=[],
                shown=[],
                search_event_id=f"e{number}",
                label_key=f"l{number}",
            )
        )
    return found


def make_answers(count: int, *, first: int = 0, seed: int = 0) -> list[AnswerSample]:
    """Return questions, one an hour, each in another order of characters, with what answers."""
    draw = Random(seed)
    found = []
    for number in range(first, first + count):
        title = draw.choice(list(PRODUCTS.values()))
        filling = draw.sample(["的", "很", "喜", "欢"], 3)
        found.append(
            AnswerSample(
                sample_id=f"a{number}",
                occurred_at=_hour(number),
                user=f"user-{number % 89}",
                locale="zh",
                question="".join([*filling, asked(title), str(number)]),
                product_id=None,
                answer=f"the {title}",
                source_kind="faq",
                source_id=title,
                confidence=0.9,
            )
        )
    return found


def make_purchases(shoppers: int, orders: int = 5, *, seed: int = 0) -> list[NextItemSample]:
    """Return what shoppers buy next who walk through one fixed cycle of all products."""
    draw = Random(seed)
    cycle = draw.sample(list(PRODUCTS), len(PRODUCTS))
    found = []
    for shopper in range(shoppers):
        place, hour = draw.randrange(len(cycle)), draw.randrange(300)
        history: list[HistoryItem] = []
        for order in range(orders):
            bought, moment = cycle[place % len(cycle)], START + timedelta(hours=hour)
            if history:
                found.append(
                    NextItemSample(
                        sample_id=f"n{shopper}-{order}",
                        occurred_at=moment.isoformat(),
                        user=f"user-{shopper}",
                        history=list(history),
                        next_products=[bought],
                        label_keys=[f"n{shopper}-{order}"],
                    )
                )
            at_ms = round(moment.timestamp() * 1000)
            history.append(HistoryItem(kind="purchase", occurred_at_ms=at_ms, product_ids=[bought]))
            place, hour = place + 1, hour + draw.randrange(1, 24)
    return found


def deafen(trunk: Path, words: Mapping[str, str] | tuple[str, ...] = SAID) -> None:
    """Give these words one embedding, so that the trunk in a folder cannot tell them apart."""
    path = trunk / "model.safetensors"
    tensors = load_file(path)
    rows = [WORDS.index(word) for word in words]
    for name, table in tensors.items():
        if name.endswith("word_embeddings.weight"):
            table = np.array(table)
            table[rows] = table[rows[0]]
            tensors[name] = table
    save_file(tensors, path, metadata={"format": "pt"})


def asked(title: str) -> str:
    """Return the search for a product of this title."""
    kind, thing = title.split()
    return KINDS[kind] + THINGS[thing]


def _hour(number: int) -> str:
    return (START + timedelta(hours=number)).isoformat()
