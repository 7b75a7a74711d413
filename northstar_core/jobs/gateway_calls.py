"""What the worker asks of the gateway: without holding up its loop, and with patience for a gateway that restarts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from pathlib import Path
from typing import Any

from northstar_core.client.desk import DeskClient, GatewayError
from northstar_core.model.errors import NorthstarError

log = logging.getLogger("northstar.jobs")

ANSWER_S = 15.0
AGAIN_S = 0.5
GONE = ("DOWN", "LOST")  #: the gateway is not there now, and may be soon
KEPT_ALERTS = 200
LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


class GatewayCalls:
    """Requests to the gateway of a home, as the operator; one connection each, for they are few."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._alerts: deque[tuple[str, str, str]] = deque(maxlen=KEPT_ALERTS)
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, what: str, *, patience_s: float = 0.0, **args: Any) -> Any:
        """Return the answer to a request; a gateway that is not there is waited for, ``patience_s`` at most.

        Raises
        ------
        GatewayError
            If it is not there in time, refuses or does not answer.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return await asyncio.to_thread(self._ask, what, args)
            except GatewayError as error:
                if error.code not in GONE or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(AGAIN_S)

    def _ask(self, what: str, args: dict[str, Any]) -> Any:
        with DeskClient(self.home, timeout_s=ANSWER_S) as desk:
            return desk.request(what, **args)

    def alert(self, severity: str, about: str, text: str) -> None:
        """Log an alert and hand it to the gateway; one that cannot be handed over now is kept until it can."""
        log.log(LEVELS.get(severity, logging.ERROR), "%s: %s", about, text)
        self._alerts.append((severity, about, text))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._alerts:
            severity, about, text = self._alerts[0]
            try:
                await self.ask("alert", severity=severity, about=about, text=text)
            except GatewayError as error:
                if error.code in GONE:
                    await asyncio.sleep(AGAIN_S)
                    continue
                log.warning("an alert could not be handed over: %s", error)
            self._alerts.popleft()

    async def close(self, patience_s: float = 2.0) -> None:
        """Hand over the alerts that wait, if the gateway is there."""
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender}, timeout=patience_s)
            self._sender.cancel()


class NoGo(NorthstarError):
    """Preflight stands against a run with real money."""


def require_go(account: str, verdict: Any) -> None:
    """Refuse a run in an account with real money unless this verdict of the gateway, asked for just now, is GO.

    Raises
    ------
    NoGo
        With every reason; also where there is no verdict, or one that is not understood.
    """
    try:
        checks = list(verdict["checks"])
        looked_at = account in verdict["accounts"]
        feed = verdict["feeds"].get(account, "")
        scopes = ("desk", f"account:{account}", f"feed:{feed}")
        reasons = [
            f"{c['scope']} {c['name']}: {c['text']}" for c in checks if c["scope"] in scopes and c["passed"] is not True
        ]
    except (TypeError, KeyError, AttributeError):
        raise NoGo(
            f"{account}: the gateway gave no verdict on it; no run with real money starts without a GO"
        ) from None
    if not looked_at or not checks:
        raise NoGo(f"{account}: preflight has not looked at it; no run with real money starts without a GO")
    if reasons:
        raise NoGo(f"{account}: preflight says NO-GO: {'; '.join(reasons)}")
