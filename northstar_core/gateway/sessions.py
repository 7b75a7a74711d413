"""The session server: a Unix socket on which kernels, commands and dashboards speak the protocol of ``model.wire``.

A connection proves itself with its first frame. What it may not send is refused with a code, put on the record, and nothing else is
disturbed. What waits for a connection is sent in one frame once a millisecond.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any, Protocol

from northstar_core.model.errors import NorthstarError, ProtocolError
from northstar_core.model.wire import (
    PROTOCOL,
    Answer,
    Ask,
    Beat,
    Hello,
    Keep,
    Leave,
    Login,
    Refused,
    Request,
    frame,
    take,
    upwards,
)

log = logging.getLogger("northstar.sessions")

COALESCE_S = 0.001
FIRST_FRAME_S = 5.0
HIGH_WATER = 1 << 20  #: bytes in the socket's buffer at which nothing more is put in
LINGER_S = 2.0  #: what was said last has so long to be read


class Refusal(NorthstarError):
    """What a client sent may not be; ``code`` is for programs."""

    def __init__(self, code: str, detail: str) -> None:
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}")


class Guest(Protocol):
    """What the server needs of whoever is behind a connection, once it has proved itself."""

    def next_frame(self) -> bytes | None:
        """What is to be sent now."""

    def on_message(self, message: Any) -> None:
        """A message came."""

    def on_gone(self, reason: str) -> None:
        """The connection has ended."""


class House(Protocol):
    """What the server asks the gateway."""

    async def welcome(self, hello: Hello, connection: Connection) -> Guest:
        """Let a strategy in, or raise ``Refusal``."""

    def login(self, login: Login, connection: Connection) -> Guest:
        """Let a person's tool in, or raise ``Refusal``."""

    def refused(self, guest: Guest | None, code: str, detail: str) -> None:
        """Something was refused: on the record."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: SessionServer) -> None:
        self.server = server
        self.transport: asyncio.Transport
        self.guest: Guest | None = None
        self.heard = time.monotonic()  #: when it last said anything
        self.full = False
        self._buffer = bytearray()
        self._n = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False

    # ── transport ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self.server.connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(FIRST_FRAME_S, self._too_slow)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"the connection was lost: {error}" if error else "the connection was closed")

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.server.wake()

    def data_received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        self._buffer += data
        try:
            while not self._gone and (body := take(self._buffer)) is not None:
                self._message(upwards(body))
        except ProtocolError as error:
            self.refuse("FRAME", str(error))
        except Refusal as refusal:
            self.refuse(refusal.code, refusal.detail)
        except Exception as error:
            log.exception("a frame could not be handled")
            self.refuse("INTERNAL", f"{type(error).__name__}: {error}")

    # ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _message(self, message: Any) -> None:
        if isinstance(message, Hello | Login):
            if self.guest is not None or self._task is not None:
                raise Refusal("ORDER", "a session begins once")
            if message.protocol != PROTOCOL:
                raise Refusal("PROTOCOL", f"this gateway speaks protocol {PROTOCOL}, the client {message.protocol}; use the same version")
            if self._timer is not None:
                self._timer.cancel()
            if isinstance(message, Login):
                self.guest = self.server.house.login(message, self)
            else:
                self._task = asyncio.get_running_loop().create_task(self._welcome(message))
            return
        if self.guest is None:
            raise Refusal("ORDER", "the first frame is Hello or Login, and the next waits for the answer")
        assert isinstance(message, Ask | Beat | Keep | Leave | Request)
        if message.n != self._n + 1:
            raise Refusal("REPLAY", f"frame {message.n} after frame {self._n}")
        self._n = message.n
        self.guest.on_message(message)

    async def _welcome(self, hello: Hello) -> None:
        try:
            guest = await self.server.house.welcome(hello, self)
        except Refusal as refusal:
            self.refuse(refusal.code, refusal.detail)
            return
        except Exception as error:
            log.exception("a session could not begin")
            self.refuse("INTERNAL", f"{type(error).__name__}: {error}")
            return
        if self._gone:
            guest.on_gone("the connection was lost while the session began")
        else:
            self.guest = guest
            self.server.wake()

    # ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: Any) -> None:
        """Send a message at once."""
        if not self._gone:
            self.transport.write(frame(message))

    def answer(self, n: int, value: Any = None, error: str = "") -> None:
        """Answer a request."""
        self.send(Answer(n, value, error))

    def refuse(self, code: str, detail: str) -> None:
        """Refuse what came, put it on the record, and close."""
        self.server.house.refused(self.guest, code, detail)
        self.send(Refused(code, detail))
        self.close(f"refused: {code}")

    def close(self, reason: str) -> None:
        """End the connection once what was sent has left, or was not read in time."""
        if not self._gone:
            if self.full:
                self.transport.abort()
            else:
                self.transport.close()
                asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)
            self._end(reason)

    def _end(self, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()  # nobody waits for the session to begin any more
        self.server.connections.discard(self)
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.on_gone(reason)

    def _too_slow(self) -> None:
        if self.guest is None and self._task is None:
            self.refuse("TIMEOUT", f"nothing was said in {FIRST_FRAME_S:.0f} s")

    def flush(self) -> None:
        """Put what waits for the client in its socket."""
        while self.guest is not None and not self.full and (data := self.guest.next_frame()) is not None:
            self.transport.write(data)


class SessionServer:
    """Listens on a Unix socket."""

    def __init__(self, house: House, path: Path) -> None:
        self.house, self.path = house, path
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Listen. A socket file that nobody listens on is removed.

        Raises
        ------
        NorthstarError
            If another gateway listens there.
        """
        self._loop = asyncio.get_running_loop()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.path.exists():
            try:
                _, writer = await asyncio.open_unix_connection(str(self.path))
                writer.close()
            except OSError:
                self.path.unlink(missing_ok=True)
            else:
                raise NorthstarError(f"{self.path}: another gateway listens here; northstar down stops it")
        before = os.umask(0o177)  # the socket itself: read and write for us alone
        try:
            self._server = await self._loop.create_unix_server(lambda: Connection(self), str(self.path))
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is None:
            return  # the file there, if any, is another's
        self._server.close()
        for connection in list(self.connections):
            connection.close("the gateway is going down")
        self.path.unlink(missing_ok=True)

    def wake(self) -> None:
        """Something waits for somebody: send it within a millisecond."""
        if self._flushing is None:
            self._flushing = self._loop.call_later(COALESCE_S, self._flush)

    def flush(self) -> None:
        """Send what waits now."""
        if self._flushing is not None:
            self._flushing.cancel()
        self._flush()

    def _flush(self) -> None:
        self._flushing = None
        for connection in list(self.connections):
            try:
                connection.flush()
            except Exception:
                log.exception("a connection could not be served")
                connection.close("could not be served")
