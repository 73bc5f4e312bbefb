"""A server that speaks Google Cloud Storage: gcp-storage-emulator, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from worker.embedded.guarded_process import GuardedProcess
from worker.embedded.ports import LOOPBACK, free_ports

START_TIMEOUT_S = 60.0
_SERVE = "from gcp_storage_emulator.__main__ import main; main()"


class GcsServer:
    """One server with a bucket `shop`, in memory; its log beside `folder`."""

    scheme = "gs"

    def __init__(self, folder: Path) -> None:
        """Start it and return once it answers."""
        (port,) = free_ports(1)
        self.endpoint = f"http://{LOOPBACK}:{port}"
        options = [f"--host={LOOPBACK}", f"--port={port}", "--in-memory", "--default-bucket=shop"]
        self._process = GuardedProcess(
            "the server of Google Cloud Storage",
            [sys.executable, "-c", _SERVE, "start", *options],
            log_path=folder.with_name(f"{folder.name}.log"),
            stop_s=10.0,
        )
        try:
            self._process.wait_ready(self._answers, START_TIMEOUT_S)
        except BaseException:
            self._process.kill()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to be told."""
        return self.at(self.endpoint)

    @staticmethod
    def at(endpoint: str) -> dict[str, str]:
        """Return what leads clients to an endpoint, patient or not."""
        return {
            "STORAGE_EMULATOR_HOST": endpoint,
            "FSSPEC_GS": '{"token": "anon", "project": "shop"}',
            # asks for the kind of bucket by gRPC with TLS, which the emulator does not speak
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def stop(self) -> None:
        """End it."""
        self._process.stop()

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.endpoint}/storage/v1/b/shop", timeout=2):
                return True
        except HTTPError:
            return False
        except (URLError, OSError):
            return False
