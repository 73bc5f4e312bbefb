"""Reads compose.yaml and worker/Dockerfile as Docker would, so that tests run what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
COMPOSE_FILE = REPOSITORY / "compose.yaml"
DOCKERFILE = REPOSITORY / "worker" / "Dockerfile"

_VARIABLE = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")


def read_services() -> dict[str, Any]:
    """Return the services, anchors merged and `${NAME:-default}` set to its default."""
    text = _VARIABLE.sub(lambda found: found["default"], COMPOSE_FILE.read_text())
    assert "${" not in text, "compose.yaml uses a form of variable that this reader does not know"
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


def service_environment(service: Mapping[str, Any], addresses: Mapping[str, str]) -> dict[str, str]:
    """Return a service's variables, with `host:port` of other services replaced by `addresses`."""
    environment = {}
    for name, value in service["environment"].items():
        text = "" if value is None else str(value)
        for inside, outside in addresses.items():
            text = text.replace(inside, outside)
        environment[name] = text
    return environment


def dockerfile_instruction(name: str) -> str:
    """Return the arguments of the last instruction of this name, continuation lines joined."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return found[-1].removeprefix(name).strip()


def image_command(service: Mapping[str, Any]) -> list[str]:
    """Return what the container runs: the image's entry point, then the service's command."""
    entry_point: list[str] = json.loads(dockerfile_instruction("ENTRYPOINT"))
    return [*entry_point, *service["command"]]


def image_health_command() -> list[str]:
    """Return the command of the image's health check."""
    command: list[str] = json.loads(dockerfile_instruction("HEALTHCHECK").partition("CMD")[2])
    return command
