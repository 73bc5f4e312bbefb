"""topics, produce, dead-letters and samples on a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from click.testing import CliRunner, Result

from models.sample import ForgetSample, ReversalSample, ReviewSample, Sample, SearchSample
from tests.support.admin import committed_offsets, create_topics
from tests.support.environment import set_environment
from tests.support.kafka_server import KafkaServer
from tests.support.names import Names
from worker.commands import shopstream
from worker.errors import ShopstreamError
from worker.events.dead_letter import dead_letter_message
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import EventKind
from worker.settings import Settings
from worker.topics import reader
from worker.topics.client import KafkaUnavailable
from worker.topics.layout import TopicLayout
from worker.topics.reader import read_topic

pytestmark = pytest.mark.kafka


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, kafka_bootstrap: str, names: Names
) -> Mapping[str, str]:
    """The worker's variables for this test's own topics; nothing else of SHOPSTREAM_ is set."""
    values = names.environment() | {
        "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "SHOPSTREAM_KAFKA_PARTITIONS": "3",
    }
    set_environment(monkeypatch, values)
    return values


@pytest.fixture
def layout(environment: Mapping[str, str]) -> TopicLayout:
    """The layout of this test's topics, which are created."""
    run("topics", "create")
    return TopicLayout.from_settings(Settings())


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(shopstream, list(arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def failure(*arguments: str) -> str:
    result = CliRunner().invoke(shopstream, list(arguments))
    assert isinstance(result.exception, ShopstreamError), (result.output, result.exception)
    return str(result.exception)


def records(topic: str) -> list[ConsumerRecord]:
    async def read() -> list[ConsumerRecord]:
        return [record async for record in read_topic(Settings(), topic)]

    return asyncio.run(read())


def send(topic: str, *messages: tuple[bytes | None, bytes | None]) -> None:
    async def produce() -> None:
        servers = Settings().kafka_bootstrap_servers
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for key, value in messages:
                await producer.send_and_wait(topic, value, key=key)

    asyncio.run(produce())


def search(number: int, **fields: Any) -> dict[str, Any]:
    event = {"event_id": f"e{number}", "occurred_at": "2025-01-01T00:00:00Z", "query": "耳机"}
    return {**event, "user_id": f"u{number % 7}", **fields}


def write_lines(path: Path, *rows: Any) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def create_unmanaged(servers: str, topic: str, partitions: int) -> None:
    """Create a topic as the shop's own tools would, and return once the broker lists it."""
    create_topics(servers, [topic], partitions=partitions)
    deadline_s = time.monotonic() + 20.0
    while f"{topic}\t{partitions}\n" not in run("topics", "list").stdout:
        assert time.monotonic() < deadline_s, f"{topic} does not come up"


def test_topics_are_created_once_and_fit(environment: Mapping[str, str]) -> None:
    """Missing topics are named, created with equal counts, listed, and left alone afterwards."""
    assert "run `shopstream topics create`" in failure("topics", "check")
    assert "shop.searches\tmissing" in run("topics", "list").stdout
    assert "shop.searches" in run("topics", "create").stdout
    assert run("topics", "create").stdout == "All topics stand already.\n"
    assert run("topics", "check").stdout == "All 12 topics stand and fit together.\n"
    listed = dict(line.split("\t") for line in run("topics", "list").stdout.splitlines())
    layout = TopicLayout.from_settings(Settings())
    assert {listed[topic] for topic in layout.events} == {"3"}
    assert listed[layout.product_vectors] == "1"


def test_new_event_topics_take_the_count_of_those_that_stand(
    environment: Mapping[str, str], kafka_bootstrap: str, names: Names
) -> None:
    """A shop's own topic with another count sets the count of the topics created beside it."""
    create_unmanaged(kafka_bootstrap, f"{names.event_prefix}purchases", 5)
    run("topics", "create")
    listed = dict(line.split("\t") for line in run("topics", "list").stdout.splitlines())
    assert {count for topic, count in listed.items() if ".shop." in topic} == {"5"}


def test_unequal_counts_are_refused_with_each_count(
    environment: Mapping[str, str], kafka_bootstrap: str, names: Names
) -> None:
    """Event topics of unequal counts are neither completed nor accepted."""
    create_unmanaged(kafka_bootstrap, f"{names.event_prefix}purchases", 5)
    create_unmanaged(kafka_bootstrap, f"{names.event_prefix}searches", 2)
    sentence = failure("topics", "create")
    assert "unequal partition counts" in sentence
    assert f"{names.event_prefix}searches 2" in sentence
    assert f"{names.event_prefix}purchases 5" in sentence


def test_produce_sends_the_good_rows_and_names_the_bad(layout: TopicLayout, tmp_path: Path) -> None:
    """Every good row stands in Kafka with its key and its time of sending; bad rows are named."""
    rows = [*(search(number) for number in range(5_000)), "{", search(1, query=" ")]
    file = write_lines(tmp_path / "a.jsonl", *rows)
    result = run("produce", file, "--kind", "search")
    assert result.stdout == "5000 events sent, 2 rows are bad.\n"
    assert f"{file}:5001: not JSON" in result.stderr
    assert f"{file}:5002: query must not be empty" in result.stderr
    found = records(layout.of(EventKind.SEARCH))
    assert sorted(json.loads(record.value)["event_id"] for record in found) == sorted(
        f"e{number}" for number in range(5_000)
    )
    assert all(record.key.decode() == json.loads(record.value)["user_id"] for record in found)
    assert {record.timestamp_type for record in found} == {0}
    assert min(record.timestamp for record in found) > 1_760_000_000_000
    by_partition: dict[int, list[int]] = {}
    for record in found:
        number = int(json.loads(record.value)["event_id"][1:])
        by_partition.setdefault(record.partition, []).append(number)
    assert all(numbers == sorted(numbers) for numbers in by_partition.values())


def test_produce_can_keep_the_time_of_the_event(layout: TopicLayout, tmp_path: Path) -> None:
    """With --timestamps event a record carries its event's time; --json counts what was sent."""
    file = write_lines(tmp_path / "a.jsonl", search(1))
    options = ("--kind", "search", "--timestamps", "event", "--json")
    report = json.loads(run("produce", file, *options).stdout)
    assert report == {"sent": 1, "bad": 0, "faults": []}
    (record,) = records(layout.of(EventKind.SEARCH))
    assert record.timestamp == 1_735_689_600_000


def test_produce_keeps_to_its_rate(layout: TopicLayout, tmp_path: Path) -> None:
    """With --rate 50 the 31st event leaves at least 0.6 s after the first."""
    file = write_lines(tmp_path / "a.jsonl", *(search(number, user_id="u") for number in range(31)))
    run("produce", file, "--kind", "search", "--rate", "50")
    times = sorted(record.timestamp for record in records(layout.of(EventKind.SEARCH)))
    assert times[-1] - times[0] >= 595


def test_produce_needs_its_topics(environment: Mapping[str, str], tmp_path: Path) -> None:
    """Without topics nothing is sent, and the sentence says how to create them."""
    file = write_lines(tmp_path / "a.jsonl", search(1))
    assert "shopstream topics create" in failure("produce", file, "--kind", "search")


def put_letters(layout: TopicLayout, *raws: RawRecord) -> None:
    messages = []
    for raw in raws:
        invalid = decode_event(layout.kind_of(raw.topic), raw, EventLimits())
        assert isinstance(invalid, InvalidEvent)
        key, value, _ = dead_letter_message(invalid)
        messages.append((key, value))
    send(layout.dead_letters, *messages)


def test_dead_letters_are_listed_shown_mended_and_sent_back(
    layout: TopicLayout, tmp_path: Path
) -> None:
    """A letter is listed once, shown, refused while it is invalid, and sent back mended."""
    topic = layout.of(EventKind.SEARCH)
    broken = RawRecord(topic, 2, 17, b"u1", b'{"query": "\xff"}', 1)
    put_letters(layout, broken, broken)
    send(layout.dead_letters, (None, b"foreign"))
    listed = run("dead-letters", "list")
    assert listed.stdout.splitlines() == [
        f"{topic}:2:17\tinvalid_json\tthe value is not UTF-8 (byte 11); send JSON in UTF-8"
    ]
    assert "cannot be read" in listed.stderr
    assert json.loads(run("dead-letters", "list", "--json").stdout)[0]["offset"] == 17
    assert json.loads(run("dead-letters", "list", "--json", "--code", "future").stdout) == []
    assert 'value: {"query": "\\xff"}' in run("dead-letters", "show", f"{topic}:2:17").stdout
    assert "still invalid" in failure("dead-letters", "resend", f"{topic}:2:17")
    assert records(topic) == []
    # the mended event's own user_id is its key, wherever else such a name stands in it
    mended = {"note": {"user_id": "wrong"}, **search(1, user_id="u-蓝")}
    file = write_lines(tmp_path / "mended.json", mended)
    sent = run("dead-letters", "resend", f"{topic}:2:17", "--value", file)
    assert sent.stdout == f"Sent e1 to {topic}.\n"
    (record,) = records(topic)
    assert record.key.decode() == "u-蓝"
    assert json.loads(record.value) == mended


def test_a_record_without_key_is_mended_by_sending_it_again(layout: TopicLayout) -> None:
    """The original of a record whose key was missing goes back with the right key."""
    topic = layout.of(EventKind.SEARCH)
    value = json.dumps(search(1)).encode()
    put_letters(layout, RawRecord(topic, 0, 1, None, value, 1))
    run("dead-letters", "resend", f"{topic}:0:1")
    (record,) = records(topic)
    assert (record.key, record.value) == (b"u1", value)


def test_an_unknown_letter_is_named(layout: TopicLayout) -> None:
    """A letter that is not there is refused with its id."""
    assert "'shop.x:0:0'" in failure("dead-letters", "show", "shop.x:0:0")


def test_samples_are_exported_once(layout: TopicLayout, tmp_path: Path) -> None:
    """Exported samples are unique; what was returned or forgotten is not among them."""
    common: dict[str, Any] = {"occurred_at": "2025-03-01T08:00:00+00:00", "user": "anna"}
    bought: dict[str, Any] = {"positive": "p", "negatives": [], "shown": [], "search_event_id": "e"}
    review: dict[str, Any] = {"product_id": "p", "text": "好", "stars": 5.0}
    samples: list[Sample] = [
        SearchSample(sample_id="s1", query="a", label_key="l1", **bought, **common),
        SearchSample(sample_id="s2", query="b", label_key="l2", **bought, **common),
        SearchSample(sample_id="s2", query="b", label_key="l2", **bought, **common),
        ReversalSample(sample_id="x", label_keys=["l1"], **common),
        ReviewSample(sample_id="r1", **review, **common),
        ReviewSample(sample_id="r2", **review, **common | {"user": "bert"}),
        ForgetSample(sample_id="f", **common | {"user": "bert"}),
    ]
    send(layout.samples, *((one.user.encode(), one.model_dump_json().encode()) for one in samples))
    send(layout.samples, (b"x", b"no sample"))
    out = tmp_path / "samples"
    counts = json.loads(run("samples", "export", "--out", str(out), "--json").stdout)
    expected = {"search": 1, "next-item": 0, "review": 1, "answer": 0}
    assert counts == expected | {"reversed": 1, "forgotten": 1, "unreadable": 1}
    assert json.loads(run("samples", "export", "--out", str(out), "--json").stdout) == counts
    path = out / "search" / "date=2025-03-01" / "samples.parquet"
    assert [row["sample_id"] for row in pq.read_table(path).to_pylist()] == ["s2"]
    assert json.loads(run("samples", "stats", str(out), "--json").stdout)["review"]["samples"] == 1


async def test_reading_a_topic_ends_where_it_stood_and_moves_no_commit(
    environment: Mapping[str, str], kafka_bootstrap: str, names: Names
) -> None:
    """A read sees every record from before it began, none of after, and commits nothing."""
    topic = f"{names.event_prefix}numbers"
    create_topics(kafka_bootstrap, [topic], partitions=3)
    seen: list[int] = []
    progress: list[tuple[int, int]] = []
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        for number in range(300):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % 2)
        async for record in read_topic(Settings(), topic, lambda *at: progress.append(at)):
            if not seen:
                await producer.send_and_wait(topic, b"late", partition=0)
            seen.append(int(record.value))
    assert sorted(seen) == list(range(300))
    assert [number for number in seen if number % 2] == list(range(1, 300, 2))
    assert progress[-1] == (300, 300)
    assert committed_offsets(kafka_bootstrap, names.group) == {}


async def test_reading_a_topic_that_is_not_there_says_so(environment: Mapping[str, str]) -> None:
    """A missing topic is named and not created by asking for it."""
    with pytest.raises(ShopstreamError, match="no topic nothing"):
        await anext(read_topic(Settings(), "nothing"))


async def test_a_broker_that_dies_in_the_middle_ends_the_read(
    own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read whose broker is gone ends with KafkaUnavailable instead of waiting for ever."""
    monkeypatch.setattr(reader, "STALL_TIMEOUT_S", 3.0)
    create_topics(own_kafka.bootstrap_servers, ["numbers"])
    settings = Settings(kafka_bootstrap_servers=own_kafka.bootstrap_servers)
    async with AIOKafkaProducer(bootstrap_servers=own_kafka.bootstrap_servers) as producer:
        for _ in range(20):
            await producer.send_and_wait("numbers", b"x" * 900_000)

    async def read() -> None:
        async for _ in read_topic(settings, "numbers"):
            own_kafka.kill()

    with pytest.raises(KafkaUnavailable):
        await read()
