"""get, forget and doctor against real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import pytest
from aiokafka import AIOKafkaConsumer
from click.testing import CliRunner, Result

from tests.support.environment import set_environment
from tests.support.names import Names
from worker.commands import doctor, forget, get
from worker.commands.doctor.finding import Status
from worker.errors import ShopstreamError
from worker.events.event import EventKind, Forget
from worker.settings import Settings
from worker.store.contract import ForgetUser, ResultKind, ResultWrite, StateStep, Version
from worker.store.redis_store import RedisStore
from worker.store.results import RankedItem, ReasonJson, Recommendations, version_text
from worker.topics.layout import TopicLayout, create_topics

pytestmark = pytest.mark.redis
AT = Version(1_700_000_000_000, "e1")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, names: Names) -> Mapping[str, str]:
    """The worker's variables for this test's own names; nothing else of SHOPSTREAM_ is set."""
    values = names.environment() | {"SHOPSTREAM_REDIS_URL": redis_url}
    set_environment(monkeypatch, values)
    return values


@pytest.fixture
async def store(environment: Mapping[str, str]) -> AsyncIterator[RedisStore]:
    store = RedisStore.from_settings(Settings())
    yield store
    await store.close()


def recommendations() -> ResultWrite:
    reason = ReasonJson(kind="bought", text="因为您买过 [bold]红裙")
    result = Recommendations(
        version=version_text(AT),
        event_id=AT.event_id,
        occurred_at="2023-11-14T22:13:20Z",
        written_at="2023-11-14T22:13:21Z",
        release="r1",
        batch_id="b-1",
        user_id="u",
        items=[RankedItem(product_id="p[1]", title="红色连衣裙", score=0.25, reason=reason)],
    )
    return ResultWrite(ResultKind.RECOMMENDATIONS, "u", AT, result.model_dump_json().encode(), 60)


async def invoke(command: object, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, arguments)  # type: ignore[arg-type]


async def test_get(store: RedisStore) -> None:
    """A result is shown with its reasons in any script, brackets too, and as JSON as it stands."""
    written = recommendations()
    await store.write([written])
    shown = await invoke(get.command, "recommendations", "u")
    assert shown.exit_code == 0
    for part in ("红色连衣裙", "p[1]", "因为您买过 [bold]红裙", "0.250", "e1"):
        assert part in shown.stdout
    as_json = await invoke(get.command, "recommendations", "u", "--json")
    assert json.loads(as_json.stdout) == json.loads(written.value)


async def test_get_absent(environment: Mapping[str, str]) -> None:
    """What does not stand is one sentence and a failure, without and with waiting."""
    at_once = await invoke(get.command, "search", "e9")
    assert isinstance(at_once.exception, ShopstreamError)
    assert "no search result for search event e9" in str(at_once.exception)
    waited = await invoke(get.command, "trending", "--wait", "0.1")
    assert "after 0.1 s" in str(waited.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("search",),
        ("trending", "x"),
        ("answer", "q", "--after-event", "e"),
        ("tags", "r", "--wait", "-1"),
    ],
)
async def test_get_usage(environment: Mapping[str, str], arguments: tuple[str, ...]) -> None:
    """Wrong usage is status 2."""
    assert (await invoke(get.command, *arguments)).exit_code == 2


async def test_get_waits(store: RedisStore) -> None:
    """`--wait` ends as soon as the result of the event stands."""
    waiting = asyncio.create_task(
        invoke(get.command, "recommendations", "u", "--wait", "30", "--after-event", "e1", "--json")
    )
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await store.write([recommendations()])
    assert json.loads((await waiting).stdout)["event_id"] == "e1"


async def test_get_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Redis the command says what to do."""
    monkeypatch.setenv("SHOPSTREAM_REDIS_URL", "redis://user:secret@127.0.0.1:1/0")
    result = await invoke(get.command, "trending")
    assert "redis://127.0.0.1:1/0 cannot be reached; start it or set" in str(result.exception)
    assert "secret" not in str(result.exception)


@pytest.mark.kafka
async def test_forget(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, kafka_bootstrap: str
) -> None:
    """The request reaches the privacy topic; --wait ends when a worker has carried it out."""
    monkeypatch.setenv("SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    settings = Settings()
    await create_topics(settings)
    await store.write([recommendations()])
    late = await invoke(forget.command, "u", "--wait", "0.5")
    assert "no worker carried it out within 0.5 s" in str(late.exception)

    waiting = asyncio.create_task(invoke(forget.command, "u", "--wait", "60"))
    topic = TopicLayout.from_settings(settings).of(EventKind.FORGET)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        requests = [await consumer.getone(), await consumer.getone()]
    finally:
        await consumer.stop()
    assert {record.key for record in requests} == {b"u"}
    events = [Forget.model_validate_json(record.value) for record in requests]
    assert len({event.event_id for event in events}) == 2
    changes = [
        ForgetUser(event.user_id, Version(event.occurred_at_ms, event.event_id)) for event in events
    ]
    await store.apply(StateStep(changes))
    done = await waiting
    assert done.exit_code == 0
    assert "u is forgotten" in done.stdout
    assert await store.result(ResultKind.RECOMMENDATIONS, "u") is None


@pytest.mark.kafka
async def test_doctor(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, kafka_bootstrap: str
) -> None:
    """With all servers up nothing fails; missing topics are a warning, unequal ones a failure."""
    monkeypatch.setenv("SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    before = json.loads((await invoke(doctor.command, "--json")).stdout)
    assert before["ok"] is True
    assert "do not stand yet" in json.dumps(before)
    await create_topics(Settings())
    result = await invoke(doctor.command)
    assert result.exit_code == 0
    for part in (
        "4 partitions of each event topic",
        "a producer starts",
        "runs the worker's scripts",
    ):
        assert part in result.stdout
    monkeypatch.setenv("SHOPSTREAM_GUARD_TTL_S", "3600")
    assert "keep events longer than SHOPSTREAM_GUARD_TTL_S" in (await invoke(doctor.command)).stdout


async def test_doctor_without_servers(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Kafka and Redis the doctor names both, with status 1, within seconds."""
    monkeypatch.setenv("SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("SHOPSTREAM_REDIS_URL", "redis://127.0.0.1:1/0")
    result = await invoke(doctor.command, "--json")
    assert result.exit_code == 1
    failed = {
        check["subject"]: check["text"]
        for check in json.loads(result.stdout)["checks"]
        if check["status"] == Status.FAILED
    }
    assert set(failed) == {"kafka", "redis"}
    assert "127.0.0.1:1" in failed["kafka"]


async def test_doctor_on_password(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong login is told as such."""
    from worker.commands.doctor.redis import check_redis

    wrong = redis_url.replace("://", "://nobody:wrong@", 1)
    monkeypatch.setenv("SHOPSTREAM_REDIS_URL", wrong)
    (finding,) = await check_redis(Settings())
    assert finding.status is Status.FAILED
    assert "refused the login" in finding.text
    assert "wrong" not in finding.text
