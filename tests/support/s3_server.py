"""A server that speaks S3: Adobe's S3Mock, one jar by Maven, under Java 17."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.kafka_server import DOWNLOAD_TIMEOUT_S, JARS
from tests.support.object_server import ObjectServer
from worker.embedded.ports import LOOPBACK, free_ports

VERSION = "3.12.0"
ARTIFACT = f"com.adobe.testing:s3mock:{VERSION}:jar:exec"
JVM_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class S3Missing(Exception):
    """The server cannot be had on this machine; the message says what is missing."""


def s3_jar() -> Path:
    """Return the server's jar, fetched by Maven once (41 MB); raises S3Missing."""
    jar = JARS / f"s3mock-{VERSION}-exec.jar"
    if jar.is_file():
        return jar
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise S3Missing(f"an S3 server for tests needs {program} on PATH (Java 17 and Maven)")
    partial = JARS / f"s3mock.{os.getpid()}"
    command = ["mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"]
    command += [f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise S3Missing(f"Maven could not fetch {ARTIFACT}: {done.stdout[-1000:]}")
    (partial / jar.name).replace(jar)
    shutil.rmtree(partial)
    return jar


class S3Server(ObjectServer):
    """One server with a bucket `shop`, its data in `folder`."""

    scheme = "s3"

    def __init__(self, folder: Path) -> None:
        """Start it and return once it answers."""
        port, other = free_ports(2)
        name = "com.adobe.testing.s3mock"
        options = [f"-D{name}.httpPort={port}", f"-Dserver.port={other}"]
        options += [f"-D{name}.domain.initialBuckets=shop", f"-D{name}.domain.root={folder}"]
        super().__init__(
            "the S3 server",
            ["java", *JVM_OPTIONS, *options, "-jar", str(s3_jar())],
            endpoint=f"http://{LOOPBACK}:{port}",
            ready="",
            log=folder.with_name(f"{folder.name}.log"),
        )

    @staticmethod
    def at(endpoint: str) -> dict[str, str]:
        """Return the environment that leads clients to an endpoint."""
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "shop",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
