"""`shopstream demo` as people start it: broker, Redis, worker and shop, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_trunk import write_tiny_trunk
from worker.embedded.broker import packaged_broker
from worker.embedded.guarded_process import EmbeddedUnavailable
from worker.embedded.redis_server import packaged_redis_server

COMMAND = (sys.executable, "-m", "worker.commands", "demo")
END_TIMEOUT_S = 240.0
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _embedded_servers() -> None:
    try:
        packaged_broker()
        packaged_redis_server()
    except EmbeddedUnavailable as missing:
        pytest.skip(str(missing))


@contextmanager
def demo(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A started demo; its marker in the environment is inherited by all its processes."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), **environment},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def leftovers(folder: Path) -> list[str]:
    """The processes that still run with this folder, or one in it, as their TMPDIR."""
    marker = f"TMPDIR={folder}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            if any(one == marker or one.startswith(marker + b"/") for one in variables):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended while we looked, or not ours
            continue
    return found


def folders(folder: Path) -> list[str]:
    """The folders of a demo that still stand in its TMPDIR."""
    return [path.name for path in folder.glob("shopstream*")]


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """Read standard error until a line holds these words; returns all that was read."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if words in line:
            return read
    raise AssertionError(f"the demo ended before it said {words!r}: {read}")


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_the_demo_ends_by_itself_with_everything_answered(tmp_path: Path, locale: str) -> None:
    """With --seconds it ends with 0; its last line is one JSON object; nothing is lost or left."""
    with demo(
        tmp_path, "--seconds", "8", "--rate", "15", "--locale", locale,
        "--products", "72", "--svg", str(tmp_path / "view.svg"),
    ) as process:  # fmt: skip
        output, errors = process.communicate(timeout=END_TIMEOUT_S)
    assert process.returncode == 0, errors
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert report["lost"] == 0, errors
    assert report["locale"] == locale
    assert report["answered"]["product"] >= 72
    assert report["answered"]["search"] > 0
    for kind, sent in report["sent"].items():
        assert 0 <= report["answered"][kind] <= sent
    assert (
        sum(report["sent"].values())
        == sum(report["answered"].values()) + report["dead_letters"] + report["lost"]
    )
    assert 0 < report["p50_ms"] <= report["p99_ms"] <= report["max_ms"]
    assert report["batches"] > 0
    assert "Live after" in errors
    assert "<svg" in (tmp_path / "view.svg").read_text(encoding="utf-8")
    assert leftovers(tmp_path) == []
    assert folders(tmp_path) == []


@pytest.mark.timeout(900)  # about 75 s on two cores; the job gives way to whatever else works
def test_a_release_is_trained_gated_and_swapped_in_while_the_demo_runs(tmp_path: Path) -> None:
    """The first job's release serves results, better than before; Ctrl-C then leaves nothing."""
    with demo(tmp_path, "--products", "72", SHOPSTREAM_RELEASES_URL="theirs") as process:
        lines = wait_for(process, ", after ")  # both qualities are told
        assert "✓ swapped in (" in lines
        assert "✓ passed the gate" in lines
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=END_TIMEOUT_S)
    assert process.returncode == 0, errors
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert report["lost"] == 0, errors
    (released,) = report["releases"]
    assert report["release"] == released["release"]
    assert report["swapped_after_s"] == released["swapped_after_s"] > 0
    gate, before, after = released["gate"], report["quality_before"], report["quality_after"]
    assert gate["difference"]["low"] > 0
    assert gate["difference"]["n"] <= gate["after"]["n"] >= 60
    assert before["n"] >= 120
    assert after["n"] >= 1
    assert after == released["tags_right"]
    tagged = before["n"] + after["n"]
    right = before["value"] * before["n"] + after["value"] * after["n"]
    assert right / tagged == pytest.approx(report["scores"]["sentiment_right"], abs=1e-3)
    assert report["jobs"][0]["outcome"] == "released"
    assert not (Path.cwd() / "theirs").exists()
    assert leftovers(tmp_path) == []
    assert folders(tmp_path) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_job_under_way_ends_with_the_demo(tmp_path: Path, end: signal.Signals) -> None:
    """Stopped or killed while a job works: the job is gone too, with all that it made."""
    trunk = write_tiny_trunk(tmp_path / "trunk")
    with demo(
        tmp_path, "--products", "120", "--rate", "100", SHOPSTREAM_MODEL=str(trunk)
    ) as process:
        wait_for(process, "Live after")
        deadline_s = time.monotonic() + END_TIMEOUT_S
        while not list(tmp_path.glob("shopstream-demo-*/retrain-1.log")):
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        process.send_signal(end)
        output, errors = process.communicate(timeout=END_TIMEOUT_S)
    if end is signal.SIGINT:
        assert process.returncode == 0, errors
        report = json.loads(output.splitlines()[-1])
        assert report["lost"] == 0, errors
        assert report["jobs"][0]["outcome"] == "cut off"
        assert report["releases"] == []
        assert report["quality_before"] is report["quality_after"] is None
        assert "The learning loop: no release was swapped in" in errors
    deadline_s = time.monotonic() + 40.0
    while leftovers(tmp_path) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert leftovers(tmp_path) == []
    assert folders(tmp_path) == []


