"""The Faust app: stock agents, conductor, assignment and recovery on the record-batch transport.

Nothing of Faust's own is configured from its environment variables or its command line: all comes
from `worker.settings`. Left out on purpose: the web server, tables, the leader topic, replies,
Faust's producer, topic creation, the data folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.auth import Credentials, SASLCredentials, SSLCredentials
from faust.tables.manager import TableManager

from worker.settings import Settings
from worker.stream.agents import add_agents
from worker.stream.chunk import ChunkHandler
from worker.stream.intake import Intake
from worker.stream.transport import RecordTransport
from worker.topics.client import client_options

# The services' own logger: mode tells of every start and stop, and names loggers by module.
faust_logger = logging.getLogger("faust.shopstream")

# Counted while no fetch runs, as when the credit is used up; a stuck batch ends the worker long
# before (see Intake).
MAX_POLL_INTERVAL_S = 3600.0

REBALANCE_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 40.0

# How much of `shutdown_timeout_s` each step of a stop may take; a tenth is left for the rest.
STOP_DRAIN_SHARE = 0.5
COMMIT_SHARE = 0.2
LEAVE_SHARE = 0.2


class NoTables(TableManager):
    """The table manager of an app without tables.

    Stock sleeps a second first, so that tables of agents still starting are found.
    """

    logger = faust_logger

    async def on_start(self) -> None:
        """Let the conductor subscribe at once, and start the recovery that resumes the flow."""
        await self._update_channels()
        await self.recovery.start()


class ConsumerOnly(BootStrategy):
    """Start the consumer, the agents and the conductor; no web server, no producer."""

    enable_web = False
    enable_kafka_producer = False


class StreamApp(faust.App):
    """Faust's app with our transport; carries what the consumer needs."""

    BootStrategy = ConsumerOnly
    logger = faust_logger

    def __init__(self, settings: Settings, intake: Intake, **options: Any) -> None:
        self.settings = settings
        self.intake = intake
        self.fault_reported = False
        self.stopped_cleanly = True
        super().__init__(settings.kafka_group, **options)

    @property
    def failed(self) -> bool:
        """True once a fault is known: a stop then does not wait for the handler."""
        return self.fault_reported or bool(self.crashed)

    @property
    def stop_drain_s(self) -> float:
        """Longest wait for the batches in flight at a stop."""
        return STOP_DRAIN_SHARE * self.settings.shutdown_timeout_s

    @property
    def commit_timeout_s(self) -> float:
        """Longest wait for the answer to one commit."""
        return COMMIT_SHARE * self.settings.shutdown_timeout_s

    @property
    def leave_timeout_s(self) -> float:
        """Longest wait for the group to let this worker go."""
        return LEAVE_SHARE * self.settings.shutdown_timeout_s

    def _new_transport(self) -> RecordTransport:
        return RecordTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Create none: without tables nothing is kept on disk."""


def build_app(settings: Settings, handler: ChunkHandler, topics: Sequence[str]) -> StreamApp:
    """Return an app, to be started in the running loop, that feeds `handler` from `topics`."""
    intake = Intake(handler, settings.events_in_flight)
    app = StreamApp(settings, intake, **_options(settings))
    app.finalize()
    add_agents(app, topics, intake)
    return app


def _options(settings: Settings) -> dict[str, Any]:
    servers = settings.kafka_bootstrap_servers.split(",")
    return {
        # Without this Faust's own variables (WEB_ENABLED, BROKER_URL …) override what stands here.
        "env": {},
        "autodiscover": False,
        "broker": ";".join(f"kafka://{server.strip()}" for server in servers),
        "broker_credentials": _credentials(settings),
        "broker_client_id": settings.kafka_client_id,
        "broker_session_timeout": settings.kafka_session_timeout_s,
        "broker_heartbeat_interval": settings.kafka_heartbeat_interval_s,
        "broker_request_timeout": max(REQUEST_TIMEOUT_S, 2 * settings.kafka_session_timeout_s),
        "broker_rebalance_timeout": max(REBALANCE_TIMEOUT_S, 2 * settings.drain_timeout_s),
        "broker_max_poll_interval": MAX_POLL_INTERVAL_S,
        "broker_commit_interval": settings.kafka_commit_interval_s,
        "broker_max_poll_records": settings.kafka_max_poll_records,
        # Where a partition's commit fell out of the log, the oldest that is left comes next, also
        # with `latest`: that setting says where a new group begins (see RecordThread).
        "consumer_auto_offset_reset": "earliest",
        # A chunk holds one event at least, so the credit bounds the chunks in a channel.
        "stream_buffer_maxsize": settings.events_in_flight,
        "stream_wait_empty": True,
        "table_standby_replicas": 0,
        "TableManager": NoTables,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "reply_create_topic": False,
        "web_enabled": False,
    }


def _credentials(settings: Settings) -> Credentials | None:
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = client_options(settings).get("ssl_context")
    if protocol == "SSL":
        return SSLCredentials(context=context)
    password = settings.kafka_sasl_password
    return SASLCredentials(
        username=settings.kafka_sasl_username,
        password=password.get_secret_value() if password else None,
        mechanism=settings.kafka_sasl_mechanism,
        ssl_context=context if protocol == "SASL_SSL" else None,
    )
