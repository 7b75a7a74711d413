"""One WebSocket of the Massive twin: frames are JSON arrays, what waits is sent in one, and who reads too slowly is closed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

LARGEST_FRAME = 500  #: messages
_numbers = count(1)


def status(name: str, message: str) -> dict[str, Any]:
    """Return a status message."""
    return {"ev": "status", "status": name, "message": message}


class Connection:
    """A client of one cluster: what it subscribed to, and the task that writes to it."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, cluster: str, buffer: int) -> None:
        self._socket, self._request, self._buffer = socket, request, buffer
        self.cluster, self.number = cluster, next(_numbers)
        self.authenticated = False
        self.channels: dict[str, set[str]] = {}  #: channel to tickers, or ``*``
        self._waiting: list[bytes] = []
        self._frames: list[str] = []  # sent before what waits
        self._something = asyncio.Event()
        self._leaving = False
        self._mute_until = 0.0
        self._alive = asyncio.Event()
        self._alive.set()
        self._timer: asyncio.TimerHandle | None = None
        self._writer = asyncio.create_task(self._write())

    def wants(self, cluster: str, channel: str, ticker: str) -> bool:
        """Tell whether it subscribed to this."""
        tickers = self.channels.get(channel)
        return tickers is not None and cluster == self.cluster and (ticker in tickers or "*" in tickers)

    def put(self, message: bytes) -> None:
        """Send a message of data, with whatever else waits."""
        if self._leaving or (self._mute_until and asyncio.get_running_loop().time() < self._mute_until):
            return
        if len(self._waiting) >= self._buffer:
            self.dismiss("slow_consumer", "The client reads too slowly.")
            return
        self._waiting.append(message)
        self._something.set()

    def raw(self, frame: str) -> None:
        """Send a frame as it is, be it no message at all."""
        self._frames.append(frame)
        self._something.set()

    def tell(self, *rows: dict[str, Any]) -> None:
        """Send answers in one frame, even while data are muted."""
        if rows and not self._leaving:
            self.raw(msgspec.json.encode(rows).decode())

    def dismiss(self, name: str, message: str) -> None:
        """Say why, and close."""
        self.tell(status(name, message))
        self._waiting.clear()
        self._leaving = True
        self._something.set()

    def mute(self, delay_s: float, *, dead: bool) -> None:
        """Send no data for so long (0: ever); ``dead``: read nothing either, so that pings go unanswered."""
        loop = asyncio.get_running_loop()
        self._mute_until = loop.time() + delay_s if delay_s else float("inf")
        if dead:
            self._alive.clear()
            # aiohttp answers pings when it reads; a transport that does not read is as dead as a cut cable
            if self._request.transport is not None:
                with suppress(RuntimeError, AttributeError):
                    self._request.transport.pause_reading()
            if delay_s:
                self._timer = loop.call_later(delay_s, self.heal)

    def heal(self) -> None:
        """End what mutes it."""
        self._mute_until = 0.0
        if not self._alive.is_set():
            self._alive.set()
            if self._request.transport is not None:
                with suppress(RuntimeError, AttributeError):
                    self._request.transport.resume_reading()

    async def receive(self) -> str | None:
        """Wait for what the client says next; None when it has gone."""
        while True:
            await self._alive.wait()
            message = await self._socket.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                data = message.data
                return data if isinstance(data, str) else bytes(data).decode(errors="replace")
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return None

    def cut(self) -> None:
        """Cut the connection without a goodbye."""
        self._leaving = True
        self._alive.set()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        """Say goodbye."""
        self._alive.set()
        self.stop()
        await self._socket.close(code=1001)

    def stop(self) -> None:
        """Stop sending; the connection has ended."""
        self._leaving = True
        self._writer.cancel()
        if self._timer is not None:
            self._timer.cancel()

    async def _write(self) -> None:
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while self._frames or self._waiting:
                    frames, self._frames = self._frames, []
                    for frame in frames:
                        await self._socket.send_str(frame)
                    batch = self._waiting[:LARGEST_FRAME]
                    del self._waiting[:LARGEST_FRAME]
                    if batch:
                        await self._socket.send_str((b"[" + b",".join(batch) + b"]").decode())
                if self._leaving:
                    # who does not read does not answer a goodbye either
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await self._socket.close(code=1000)
                    if self._request.transport is not None:
                        self._request.transport.abort()
                    return
        except (ConnectionError, RuntimeError):
            self.cut()
