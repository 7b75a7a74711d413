"""Alpaca's ``/stream``: authorization in either form, the set of streams that are listened to, trade updates."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from aiohttp import web

from northstar_core.twins.alpaca.book import Book
from northstar_core.twins.control import Control
from northstar_core.twins.outlet import Frame, Outlet

STREAM = "trade_updates"


class Stream:
    """Serves ``/stream``.

    Parameters
    ----------
    book
        Whose events are told.
    control
        Counts connections; its faults touch what is sent.
    key, secret
        What opens it.
    binary
        JSON in binary frames, as on paper; otherwise in text frames, as live.
    """

    def __init__(self, book: Book, control: Control, key: str, secret: str, *, binary: bool = True) -> None:
        self._book, self._control, self._binary = book, control, binary
        self._credentials = (key, secret)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one connection until it ends."""
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        packed = "msgpack" in request.headers.get("Content-Type", "")
        outlet = Outlet(socket, request, self._control.faults)
        self._control.outlets.add(outlet)
        session = _Session(outlet, self._credentials, packed=packed, binary=self._binary)
        stop = self._book.listen(session.tell)
        try:
            while (frame := await outlet.receive()) is not None:
                session.hear(frame)
        finally:
            stop()
            outlet.stop()
            self._control.outlets.discard(outlet)
            if not socket.closed:
                await socket.close()
        return socket


class _Session:
    """One connection: who it is and what it listens to."""

    def __init__(self, outlet: Outlet, credentials: tuple[str, str], *, packed: bool, binary: bool) -> None:
        self._outlet, self._credentials = outlet, credentials
        self._packed, self._binary = packed, binary
        self._authorized = False
        self._streams: list[str] = []

    def hear(self, frame: Frame) -> None:
        """Answer one message; what is none is passed over, as Alpaca does."""
        try:
            message = msgspec.msgpack.decode(frame) if self._packed and isinstance(frame, bytes) else json.loads(frame)
        except (ValueError, UnicodeDecodeError):
            return
        if not isinstance(message, dict):
            return
        action, data = message.get("action"), message.get("data")
        data = data if isinstance(data, dict) else {}
        if action == "auth":
            self._authorize(message.get("key"), message.get("secret"))
        elif action == "authenticate":
            self._authorize(data.get("key_id"), data.get("secret_key"))
        elif action == "listen":
            if not self._authorized:
                self._answer("authorization", {"status": "unauthorized", "action": "listen"})
                return
            wanted = data.get("streams")
            self._streams = [name for name in wanted if name == STREAM] if isinstance(wanted, list) else []
            self._answer("listening", {"streams": self._streams})

    def tell(self, event: dict[str, Any]) -> None:
        """Pass on an event of the account."""
        if STREAM in self._streams:
            self._outlet.put(self._frame({"stream": STREAM, "data": event}), event["event"])

    def _authorize(self, key: Any, secret: Any) -> None:
        self._authorized = (key, secret) == self._credentials
        status = "authorized" if self._authorized else "unauthorized"
        self._answer("authorization", {"status": status, "action": "authenticate"})

    def _answer(self, stream: str, data: dict[str, Any]) -> None:
        self._outlet.tell(self._frame({"stream": stream, "data": data}))

    def _frame(self, message: dict[str, Any]) -> Frame:
        if self._packed:
            return msgspec.msgpack.encode(message)
        text = json.dumps(message, separators=(",", ":"))
        return text.encode() if self._binary else text


def soon(delay_s: float) -> Any:
    """Return what carries out a call a moment later: after the answer that is being written."""

    def later(call: Any) -> None:
        asyncio.get_running_loop().call_later(delay_s, call)

    return later
