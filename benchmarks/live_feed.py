"""A server that speaks Massive's stream at a wanted rate: frames made beforehand, paced by time, stamped as they are sent.

``python -m benchmarks.live_feed DESK_NS WALL_S PRICE`` prints its port as one JSON line. What a client subscribed to is quoted, one symbol
after the other; every minute each symbol has its bar. ``POST /_bench/rate {"ticks": 10000, "orders": 25, "frames_s": 1000}`` sets the
quotes a second, how many of them, of the traded symbol, ask for an order (by their size), and in how many frames they go.
``GET /_bench/state`` tells what was sent. Its REST has no bars.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from benchmarks.live_twin import SYMBOL

MARK = 77  #: size of the ask, in lots, of a quote that asks for an order
TIME, NUMBER = b"1111111111111", b"2222222222"  #: stand for milliseconds and for the number; of as many digits
FRAMES_S = 1_000  #: frames a second, where nothing else is asked for and a frame has room for what is due
LARGEST = 50  #: quotes a frame
MS_NS, MINUTE_MS = 1_000_000, 60_000


class Frames:
    """Quotes of some symbols in frames, in turn, all but time and number in place; no symbol twice in a frame."""

    def __init__(self, symbols: list[str], price: float, size: int) -> None:
        self.size = min(size, len(symbols))
        self._plain: list[bytes] = []
        self._marked: list[bytes | None] = []
        self._n, self._number = 0, 10**9
        at = [symbols[n % len(symbols)] for n in range(4 * len(symbols) * self.size)]
        for first in range(0, len(at), self.size):
            part = at[first : first + self.size]
            cents = first // len(symbols) % 4
            self._plain.append(self._frame(part, price, cents, 5))
            self._marked.append(self._frame(part, price, cents, MARK) if SYMBOL in part else None)

    @staticmethod
    def _frame(symbols: list[str], price: float, cents: int, size: int) -> bytes:
        return b"[%b]" % b",".join(
            b'{"ev":"Q","sym":"%b","bx":4,"bp":%.2f,"bs":3,"ax":7,"ap":%.2f,"as":%d,"c":1,"t":%b,"q":%b,"z":3}'
            % (symbol.encode(), price + cents / 100, price + (cents + 2) / 100, size if symbol == SYMBOL else 5, TIME, NUMBER)
            for symbol in symbols
        )

    def next(self, now_ms: int, mark: bool) -> tuple[bytes, bool]:
        """Return the next frame, stamped, and whether it asks for an order where it was to."""
        at = self._n % len(self._plain)
        self._n += 1
        self._number += 1
        marked = self._marked[at] if mark else None
        frame = self._plain[at] if marked is None else marked
        return frame.replace(TIME, b"%d" % now_ms).replace(NUMBER, b"%d" % self._number), marked is not None


class Feed:
    """One client's stream, and what the benchmark asks of it."""

    def __init__(self, offset_ns: int, price: float) -> None:
        self._offset, self._price = offset_ns, price
        self._socket: web.WebSocketResponse | None = None
        self._channels: set[str] = set()
        self._playing: asyncio.Task[None] | None = None
        self.sent = self.bars = self.marked = self.late_ns = 0

    def now_ms(self) -> int:
        """The desk's time."""
        return (time.time_ns() + self._offset) // MS_NS

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the stream until it ends."""
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_str('[{"ev":"status","status":"connected","message":"Connected Successfully"}]')
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            asked = msgspec.json.decode(message.data)
            if asked["action"] == "auth":
                self._socket = socket
                self._channels = set()
                rows = [{"ev": "status", "status": "auth_success", "message": "authenticated"}]
            else:
                names = asked["params"].split(",")
                self._channels.update(names)
                rows = [{"ev": "status", "status": "success", "message": f"subscribed to: {name}"} for name in names]
            await socket.send_str(json.dumps(rows))
        if self._socket is socket:
            self._socket = None
        return socket

    async def rate(self, request: web.Request) -> web.Response:
        """Set the rate; returns what was sent until now."""
        asked = await request.json()
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
        self.late_ns = 0
        self._playing = asyncio.create_task(self._play(**asked)) if asked["ticks"] else None
        return await self.state(request)

    async def state(self, request: web.Request) -> web.Response:
        """Return what was sent: quotes, bars, quotes that asked for an order; and how far behind its rate it has been."""
        found = {"sent": self.sent, "bars": self.bars, "marked": self.marked, "late_ms": self.late_ns / 1e6}
        return web.json_response(found | {"symbols": len(self._symbols("Q"))})

    async def rest(self, request: web.Request) -> web.Response:
        """Return no bars, no conditions."""
        return web.json_response({"status": "OK", "results": []})

    def _symbols(self, channel: str) -> list[str]:
        return sorted(name[len(channel) + 1 :] for name in self._channels if name.startswith(f"{channel}."))

    async def _play(self, ticks: float, orders: float = 0, frames_s: float = FRAMES_S) -> None:
        frames = Frames(self._symbols("Q"), self._price, min(max(round(ticks / frames_s), 1), LARGEST))
        begun, sent, marked, minute = time.perf_counter_ns(), 0, 0, self.now_ms() // MINUTE_MS
        while self._socket is not None:
            passed = time.perf_counter_ns() - begun
            due = passed * ticks / 1e9
            self.late_ns = max(self.late_ns, round((due - sent - frames.size) / ticks * 1e9))
            while sent + frames.size <= due:
                frame, asks = frames.next(self.now_ms(), marked < passed * orders / 1e9)
                marked += asks
                sent += frames.size
                self.sent += frames.size
                self.marked += asks
                await self._socket.send_frame(frame, WSMsgType.TEXT)
            if self.now_ms() // MINUTE_MS > minute:
                minute += 1
                await self._minute(minute * MINUTE_MS)
            await asyncio.sleep(0.0005)

    async def _minute(self, end: int) -> None:
        p = self._price
        symbols = self._symbols("AM")
        rows = [
            {"ev": "AM", "sym": s, "o": p, "h": p, "l": p, "c": p, "v": 100, "s": end - MINUTE_MS, "e": end} for s in symbols
        ]
        assert self._socket is not None
        await self._socket.send_frame(msgspec.json.encode(rows), WSMsgType.TEXT)
        self.bars += len(rows)


async def main(desk_ns: int, wall_s: float, price: float) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    feed = Feed(desk_ns - round(wall_s * 1e9), price)
    app = web.Application()
    routes: list[tuple[str, str, Any]] = [
        ("GET", "/stocks", feed.stream), ("POST", "/_bench/rate", feed.rate), ("GET", "/_bench/state", feed.state),
        ("GET", "/{path:.*}", feed.rest),
    ]  # fmt: skip
    for method, path, handler in routes:
        app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
