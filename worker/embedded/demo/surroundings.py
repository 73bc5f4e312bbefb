"""What the demo runs in: settings that keep a deployment's away, servers, the worker's process."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from worker.embedded.demo.loop.places import LoopPlaces
from worker.embedded.guarded_process import EmbeddedUnavailable, GuardedProcess
from worker.embedded.servers import EmbeddedServers
from worker.embedded.shop.vocabulary import ShopLocale, faq_file
from worker.settings import Settings

PREFIX = "SHOPSTREAM_"
SHARED_DATA = "SHOPSTREAM_SHARED_DATA"
BILINGUAL_MODEL = Path("models") / "multilingual-e5-small-zh-en"
SHOPSTREAM = (sys.executable, "-m", "worker.commands")
LAST_LINES = 12
WORKER_STOP_S = 25.0  # above the worker's own deadline for a shutdown
# Settings that say where things are: whatever a deployment set, the demo has its own.
_OWN = ("kafka_", "redis_", "topic_", "internal_topic_", "metrics_", "releases_")


def demo_settings(servers: EmbeddedServers, locale: ShopLocale, releases: Path) -> Settings:
    """Return the settings of the demo's worker and of its jobs, `releases` their store.

    Servers are those given, models what the environment says.

    Chinese is served by the bilingual model of the shared data where that folder is at hand and no
    other model is set.
    """
    values: dict[str, Any] = {
        name: field.get_default()
        for name, field in Settings.model_fields.items()
        if name.startswith(_OWN)
    }
    for variable, value in servers.environment().items():
        values[variable.removeprefix(PREFIX).lower()] = value
    values |= {
        # the embedded broker holds the first member of a group back for half of the session timeout
        "kafka_session_timeout_s": 6.0,
        "drain_timeout_s": 3.5,
        # and answers a fetch at its longest wait, not when something arrives
        "kafka_fetch_max_wait_ms": 25,
        "releases_url": str(releases),
    }
    if PREFIX + "FAQ_FILE" not in os.environ:
        values["faq_file"] = faq_file(locale)
    if locale == "zh" and not os.environ.get(PREFIX + "MODEL"):
        model = shared_data_folder() / BILINGUAL_MODEL
        if model.is_dir():
            values["model"] = str(model)
    return Settings(**values)


def shared_data_folder() -> Path:
    """Return the optional folder of shared data: from the environment, else beside a checkout."""
    checkout = Path(__file__).resolve().parents[3]
    return Path(os.environ.get(SHARED_DATA) or checkout.parent / "shared")


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with exactly these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if value is not None and value != field.get_default():
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            kept[PREFIX + name.upper()] = text
    return kept


class Surroundings:
    """Broker, Redis, one worker process and a place for the learning loop; entering starts them.

    Logs go to `folder`.
    Raises `EmbeddedUnavailable` when a server does not start. Leaving ends all: the worker first.
    A temporary folder goes too when this process is killed; else its maker removes it.
    """

    def __init__(self, folder: Path, locale: ShopLocale, *, temporary: bool = False) -> None:
        self.folder = folder
        self.servers = EmbeddedServers(folder)
        self._temporary = temporary
        self._locale = locale
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.servers)
            room = stack.enter_context(
                TemporaryDirectory(prefix="loop-", dir=self.folder, ignore_cleanup_errors=True)
            )
            self.places = LoopPlaces(self.folder, Path(room), self._temporary)
            self.settings = demo_settings(self.servers, self._locale, self.places.releases)
            self.worker = GuardedProcess(
                "The worker",
                (*SHOPSTREAM, "worker"),
                log_path=self.folder / "worker.log",
                environment=worker_environment(self.settings),
                remove_folder=self.folder if self._temporary else None,
                stop_s=WORKER_STOP_S,
            )
            stack.callback(self.worker.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def check_running(self) -> None:
        """Raise `EmbeddedUnavailable`, with its last log lines, when one of the three has ended."""
        self.servers.check_running()
        if not self.worker.running:
            raise EmbeddedUnavailable(
                f"The worker has ended; its last lines:\n{self.worker_lines()}"
            )

    def addresses(self) -> list[str]:
        """Return where everything is, for people."""
        return [
            f"Kafka {self.servers.bootstrap_servers}",
            self.servers.redis_url,
            f"worker pid {self.worker.pid}",
            f"logs {self.folder}",
        ]

    def worker_lines(self) -> str:
        """Return the last lines of the worker's log."""
        lines = self.worker.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:])
