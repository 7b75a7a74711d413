"""The Massive stream: connections by cluster, what each subscribed to, and what goes wrong on the way.

Faults strike a message where it is published, before it is given to connections, at ``stream.<channel>`` (``stream.AM``) or
``stream``; beside those of ``outlet`` (``drop``, ``duplicate``, ``delay``, ``reorder``, ``mute``, ``dead``, ``disconnect``, ``junk``):

- ``revise``: an aggregate goes out with part of its volume missing, and whole after the ticker's next one (or ``delay_s`` later).
- ``late``: a print goes out after the ticker's next ten (or ``delay_s`` later), marked as sold out of sequence.
- ``force_disconnect``, ``slow_consumer``: every connection of the cluster is told so and closed.

At ``stream.connect`` a ``refuse`` answers the handshake with 503; at ``stream.auth`` ``reject`` refuses the key, ``mute`` never
answers; at ``stream.subscribe`` ``reject`` refuses a channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.twins.faults import Fault, Faults
from northstar_core.twins.market import MINUTE_NS, TwinMarket
from northstar_core.twins.massive.connection import Connection, status
from northstar_core.twins.massive.messages import SECOND_NS, Messages, symbol_of, ticker_of

CHANNELS = {
    "stocks": ("T", "Q", "A", "AM", "LULD"),
    "options": ("T", "Q", "A", "AM"),
    "indices": ("V", "A", "AM"),
}
NOT_ENTITLED = ("NOI", "FMV")
MOST_OPTION_QUOTES = 1000
LATE_PRINTS = 10  #: a late print comes after so many others
STRIKES = (
    "drop", "duplicate", "delay", "reorder", "mute", "dead", "disconnect", "junk", "revise", "late", "force_disconnect",
    "slow_consumer",
)  # fmt: skip
JUNK = (
    '{"ev":"T"', "<html>502</html>", '{"ev":"status","status":"success"}', "[]", '[{"ev":"ZZ","sym":"SPY"}]',
    '[{"ev":"AM","sym":"SPY","o":"not a price"}]', "[1,2,3]", "null",
)  # fmt: skip

Row = dict[str, Any]


class Stream:
    """All connections of one twin.

    Parameters
    ----------
    key
        What authenticates.
    most
        Connections of one cluster at a time; one more and the oldest is told ``max_connections`` and closed.
    auth_timeout_s
        Wall seconds a connection may take to authenticate.
    second_lag_s
        Market seconds after which a second's aggregate appears.
    buffer
        Messages that may wait for a slow reader before it is closed.
    quote_lot
        Shares in one unit of a stock quote's size.
    """

    def __init__(
        self, market: TwinMarket, faults: Faults, key: str, *, most: int = 1, auth_timeout_s: float = 10.0,
        second_lag_s: float = 2.0, buffer: int = 50_000, quote_lot: int = 100,
    ) -> None:  # fmt: skip
        self._market, self._faults, self._key = market, faults, key
        self._most, self._auth_timeout_s, self._buffer = most, auth_timeout_s, buffer
        self._second_lag_ns = round(second_lag_s * SECOND_NS)
        self._messages = Messages(market, quote_lot)
        self.connections: set[Connection] = set()
        self.opened = 0
        self._heard: set[str] = set()  # symbols somebody subscribed to; looked at by the market
        self._stop: Callable[[], None] | None = None
        self._everything = False
        self._held: dict[tuple[str, str, str], list[list[Any]]] = {}  # (cluster, channel, ticker): [messages to go, row]
        self._later: set[asyncio.TimerHandle] = set()
        self._junk = 0

    def close(self) -> None:
        """Stop listening to the market."""
        for handle in self._later:
            handle.cancel()
        self._later.clear()
        if self._stop is not None:
            self._stop()
            self._stop = None

    # ── a connection ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def connect(self, request: web.Request, cluster: str) -> web.StreamResponse:
        """Serve one WebSocket until it ends."""
        if self._faults.hit("stream.connect", "refuse"):
            return web.Response(status=503)
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = Connection(socket, request, cluster, self._buffer)
        self.connections.add(connection)
        self.opened += 1
        connection.tell(status("connected", "Connected Successfully"))
        timeout = asyncio.get_running_loop().call_later(self._auth_timeout_s, self._time_out, connection)
        try:
            while (frame := await connection.receive()) is not None:
                self._hear(connection, frame)
        finally:
            timeout.cancel()
            self.connections.discard(connection)
            connection.stop()
            self._listen()
        return socket

    def _time_out(self, connection: Connection) -> None:
        if not connection.authenticated:
            connection.dismiss("auth_timeout", "authentication timed out")

    def _hear(self, connection: Connection, frame: str) -> None:
        try:
            asked = msgspec.json.decode(frame)
            action, params = asked["action"], str(asked.get("params", ""))
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            connection.tell(status("error", "message not understood"))
            return
        if action == "auth":
            self._authenticate(connection, params)
        elif not connection.authenticated:
            connection.tell(status("error", "not authenticated"))
        elif action in ("subscribe", "unsubscribe"):
            answers = [self._change(connection, action, name.strip()) for name in params.split(",") if name.strip()]
            connection.tell(*answers)
            self._listen()
        else:
            connection.tell(status("error", f"unknown action: {action}"))

    def _authenticate(self, connection: Connection, key: str) -> None:
        fault = self._faults.hit("stream.auth", "reject", "mute")
        if fault is not None and fault.do == "mute":
            return
        if key != self._key or fault is not None:
            connection.dismiss("auth_failed", "authentication failed")
            return
        connection.authenticated = True
        connection.tell(status("auth_success", "authenticated"))
        others = [
            c for c in sorted(self.connections, key=lambda c: c.number)
            if c.cluster == connection.cluster and c.authenticated
        ]  # fmt: skip
        for extra in others[: max(0, len(others) - self._most)]:
            extra.dismiss("max_connections", "Maximum number of connections exceeded.")

    def _change(self, connection: Connection, action: str, name: str) -> Row:
        channel, _, ticker = name.partition(".")
        if channel in NOT_ENTITLED or self._faults.hit("stream.subscribe", "reject"):
            return status("error", f"not authorized to subscribe to: {name}")
        if channel not in CHANNELS[connection.cluster] or not ticker:
            return status("error", f"invalid subscription: {name}")
        tickers = connection.channels.setdefault(channel, set())
        if action == "unsubscribe":
            tickers.discard(ticker)
            return status("success", f"unsubscribed to: {name}")
        if connection.cluster == "options" and channel == "Q" and (len(tickers) >= MOST_OPTION_QUOTES or ticker == "*"):
            return status("error", f"too many subscriptions: {name}")
        tickers.add(ticker)
        return status("success", f"subscribed to: {name}")

    # ── what is published ─────────────────────────────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        """Hear of what is subscribed to now, and of nothing else."""
        tickers = {t for c in self.connections for wanted in c.channels.values() for t in wanted}
        symbols = {symbol_of(ticker) for ticker in tickers if ticker != "*"}
        everything = "*" in tickers
        if symbols == self._heard and everything == self._everything and (self._stop is not None or not tickers):
            return
        self._messages.era += 1
        self._heard.clear()
        self._heard.update(symbols)
        if self._stop is None or everything != self._everything:
            if self._stop is not None:
                self._stop()
            self._everything = everything
            self._stop = self._market.listen(self._on_market, None if everything else self._heard)
        self._market.refresh()

    def _on_market(self, events: list[MarketEvent]) -> None:
        seconds: list[Bar] = []
        for event in events:
            if type(event) is Trade:
                self._publish(event.symbol, "T", lambda e=event: self._messages.trade(e))  # type: ignore[misc]
                self._publish(f"I:{event.symbol}", "V", lambda e=event: self._messages.value(e))  # type: ignore[misc]
            elif type(event) is Quote:
                self._publish(event.symbol, "Q", lambda e=event: self._messages.quote(e))  # type: ignore[misc]
            elif type(event) is Bar:
                length = event.ts - event.start
                if length == MINUTE_NS:
                    self._publish(event.symbol, "AM", lambda e=event: self._messages.aggregate(e))  # type: ignore[misc]
                    self._publish(event.symbol, "LULD", lambda e=event: self._messages.limits(e))  # type: ignore[misc]
                elif length == SECOND_NS:
                    seconds.append(event)
        if seconds and self._second_lag_ns:
            self._market.at(seconds[0].ts + self._second_lag_ns, lambda: self._publish_seconds(seconds))
        else:
            self._publish_seconds(seconds)

    def _publish_seconds(self, bars: Iterable[Bar]) -> None:
        for bar in bars:
            self._publish(bar.symbol, "A", lambda b=bar: self._messages.aggregate(b))  # type: ignore[misc]

    def _publish(self, symbol: str, channel: str, make: Callable[[], Row]) -> None:
        """Make a message, if anybody subscribed to it, and let it pass the faults."""
        ticker = symbol if symbol.startswith("I:") else ticker_of(symbol)
        cluster = {"O:": "options", "I:": "indices"}.get(ticker[:2], "stocks")
        if not any(c.wants(cluster, channel, ticker) for c in self.connections):
            return
        row = make()
        fault = self._faults.hit(f"stream.{channel}", *STRIKES)
        place = (cluster, channel, ticker)
        if fault is None:
            self._send(place, row)
        else:
            self._strike(fault, place, row)
        self._count_down(place)

    def _strike(self, fault: Fault, place: tuple[str, str, str], row: Row) -> None:
        kind, cluster = fault.do, place[0]
        if kind == "duplicate":
            self._send(place, row)
            self._hold(fault, place, row, 0)
        elif kind in ("delay", "reorder"):
            self._hold(fault, place, row, 2)
        elif kind == "revise" and place[1] in ("A", "AM"):
            fewer = row["v"] // 2
            self._send(place, row | {"v": fewer, "h": max(row["o"], row["c"]), "l": min(row["o"], row["c"]), "dv": str(fewer)})
            self._hold(fault, place, row, 2)
        elif kind == "late" and place[1] == "T":
            self._hold(fault, place, row | {"c": [*row.get("c", []), 33]}, LATE_PRINTS + 1)
        elif kind == "junk":
            junk = JUNK[self._junk % len(JUNK)]
            self._junk += 1
            for connection in self._of(cluster):
                connection.raw(junk)
            self._send(place, row)
        elif kind == "disconnect":
            for connection in self._of(cluster):
                connection.cut()
        elif kind in ("mute", "dead"):
            for connection in self._of(cluster):
                connection.mute(fault.delay_s, dead=kind == "dead")
        elif kind in ("force_disconnect", "slow_consumer"):
            self._send(place, row)
            for connection in self._of(cluster):
                connection.dismiss(kind, fault.text or _TEXTS[kind])

    def _hold(self, fault: Fault, place: tuple[str, str, str], row: Row, messages: int) -> None:
        """Send a message later: after so many of its kind, this one included, or after a time where the fault gives one."""
        if fault.delay_s:
            loop = asyncio.get_running_loop()

            def send() -> None:
                self._later.discard(handle)
                self._send(place, row)

            handle = loop.call_later(fault.delay_s, send)
            self._later.add(handle)
        elif messages:
            self._held.setdefault(place, []).append([messages, row])
        else:
            self._send(place, row)

    def _count_down(self, place: tuple[str, str, str]) -> None:
        waiting = self._held.get(place)
        if not waiting:
            return
        for entry in waiting:
            entry[0] -= 1
        for entry in [entry for entry in waiting if entry[0] <= 0]:
            waiting.remove(entry)
            self._send(place, entry[1])

    def _of(self, cluster: str) -> list[Connection]:
        return [connection for connection in self.connections if connection.cluster == cluster]

    def _send(self, place: tuple[str, str, str], row: Row) -> None:
        data = msgspec.json.encode(row)
        for connection in self.connections:
            if connection.wants(*place):
                connection.put(data)


_TEXTS = {"force_disconnect": "Disconnected by the server.", "slow_consumer": "The client reads too slowly."}
