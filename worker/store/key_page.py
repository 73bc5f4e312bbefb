"""Makes `docs/redis.md` from the table of keys and the models of results.

`python -m worker.store.key_page docs/redis.md` writes the page.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel

from worker.store.keys import KEY_FAMILIES, KeyFamily
from worker.store.results import (
    AnswerResult,
    AnswerSource,
    CurrentRelease,
    ProductSentiment,
    RankedItem,
    ReasonJson,
    Recommendations,
    ReviewTags,
    SearchResults,
    Trending,
)

_MODELS: tuple[type[BaseModel], ...] = (
    Recommendations,
    SearchResults,
    Trending,
    ReviewTags,
    AnswerResult,
    RankedItem,
    ReasonJson,
    AnswerSource,
    CurrentRelease,
    ProductSentiment,
)

_HEAD = """\
# Redis

What a worker keeps in Redis, and what a storefront reads there. Needs Redis 6.2 or newer. This
page is made from `worker/store/keys.py` and `worker/store/results.py` by `python -m
worker.store.key_page docs/redis.md`; a test keeps them equal.

Every key is `<prefix>:<name>` or `<prefix>:<name>:<id>`; the prefix is
`SHOPSTREAM_REDIS_KEY_PREFIX` (default `shopstream`). With a Redis Cluster
(`SHOPSTREAM_REDIS_CLUSTER=true`) the prefix holds a hash tag, such as `{shopstream}`, so that
all keys lie in one slot and one script can reach them. Lives named in code are settings
(`docs/settings.md`). Ids longer than 512 bytes of UTF-8, which only queries can be, stand as
`sha256:<hex>`.

`SHOPSTREAM_REDIS_URL` is `redis://[user:password@]host:port/db`, `rediss://…` (TLS),
`unix://path?db=0`, or for Redis Sentinel
`redis+sentinel://[user:password@]host:port[,…]/service/db`.
"""

_READING = """\
## Reading

    from worker.store.lookup import Lookup        # AsyncLookup has the same methods

    with Lookup("redis://localhost:6379/0") as lookup:
        lookup.search(event_id, wait_s=2)         # None when nothing stands there
        lookup.recommendations(user_id, wait_s=2, after_event=event_id)
        lookup.query("red dress"); lookup.tags(review_id); lookup.product(product_id)
        lookup.answer(question_id); lookup.trending(); lookup.release()

Or without Python: `GET shopstream:recommendations:<user>` and parse the JSON. A query's key
holds the normalised query: Unicode NFKC, casefolded, blanks collapsed to one and stripped.

**Waiting without polling.** When a result is written, its version is published on
`<prefix>:written:<name>:<id>` (for a product's sentiment `<prefix>:written:product:<product>`,
for a release `<prefix>:written:release`). Subscribe first, then read, then wait for the
message.
"""

_RULES = """\
## How it is kept right

- A batch takes two calls, each one script: the first changes and reads state, the second writes
  results. Both may run again after a crash: histories are sets, results are written only if
  their version is not older than what stands, and counters are guarded by event (`counted`,
  `vote`).
- A version is `<16 digits of occurred_at in ms>:<event id>` and the first member of every
  result. `step` is the second: where a partition moved under a batch in flight, two batches make
  the same result, and that of the later step stands, whichever is written last. A shopper's
  list bears the version of the newest event that it knows: what comes late from another topic
  improves the list.
- Popularity is decayed when it is read: the score divided by the weight of the newest purchase.
  A return takes back what its purchase counts by then, as long as the product is among the last
  50 that the shopper bought; otherwise what a purchase at the moment of the return would count.
- When a shop uses one event id twice, the history shows the newest by time. Purchases and
  returns count for the first of the two that comes.
- Forgetting a shopper deletes history, last purchases, recommendations, and all results and
  review texts up to the time of the request; later events with an older time change nothing.
  Sums that name nobody (popularity, co-purchase, sentiment counts) stay. An answer to another
  shopper's question that quotes a forgotten review lives until its own end (`answer_ttl_s`).
- Set `maxmemory-policy` to `noeviction` (or a `volatile-…` policy, if losing a guard or a
  history is acceptable), and persistence (`appendonly yes`): results come again with new
  events, but histories and counters cannot be rebuilt beyond what Kafka still holds.
  `shopstream doctor` looks at both.
"""


def redis_page() -> str:
    """Return the page as Markdown."""
    rows = "\n".join(_row(family) for family in KEY_FAMILIES)
    models = "\n".join(_model(model) for model in _MODELS)
    return (
        f"{_HEAD}\n## Keys\n\n"
        f"| key | type | life or cap | holds |\n| --- | --- | --- | --- |\n{rows}\n\n"
        f"{_READING}\n{_RULES}\n## The JSON of results\n\n"
        "`ProductSentiment` is computed by the lookup client from the keys `sentiment` and "
        f"`sentiment_days`.\n\n{models}"
    )


def _row(family: KeyFamily) -> str:
    name = f"`{family.name}`" if not family.id else f"`{family.name}:<{family.id}>`"
    if family.name == "trending":
        name = "`trending:all`"
    return f"| {name} | {family.type} | {family.life} | {family.content} |"


def _model(model: type[BaseModel]) -> str:
    lines = [f"### {model.__name__}", "", (model.__doc__ or "").strip(), ""]
    for name, field in model.model_fields.items():
        described = f": {field.description}" if field.description else ""
        lines.append(f"- `{name}` ({_type_name(field.annotation)}){described}")
    return "\n".join([*lines, ""])


def _type_name(annotation: object) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"object of {_type_name(arguments[0])} to {_type_name(arguments[1])}"
    if origin in (Union, UnionType):
        return " or ".join(map(_type_name, arguments))
    if arguments:  # a Literal
        return ", ".join(f"`{value}`" for value in arguments)
    names = {str: "text", float: "number", int: "integer", bool: "boolean"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))  # type: ignore[call-overload,no-any-return]


def main(arguments: list[str]) -> None:
    """Write the page to the file named, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(redis_page(), encoding="utf-8")
    else:
        sys.stdout.write(redis_page())


if __name__ == "__main__":
    main(sys.argv[1:])
