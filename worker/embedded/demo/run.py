"""Plays a simulated shop to a worker and says how it did, from the first server to the last."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.embedded.demo.ledger import Ledger
from worker.embedded.demo.loop.learning import LearningLoop
from worker.embedded.demo.loop.view import LoopView
from worker.embedded.demo.observer import Observer
from worker.embedded.demo.sender import Sender
from worker.embedded.demo.showcase import Showcase
from worker.embedded.demo.summary import Summary
from worker.embedded.demo.surroundings import Surroundings
from worker.embedded.guarded_process import EmbeddedUnavailable
from worker.embedded.shop import SimulatedShop
from worker.embedded.shop.vocabulary import ShopLocale
from worker.errors import ShopstreamError
from worker.page.live_figures import LiveFigures
from worker.store.lookup import AsyncLookup
from worker.topics.layout import create_topics

READY_TIMEOUT_S = 180.0
CATALOGUE_TIMEOUT_S = 120.0
STANDSTILL_S = 20.0  # without any answer: what is open then is lost
DRAIN_TIMEOUT_S = 300.0
LOOK_EVERY_S = 0.25
NULL_MODEL = "null"
BILINGUAL_NOTE = "Chinese on an English model: set SHOPSTREAM_MODEL to a Chinese or bilingual BERT"


class DemoFailed(ShopstreamError):
    """The demo could not go on; the message says why."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What is played: `seconds` of live traffic (None: until stopped) at `rate` events a second."""

    locale: ShopLocale = "en"
    seconds: float | None = None
    rate: float = 30.0
    seed: int = 1
    product_count: int = 300
    shopper_count: int = 200
    loop: bool = True  # also train, release and swap


def run_demo(
    options: DemoOptions,
    folder: Path,
    *,
    temporary: bool,
    say: Callable[[str], None],
    show: Callable[[LiveFigures], None],
) -> dict[str, Any] | None:
    """Run the demo from start to end and return its report; None when stopped before it was live.

    Args:
        folder: where the logs of broker, Redis and worker go.
        temporary: the folder goes too, should this process be killed.
        say: takes the lines of start-up and end.
        show: takes a snapshot every quarter of a second while events flow.

    Raises:
        DemoFailed: broker, Redis or worker did not start or ended (with its last lines), the worker
            did not become ready, or Kafka refused an event.
    """
    begun_s = time.monotonic()
    say(f"Starting a broker, a Redis and a worker of their own; their logs: {folder}")
    try:
        with Surroundings(folder, options.locale, temporary=temporary) as surroundings:
            say(
                f"Kafka-compatible broker at {surroundings.servers.bootstrap_servers}, Redis at "
                f"{surroundings.servers.redis_url} ({time.monotonic() - begun_s:.1f} s)"
            )
            report = asyncio.run(_Play(options, surroundings, begun_s, say, show).run())
            say("Stopping the worker, Redis and the broker")
    except EmbeddedUnavailable as error:
        raise DemoFailed(f"{error}\nLogs: {folder}") from error
    return report


