"""The naive way: a stock Faust agent that calls a `pipeline()` for each event. Run as a process.

    python -m tests.benchmarks.naive_agent BOOTSTRAP_SERVERS REDIS_URL TOPIC_PREFIX THREADS

It does the work of the worker, event by event: a transformers feature-extraction pipeline for the
event's text (and a text-classification pipeline for a review), a search over the same product
index, the same recommender over the shopper's history, the same answerer over as many passages of
the product and its reviews, the results into Redis; no samples. It counts finished
events under the Redis key `naive:done` and prints READY once it may be sent events.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

import faust
import numpy as np
import torch
from redis.asyncio import Redis
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from models.answerer import (
    Answerer,
    FoundAnswer,
    Passage,
    nearest_in_words,
    product_passages,
    review_passages,
)
from models.product_index import IndexedProduct, ProductIndex, product_text
from models.recommendation.rules import RecommendationRules, recommend_within
from models.recommendation.shopper import Demand, Shopper, ShopperEvent
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.release import open_trunk
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.event import EventKind
from worker.pipeline.options import PipelineOptions
from worker.topics.layout import TopicLayout

HISTORY = 200
COUNT = 20
RULES = RecommendationRules()
PASSAGES = PipelineOptions(process_id="naive", privacy_key=b"").passages_per_question


class NaiveModels:
    """What a first version would have: two pipelines, an index, a recommender."""

    def __init__(self) -> None:
        folder = str(open_trunk("").folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self._encode = pipeline("feature-extraction", model=folder, tokenizer=tokenizer)
        # A classifier of the trunk's own size; what its classes are does not change what it costs.
        network = AutoModelForSequenceClassification.from_config(
            AutoConfig.from_pretrained(folder, num_labels=3)
        )
        self.classify = pipeline("text-classification", model=network, tokenizer=tokenizer)
        self.index = ProductIndex(network.config.hidden_size)
        self.answerer = Answerer(0.5)
        self.passages: dict[str, list[Passage]] = {}  # of a product: its text, then its reviews
        self.recommender = SimilarityRecommender()
        self.index.apply([self._product(event.content()) for event in SimulatedShop().catalogue()])

    def vector(self, text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the unit vector (D,) of one text: the mean of its token states."""
        states = np.asarray(self._encode(text, truncation=True, max_length=256)[0], np.float32)
        mean = states.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    def answer(self, question: str, product_id: str) -> FoundAnswer:
        """Return the answer that the product's passages give; all of them are encoded each time."""
        passages = nearest_in_words(question, self.passages.get(product_id, []), PASSAGES)
        vectors = np.array([self.vector(passage.match_text) for passage in passages], np.float32)
        return self.answerer.answer(question, self.vector(question), passages, vectors)

    def _product(self, fields: dict[str, Any]) -> IndexedProduct:
        names = ("product_id", "title", "description", "category", "brand")
        known = {name: fields[name] for name in names}
        self.passages[known["product_id"]] = product_passages(**known, price=fields["price"])
        text = product_text(**{name: known[name] for name in names[1:]})
        return IndexedProduct(**known, vector=self.vector(text))


def build(servers: str, redis_url: str, prefix: str) -> faust.App:
    """Return the app with its one agent."""
    layout = TopicLayout(f"{prefix}.shop.", f"{prefix}.shopstream.")
    app = faust.App(
        f"{prefix}-naive",
        broker=f"kafka://{servers}",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        broker_max_poll_records=500,
    )
    kinds = [kind for kind in EventKind if kind is not EventKind.PRODUCT]
    topic = app.topic(*(layout.of(kind) for kind in kinds), value_serializer="raw")
    models = NaiveModels()
    redis = Redis.from_url(redis_url)
    histories: dict[str, list[ShopperEvent]] = defaultdict(list)
    vectors: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def work(stream: Any) -> None:
        async for event in stream.events():
            kind = layout.kind_of(event.message.topic)
            await work_on(kind, json.loads(event.value))
            await redis.incr("naive:done")

    async def work_on(kind: EventKind | None, fields: dict[str, Any]) -> None:
        user = fields["user_id"]
        if kind is EventKind.SEARCH:
            vectors[fields["query"]] = vector = models.vector(fields["query"])
            hits = models.index.search([fields["query"]], vector[None], COUNT)[0]
            await redis.set(f"naive:search:{fields['event_id']}", str(hits), ex=3600)
        elif kind is EventKind.REVIEW:
            models.vector(fields["text"])
            found = models.classify(fields["text"], truncation=True, max_length=256)
            await redis.set(f"naive:tags:{fields['review_id']}", str(found), ex=3600)
            passages = models.passages.setdefault(fields["product_id"], [])
            passages += review_passages(fields["review_id"], fields["text"])
        elif kind is EventKind.QUESTION:
            answer = models.answer(fields["text"], fields.get("product_id", ""))
            await redis.set(f"naive:answer:{fields['question_id']}", str(answer), ex=3600)
        if kind in (EventKind.SEARCH, EventKind.PURCHASE):
            await recommend(user, kind, fields)

    async def recommend(user: str, kind: EventKind, fields: dict[str, Any]) -> None:
        products = tuple(item["product_id"] for item in fields.get("items", ()))
        event = ShopperEvent(
            len(histories[user]), fields["event_id"], kind.value, fields.get("query"), products
        )
        histories[user] = [*histories[user][1 - HISTORY :], event]
        queries = {e.query: vectors[e.query] for e in histories[user] if e.query in vectors}
        shopper = Shopper(user, len(histories[user]), histories[user], queries)
        lists = recommend_within(
            RULES, models.recommender, [shopper], Demand(), models.index, COUNT
        )
        await redis.set(f"naive:recommendations:{user}", str(lists), ex=3600)

    @app.task  # type: ignore[untyped-decorator]
    async def announce() -> None:
        print("READY", flush=True)

    return app


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    naive = build(*sys.argv[1:4])
    sys.argv[1:] = []
    faust.Worker(naive, loglevel="WARN", redirect_stdouts=False).execute_from_commandline()
