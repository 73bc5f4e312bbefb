"""The outbox on a real broker: every message acknowledged, in order; failures in clear words."""

from __future__ import annotations

import pytest

from tests.support.kafka_server import KafkaServer
from tests.support.names import Names
from tests.support.shop_topics import ShopTopics
from worker.embedded.ports import LOOPBACK, free_ports
from worker.flow.outbox import Outbox, OutboxFailed
from worker.pipeline.batch import OutMessage, OutTopic
from worker.settings import Settings
from worker.topics.client import KafkaUnavailable
from worker.topics.layout import TopicLayout, create_topics

pytestmark = pytest.mark.kafka


def settings_of(bootstrap: str, names: Names) -> Settings:
    return Settings(
        kafka_bootstrap_servers=bootstrap,
        topic_prefix=names.event_prefix,
        internal_topic_prefix=names.internal_prefix,
        kafka_partitions=2,
    )


def outbox_of(settings: Settings) -> Outbox:
    layout = TopicLayout.from_settings(settings)
    return Outbox(
        settings,
        {OutTopic.SAMPLES: layout.samples, OutTopic.PRODUCT_VECTORS: layout.product_vectors},
    )


async def test_all_messages_stand_in_order_once_send_returns(
    kafka_bootstrap: str, names: Names
) -> None:
    """Two batches to two topics: each record once, in order, with headers and tombstones."""
    settings = settings_of(kafka_bootstrap, names)
    await create_topics(settings)
    outbox = outbox_of(settings)
    await outbox.start()
    for start in (0, 500):
        await outbox.send(
            [
                OutMessage(OutTopic.PRODUCT_VECTORS, b"p", b"%d" % number, [("n", b"%d" % number)])
                for number in range(start, start + 500)
            ]
            + [OutMessage(OutTopic.PRODUCT_VECTORS, b"p", None)]
            + [OutMessage(OutTopic.SAMPLES, b"%d" % start, b"s")]
        )
    assert await outbox.answers()
    shop = ShopTopics(kafka_bootstrap, names)
    found = shop.read(shop.layout.product_vectors)
    expected = [*range(500), None, *range(500, 1000), None]
    assert [value and int(value) for value in (m.value() for m in found)] == expected
    assert found[7].headers() == [("n", b"7")]
    assert len(shop.read(shop.layout.samples)) == 2
    await outbox.stop()


async def test_a_message_that_kafka_refuses_is_a_clear_failure(
    kafka_bootstrap: str, names: Names
) -> None:
    """A record beyond the topic's limit raises, names the topic and says what to raise."""
    settings = settings_of(kafka_bootstrap, names)
    await create_topics(settings)
    outbox = outbox_of(settings)
    await outbox.start()
    with pytest.raises(OutboxFailed, match=r"samples.*max\.message\.bytes"):
        await outbox.send([OutMessage(OutTopic.SAMPLES, b"k", b"x" * 2_000_000)])
    await outbox.stop()


async def test_no_broker_is_one_clear_sentence(names: Names) -> None:
    """A start without a broker says which setting to check."""
    outbox = outbox_of(settings_of(f"{LOOPBACK}:{free_ports(1)[0]}", names))
    with pytest.raises(KafkaUnavailable, match="SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS"):
        await outbox.start()
    await outbox.stop()


async def test_a_broker_that_is_gone_does_not_answer(own_kafka: KafkaServer, names: Names) -> None:
    """What /health asks is false once the broker has ended."""
    settings = settings_of(own_kafka.bootstrap_servers, names)
    outbox = outbox_of(settings)
    await outbox.start()
    assert await outbox.answers()
    own_kafka.kill()
    assert not await outbox.answers()
    await outbox.stop()
