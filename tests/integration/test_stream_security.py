"""A broker that asks for TLS and a password: the worker reads from it, or says what is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.admin import create_topics
from tests.support.counting import counting_group
from tests.support.kafka_server import KafkaMissing, KafkaServer, kafka_jars
from tests.support.names import Names
from worker.embedded.ports import LOOPBACK, free_ports

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

STORE_PASSWORD = "changeit"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class SecureKafka(NamedTuple):
    """A broker with a plain door for the test's own clients and a guarded one for the worker."""

    open_servers: str
    guarded_servers: str
    ca_file: Path


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return the broker's key store and its certificate in PEM, made by Java's keytool."""
    store, pem = folder / "broker.p12", folder / "ca.pem"
    base = ["keytool", "-alias", "broker", "-keystore", str(store), "-storepass", STORE_PASSWORD]
    names = ["-dname", "CN=localhost", "-ext", f"SAN=dns:localhost,ip:{LOOPBACK}"]
    kind = ["-keyalg", "EC", "-validity", "30", "-storetype", "PKCS12"]
    subprocess.run([*base, "-genkeypair", *names, *kind], check=True, capture_output=True)
    subprocess.run(
        [*base, "-exportcert", "-rfc", "-file", str(pem)], check=True, capture_output=True
    )
    return store, pem


@pytest.fixture(scope="module")
def secure_kafka(
    kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureKafka]:
    """A broker with a listener for TLS and SASL beside the plain one.

    It asks for the shared broker only because that one skips, or fails in CI, without Java.
    """
    try:
        kafka_jars()
    except KafkaMissing as missing:  # the shared broker was given by the environment
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("secure")
    store, pem = make_certificate(folder)
    plain, guarded, controller = free_ports(3)
    doors = f"PLAINTEXT://{LOOPBACK}:{plain},GUARDED://{LOOPBACK}:{guarded}"
    server = KafkaServer(
        folder,
        **{
            "listeners": f"{doors},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised_listeners": doors,
            "controller_quorum_bootstrap_servers": f"{LOOPBACK}:{controller}",
            "listener_security_protocol_map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_SSL"
            ),
            "inter_broker_listener_name": "PLAINTEXT",
            "sasl_enabled_mechanisms": "PLAIN",
            "listener_name_guarded_plain_sasl_jaas_config": f'{LOGIN} user_shop="open sesame";',
            "ssl_keystore_location": str(store),
            "ssl_keystore_password": STORE_PASSWORD,
            "ssl_keystore_type": "PKCS12",
        },
    )
    server.bootstrap_servers = f"{LOOPBACK}:{plain}"
    server.start()
    yield SecureKafka(server.bootstrap_servers, f"{LOOPBACK}:{guarded}", pem)
    server.kill()


def settings(kafka: SecureKafka, password: str = "open sesame") -> dict[str, str]:
    return {
        "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.guarded_servers,
        "SHOPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "SHOPSTREAM_KAFKA_SASL_USERNAME": "shop",
        "SHOPSTREAM_KAFKA_SASL_PASSWORD": password,
        "SHOPSTREAM_KAFKA_SSL_CA_FILE": str(kafka.ca_file),
    }


def test_a_worker_reads_over_tls_with_a_password(
    secure_kafka: SecureKafka, redis_url: str, names: Names, tmp_path: Path
) -> None:
    """Faust's consumer takes the same credentials as the other clients."""
    topics = [f"{names.event_prefix}searches"]
    create_topics(secure_kafka.open_servers, topics, partitions=4)
    with counting_group(
        bootstrap_servers=secure_kafka.open_servers,
        redis_url=redis_url,
        prefix=names.unique,
        topics=topics,
        folder=tmp_path,
    ) as group:
        worker = group.start(**settings(secure_kafka))
        group.produce(100)
        group.wait_all_counted()
        assert worker.stop() == 0


def test_a_wrong_password_ends_with_a_sentence(
    secure_kafka: SecureKafka, redis_url: str, names: Names, tmp_path: Path
) -> None:
    """The worker says that Kafka refused it, shows no secret, and ends with 1."""
    with counting_group(
        bootstrap_servers=secure_kafka.open_servers,
        redis_url=redis_url,
        prefix=names.unique,
        topics=["shop.searches"],
        folder=tmp_path,
    ) as group:
        worker = group.start(**settings(secure_kafka, password="open barley"))
        assert worker.wait() == 1
    (line,) = [line for line in worker.output().splitlines() if "The worker stops" in line]
    assert f"Kafka at {secure_kafka.guarded_servers} cannot be used" in line
    assert "barley" not in worker.output()
