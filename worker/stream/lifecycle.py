"""Runs one worker from start to end, and says with which status it ends.

    0   SIGTERM or SIGINT: what was in flight is finished and committed
    1   a fault: no broker, no model, an exception in an agent, the handler or a background task
    75  the stop was not clean: a batch, the broker or a thread did not end in time

In every case a restart goes on from the commits, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from worker.errors import ShopstreamError
from worker.flow.interpreter import keep_loaded, tune_interpreter
from worker.settings import Settings
from worker.stream.app import StreamApp, build_app
from worker.stream.chunk import ChunkHandler, HandlerFactory
from worker.stream.consumer_thread import new_event_loop
from worker.stream.log_limiter import limit_repeats
from worker.stream.shutdown import EXIT_CLEAN, EXIT_FAILED, EXIT_UNCLEAN, Deadline, StopSignals
from worker.topics.client import unavailable
from worker.topics.layout import TopicsUnfit, admin_client

logger = logging.getLogger(__name__)

# Loggers of the libraries: at "info" Faust tells of every service it starts.
CHATTY = ("faust", "mode", "aiokafka")


def run_worker(settings: Settings, handler_factory: HandlerFactory, topics: Sequence[str]) -> int:
    """Run a worker on `topics` until a signal or a fault, and return its exit status.

    Call it in the main thread of a process of its own, after logging is set up, and pass the status
    to `shutdown.leave`: background threads may still hang, and the deadline of a stop stays armed.
    """
    deadline = Deadline(settings.shutdown_timeout_s)
    signals = StopSignals(deadline)
    signals.install()
    _set_log_levels(settings)
    tune_interpreter()
    # Not closed at the end: closing would join the executor's threads.
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    worker = _Worker(settings, topics, signals, deadline)
    return loop.run_until_complete(worker.run(handler_factory))


def _set_log_levels(settings: Settings) -> None:
    if settings.log_level != "debug":
        for name in CHATTY:
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    limit_repeats("aiokafka")


class _Worker:
    """One worker's life; implements `WorkerControl`."""

    def __init__(
        self, settings: Settings, topics: Sequence[str], signals: StopSignals, deadline: Deadline
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._signals = signals
        self._deadline = deadline
        self._fault: BaseException | None = None
        self._app: StreamApp | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- WorkerControl

    def fail(self, exc: BaseException) -> None:
        """Note the first fault and begin to stop. From any thread."""
        self._loop.call_soon_threadsafe(self._note_fault, exc)

    def spawn(self, coro: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a background task whose exception ends the worker."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._note_fault(exc)

    def _note_fault(self, exc: BaseException) -> None:
        if self._fault is not None:
            return
        if isinstance(exc, KafkaError):
            exc = unavailable(self._settings, exc)
        self._fault = exc
        self._deadline.start(EXIT_FAILED)
        if self._app is not None:
            self._app.fault_reported = True
        if isinstance(exc, ShopstreamError):
            logger.error("The worker stops: %s", exc)
        else:
            logger.error("The worker stops because of an unexpected fault: %r", exc, exc_info=exc)
        self._failed.set()

    # --- life

    async def run(self, handler_factory: HandlerFactory) -> int:
        """Return the exit status."""
        self._loop = asyncio.get_running_loop()
        self._failed = asyncio.Event()
        self._stop = self._signals.bind()
        life = asyncio.create_task(self._live(handler_factory), name="worker")
        stopping = asyncio.create_task(self._wait_for_end(), name="end")
        await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not life.done() and self._app is None:
            life.cancel()  # still starting the handler: nothing is in flight
        try:
            await life
        except asyncio.CancelledError:
            pass  # by the line above; by anybody else, `_status` finds no reason to stop
        except Exception as exc:
            self._note_fault(exc)
        return self._status()

    def _status(self) -> int:
        if self._fault is None and self._signals.received is None:
            self._note_fault(RuntimeError("the worker ended without being asked to"))
        if self._fault is not None:
            return EXIT_FAILED
        if self._app is not None and not self._app.stopped_cleanly:
            logger.warning("The worker has stopped, but what was in flight will be done again.")
            return EXIT_UNCLEAN
        logger.info("The worker has stopped on %s.", self._signals.received)
        return EXIT_CLEAN

    async def _wait_for_end(self) -> None:
        """Return when a signal or a fault asks for the end."""
        waits = {asyncio.create_task(event.wait()) for event in (self._stop, self._failed)}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _live(self, handler_factory: HandlerFactory) -> None:
        async with admin_client(self._settings):
            pass  # without a broker say so at once, before models are loaded
        async with handler_factory(self) as handler:
            await self._require_topics()
            keep_loaded()
            await self._serve(handler)

    async def _require_topics(self) -> None:
        async with admin_client(self._settings) as admin:
            standing = {topic["topic"] for topic in await admin.describe_topics()}
        if missing := sorted(set(self._topics) - standing):
            raise TopicsUnfit(
                f"topics are missing: {', '.join(missing)}; run `shopstream topics create`"
            )

    async def _serve(self, handler: ChunkHandler) -> None:
        self._app = app = build_app(self._settings, handler, self._topics)
        if self._fault is not None:
            return
        starting = self.spawn(app.start(), name="faust start")
        ended = asyncio.create_task(self._wait_for_end())
        crashed = asyncio.create_task(app.wait_until_stopped())
        try:
            await asyncio.wait({ended, crashed}, return_when=asyncio.FIRST_COMPLETED)
            if app.crash_reason is not None:
                self._note_fault(app.crash_reason)
            elif self._fault is None:
                logger.info("Stopping on %s.", self._signals.received)
        finally:
            for task in (ended, crashed):
                task.cancel()
            await self._stop_app(app, starting)

    async def _stop_app(self, app: StreamApp, starting: asyncio.Task[None]) -> None:
        try:
            await app.stop()
        except Exception as exc:
            self._note_fault(exc)
        starting.cancel()
