"""What compose.yaml and the Dockerfile say, without starting anything."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import yaml

from tests.support.compose import COMPOSE_FILE, DOCKERFILE, REPOSITORY, read_services
from worker.commands.retrain import command as retrain
from worker.settings import Settings

OURS = ("topics", "worker", "worker-gpu", "retrain")


def _variables(service: str) -> set[str]:
    return set(read_services()[service]["environment"])


def test_compose_file_fits_the_compose_schema() -> None:
    """The file is valid by the published schema of the compose specification."""
    # the package is read, not imported: its command line needs a newer click than faust allows
    package = find_spec("check_jsonschema")
    assert package is not None
    assert package.origin is not None
    schemas = Path(package.origin).parent / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    compose = yaml.safe_load(COMPOSE_FILE.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []
    compose["services"]["worker"]["restarts"] = "always"
    assert not validator.is_valid(compose)


def test_every_variable_is_a_setting() -> None:
    """Each SHOPSTREAM_ variable of our services is one that the settings know."""
    known = {f"SHOPSTREAM_{name.upper()}" for name in Settings.model_fields}
    for service in OURS:
        assert _variables(service) <= known, service


def test_worker_waits_for_what_it_needs() -> None:
    """A worker starts after topics and Redis, and is given more time to stop than it takes."""
    services = read_services()
    for name in ("worker", "worker-gpu"):
        worker = services[name]
        assert worker["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
        assert worker["depends_on"]["redis"] == {"condition": "service_healthy"}
        grace_s = int(worker["stop_grace_period"].removesuffix("s"))
        assert grace_s > float(worker["environment"]["SHOPSTREAM_SHUTDOWN_TIMEOUT_S"])
        assert worker["restart"] == "unless-stopped"


def test_profiles_choose_the_device() -> None:
    """Profile cpu runs on the CPU build, profile gpu reserves a GPU and takes the CUDA build."""
    services = read_services()
    cpu, gpu = services["worker"], services["worker-gpu"]
    assert (cpu["profiles"], cpu["environment"]["SHOPSTREAM_DEVICE"]) == (["cpu"], "cpu")
    assert (gpu["profiles"], gpu["environment"]["SHOPSTREAM_DEVICE"]) == (["gpu"], "cuda")
    assert cpu["build"]["args"] == {"TORCH_BACKEND": "cpu"}
    assert gpu["build"]["args"] == {"TORCH_BACKEND": ""}
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_the_learning_service_shares_the_store_of_releases() -> None:
    """The job writes the releases that workers read, keeps its samples, and is asked for only."""
    services = read_services()
    job = services["retrain"]
    assert job["profiles"] == ["learning"]
    store = job["environment"]["SHOPSTREAM_RELEASES_URL"]
    assert f"releases:{store}" in job["volumes"]
    for name in ("worker", "worker-gpu"):
        assert services[name]["environment"]["SHOPSTREAM_RELEASES_URL"] == store
        assert f"releases:{store}:ro" in services[name]["volumes"]
    samples = next(part for part in job["command"] if part.startswith("--samples="))
    assert f"samples:{samples.removeprefix('--samples=')}" in job["volumes"]
    # the image makes these folders for its user: a new volume takes their owner
    for folder in (store, samples.removeprefix("--samples=")):
        assert folder in DOCKERFILE.read_text()


def test_the_learning_service_is_a_command_that_parses() -> None:
    """Every option of the service is one that `shopstream retrain` knows."""
    command = read_services()["retrain"]["command"]
    context = retrain.make_context("retrain", list(command[1:]))
    assert context.params["every_s"] == 6 * 3_600
    assert context.params["chosen"] == (("sentiment", "recommender"),)


def test_dockerfile_copies_what_is_there() -> None:
    """Each path that the image copies from the repository exists and is let in by .dockerignore."""
    allowed = {
        line.removeprefix("!")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()[:-1]}
    assert sources == allowed
    assert all((REPOSITORY / source).exists() for source in sources)
