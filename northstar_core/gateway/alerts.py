"""Alerts sent out: each is posted as JSON to a URL, in order, tried again a few times, never waited for."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp

from northstar_core.gateway.secrets import Secret
from northstar_core.model.world import AlertRaised

log = logging.getLogger("northstar.alerts")

SEVERITIES = ("info", "warning", "critical")
KEPT = 200  #: alerts that wait; of more, the oldest are dropped, and the next one says how many
ANSWER_S = 10.0
AGAIN_S = (1.0, 5.0, 15.0)  #: pauses before an alert is tried again, wall seconds


class AlertPost:
    """Posts alerts of a severity and above.

    Parameters
    ----------
    url
        Where to; it is a secret, so what goes wrong is told without it.
    least
        The lowest severity that is sent.
    desk
        Name of the desk, for who reads several.
    """

    def __init__(
        self, url: Secret, *, least: str = "warning", desk: str = "", again_s: tuple[float, ...] = AGAIN_S
    ) -> None:
        self._url, self._desk, self._again_s = url, desk, again_s
        self._wanted = SEVERITIES[SEVERITIES.index(least) :]
        self._waiting: deque[dict[str, Any]] = deque()
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.sent = self.dropped = 0

    def raised(self, seq: int, fact: Any) -> None:
        """Take a fact of the desk; alerts of the wanted severities are sent."""
        if type(fact) is not AlertRaised or fact.severity not in self._wanted:
            return
        if len(self._waiting) >= KEPT:
            self._waiting.popleft()
            self.dropped += 1
        when = datetime.fromtimestamp(fact.ts / 1e9, UTC).isoformat(timespec="milliseconds")
        alert = {
            "desk": self._desk,
            "seq": seq,
            "time": when,
            "severity": fact.severity,
            "about": fact.about,
            "text": fact.text,
        }
        # the word most chat services show
        self._waiting.append({"text": f"{fact.severity}: {fact.about}: {fact.text}", "alert": alert})
        self._some.set()

    async def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.get_running_loop().create_task(self._send())

    async def close(self, patience_s: float = 3.0) -> None:
        """Send what waits, as far as that takes no longer than ``patience_s``, and stop."""
        if self._task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._waiting:
                    await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session:
            while True:
                await self._some.wait()
                while self._waiting:
                    alert = self._waiting[0]
                    taken = await self._post(session, alert | {"dropped": self.dropped})
                    self.sent += taken
                    self.dropped += not taken
                    if self._waiting and self._waiting[0] is alert:
                        self._waiting.popleft()
                self._some.clear()

    async def _post(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> bool:
        """Post one alert; returns whether it was taken."""
        why = ""
        for pause_s in (*self._again_s, None):
            try:
                async with session.post(self._url.reveal(), json=body, allow_redirects=False) as answer:
                    if answer.status < 300:
                        return True
                    why = f"status {answer.status}"
                    if 400 <= answer.status < 500 and answer.status not in (408, 429):
                        break  # it will say the same again
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                why = type(error).__name__
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        log.warning("alert %s could not be sent: %s", body["alert"]["seq"], why)
        return False
