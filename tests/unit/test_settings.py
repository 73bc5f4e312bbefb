"""Settings: what they refuse, and that their table is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from worker.commands.settings import command, settings_table
from worker.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_table_of_settings_is_true() -> None:
    """docs/settings.md is what the settings themselves say."""
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_table()


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints every setting and no secret."""
    monkeypatch.setenv("SHOPSTREAM_REDIS_URL", "redis://:hunter2@example.com/0")
    output = CliRunner().invoke(command).output
    assert "SHOPSTREAM_KAFKA_GROUP=shopstream" in output
    assert "hunter2" not in output


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kafka_bootstrap_servers", "no-port"),
        ("kafka_heartbeat_interval_s", 9.0),
        ("drain_timeout_s", 60.0),
        ("kafka_security_protocol", "SASL_SSL"),
        ("answer_threshold", 1.5),
        ("redis_cluster", True),
        ("recommend_price_band_ratio", 0.5),
        ("recommend_diversity", 1.5),
    ],
)
def test_wrong_settings_are_refused(field: str, value: object) -> None:
    """A setting that cannot work is refused before anything starts."""
    with pytest.raises(ValidationError):
        Settings.model_validate({field: value})
