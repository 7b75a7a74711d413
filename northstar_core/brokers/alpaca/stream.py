"""Alpaca's ``trade_updates`` WebSocket, kept open: log in, listen, hand over what comes; and again after every loss.

The stream numbers nothing and repeats nothing after a reconnect. So each time it listens again, ``synchronise`` reads everything anew
while events already come in, and only then is the link up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from northstar_core.brokers.alpaca.wire import Unreadable, frame_of
from northstar_core.brokers.base import BrokerError, Code
from northstar_core.model.ports import Clock

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LARGEST = 8 * 1024 * 1024

log = logging.getLogger("northstar.alpaca.stream")
log.setLevel(logging.INFO)  # the library shows every frame to a log that wants debugging, the one with the secret too


class TradeStream:
    """One stream.

    Parameters
    ----------
    on_event
        Called with the ``data`` of each event's frame.
    on_unread
        Called with a frame that could not be read, and why.
    synchronise
        Reads everything anew; awaited after each login. A ``BrokerError`` from it starts over.
    on_down
        Called when the stream is lost, with the reason.
    """

    def __init__(
        self,
        url: str,
        key: str,
        secret: str,
        clock: Clock,
        *,
        on_event: Callable[[object], None],
        on_unread: Callable[[bytes, str], None],
        synchronise: Callable[[], Awaitable[None]],
        on_down: Callable[[str], None],
        msgpack: bool = False,
        ping_s: float = 10.0,
    ) -> None:
        self.url, self.clock = url, clock
        self.up = False  #: listening, and everything read anew
        self.reconnects = -1
        self.error: BrokerError | None = None  #: why it is not up
        self.synced = asyncio.Event()
        self._key, self._secret = key, secret
        self._on_event, self._on_unread, self._synchronise, self._on_down = on_event, on_unread, synchronise, on_down
        self._headers = {"Content-Type": "application/msgpack"} if msgpack else {}
        self._ping_s = ping_s
        self._socket: ClientConnection | None = None
        self._why = ""

    def __repr__(self) -> str:
        """Where it goes."""
        return f"<TradeStream {self.url}>"

    async def run(self) -> None:
        """Keep the stream up until cancelled; tries again without end, ever more slowly, at times that differ."""
        pause = FIRST_PAUSE_S
        while True:
            self.reconnects += 1
            self._why = ""
            try:
                await self._connected()
                reason = "the server closed the stream"
            except BrokerError as error:
                self.error, reason = error, str(error)
            except (OSError, TimeoutError, WebSocketException) as error:
                reason = f"{type(error).__name__}: {error}"
            if self.up:
                pause = FIRST_PAUSE_S
            self.up = False
            self.synced.clear()
            reason = self._why or reason
            if self.error is None or self.error.code is not Code.CREDENTIALS:
                self.error = BrokerError(Code.UNREACHABLE, reason)
            self._on_down(reason)
            await asyncio.sleep(self.clock.wall_s(pause) * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def drop(self, why: str) -> None:
        """Give the connection up: it is open, but what it should have said did not come."""
        if self._socket is not None and not self._why:
            self._why = why
            self._socket.transport.abort()

    async def _connected(self) -> None:
        wait = max(self.clock.wall_s(10.0), 2.0)
        async with connect(
            self.url,
            additional_headers=self._headers,
            open_timeout=wait,
            ping_interval=max(self.clock.wall_s(self._ping_s), 1.0),
            ping_timeout=max(self.clock.wall_s(self._ping_s), 2.0),
            close_timeout=1.0,
            max_size=LARGEST,
            compression=None,
            proxy=None,
            logger=log,
        ) as socket:
            self._socket = socket
            reading: asyncio.Task[None] | None = None
            try:
                async with asyncio.timeout(wait):
                    await self._log_in(socket)
                self.error = None
                reading = asyncio.create_task(self._read_anew(socket))
                while True:
                    self._take(await socket.recv(decode=False))
            finally:
                self._socket = None
                if reading is not None:
                    reading.cancel()
                    with suppress(asyncio.CancelledError):
                        await reading

    async def _log_in(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"action": "auth", "key": self._key, "secret": self._secret}))
        while (answer := self._take(await socket.recv(decode=False))).get("stream") != "authorization":
            pass
        data = answer.get("data")
        if not isinstance(data, dict) or data.get("status") != "authorized":
            raise BrokerError(Code.CREDENTIALS, "Alpaca's stream refuses the key; check the account's secrets")
        await socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        while self._take(await socket.recv(decode=False)).get("stream") != "listening":
            pass

    async def _read_anew(self, socket: ClientConnection) -> None:
        try:
            await self._synchronise()
        except BrokerError as error:
            self._why, self.error = str(error), error
            socket.transport.abort()
            return
        self.up = True
        self.synced.set()

    def _take(self, raw: bytes) -> dict[str, object]:
        try:
            frame = frame_of(raw)
        except Unreadable as error:
            self._on_unread(raw, str(error))
            return {}
        if frame.get("stream") == "trade_updates":
            try:
                self._on_event(frame.get("data"))
            except Unreadable as error:
                self._on_unread(raw, str(error))
        return frame
