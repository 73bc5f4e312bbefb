"""Every key in Redis, in one place: its name, type, life and content.

`docs/redis.md` is made from this table (`python -m worker.store.key_page`), and a test holds the
scripts to it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from worker.store.contract import ResultKind

MAX_ID_BYTES = 512
"""Longer ids (only normalised queries can be) stand as `sha256:<hex>`, so that keys stay short."""


@dataclass(frozen=True, slots=True)
class KeyFamily:
    """One row of the table: all keys that begin alike."""

    name: str  # between prefix and id
    id: str  # what follows the name, empty for a single key
    type: str
    life: str
    content: str


KEY_FAMILIES: tuple[KeyFamily, ...] = (
    # --- what storefronts read
    KeyFamily("recommendations", "user", "string", "`recommendations_ttl_s`", "`Recommendations`"),
    KeyFamily("search", "event", "string", "`search_ttl_s`", "`SearchResults`"),
    KeyFamily("query", "normalised query", "string", "`query_ttl_s`", "`SearchResults`"),
    KeyFamily("tags", "review", "string", "`tags_ttl_s`", "`ReviewTags`"),
    KeyFamily("answer", "question", "string", "`answer_ttl_s`", "`AnswerResult`"),
    KeyFamily("trending", "all", "string", "`recommendations_ttl_s`", "`Trending`"),
    KeyFamily("release", "", "string", "one key, no TTL", "`CurrentRelease`"),
    KeyFamily(
        "sentiment", "product", "hash", "`history_ttl_s` after the last review",
        "counts `negative`, `neutral`, `positive`, and `score_micro`, the sum of "
        "(p(positive) - p(negative)) * 1,000,000",
    ),
    KeyFamily(
        "sentiment_days", "product", "zset",
        "as `sentiment`; newest 400 days that have reviews",
        "score: days since 1970; member: `day:reviews:sum of score_micro`",
    ),
    # --- state
    KeyFamily(
        "history", "user", "zset",
        "`history_ttl_s` after the last event; newest `history_max_events`",
        "score: occurred_at in ms; member: JSON `[event id, ms, kind, query, products, shown, "
        "stars, order, session]`, empty places at the end left out; query cut to 1,000 characters, "
        "lists to 100 ids",
    ),
    KeyFamily(
        "purchased", "user", "zset", "`history_ttl_s` after the last purchase; newest 50 products",
        "score: when it was bought last, in ms; member: product id",
    ),
    KeyFamily(
        "popular", "", "zset", "one key; top `popular_max_products`",
        "score: purchases weighted by 2^((t - landmark) / half-life); member: product id",
    ),
    KeyFamily(
        "popular_clock", "", "hash", "one key",
        "`span` (the landmark is span * 128 half-lives after 1970), `newest_ms`, `half_life_ms`",
    ),
    KeyFamily(
        "together", "product", "zset",
        "`history_ttl_s` after the last purchase; at most 2 * `together_max_products`, cut to the "
        "top half when more",
        "score: 1 for each order with both, 0.5 for each order of the member by a shopper who had "
        "bought the key's product before; member: product id",
    ),
    KeyFamily(
        "product", "product", "string",
        "none while the shop has the product; `guard_ttl_s` after its removal",
        '`{"version", "product": the fields of a Product}`, product null after the removal',
    ),
    KeyFamily(
        "review", "review", "string", "`history_ttl_s`",
        '`{"version", "review_id", "product_id", "user_id", "text", "stars"}`',
    ),
    KeyFamily(
        "reviews", "product", "zset",
        "`history_ttl_s` after the last review; newest `reviews_per_product`",
        "score: occurred_at in ms; member: review id",
    ),
    # --- guards
    KeyFamily(
        "counted", "event", "string", "`guard_ttl_s`", "`1`: this purchase or return is counted"
    ),
    KeyFamily(
        "vote", "review", "string", "the longer of `history_ttl_s` and `guard_ttl_s`",
        '`{"version", "step", "product_id", "label", "score_micro", "day"}`: what the review added '
        "to `sentiment`, taken back when it is corrected",
    ),
    KeyFamily(
        "forgotten", "user", "string", "`guard_ttl_s`",
        "version of the forget request; events and results up to it change nothing",
    ),
    KeyFamily(
        "forgotten_step", "user", "string", "`guard_ttl_s`",
        "step of the forget request; a list made in an earlier one is not written any more",
    ),
    KeyFamily(
        "owned", "user", "zset", "as long as the longest-lived key in it",
        "score: when that key expires, seconds since 1970; member: a key to forget with the "
        "shopper, without prefix",
    ),
    # --- the worker's own
    KeyFamily(
        "sequence", "", "string", "one key, no TTL", "number of batches applied by all workers"
    ),
    KeyFamily(
        "intents", "", "hash", "one field a batch in flight, dropped when its results stand",
        'field: batch id; value: `{"sequence", "intent": the batch\'s record as far as known}`',
    ),
    KeyFamily(
        "serving", "", "hash",
        "one field a worker, dropped when it stops or a day after it was killed",
        "field: process id; value: `ServingWorker`: which release it serves, said every 10 s",
    ),
    KeyFamily(
        "refused", "", "hash",
        "one field a worker and release, dropped when it accepts the release or stops",
        "field: process id, space, release id; value: `RefusedRelease`: why it does not serve "
        "though it was to",
    ),
    KeyFamily(
        "privacy_key", "", "string", "one key, no TTL",
        "key of the hash that hides user ids in samples, 64 hexadecimal digits; made when the "
        "setting `privacy_key` is unset",
    ),
    KeyFamily(
        "retrain_lock", "", "string", "a minute, renewed while the job runs",
        "who retrains now: host, process and a random token",
    ),
)  # fmt: skip


def result_suffix(kind: ResultKind | str, id: str) -> str:
    """Return a result's key without the prefix; overlong ids are hashed."""
    encoded = id.encode()
    if len(encoded) > MAX_ID_BYTES:
        id = "sha256:" + hashlib.sha256(encoded).hexdigest()
    return f"{kind}:{id}"


@dataclass(frozen=True, slots=True)
class Keys:
    """Spells full keys under one prefix."""

    prefix: str

    def key(self, name: str, id: str | None = None) -> str:
        """Return the key of one family; `id` for families that have one."""
        return f"{self.prefix}:{name}" if id is None else f"{self.prefix}:{name}:{id}"

    def result(self, kind: ResultKind | str, id: str) -> str:
        """Return the key of a result."""
        return f"{self.prefix}:{result_suffix(kind, id)}"

    def channel(self, kind: ResultKind | str, id: str | None = None) -> str:
        """Return the channel that carries the version of each result written under this key."""
        return f"{self.prefix}:written:{kind if id is None else result_suffix(kind, id)}"
