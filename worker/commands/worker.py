"""`shopstream worker`: one worker, settings from the environment."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager

import click

from worker.page.log_lines import set_up_logging
from worker.settings import Settings
from worker.stream.chunk import ChunkHandler, WorkerControl
from worker.stream.lifecycle import run_worker
from worker.stream.shutdown import leave
from worker.topics.layout import TopicLayout

logger = logging.getLogger(__name__)


@click.command("worker")
def command() -> None:
    """Run one worker until SIGTERM or Ctrl-C.

    It reads the event topics of SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS and writes its results to
    SHOPSTREAM_REDIS_URL; docs/settings.md lists every setting. Status 0: stopped, all that was
    taken is finished; 1: a fault, the last log line says which; 75: the stop took too long. After
    1 and 75 start it again: it goes on where it was, and nothing is lost.
    """
    settings = Settings()
    set_up_logging(settings.log_level)
    logger.info("Settings that differ from the defaults: %s", _changed(settings) or "none")

    def factory(control: WorkerControl) -> AbstractAsyncContextManager[ChunkHandler]:
        # imported here: a missing broker is told at once, before torch is loaded
        from worker.flow.assembly import open_flow

        return open_flow(settings, control)

    leave(run_worker(settings, factory, TopicLayout.from_settings(settings).events))


def _changed(settings: Settings) -> str:
    """Return the settings that are not at their defaults; secrets are masked by their type."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    values = {name: getattr(settings, name) for name in defaults}
    return ", ".join(f"{name}={value}" for name, value in values.items() if value != defaults[name])
