"""One connection of the feed, kept up: it carries frames and messages, and decides nothing.

One task reads and hands over; another makes events of what has been read, so a slow consumer never holds up the socket until
``BACKLOG_BYTES`` wait: then reading stops, the server notices, and what is missed meanwhile is filled in over REST.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

import websockets
from websockets.asyncio.client import ClientConnection, connect

from northstar_core.data.feed import FeedEvent, FeedStats
from northstar_core.data.liveness import Backoff, Silence
from northstar_core.data.massive.protocol import MassiveProtocol
from northstar_core.data.massive.wire import authenticate
from northstar_core.model.ports import Clock
from northstar_core.model.world import AlertRaised

log = logging.getLogger("northstar.feed")

OPEN_S = 10.0  #: wall seconds to connect and to shake hands
PING_S = 20.0  #: wall seconds between pings, and for an answer
CLOSE_S = 1.0
BACKLOG_BYTES = 64 << 20
SLICE_NS = 1_000_000  #: others get their turn after so much work
LARGEST_FRAME = 16 << 20
STALL_S = 0.1  #: wall seconds by which a wait of ours may be late before it says something about us, not the server
STEADY_S = 30.0  #: a connection that held so long (desk seconds) was a good one
#: After these the same again would only be refused again: seconds of the desk to the first try, and at most.
PATIENT = {"auth_failed": (60.0, 900.0), "not_authorized": (60.0, 900.0), "max_connections": (30.0, 300.0)}


class Carrier(Protocol):
    """Whom a link hands things to."""

    def hand_over(self, events: list[FeedEvent]) -> None:
        """Give events to the desk, and ask what is to be asked."""
        ...


class Link:
    """A cluster's connection.

    Parameters
    ----------
    url
        Of the cluster.
    opened
        Tells when the session of a time opened; None while the exchange is closed.
    """

    def __init__(
        self, cluster: str, url: str, key: str, clock: Clock, protocol: MassiveProtocol, stats: FeedStats, carrier: Carrier,
        opened: Callable[[int], int | None], backoff: Backoff, silence: Silence,
    ) -> None:  # fmt: skip
        self.cluster, self._url, self._key, self._clock = cluster, url, key, clock
        self._protocol, self._stats, self._carrier, self._opened = protocol, stats, carrier, opened
        self._backoff, self._silence = backoff, silence
        self._patient = backoff.fresh()
        self._frames: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._socket: ClientConnection | None = None
        self._told = ""  # the reason that was last told of
        self._was_silent = False
        self.last_heard = 0

    async def run(self) -> None:
        """Connect, and connect again, for ever."""
        while True:
            begun = self._clock.now()
            try:
                reason = await self._once()
            except Exception as error:  # whatever it is, the market goes on, and so must we
                log.exception("feed %s, %s", self._protocol.name, self.cluster)
                reason = f"{type(error).__name__}: {error}"
                alert = AlertRaised(self._clock.now(), "critical", f"feed {self._protocol.name}", f"{self.cluster}: {reason}")
                self._carrier.hand_over([alert])
            closing = self._protocol.clusters[self.cluster].closing
            self._carrier.hand_over(self._protocol.lost(self.cluster, self._clock.now(), closing or reason))
            self._stats.reconnects += 1
            if self._clock.now() - begun > STEADY_S * 1e9 and not closing:
                self._backoff.reset()
            wait = self._backoff.next()
            if closing in PATIENT:
                first, longest = PATIENT[closing]
                wait = max(wait, min(first * 2.0 ** min(self._patient.tries, 10), longest))
                self._patient.next()
            else:
                self._patient.reset()
            await self._clock.sleep(wait)

    async def send(self) -> None:
        """Send what the protocol has to say."""
        outbox = self._protocol.clusters[self.cluster].outbox
        while outbox and self._socket is not None:
            message = outbox.pop(0)
            try:
                await self._socket.send(message)
            except websockets.ConnectionClosed:
                return

    async def _once(self) -> str:
        """Hold one connection; return why it ended."""
        try:
            async with asyncio.timeout(OPEN_S):
                socket = await connect(
                    self._url, open_timeout=OPEN_S, ping_interval=PING_S, ping_timeout=PING_S, close_timeout=CLOSE_S,
                    max_size=LARGEST_FRAME, max_queue=64, proxy=None, compression=None,
                )  # fmt: skip
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            return f"cannot connect: {type(error).__name__} {error}".strip()
        self._frames.clear()
        self._bytes = 0
        self._some.clear()
        self._room.set()
        self._protocol.connected(self.cluster)
        self._silence.connected(self._clock.now())
        self._socket = socket
        tasks = [
            asyncio.create_task(self._read(socket)),
            asyncio.create_task(self._handle()),
            asyncio.create_task(self._watch()),
        ]
        try:
            await socket.send(authenticate(self._key))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        except websockets.ConnectionClosed:
            return "closed while authenticating"
        finally:
            self._socket = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _close(socket)

    async def _read(self, socket: ClientConnection) -> str:
        try:
            while True:
                frame = await socket.recv(decode=False)
                self._frames.append((frame, self._clock.now()))
                self._bytes += len(frame)
                self._some.set()
                if self._bytes > BACKLOG_BYTES:
                    self._stats.drop("reading paused")
                    self._room.clear()
                    await self._room.wait()
        except websockets.ConnectionClosed as closed:
            await self._drained()
            received = closed.rcvd
            return f"closed by the server: {received.code} {received.reason}".strip() if received is not None else "connection lost"

    async def _drained(self) -> None:
        """Wait until what has been read is handled: the server's last words say why it closed."""
        while self._frames:
            await asyncio.sleep(0)

    async def _handle(self) -> str:
        protocol, stats, frames = self._protocol, self._stats, self._frames
        cluster = protocol.clusters[self.cluster]
        while True:
            await self._some.wait()
            self._some.clear()
            while frames:
                begun = perf_counter_ns()
                until = begun + SLICE_NS
                events: list[FeedEvent] = []
                while frames and begun < until:
                    frame, arrived = frames.popleft()
                    self._bytes -= len(frame)
                    self.last_heard = arrived
                    messages = stats.messages
                    events += protocol.receive(self.cluster, frame, arrived)
                    if stats.messages > messages and cluster.subscribed:
                        self._silence.heard(arrived, self._opened(arrived) is not None)
                    ended = perf_counter_ns()
                    stats.took("decode", ended - begun)
                    begun = ended
                self._carrier.hand_over(events)
                stats.took("hand over", perf_counter_ns() - begun)
                if self._was_silent and cluster.up:
                    self._was_silent = False
                    self._silence.reconnected(cluster.missed > 0)
                if not self._room.is_set() and self._bytes < BACKLOG_BYTES // 2:
                    self._room.set()
                if cluster.outbox:
                    await self.send()
                if cluster.closing:
                    return cluster.closing
                await asyncio.sleep(0)

    async def _watch(self) -> str:
        """End the connection when it is silent while the exchange is open."""
        while True:
            begun = perf_counter_ns()
            await self._clock.sleep(1.0)
            late_s = (perf_counter_ns() - begun) / 1e9 - self._clock.wall_s(1.0)
            now = self._clock.now()
            # after a stall of our own what the server sent meanwhile has not been read yet
            if late_s > STALL_S or self._frames or not self._protocol.clusters[self.cluster].channels:
                continue
            if self._silence.overdue(now, self._opened(now)):
                self._was_silent = True
                self._stats.drop("silences")
                return f"nothing heard for {self._silence.patience_ns / 1e9:.0f} s"


async def _close(socket: ClientConnection) -> None:
    try:
        async with asyncio.timeout(2 * CLOSE_S):
            await socket.close()
    except (TimeoutError, OSError, websockets.WebSocketException):
        pass
    finally:
        socket.transport.abort()
