"""Texts, pairs and reviews with a rule planted in them, for models that a test trains."""

from __future__ import annotations

import json
import random
from pathlib import Path

TOPICS = {
    "lamp": ("bright", "glows", "desk"),
    "tent": ("dry", "folds", "camp"),
    "kettle": ("hot", "boils", "kitchen"),
    "jacket": ("warm", "zips", "winter"),
}
COLOURS, THINGS = "红蓝绿黑白黄", ("跑鞋", "耳机", "水壶", "帐篷", "台灯", "书包", "毛衣", "键盘")


def write_documents(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write documents of three sentences, each document about one thing."""
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        thing = draw.choice(list(TOPICS))
        state, act, place = TOPICS[thing]
        parts = [
            f"the {thing} is {state}",
            f"it {act} in the {place}",
            f"a {state} {thing} {act} well number {number}",
            f"my {place} has a {thing}",
        ]
        lines.append(". ".join(draw.sample(parts, 3)) + ".")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_pairs(path: Path, *, seed: int = 0) -> Path:
    """Write Chinese searches for a colour and a thing, and the purchase of just that."""
    draw = random.Random(seed)
    rows = []
    for colour in COLOURS:
        for thing in THINGS:
            searches = (
                f"{colour}色{thing}", f"{thing} {colour}", f"想买{colour}{thing}",
                f"{colour}的{thing}", f"便宜{thing}{colour}色",
            )  # fmt: skip
            rows += [(search, f"新款{colour}色{thing}") for search in searches]
    draw.shuffle(rows)
    lines = (json.dumps({"search": s, "purchase": p}, ensure_ascii=False) for s, p in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_questions(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write documents of a question and its reason, so that what follows what can be learnt."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        asked = " ".join(draw.choice("abcdefgh") for _ in range(3))
        told = " ".join(draw.choice("klmnop") for _ in range(4))
        lines.append(f"why is {asked}? because {told}.")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_reviews(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write reviews whose words say their stars."""
    draw = random.Random(seed)
    words = {1: ("broke", "awful"), 3: ("okay", "plain"), 5: ("lovely", "great")}
    lines = []
    for number in range(count):
        stars = draw.choice((1, 3, 5))
        thing = draw.choice(list(TOPICS))
        text = f"the {thing} number {number} is {draw.choice(words[stars])}"
        lines.append(json.dumps({"text": text, "stars": stars}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
