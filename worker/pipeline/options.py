"""What the pipeline may be told: plain values, so that live workers and replays give the same."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.recommendation.rules import RecommendationRules


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Counts, lives and limits; the settings of the same names document them."""

    process_id: str
    privacy_key: bytes
    recommendation_count: int = 10
    search_count: int = 20
    trending_count: int = 50
    recommendations_ttl_s: int = 30 * 86_400
    search_ttl_s: int = 86_400
    query_ttl_s: int = 3_600
    tags_ttl_s: int = 90 * 86_400
    answer_ttl_s: int = 7 * 86_400
    trending_ttl_s: int = 7 * 86_400
    attribution_window_s: float = 86_400.0
    vector_cache_entries: int = 50_000
    # The latest searches of a shopper that count for taste: each may cost an encoding.
    recent_queries: int = 8
    # Passages of one question that the trunk reads: each may cost an encoding, and a question with
    # many would hold up its whole batch. A sieve by words chooses them.
    passages_per_question: int = 16
    # Products looked into when a question names none.
    products_per_question: int = 3
    # Popular products read a batch: enough to fill a list after what is sold out is gone.
    popular_count: int = 200
    # Events of a shopper that go into one next-item sample.
    sample_history_events: int = 50
    rules: RecommendationRules = field(default_factory=RecommendationRules)
