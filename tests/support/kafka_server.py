"""Apache Kafka 4.1 in KRaft mode, one node, from its jars by Maven, under Java 17."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.admin import broker_answers
from worker.embedded.guarded_process import GuardedProcess
from worker.embedded.ports import LOOPBACK, free_ports

REPOSITORY = Path(__file__).parents[2]
POM = REPOSITORY / "tests" / "integration" / "kafka" / "pom.xml"
JARS = REPOSITORY / ".kafka"
START_TIMEOUT_S = 90.0
DOWNLOAD_TIMEOUT_S = 600.0

# A small heap, one cheap compiler and one GC thread: the tests share two cores with the broker.
JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class KafkaMissing(Exception):
    """Apache Kafka cannot be had on this machine; the message says what is missing."""


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars, fetched by Maven once per state of the pom.

    Raises `KafkaMissing` where Java or Maven is absent, or Maven could not fetch.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise KafkaMissing(f"Apache Kafka needs {program} on PATH (Java 17 and Maven)")
    folder = JARS / f"jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        _fetch_jars(folder)
    return folder


def _fetch_jars(folder: Path) -> None:
    # beside its final place and then renamed: two test runs at once never see half of it
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise KafkaMissing(f"Maven could not fetch Apache Kafka: {done.stdout[-1000:]}")
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)


def java_command(main_class: str) -> list[str]:
    """Return the command that runs one of Kafka's programs; raises `KafkaMissing`."""
    log_level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return ["java", *JVM_OPTIONS, log_level, "-cp", f"{kafka_jars()}/*", main_class]


def write_server_properties(
    path: Path, *, data: Path, port: int, controller_port: int, extra: dict[str, str]
) -> None:
    """Write the configuration of a single broker and controller for tests."""
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller_port}",
        "log.dirs": str(data),
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "auto.create.topics.enable": "false",
        "log.cleaner.dedupe.buffer.size": str(2 * 1024 * 1024),
        "controlled.shutdown.enable": "false",
        # a restarted broker waits for its own old session to end (9 s unless told)
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        **extra,
    }
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


class KafkaServer:
    """One broker with its data in `folder`; can be stopped, killed and started again."""

    def __init__(self, folder: Path, **properties: str) -> None:
        self._folder = folder
        self._properties = folder / "server.properties"
        self._process: GuardedProcess | None = None
        self.port, controller_port = free_ports(2)
        self.bootstrap_servers = f"{LOOPBACK}:{self.port}"
        write_server_properties(
            self._properties,
            data=folder / "data",
            port=self.port,
            controller_port=controller_port,
            extra={name.replace("_", "."): value for name, value in properties.items()},
        )
        format_ = ["format", "--standalone", "-t", "c2hvcHN0cmVhbS10ZXN0cw", "-c"]
        subprocess.run(
            [*java_command("kafka.tools.StorageTool"), *format_, str(self._properties)],
            check=True,
            capture_output=True,
            timeout=START_TIMEOUT_S,
        )

    def start(self) -> None:
        """Start the broker (again) and return once it answers; data and port stay the same."""
        self._process = GuardedProcess(
            "Apache Kafka",
            [*java_command("kafka.Kafka"), str(self._properties)],
            log_path=self._folder / "kafka.log",
            stop_s=20.0,
        )
        try:
            self._process.wait_ready(
                lambda: broker_answers(self.bootstrap_servers), START_TIMEOUT_S
            )
        except BaseException:
            self._process.kill()
            raise

    def stop(self) -> None:
        """End the broker by SIGTERM, as an operator would."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """End the broker by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop by SIGTERM and start again."""
        self.stop()
        self.start()
