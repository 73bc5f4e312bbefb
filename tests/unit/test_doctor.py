"""The doctor without servers: settings and models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from worker.commands.doctor import command, examine
from worker.commands.doctor.finding import Status
from worker.commands.doctor.models import check_models, free_memory_bytes
from worker.settings import Settings


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong variable is named, nothing else is tried, and the status is 1."""
    monkeypatch.setenv("SHOPSTREAM_REDIS_TIMEOUT_S", "soon")
    monkeypatch.setenv("SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS", "nowhere")
    findings = examine()
    assert [finding.status for finding in findings] == [Status.FAILED] * 2
    text = " ".join(finding.line for finding in findings)
    assert "SHOPSTREAM_REDIS_TIMEOUT_S" in text
    assert "'nowhere' is not host:port" in text
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_rule_over_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that joins several settings is told in words."""
    monkeypatch.setenv("SHOPSTREAM_REDIS_CLUSTER", "true")
    (finding,) = examine()
    assert "hash tag" in finding.line


def test_packaged_model() -> None:
    """The packaged model is found, verified and measured without loading it."""
    findings = {finding.subject: finding for finding in check_models(Settings())}
    assert findings["device"].status is Status.OK
    assert findings["models"].text.startswith("text trunk all-minilm-l6-v2@")
    assert "GiB" in findings["memory"].text


def test_missing_files(tmp_path: Path) -> None:
    """A model folder, a head and an FAQ that are not there are three failures with their names."""
    settings = Settings(
        model=str(tmp_path / "trunk"), sentiment_head=tmp_path / "head", faq_file=tmp_path / "faq"
    )
    failed = [finding.line for finding in check_models(settings) if finding.status is Status.FAILED]
    assert len(failed) == 3
    for name, line in zip(("trunk", "head", "faq"), failed, strict=True):
        assert str(tmp_path / name) in line


def test_unknown_device() -> None:
    """A device that torch does not know is a failure, not a crash."""
    findings = [f for f in check_models(Settings(device="abacus")) if f.subject == "device"]
    assert [finding.status for finding in findings] == [Status.FAILED]


def test_free_memory() -> None:
    """Free memory is known on Linux and positive."""
    free = free_memory_bytes()
    assert free is None or free > 0
