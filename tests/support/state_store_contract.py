"""What every state store keeps to: one class of tests, run on MemoryStore and on RedisStore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
import pytest

from models.recommendation.shopper import ShopperEvent
from worker.store.contract import (
    AddHistory,
    CountPurchase,
    CountReturn,
    ForgetUser,
    PutProduct,
    PutReview,
    RemoveProduct,
    ResultKind,
    ResultWrite,
    Sentiment,
    SentimentCount,
    StateChange,
    StateStep,
    StateStore,
    StateView,
    Version,
)
from worker.store.limits import StoreLimits
from worker.store.results import version_text
from worker.store.tally import SentimentTally

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
LIMITS = StoreLimits(
    history_max_events=5,
    reviews_per_product=3,
    popularity_half_life_s=86_400.0,
    popular_max_products=10,
    together_max_products=4,
)


class ReadableStore(StateStore):
    """A state store whose results can be read back, as both can."""

    async def result(self, kind: ResultKind, id: str) -> bytes | None: ...
    async def sentiment(self, product_id: str) -> SentimentTally | None: ...


def event(number: int, *, id: str | None = None, **fields: object) -> ShopperEvent:
    """A search `number` hours after the start."""
    values: dict[str, object] = {"kind": "search", "query": f"query {number}"} | fields
    return ShopperEvent(
        occurred_at_ms=START_MS + number * HOUR_MS, event_id=id or f"e{number:03d}", **values
    )


def version(hours: int, id: str | None = None) -> Version:
    """The version of an event `hours` after the start."""
    return Version(START_MS + hours * HOUR_MS, id or f"e{hours:03d}")


def purchase(hours: int, user: str = "u", id: str | None = None, **quantities: int) -> StateChange:
    return CountPurchase(user, version(hours, id or f"p{hours}"), quantities)


def review(id: str, hours: int, *, product: str = "p", user: str = "u", text: str = "fine"):
    return PutReview(product, id, user, version(hours), text, 4.5)


def result(
    kind: ResultKind, id: str, at: Version, *, user: str | None = None, body: str = "",
    vote: SentimentCount | None = None, step: int = 0,
) -> ResultWrite:  # fmt: skip
    fields = {"version": version_text(at), "step": step, "event_id": at.event_id, "body": body}
    value = orjson.dumps(fields)
    return ResultWrite(kind, id, at, value, 3600, user_id=user, sentiment=vote)


def tags(
    id: str, hours: int, label: Sentiment, score: int, *, product: str = "p", day: int = 9,
    step: int = 0,
) -> ResultWrite:  # fmt: skip
    vote = SentimentCount(product, label, score, day)
    return result(ResultKind.TAGS, id, version(hours), user="u", body=label, vote=vote, step=step)


async def change(store: StateStore, *changes: StateChange) -> None:
    await store.apply(StateStep(changes))


async def history(store: StateStore, user: str = "u") -> list[str]:
    view = await store.apply(StateStep((), read_users=(user,)))
    return [event.event_id for event in view.histories[user]]


async def popular(store: StateStore, count: int = 10) -> Mapping[str, float]:
    view = await store.apply(StateStep((), popular_count=count))
    return dict(view.popular)


async def together(store: StateStore, user: str = "u") -> Mapping[str, Sequence[object]]:
    return (await store.apply(StateStep((), read_users=(user,)))).together


async def reviews(store: StateStore, product: str = "p") -> list[str]:
    view = await store.apply(StateStep((), read_products=(product,)))
    return [review.review_id for review in view.reviews[product]]


class StateStoreContract:
    """Subclasses give the fixture `store`, made with `LIMITS`."""

    # --- steps

    async def test_sequence(self, store: ReadableStore) -> None:
        """Each step has the next place in the order of all steps."""
        views: list[StateView] = [await store.apply(StateStep(())) for _ in range(3)]
        assert [view.sequence for view in views] == [1, 2, 3]

    async def test_a_repeated_sequence(self, store: ReadableStore) -> None:
        """A replay names the step it repeats, and the next one follows it."""
        forget = StateStep((ForgetUser("u", version(1)),), sequence=7)
        assert (await store.apply(forget)).sequence == 7
        newer = [result(ResultKind.RECOMMENDATIONS, "u", version(9), user="u")]
        assert (await store.write(newer, sequence=6)).forgotten == 1
        assert (await store.apply(StateStep(()))).sequence == 8

    async def test_reads_see_own_changes(self, store: ReadableStore) -> None:
        """A step reads the state after its own changes, in the changes' order."""
        view = await store.apply(
            StateStep(
                (AddHistory("u", event(1)), ForgetUser("u", version(1)), AddHistory("u", event(2))),
                read_users=("u", "nobody", "u"),
            )
        )
        assert view.histories == {"u": [event(2)], "nobody": []}
        assert view.forgotten == {"u": version(1)}

    async def test_intents(self, store: ReadableStore) -> None:
        """A batch's intent stands with its sequence from its step until its results are written."""
        await store.apply(StateStep((), batch_id="a", intent=b'{"x":1}'))
        await store.apply(StateStep((), batch_id="b", intent=b'{"x":2}'))
        await store.write([], batch_id="a")
        assert await store.pending_intents() == {"b": b'{"sequence":2,"intent":{"x":2}}'}

    # --- histories

    async def test_history_order(self, store: ReadableStore) -> None:
        """A history is ordered by time and then event id, whatever came first."""
        await change(
            store,
            AddHistory("u", event(3)),
            AddHistory("u", event(1, id="b")),
            AddHistory("u", event(1, id="ab")),
            AddHistory("u", event(1, id="a")),
        )
        assert await history(store) == ["a", "ab", "b", "e003"]

    async def test_history_fields(self, store: ReadableStore) -> None:
        """Every field of an event comes back as it went in, Chinese and quotes included."""
        events = [
            event(1, query='红色"连衣裙"\\ 100% /é', shown=("p/1", "产品,2")),
            event(2, kind="purchase", query=None, product_ids=("p1", "p2"), order_id="o-1"),
            event(3, kind="review", query=None, product_ids=("p",), stars=4.5, session_id="s"),
        ]
        await change(store, *(AddHistory("用户:1", item) for item in events))
        view = await store.apply(StateStep((), read_users=("用户:1",)))
        assert view.histories == {"用户:1": events}

    async def test_history_repeat(self, store: ReadableStore) -> None:
        """An event that comes twice stands once."""
        await change(store, AddHistory("u", event(1)), AddHistory("u", event(1)))
        assert await history(store) == ["e001"]

    async def test_history_cap(self, store: ReadableStore) -> None:
        """The newest events stay, also when an old one comes last."""
        await change(store, *(AddHistory("u", event(n)) for n in (9, 3, 5, 7, 4, 8, 2)))
        assert await history(store) == ["e004", "e005", "e007", "e008", "e009"]

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
    async def test_history_contradiction(self, store: ReadableStore, order: tuple[int]) -> None:
        """Of several events with one id the newest counts, whatever came first."""
        spellings = [event(1, id="x"), event(2, id="x"), event(2, id="x", query="another")]
        await change(store, *(AddHistory("u", spellings[n]) for n in order))
        view = await store.apply(StateStep((), read_users=("u",)))
        assert view.histories["u"] == [event(2, id="x")]

    async def test_history_bounds(self, store: ReadableStore) -> None:
        """Overlong queries and lists are cut, so that no event makes a history large."""
        long = event(1, query="q" * 20_000, shown=tuple(f"p{n}" for n in range(1000)))
        await change(store, AddHistory("u", long))
        view = await store.apply(StateStep((), read_users=("u",)))
        (kept,) = view.histories["u"]
        assert (len(kept.query or ""), len(kept.shown)) == (1_000, 100)

    # --- popularity

    async def test_popular_decay(self, store: ReadableStore) -> None:
        """A purchase counts half after one half-life of event time."""
        await change(store, purchase(0, old=4, both=1), purchase(24, new=3, both=1))
        assert await popular(store) == {"new": 3.0, "old": 2.0, "both": 1.5}

    async def test_popular_once(self, store: ReadableStore) -> None:
        """A purchase counts once for its event id."""
        await change(store, purchase(0, a=1), purchase(0, a=1))
        await change(store, purchase(0, a=1))
        assert await popular(store) == {"a": 1.0}

    async def test_popular_late(self, store: ReadableStore) -> None:
        """A purchase that comes late counts as if it had come in time."""
        await change(store, purchase(48, a=1), purchase(24, b=1))
        assert await popular(store) == {"a": 1.0, "b": 0.5}

    @pytest.mark.parametrize("days", [100, 127, 128, 129, 300, 5_000])
    async def test_popular_far(self, store: ReadableStore, days: int) -> None:
        """Scores stay finite and right over any number of half-lives, in both orders."""
        await change(store, purchase(0, a=1), purchase(24 * days, b=2), purchase(24, c=1))
        scores = await popular(store)
        assert scores["b"] == pytest.approx(2.0)
        assert scores.get("a", 0.0) == pytest.approx(2.0**-days)
        assert scores.get("c", 0.0) == pytest.approx(2.0 ** (1 - days))

    async def test_popular_cap(self, store: ReadableStore) -> None:
        """Only the most popular products are kept, and only as many read as asked for."""
        await change(store, *(purchase(0, id=f"p{n}", **{f"a{n:02d}": n + 1}) for n in range(12)))
        assert list(await popular(store, 100)) == [f"a{n:02d}" for n in range(11, 1, -1)]
        assert list(await popular(store, 2)) == ["a11", "a10"]

    async def test_return(self, store: ReadableStore) -> None:
        """A return takes back what the purchase counts by then, once."""
        await change(store, purchase(0, a=2, b=1), purchase(24, user="v", a=1))
        back = CountReturn("u", version(48, "r1"), {"a": 2, "b": 1, "never": 5})
        await change(store, back, back)
        assert await popular(store) == {"a": 1.0}

    async def test_return_of_many(self, store: ReadableStore) -> None:
        """Beyond the last purchases that are remembered, a return counts at its own moment."""
        await change(store, purchase(0, a=8, b=8))
        await change(store, *(purchase(n, id=f"l{n}", **{f"x{n:02d}": 1}) for n in range(1, 50)))
        await change(store, CountReturn("u", version(48, "r1"), {"a": 2, "b": 2}))
        scores = await popular(store)
        assert "a" not in scores  # the 51st of what was bought last: two of 48 h later weigh eight
        assert scores["b"] == pytest.approx(6 * 0.5 ** (49 / 24))

    async def test_return_floor(self, store: ReadableStore) -> None:
        """Returning more than was bought takes a product off the list and no further."""
        await change(store, purchase(0, a=1), CountReturn("v", version(1, "r"), {"a": 9}))
        await change(store, purchase(1, id="again", a=2))
        assert await popular(store) == {"a": 2.0}

    async def test_return_first(self, store: ReadableStore) -> None:
        """A return before any purchase changes nothing and is no error."""
        await change(store, CountReturn("u", version(1, "r"), {"a": 1}))
        assert await popular(store) == {}

    # --- co-purchase

    async def test_together(self, store: ReadableStore) -> None:
        """Products of one order join at 1; what was bought before leads to it at a half."""
        await change(store, purchase(0, a=1), purchase(1, b=1, c=2))
        assert await together(store) == {
            "a": [("c", 0.5), ("b", 0.5)],
            "b": [("c", 1.0)],
            "c": [("b", 1.0)],
        }

    async def test_together_reads(self, store: ReadableStore) -> None:
        """Rows are read for what the shoppers of the step bought last, where there are any."""
        await change(store, purchase(0, a=1, b=1), purchase(0, user="v", id="pv", x=1, y=1))
        await change(store, purchase(1, user="w", id="pw", z=1))
        assert set(await together(store, "u")) == {"a", "b"}
        assert await together(store, "w") == {}

    async def test_together_cap(self, store: ReadableStore) -> None:
        """A row keeps its strongest neighbours when it grows beyond twice its cap."""
        for n in range(9):
            orders = 3 if n < 4 else 1
            for order in range(orders):
                await change(
                    store, purchase(n, user=f"{n}/{order}", id=f"{n}/{order}", a=1, **{f"n{n}": 1})
                )
        await change(store, purchase(10, user="last", a=1))
        assert dict((await together(store, "last"))["a"]) == {f"n{n}": 3.0 for n in range(4)}

    async def test_large_order(self, store: ReadableStore) -> None:
        """An order of 1,000 lines counts wholly for popularity; its first lines are paired."""
        await change(store, purchase(0, **{f"a{n:03d}": 1000 - n for n in range(1000)}))
        assert len(await popular(store)) == 10
        assert len(await together(store)) == 10

    # --- products and reviews

    async def test_product(self, store: ReadableStore) -> None:
        """A product's newest text stands; a removal ends it until something newer."""
        text = {n: orjson.dumps({"title": f'"红" {n}'}).decode() for n in (1, 2, 3)}
        step = StateStep((), read_products=("p", "none"))

        await change(
            store, PutProduct("p", version(2), text[2]), PutProduct("p", version(1), text[1])
        )
        assert (await store.apply(step)).product_texts == {"p": text[2]}
        await change(store, RemoveProduct("p", version(1)))
        assert (await store.apply(step)).product_texts == {"p": text[2]}
        await change(store, RemoveProduct("p", version(3)), PutProduct("p", version(2), text[2]))
        assert (await store.apply(step)).product_texts == {}
        await change(store, PutProduct("p", version(4), text[3]))
        assert (await store.apply(step)).product_texts == {"p": text[3]}

    async def test_reviews(self, store: ReadableStore) -> None:
        """Reviews are read newest first, capped, with text, time and stars."""
        await change(store, *(review(f"r{n}", n) for n in (2, 5, 1, 4)))
        assert await reviews(store) == ["r5", "r4", "r2"]
        view = await store.apply(StateStep((), read_products=("p",)))
        newest = view.reviews["p"][0]
        assert (newest.text, newest.stars, newest.occurred_at_ms) == (
            "fine",
            4.5,
            version(5).occurred_at_ms,
        )

    async def test_corrected_review(self, store: ReadableStore) -> None:
        """A corrected review replaces the old one, also on another product; an older never does."""
        await change(store, review("r", 1, text="old"), review("r", 3, text="new", product="q"))
        await change(store, review("r", 2, text="between"))
        assert await reviews(store) == []
        view = await store.apply(StateStep((), read_products=("q",)))
        assert [kept.text for kept in view.reviews["q"]] == ["new"]

    # --- results

    async def test_only_if_newer(self, store: ReadableStore) -> None:
        """A result is written when not older than what stands, by time and then by event id."""
        kind = ResultKind.RECOMMENDATIONS
        for at, body in (
            (version(2, "b"), "first"),
            (version(1, "z"), "older"),
            (version(2, "a"), "older id"),
        ):
            await store.write([result(kind, "u", at, body=body, user="u")])
        assert b'"first"' in (await store.result(kind, "u") or b"")
        for at, body in ((version(2, "b"), "again"), (version(2, "ba"), "newer id")):
            report = await store.write([result(kind, "u", at, body=body, user="u")])
            assert (report.written, report.older) == (1, 0)
            assert f'"{body}"'.encode() in (await store.result(kind, "u") or b"")

    @pytest.mark.parametrize("order", [(3, 8), (8, 3), (8, 3, 8), (3, 8, 3)])
    @pytest.mark.parametrize("kind", list(ResultKind))
    async def test_one_event_in_two_batches(
        self, store: ReadableStore, kind: ResultKind, order: Sequence[int]
    ) -> None:
        """Of two results of one version that of the later step stands, in any order of writing."""
        reports = [
            await store.write(
                [result(kind, "id", version(2), body=f"step {step}", step=step)], sequence=step
            )
            for step in order
        ]
        assert b'"step 8"' in (await store.result(kind, "id") or b"")
        wanted = [max(order[:place], default=0) <= step for place, step in enumerate(order)]
        assert [report.written == 1 for report in reports] == wanted
        assert all(report.written + report.older == 1 for report in reports)

    async def test_a_newer_event_in_an_earlier_step(self, store: ReadableStore) -> None:
        """The version decides before the step: a late event of a later batch is older."""
        kind = ResultKind.RECOMMENDATIONS
        for hours, step in ((5, 3), (4, 8)):
            await store.write([result(kind, "u", version(hours), step=step)], sequence=step)
        assert b'"step":3' in (await store.result(kind, "u") or b"")

    async def test_report(self, store: ReadableStore) -> None:
        """The report counts what was written, what was older and what was forgotten."""
        kind = ResultKind.SEARCH
        await store.write([result(kind, "e5", version(5))])
        await change(store, ForgetUser("gone", version(3)))
        report = await store.write(
            [
                result(kind, "e4", version(4)),
                result(kind, "e5", version(4)),
                result(kind, "g", version(3), user="gone"),
                result(kind, "h", version(4), user="gone"),
            ]
        )
        assert (report.written, report.older, report.forgotten) == (2, 1, 1)

    async def test_long_query(self, store: ReadableStore) -> None:
        """A query of any length has its result."""
        query = "很长的查询 " * 3000
        await store.write([result(ResultKind.QUERY, query, version(1))])
        assert await store.result(ResultKind.QUERY, query) is not None
        assert await store.result(ResultKind.QUERY, query + "x") is None

    # --- sentiment

    async def test_votes(self, store: ReadableStore) -> None:
        """Reviews add up by label, score and day."""
        await store.write([tags("r1", 1, "positive", 900_000, day=9)])
        await store.write(
            [
                tags("r2", 2, "negative", -800_000, day=10),
                tags("r3", 3, "neutral", 100_000, day=10),
                tags("other", 3, "neutral", 5, product="q"),
            ]
        )
        assert await store.sentiment("p") == SentimentTally(
            negative=1, neutral=1, positive=1, score_micro=200_000,
            newest_days=((2, -700_000), (1, 900_000)),
        )  # fmt: skip
        assert await store.sentiment("none") is None

    async def test_vote_once(self, store: ReadableStore) -> None:
        """A review that is tagged twice by one event votes once, with the later label."""
        await store.write([tags("r", 1, "positive", 900_000)])
        await store.write([tags("r", 1, "positive", 900_000)])
        await store.write([tags("r", 1, "neutral", 10)])
        assert await store.sentiment("p") == SentimentTally(
            negative=0, neutral=1, positive=0, score_micro=10, newest_days=((1, 10),)
        )

    @pytest.mark.parametrize("order", [(3, 8), (8, 3), (8, 3, 8)])
    async def test_one_review_in_two_batches(
        self, store: ReadableStore, order: Sequence[int]
    ) -> None:
        """A review votes once with what the later step said, in any order, its tags gone or not."""
        said: dict[int, tuple[Sentiment, int]] = {3: ("negative", -7), 8: ("positive", 9)}
        for step in order:
            label, score = said[step]
            await store.write([tags("r", 1, label, score, step=step)], sequence=step)
        assert b'"positive"' in (await store.result(ResultKind.TAGS, "r") or b"")
        assert await store.sentiment("p") == SentimentTally(0, 0, 1, 9, ((1, 9),))

    async def test_corrected_vote(self, store: ReadableStore) -> None:
        """A corrected review takes its old vote back, on another product too; an older does not."""
        await store.write([tags("r", 1, "positive", 900_000, day=9)])
        await store.write([tags("r", 3, "negative", -500_000, product="q", day=11)])
        report = await store.write([tags("r", 2, "neutral", 7, day=10)])
        assert (report.written, report.older) == (0, 1)
        assert await store.sentiment("p") == SentimentTally(0, 0, 0, 0, ())
        assert await store.sentiment("q") == SentimentTally(1, 0, 0, -500_000, ((1, -500_000),))

    async def test_many_days(self, store: ReadableStore) -> None:
        """Only the newest days are kept for the trend; the counters keep all."""
        await store.write([tags(f"r{n}", n, "positive", 1, day=n) for n in range(450)])
        tally = await store.sentiment("p")
        assert tally is not None
        assert (tally.positive, tally.score_micro, len(tally.newest_days)) == (450, 450, 30)

    # --- forgetting

    async def test_forget(self, store: ReadableStore) -> None:
        """Forgetting deletes history, results and review texts up to its time, none of others."""
        await change(
            store,
            *(AddHistory("u", event(n)) for n in (1, 2, 3)),
            AddHistory("v", event(1)),
            review("r1", 1),
            review("r3", 3),
            review("rv", 1, user="v"),
            purchase(1, id="e1", a=1, b=1),
        )
        await store.write(
            [
                result(ResultKind.RECOMMENDATIONS, "u", version(3), user="u"),
                result(ResultKind.SEARCH, "s1", version(1), user="u"),
                result(ResultKind.SEARCH, "s3", version(3), user="u"),
                result(ResultKind.SEARCH, "sv", version(1), user="v"),
            ]
        )
        await change(store, ForgetUser("u", version(2)))
        assert await history(store) == ["e003"]
        assert await history(store, "v") == ["e001"]
        assert await reviews(store) == ["r3", "rv"]
        assert await together(store) == {}
        found = [
            await store.result(kind, id)
            for kind, id in (
                (ResultKind.RECOMMENDATIONS, "u"),
                (ResultKind.SEARCH, "s1"),
                (ResultKind.SEARCH, "s3"),
                (ResultKind.SEARCH, "sv"),
            )
        ]
        assert [value is not None for value in found] == [False, False, True, True]

    async def test_forget_within_a_moment(self, store: ReadableStore) -> None:
        """At the very time of the request, event ids decide what is older."""
        await change(store, *(AddHistory("u", event(5, id=id)) for id in ("a", "m", "mm", "n")))
        await change(store, ForgetUser("u", version(5, "m")))
        assert await history(store) == ["mm", "n"]

    async def test_forgotten_events(self, store: ReadableStore) -> None:
        """After forgetting, events up to its version change nothing, newer ones do."""
        late = version(5, "m")
        await change(store, ForgetUser("u", late))
        for at, counts in ((version(5, "a"), False), (late, False), (version(5, "n"), True)):
            await change(
                store,
                AddHistory("u", event(5, id=at.event_id)),
                CountPurchase("u", at, {"a": 1}),
                PutReview("p", at.event_id, "u", at, "text", None),
            )
            assert (await history(store) == [at.event_id]) is counts
            assert (await popular(store) == {"a": 1.0}) is counts
            assert (await reviews(store) == [at.event_id]) is counts

    async def test_forgotten_twice(self, store: ReadableStore) -> None:
        """A forget request that comes again, or an older one, deletes nothing newer."""
        await change(store, ForgetUser("u", version(5)), AddHistory("u", event(6)))
        await store.write([result(ResultKind.RECOMMENDATIONS, "u", version(6), user="u")])
        view = await store.apply(
            StateStep((ForgetUser("u", version(5)), ForgetUser("u", version(4))), read_users=("u",))
        )
        assert view.forgotten == {"u": version(5)}
        assert await history(store) == ["e006"]
        assert await store.result(ResultKind.RECOMMENDATIONS, "u") is not None

    async def test_forgotten_before_the_list_is_written(self, store: ReadableStore) -> None:
        """A newer list made before the forget request did its step is refused, later ones not."""
        before = await store.apply(StateStep((AddHistory("u", event(9)),), read_users=("u",)))
        after = await store.apply(StateStep((ForgetUser("u", version(5)),), read_users=("u",)))
        newer = [result(ResultKind.RECOMMENDATIONS, "u", version(9), user="u")]
        assert (await store.write(newer, sequence=before.sequence)).forgotten == 1
        assert await store.result(ResultKind.RECOMMENDATIONS, "u") is None
        assert (await store.write(newer, sequence=after.sequence)).written == 1

    async def test_forgotten_votes(self, store: ReadableStore) -> None:
        """A forgotten shopper's vote stays in the counts without its record, and counts once."""
        await store.write([tags("r", 1, "positive", 900_000)])
        await change(store, ForgetUser("u", version(2)))
        report = await store.write([tags("r", 1, "positive", 900_000)])
        assert report.forgotten == 1
        assert await store.result(ResultKind.TAGS, "r") is None
        assert await store.sentiment("p") == SentimentTally(0, 0, 1, 900_000, ((1, 900_000),))
