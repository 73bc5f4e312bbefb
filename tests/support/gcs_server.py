"""A server that speaks Google Cloud Storage: gcp-storage-emulator."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.object_server import ObjectServer
from worker.embedded.ports import LOOPBACK, free_ports

_SERVE = "from gcp_storage_emulator.__main__ import main; main()"


class GcsServer(ObjectServer):
    """One server with a bucket `shop`, in memory; its log beside `folder`."""

    scheme = "gs"

    def __init__(self, folder: Path) -> None:
        """Start it and return once it answers."""
        (port,) = free_ports(1)
        options = [f"--host={LOOPBACK}", f"--port={port}", "--in-memory", "--default-bucket=shop"]
        super().__init__(
            "the server of Google Cloud Storage",
            [sys.executable, "-c", _SERVE, "start", *options],
            endpoint=f"http://{LOOPBACK}:{port}",
            ready="/storage/v1/b/shop",
            log=folder.with_name(f"{folder.name}.log"),
        )

    @staticmethod
    def at(endpoint: str) -> dict[str, str]:
        """Return the environment that leads clients to an endpoint."""
        return {
            "STORAGE_EMULATOR_HOST": endpoint,
            "FSSPEC_GS": '{"token": "anon", "project": "shop"}',
            # asks for the kind of bucket by gRPC with TLS, which the emulator does not speak
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
