"""Every setting of the worker, from environment variables that begin with `SHOPSTREAM_`.

Units stand in the names. `docs/settings.md` is made from this file (`shopstream settings
--markdown`) and a test keeps the two equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Validated settings; secrets are masked in logs and errors."""

    model_config = SettingsConfigDict(env_prefix="SHOPSTREAM_", frozen=True, extra="ignore")

    # --- Kafka
    kafka_bootstrap_servers: str = Field(
        "localhost:9092", description="Comma-separated host:port list."
    )
    kafka_group: str = Field(
        "shopstream", description="Consumer group; workers of one group share the partitions."
    )
    kafka_client_id: str = Field(
        "shopstream", description="Client id shown in the broker's logs and quotas."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="SASL mechanism, with a SASL protocol."
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user name.")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ssl_ca_file: Path | None = Field(
        None, description="CA certificates (PEM); the system's when unset."
    )
    kafka_ssl_certificate_file: Path | None = Field(
        None, description="Client certificate (PEM), for mutual TLS."
    )
    kafka_ssl_key_file: Path | None = Field(None, description="Client key (PEM), for mutual TLS.")
    kafka_session_timeout_s: float = Field(
        10.0, gt=0, description="A silent worker loses its partitions after this."
    )
    kafka_heartbeat_interval_s: float = Field(
        1.0, gt=0, description="Must be below a third of the session timeout."
    )
    kafka_fetch_max_wait_ms: int = Field(
        100, ge=10, le=10_000, description="Longest wait of one fetch."
    )
    kafka_max_poll_records: int = Field(
        2_000, ge=1, description="Most records one poll hands over."
    )
    kafka_commit_interval_s: float = Field(
        0.5, gt=0, description="How often finished offsets are committed."
    )
    kafka_partitions: int = Field(
        4, ge=1, description="Partitions of every event topic when they are created."
    )
    kafka_replication_factor: int = Field(
        1, ge=1, description="Replicas of topics when they are created."
    )
    kafka_offset_reset: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a new group starts."
    )
    kafka_idempotent_producer: bool = Field(
        True,
        description="Off only for a broker that gives no producer ids, such as the demo's: what a "
        "producer sends again after an error may then stand twice.",
    )
    topic_prefix: str = Field(
        "shop.", description="Prefix of the event topics: shop.searches, shop.purchases, …"
    )
    internal_topic_prefix: str = Field(
        "shopstream.", description="Prefix of the topics shopstream writes."
    )

    # --- Redis
    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"), description="redis://, rediss:// or unix:// URL."
    )
    redis_cluster: bool = Field(
        False, description="Talk to a Redis Cluster; the key prefix must then hold a {hash tag}."
    )
    redis_key_prefix: str = Field(
        "shopstream", min_length=1, description="First part of every key."
    )
    redis_timeout_s: float = Field(5.0, gt=0, description="Longest wait for one Redis reply.")

    # --- limits of events
    max_event_bytes: int = Field(
        1_000_000, ge=1_000, description="Larger records become dead letters."
    )
    max_text_chars: int = Field(
        20_000, ge=100, description="Longest query, review, question, title or description."
    )
    max_future_s: float = Field(
        300.0, ge=0, description="How far occurred_at may lie after the Kafka record's own time."
    )

    # --- batching
    batch_max_tokens: int = Field(
        8_192, ge=512, description="Token budget of one batch, padding counted."
    )
    batch_max_events: int = Field(512, ge=1, description="Most events of one batch.")
    micro_batch_max_tokens: int = Field(
        4_096, ge=512, description="Token budget of one forward pass."
    )
    events_in_flight: int = Field(
        4_096, ge=1, description="Events taken from Kafka and not finished, at most."
    )
    drain_timeout_s: float = Field(
        6.0, gt=0, description="Longest wait for running batches at a rebalance."
    )
    shutdown_timeout_s: float = Field(
        20.0, gt=0, description="After this a stopping worker exits with status 75."
    )

    # --- models
    model: str = Field(
        "", description="Folder or hub id of the text trunk; empty: the packaged English MiniLM."
    )
    sentiment_head: Path | None = Field(
        None,
        description="Folder of a sentiment head; empty: `heads/sentiment` beside the trunk, or the "
        "packaged one that fits.",
    )
    recommender: Path | None = Field(
        None,
        description="Folder of a trained recommender; empty: text similarity, co-purchase and "
        "popularity.",
    )
    exact_search_max_products: int = Field(
        100_000,
        ge=0,
        description="On a CPU, with more products than this, neighbours come from an approximate "
        "index; on a GPU search is always exact.",
    )
    recent_queries: int = Field(
        8,
        ge=1,
        le=200,
        description="The latest searches of a shopper that count for taste; each may cost an "
        "encoding.",
    )
    device: str = Field(
        "auto", description="auto, cpu, cuda, cuda:1 …; auto takes a GPU when there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on a GPU, float32 on a CPU."
    )
    threads: int = Field(0, ge=0, description="CPU threads of the models; 0: torch's default.")
    max_text_tokens: int = Field(
        256, ge=16, le=8_192, description="Texts are cut to this many tokens."
    )
    vector_cache_entries: int = Field(50_000, ge=0, description="Vectors of texts kept in memory.")
    faq_file: Path | None = Field(
        None, description="The shop's FAQ: JSON or JSONL of question and answer."
    )
    answer_threshold: float = Field(
        0.5, ge=0, le=1, description="Below this confidence a question has no answer."
    )

    # --- results
    recommendation_count: int = Field(
        10, ge=1, le=200, description="Items in a list of recommendations."
    )
    search_count: int = Field(20, ge=1, le=200, description="Items in a list of search results.")
    trending_count: int = Field(50, ge=1, le=200, description="Items in the trending list.")
    recommendations_ttl_s: int = Field(
        30 * 86_400, ge=60, description="Life of a shopper's recommendations."
    )
    search_ttl_s: int = Field(
        86_400, ge=1, description="Life of results under a search's event id."
    )
    query_ttl_s: int = Field(3_600, ge=1, description="Life of results under a normalised query.")
    tags_ttl_s: int = Field(90 * 86_400, ge=60, description="Life of a review's tags.")
    answer_ttl_s: int = Field(7 * 86_400, ge=60, description="Life of an answer.")

    # --- rules for recommendations (models/recommendation/rules.py), whichever recommender serves
    recommend_bought_rest_days: float = Field(
        365.0,
        ge=0,
        description="What a shopper bought is not recommended for so long, unless it is bought "
        "again and again; 0: it may come at once.",
    )
    recommend_repeat_min_orders: int = Field(
        2, ge=1, description="Bought again and again: on at least so many occasions …"
    )
    recommend_repeat_window_days: float = Field(
        365.0, gt=0, description="… within so long before now …"
    )
    recommend_repeat_min_gap_hours: float = Field(
        12.0, ge=0, description="… each at least so long after the one before."
    )
    recommend_repeat_due_share: float = Field(
        0.1,
        ge=0,
        description="Such a product comes again when this share of the usual time between its "
        "purchases will have passed by the shopper's next usual visit; 0: at once.",
    )
    recommend_category_max_items: int = Field(
        0, ge=0, description="Most products of one category in a list; 0: no cap."
    )
    recommend_price_min: float | None = Field(
        None, ge=0, description="Cheaper products are not recommended."
    )
    recommend_price_max: float | None = Field(
        None, ge=0, description="Dearer products are not recommended."
    )
    recommend_price_band_ratio: float = Field(
        0.0,
        ge=0,
        description="At most so many times, and at least one so-many-th of, the median price of "
        "what the shopper bought (from 3 priced products on); 0: off.",
    )
    recommend_diversity: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Variety of a list: what likeness to products above it costs a product against "
        "its own score; 0: none, 1: likeness alone.",
    )

    # --- state
    history_max_events: int = Field(200, ge=1, le=5_000, description="Events kept of one shopper.")
    history_ttl_s: int = Field(
        365 * 86_400, ge=60, description="A history unused for this long expires."
    )
    guard_ttl_s: int = Field(
        8 * 86_400,
        ge=60,
        description="How long an event is known as counted; at least Kafka's retention.",
    )
    reviews_per_product: int = Field(
        30, ge=1, le=1_000, description="Review texts kept of one product."
    )
    popularity_half_life_s: float = Field(
        7 * 86_400.0, gt=0, description="Purchases count half after this."
    )
    popular_max_products: int = Field(
        10_000, ge=10, description="Products kept in the popularity list."
    )
    together_max_products: int = Field(
        50, ge=1, description="Products kept in one co-purchase row."
    )

    # --- samples and privacy
    attribution_window_s: float = Field(
        24 * 3_600.0,
        gt=0,
        description="A purchase counts for a search at most this long before it.",
    )
    privacy_key: SecretStr | None = Field(
        None,
        description="Key of the hash that hides user ids in samples; unset: made, kept in Redis.",
    )

    # --- releases
    releases_url: str = Field(
        "",
        description="Where releases lie: a folder or an fsspec URL (s3://bucket/releases).",
    )
    release_max_bytes: int = Field(
        20_000_000_000, ge=1_000, description="Larger releases are refused."
    )
    keep_previous_release: bool = Field(
        True,
        description="Keep the release before the current one loaded, its product vectors up to "
        "date, so that a rollback is at once; off: less memory.",
    )

    # --- page
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="Port of /metrics and /health; 0: off."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level logged."
    )

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _servers(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{server.strip()!r} is not host:port")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.kafka_heartbeat_interval_s * 3 > self.kafka_session_timeout_s:
            raise ValueError(
                "kafka_heartbeat_interval_s must be at most a third of kafka_session_timeout_s"
            )
        if self.drain_timeout_s >= self.kafka_session_timeout_s:
            raise ValueError("drain_timeout_s must be below kafka_session_timeout_s")
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError("a SASL protocol needs kafka_sasl_username and kafka_sasl_password")
        if 0 < self.recommend_price_band_ratio < 1:
            raise ValueError("recommend_price_band_ratio must be 0 or at least 1")
        least, most = self.recommend_price_min, self.recommend_price_max
        if least is not None and most is not None and least > most:
            raise ValueError("recommend_price_min must not lie above recommend_price_max")
        if self.redis_cluster and "{" not in self.redis_key_prefix:
            raise ValueError(
                "with redis_cluster redis_key_prefix must hold a {hash tag}, such as {shopstream}"
            )
        return self
