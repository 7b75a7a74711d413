"""The sending side of one WebSocket, where messages get lost, doubled, late or out of order.

What each kind of fault does to a message at its place (``stream``, or ``stream.<name>``):

- ``drop``: it is not sent. ``duplicate``: sent now and again ``delay_s`` later. ``delay``: sent ``delay_s`` later; what
  follows it is not held up. ``reorder``: sent after the message that follows it (or ``delay_s`` later, if none does).
- ``junk``: something that is no message goes before it.
- ``mute``: from this one on nothing is sent for ``delay_s`` (0: for as long as the connection lasts); pings are answered.
- ``dead``: the same, and what comes in is not read, so pings go unanswered: the half-dead connection.
- ``disconnect``: the connection is cut without a goodbye.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import WSMsgType, web

from northstar_core.twins.faults import STREAMS, Fault, Faults

Frame = str | bytes
JUNK = '{"stream":"trade_up'
SWAP_S = 0.5  #: a message that is to come after its follower is not held longer than this


class Outlet:
    """Sends frames on one WebSocket, in order, through a task of its own; a slow reader holds up nobody else."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, faults: Faults) -> None:
        self._socket, self._request, self._faults = socket, request, faults
        self._queue: asyncio.Queue[Frame] = asyncio.Queue()
        self._held: list[Frame] = []
        self._mute_until = 0.0
        self._alive = asyncio.Event()
        self._alive.set()
        self._later: set[asyncio.TimerHandle] = set()
        self._sender = asyncio.create_task(self._send_all())

    def put(self, frame: Frame, name: str = "") -> None:
        """Send a frame of data; ``name`` is what it is about (``fill``), for faults at ``stream.<name>``."""
        fault = self._faults.hit(f"stream.{name}" if name else "stream", *STREAMS)
        if fault is not None:
            self._strike(fault, frame)
        else:
            self._pass(frame)

    def tell(self, frame: Frame) -> None:
        """Send a frame that no fault touches: answers to the client's own messages."""
        self._queue.put_nowait(frame)

    def _strike(self, fault: Fault, frame: Frame) -> None:
        kind = fault.do
        if kind == "duplicate":
            self._pass(frame)
            if fault.delay_s:
                self._after(fault.delay_s, lambda: self._pass(frame))
            else:
                self._pass(frame)
        elif kind == "delay":
            self._after(fault.delay_s, lambda: self._pass(frame))
        elif kind == "reorder":
            self._held.append(frame)
            self._after(fault.delay_s or SWAP_S, self._release)
        elif kind == "junk":
            self._pass(JUNK.encode() if isinstance(frame, bytes) else JUNK)
            self._pass(frame)
        elif kind == "disconnect":
            self.cut()
        elif kind in ("mute", "dead"):
            now = asyncio.get_running_loop().time()
            self._mute_until = now + fault.delay_s if fault.delay_s else float("inf")
            if kind == "dead":
                self._alive.clear()
                if fault.delay_s:
                    self._after(fault.delay_s, self._alive.set)

    def _pass(self, frame: Frame) -> None:
        if asyncio.get_running_loop().time() < self._mute_until:
            return
        self._queue.put_nowait(frame)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for frame in held:
            self._queue.put_nowait(frame)

    def _after(self, delay_s: float, call: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def run() -> None:
            self._later.discard(handle)
            call()

        handle = loop.call_later(delay_s, run)
        self._later.add(handle)

    def heal(self) -> None:
        """End what mutes it."""
        self._mute_until = 0.0
        self._alive.set()

    async def receive(self) -> Frame | None:
        """Wait for what the client sends next; None when it has gone. A dead connection does not read.

        Answers pings itself, so the socket is made with ``autoping=False``.
        """
        while True:
            await self._alive.wait()
            message = await self._socket.receive()
            if message.type is WSMsgType.PING:
                if self._alive.is_set():
                    await self._socket.pong(message.data)
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                frame: Frame = message.data
                return frame
            elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return None

    def cut(self) -> None:
        """Cut the connection without a goodbye."""
        self._alive.set()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        """Say goodbye and stop sending."""
        self._alive.set()
        self.stop()
        await self._socket.close(code=1001)

    def stop(self) -> None:
        """Stop sending; the connection has ended."""
        self._sender.cancel()
        for handle in self._later:
            handle.cancel()
        self._later.clear()

    async def _send_all(self) -> None:
        try:
            while True:
                frame = await self._queue.get()
                if isinstance(frame, str):
                    await self._socket.send_str(frame)
                else:
                    await self._socket.send_bytes(frame)
        except ConnectionError:
            self.cut()