@pytest.mark.parametrize("when", ["The worker loads its models", "Live after"])
def test_ctrl_c_ends_it_cleanly_at_any_time(tmp_path: Path, when: str) -> None:
    """SIGINT while it starts or while events flow: status 0, and no process or file remains."""
    with demo(tmp_path, "--products", "24", SHOPSTREAM_MODEL="null") as process:
        wait_for(process, when)
        if when == "Live after":
            time.sleep(2.0)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60.0)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    if when == "Live after":
        assert json.loads(output.splitlines()[-1])["lost"] == 0
    assert leftovers(tmp_path) == []
    assert folders(tmp_path) == []


def test_occupied_ports_and_a_deployments_settings_do_not_matter(tmp_path: Path) -> None:
    """Kafka's and Redis's own ports taken, settings of a deployment set: the demo has its own."""
    with closing(socket.socket()) as kafka, closing(socket.socket()) as redis:
        for taken, port in ((kafka, 9092), (redis, 6379)):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", port))
                taken.listen()
            except OSError:
                pass  # then somebody else occupies it, which is as good
        with demo(
            tmp_path, "--seconds", "2", "--rate", "10", "--products", "24",
            SHOPSTREAM_MODEL="null",
            SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS="nowhere.invalid:9092",
            SHOPSTREAM_REDIS_URL="redis://nowhere.invalid:6379/0",
            SHOPSTREAM_TOPIC_PREFIX="theirs.",
        ) as process:  # fmt: skip
            output, errors = process.communicate(timeout=END_TIMEOUT_S)
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["lost"] == 0


def test_a_worker_that_dies_is_told_with_its_last_lines(tmp_path: Path) -> None:
    """A worker that cannot start: status 1, one reason a person can act on, and the logs kept."""
    with demo(tmp_path, SHOPSTREAM_MODEL=str(tmp_path / "no-such-model")) as process:
        output, errors = process.communicate(timeout=END_TIMEOUT_S)
    assert process.returncode == 1
    assert output == ""
    assert "no-such-model" in errors
    assert "Traceback (most recent call last)" not in errors
    (logs,) = re.findall(r"Logs: (.+)", errors)
    assert "no-such-model" in (Path(logs) / "worker.log").read_text()
    assert leftovers(tmp_path) == []


def test_a_killed_demo_takes_its_servers_with_it(tmp_path: Path) -> None:
    """SIGKILL to the demo leaves neither broker, Redis nor worker behind."""
    with demo(tmp_path, "--products", "24", SHOPSTREAM_MODEL="null") as process:
        wait_for(process, "Live after")
        assert len(leftovers(tmp_path)) >= 4
        process.kill()
        process.wait()
    deadline_s = time.monotonic() + 40.0
    while leftovers(tmp_path) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert leftovers(tmp_path) == []
    assert folders(tmp_path) == []


@pytest.mark.parametrize(
    "arguments", [("--seconds", "0"), ("--rate", "-1"), ("--locale", "fr"), ("--products", "0")]
)
def test_wrong_usage_is_refused_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, str]
) -> None:
    """Wrong options end with status 2 and start nothing."""
    with demo(tmp_path, *arguments) as process:
        output, errors = process.communicate(timeout=60.0)
    assert process.returncode == 2
    assert arguments[0] in errors
    assert output == ""
    assert folders(tmp_path) == []


def test_logs_stay_where_they_were_asked_for(tmp_path: Path) -> None:
    """--logs keeps the logs of broker, Redis and worker."""
    logs = Path(tempfile.mkdtemp(dir=tmp_path))
    with demo(
        tmp_path, "--seconds", "1", "--products", "24", "--logs", str(logs), SHOPSTREAM_MODEL="null"
    ) as process:
        _, errors = process.communicate(timeout=END_TIMEOUT_S)
    assert process.returncode == 0, errors
    assert {path.name for path in logs.iterdir()} >= {"broker.log", "redis.log", "worker.log"}
