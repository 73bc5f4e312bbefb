"""The options of every Kafka client of shopstream, and the error when Kafka is not there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaError

from worker.errors import ShopstreamError
from worker.settings import Settings

MAX_REQUEST_BYTES = 8 * 1024 * 1024  # a dead letter holds a whole event, a third larger as base64


class KafkaUnavailable(ShopstreamError):
    """Kafka could not be reached or refused; the message says what to do."""


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments that all aiokafka clients share.

    Raises `KafkaUnavailable` when a certificate or key file cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": [
            server.strip() for server in settings.kafka_bootstrap_servers.split(",")
        ],
        "client_id": settings.kafka_client_id,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        assert settings.kafka_sasl_password is not None  # kept by the settings' own check
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    return options


def producer_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of an `AIOKafkaProducer` that loses nothing and keeps the order.

    What a retry may double without an idempotent producer is harmless: every record has its id.
    """
    return client_options(settings) | {
        "acks": "all",
        "enable_idempotence": settings.kafka_idempotent_producer,
        "max_request_size": MAX_REQUEST_BYTES,
        "linger_ms": 5,
    }


@asynccontextmanager
async def kafka_errors(settings: Settings) -> AsyncIterator[None]:
    """Turn the Kafka client's errors inside the block into `KafkaUnavailable`."""
    try:
        yield
    except (KafkaError, ConnectionError, TimeoutError, socket.gaierror) as error:
        raise unavailable(settings, error) from error


def unavailable(settings: Settings, error: BaseException) -> KafkaUnavailable:
    """Return the sentence for an error of the Kafka client."""
    detail = str(error) or type(error).__name__
    if isinstance(error, KafkaConnectionError):  # its own text lists sockets
        detail = "no broker answers"
    return KafkaUnavailable(
        f"Kafka at {settings.kafka_bootstrap_servers} cannot be used ({detail}): check that the "
        "broker runs, SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS and SHOPSTREAM_KAFKA_SECURITY_PROTOCOL"
    )


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
        if settings.kafka_ssl_certificate_file is not None:
            context.load_cert_chain(
                settings.kafka_ssl_certificate_file, settings.kafka_ssl_key_file
            )
    except (OSError, ssl.SSLError) as error:
        raise KafkaUnavailable(
            f"the TLS files for Kafka cannot be used ({error}): check "
            "SHOPSTREAM_KAFKA_SSL_CA_FILE, SHOPSTREAM_KAFKA_SSL_CERTIFICATE_FILE "
            "and SHOPSTREAM_KAFKA_SSL_KEY_FILE"
        ) from error
    return context
