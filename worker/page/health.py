"""The worker's small HTTP page: /metrics for Prometheus, /health for supervisors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from worker.errors import ShopstreamError
from worker.page.metrics import WorkerMetrics

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[str | None]]
"""Returns None when all is well, else the reason in one sentence."""

# A supervisor asks every few seconds and gives up after some; an answer in time says more.
_CHECK_TIMEOUT_S = 2.0
_EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PortTaken(ShopstreamError):
    """The metrics port cannot be used; the message says what to do."""


class HealthServer:
    """Serves the page on `port` of all addresses; with port 0 it does nothing."""

    def __init__(self, port: int, metrics: WorkerMetrics, checks: Mapping[str, Check]) -> None:
        self._port = port
        self._metrics = metrics
        self._checks = checks
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            PortTaken: another program listens on the port, or it may not be used.
        """
        if not self._port:
            return
        app = web.Application()
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/health", self._show_health)
        # Faust and mode silence no access log; one line a scrape would drown the worker's own.
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, port=self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise PortTaken(
                f"Port {self._port} of /metrics cannot be opened ({error.strerror}); set "
                "SHOPSTREAM_METRICS_PORT to a free one, or to 0 to go without."
            ) from error
        self._runner = runner
        logger.info("/metrics and /health are served on port %d.", self._port)

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def faults(self) -> dict[str, str]:
        """Run all checks side by side; return the reason of each that fails."""
        names = list(self._checks)
        reasons = await asyncio.gather(*(_run(self._checks[name]) for name in names))
        return {name: reason for name, reason in zip(names, reasons, strict=True) if reason}

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(), headers={"Content-Type": _EXPOSITION_TYPE}
        )

    async def _show_health(self, request: web.Request) -> web.Response:
        faults = await self.faults()
        answer = {"healthy": not faults, "reasons": faults}
        return web.json_response(answer, status=503 if faults else 200)


async def _run(check: Check) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return f"no answer within {_CHECK_TIMEOUT_S:g} s"
    except Exception as error:
        return str(error) or type(error).__name__
