"""The Faust app as it is built from the settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faust.types.auth import AuthProtocol
from mode.supervisors import CrashingSupervisor

from tests.support.holding_handler import HoldingHandler
from worker.settings import Settings
from worker.stream.app import StreamApp, build_app

TOPICS = ("shop.searches", "shop.reviews")


def app_of(**settings: Any) -> StreamApp:
    return build_app(Settings(**settings), HoldingHandler(), TOPICS)


async def test_every_topic_has_one_agent_that_crashes_the_worker() -> None:
    """Faust's default supervisor restarts an agent and goes on without what it held."""
    app = app_of()
    topics = [agent.get_topic_names() for agent in app.agents.values()]
    assert sorted(map(list, topics)) == [["shop.reviews"], ["shop.searches"]]
    assert all(agent.supervisor_strategy is CrashingSupervisor for agent in app.agents.values())
    assert all(agent.concurrency == 1 for agent in app.agents.values())


async def test_faust_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust's own variables would override what the settings say."""
    monkeypatch.setenv("WEB_ENABLED", "true")
    monkeypatch.setenv("BROKER_URL", "kafka://elsewhere:1")
    monkeypatch.setenv("APP_BROKER_SESSION_TIMEOUT", "1")
    monkeypatch.setenv("BROKER_SESSION_TIMEOUT", "1")
    app = app_of(kafka_bootstrap_servers="one:9092, two:9093")
    assert app.conf.web_enabled is False
    assert [(url.host, url.port) for url in app.conf.broker] == [("one", 9092), ("two", 9093)]
    assert app.conf.broker_session_timeout == 10.0


async def test_no_web_server_and_no_producer_are_started() -> None:
    """Faust's web server takes a fixed port: a second worker on the host could not start."""
    app = app_of()
    assert list(app.boot_strategy.web_server()) == []
    assert list(app.boot_strategy.kafka_producer()) == []
    app.conf.web_enabled = True
    assert list(app.boot_strategy.web_server()) == []


async def test_the_client_is_named_and_timed_by_the_settings() -> None:
    """Client id, group, session, heartbeat, commit interval and poll size come from settings."""
    app = app_of(
        kafka_client_id="shop-7",
        kafka_group="readers",
        kafka_session_timeout_s=30,
        kafka_heartbeat_interval_s=2,
        kafka_commit_interval_s=0.25,
        kafka_max_poll_records=77,
    )
    conf = app.conf
    assert (conf.broker_client_id, conf.id) == ("shop-7", "readers")
    assert (conf.broker_session_timeout, conf.broker_heartbeat_interval) == (30.0, 2.0)
    assert (conf.broker_commit_interval, conf.broker_max_poll_records) == (0.25, 77)
    assert conf.broker_request_timeout > conf.broker_session_timeout


async def test_an_event_out_of_the_log_falls_back_to_the_oldest() -> None:
    """`latest` says where a new group begins, never where one goes on that fell behind."""
    assert app_of(kafka_offset_reset="latest").conf.consumer_auto_offset_reset == "earliest"


async def test_a_channel_holds_as_many_chunks_as_the_credit_events() -> None:
    """A full channel would raise, so it must not fill before the credit is used up."""
    app = app_of(events_in_flight=9_000)
    assert app.conf.stream_buffer_maxsize == 9_000


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("SASL_PLAINTEXT", AuthProtocol.SASL_PLAINTEXT),
        ("SASL_SSL", AuthProtocol.SASL_SSL),
        ("SSL", AuthProtocol.SSL),
    ],
)
async def test_credentials_follow_the_protocol(protocol: str, expected: AuthProtocol) -> None:
    """SASL and TLS settings become Faust credentials of the same protocol."""
    app = app_of(
        kafka_security_protocol=protocol,
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="shop",
        kafka_sasl_password="secret",
    )
    credentials = app.conf.broker_credentials
    assert credentials.protocol is expected
    if "SASL" in protocol:
        assert (credentials.username, credentials.password) == ("shop", "secret")
        assert credentials.mechanism.value == "SCRAM-SHA-512"


async def test_plaintext_needs_no_credentials() -> None:
    """Without security nothing is sent."""
    assert app_of().conf.broker_credentials is None


def test_a_deadline_ends_a_process_that_hangs(tmp_path: Path) -> None:
    """With the main thread stuck in a join, the process still ends, with the status asked for."""
    script = tmp_path / "hang.py"
    script.write_text(
        "import threading\n"
        "from worker.stream.shutdown import Deadline\n"
        "Deadline(0.2).start(75)\n"
        "stuck = threading.Thread(target=threading.Event().wait)\n"
        "stuck.start()\n"
        "stuck.join()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 75
    assert "did not stop within 0.2 s" in done.stderr