class _Play:
    """One run: who sends, who watches, and how it stops."""

    def __init__(
        self,
        options: DemoOptions,
        surroundings: Surroundings,
        begun_s: float,
        say: Callable[[str], None],
        show: Callable[[LiveFigures], None],
    ) -> None:
        self._options = options
        self._surroundings = surroundings
        self._settings = surroundings.settings
        self._begun_s = begun_s
        self._say = say
        self._show = show
        self._shop = SimulatedShop(
            options.seed, options.locale, options.product_count, options.shopper_count
        )
        self._ledger = Ledger()
        self._live = False

    async def run(self) -> dict[str, Any] | None:
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._playing = asyncio.create_task(self._play())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        watching = asyncio.create_task(self._watch_processes())
        await asyncio.wait({self._playing, watching}, return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, self._playing):
            if not task.done():
                task.cancel()
        ends = await asyncio.gather(watching, self._playing, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):  # of the two, the watcher knows the cause
                raise end
        return None if self._playing.cancelled() else self._playing.result()

    def _on_signal(self) -> None:
        """The first one ends the traffic and waits for what is under way, the next one does not."""
        if not self._live:
            self._playing.cancel()
        elif self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _watch_processes(self) -> None:
        while True:
            self._surroundings.check_running()
            await asyncio.sleep(LOOK_EVERY_S)

    # --- what is played

    async def _play(self) -> dict[str, Any]:
        async with AsyncExitStack() as stack:
            await create_topics(self._settings)
            showcase = Showcase(self._shop)
            observer = Observer(self._settings, self._ledger, showcase)
            await stack.enter_async_context(observer)
            sender = Sender(self._settings, self._ledger)
            await sender.start()
            stack.push_async_callback(sender.stop)
            await self._wait_ready(stack)
            await self._feed_catalogue(sender, observer)
            live_s = time.monotonic()
            startup_s = live_s - self._begun_s
            self._say(f"Live after {startup_s:.1f} s")
            loop = self._start_loop(observer, stack)
            view = LoopView(loop, showcase.tags_right, live_s) if loop is not None else None
            summary = Summary(
                self._ledger,
                showcase,
                observer,
                heading=self._heading(),
                places=self._surroundings.addresses(),
                notes=self._notes(),
                loop=view,
            )
            summary.begin_live(live_s)
            self._live = True
            showing = asyncio.create_task(self._keep_showing(summary, observer, loop))
            stack.callback(showing.cancel)
            await self._send_traffic(sender, showing)
            summary.end_live(time.monotonic())
            if loop is not None:
                await loop.close()
            await self._drain(observer)
            if loop is not None:
                loop.look()
            self._show(summary.figures(time.monotonic(), self._options.seconds))
            if view is not None:
                self._say(f"The learning loop: {view.ending()}")
            played = {
                "locale": self._options.locale,
                "seed": self._options.seed,
                "rate": self._options.rate,
                "startup_s": round(startup_s, 1),
            }
            return played | summary.report(time.monotonic())

    async def _wait_ready(self, stack: AsyncExitStack) -> None:
        self._say("The worker loads its models")
        lookup = await stack.enter_async_context(AsyncLookup.from_settings(self._settings))
        release = await lookup.release(wait_s=READY_TIMEOUT_S)
        if release is None:
            raise DemoFailed(
                f"The worker was not ready within {READY_TIMEOUT_S:.0f} s; its last lines:\n"
                f"{self._surroundings.worker_lines()}"
            )
        self._say(
            f"The worker is ready: release {release.release}"
            f" ({time.monotonic() - self._begun_s:.1f} s)"
        )

    def _start_loop(self, observer: Observer, stack: AsyncExitStack) -> LearningLoop | None:
        if not self._options.loop:
            return None
        if self._settings.model == NULL_MODEL:
            self._say("No learning loop: the null model cannot be trained")
            return None
        loop = LearningLoop(self._settings, self._surroundings.places, observer)
        stack.push_async_callback(loop.close)
        loop.start()
        return loop

    async def _feed_catalogue(self, sender: Sender, observer: Observer) -> None:
        self._say(f"Sending {len(self._shop.products)} products")
        for event in self._shop.catalogue(datetime.now(UTC)):
            await sender.send(event)
        deadline_s = time.monotonic() + CATALOGUE_TIMEOUT_S
        while self._ledger.open_count:
            observer.check()
            if time.monotonic() > deadline_s:
                raise DemoFailed(
                    f"{self._ledger.open_count} products did not get through the worker; its last "
                    f"lines:\n{self._surroundings.worker_lines()}"
                )
            await asyncio.sleep(0.05)

    async def _send_traffic(self, sender: Sender, showing: asyncio.Task[None]) -> None:
        rate, seconds = self._options.rate, self._options.seconds
        start_s = time.monotonic()
        for count, event in enumerate(self._shop.events(datetime.now(UTC), rate)):
            if seconds is not None and count / rate >= seconds:
                return
            wait_s = start_s + count / rate - time.monotonic()
            # also without waiting let the others work: a rate may be more than can be sent
            await asyncio.sleep(max(0.0, wait_s))
            if seconds is not None and time.monotonic() - start_s >= seconds:
                return
            if self._stop.is_set():
                return
            if showing.done():
                showing.result()
            if sender.fault is not None:
                raise DemoFailed(f"Kafka did not take an event: {sender.fault}") from sender.fault
            await sender.send(event)

    async def _drain(self, observer: Observer) -> None:
        """Wait until every event sent is accounted for, or nothing moves any more."""
        begun_s = moved_s = time.monotonic()
        before = self._ledger.open_count
        while self._ledger.open_count and not self._hurry.is_set():
            observer.check()
            now_s = time.monotonic()
            if self._ledger.open_count != before:
                before, moved_s = self._ledger.open_count, now_s
            if now_s - moved_s > STANDSTILL_S or now_s - begun_s > DRAIN_TIMEOUT_S:
                break
            if self._ledger.only_tags_missing():
                break
            await asyncio.sleep(0.05)
        if self._ledger.only_tags_missing():
            self._ledger.note_no_tags()
        if self._ledger.open_count:
            await observer.read_all()

    async def _keep_showing(
        self, summary: Summary, observer: Observer, loop: LearningLoop | None
    ) -> None:
        while True:
            observer.check()
            if loop is not None:
                loop.check()
            self._show(summary.figures(time.monotonic(), self._options.seconds))
            await asyncio.sleep(LOOK_EVERY_S)

    # --- what is said

    def _heading(self) -> str:
        options = self._options
        shop = f"{len(self._shop.products)} products, {options.shopper_count} shoppers"
        return f"shopstream demo · {options.locale} · {shop} · seed {options.seed}"

    def _notes(self) -> list[str]:
        if self._options.locale == "zh" and not self._settings.model:
            return [BILINGUAL_NOTE]
        return []
