"""A synchronous client of the gateway, for commands and scripts: log in, ask, be answered.

    with DeskClient(home) as desk:
        desk.request("positions")

Numbers that are owed (quantities, prices, cash) come as text, exact; ``Decimal(...)`` reads them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from northstar_core.model.errors import NorthstarError, ProtocolError
from northstar_core.model.wire import Answer, Batch, Login, Refused, Request, downwards, frame, take

ANSWER_S = 60.0
LARGEST = 64 << 20  #: bytes of a frame that is read
LONGEST_PATH = 107  #: bytes a Unix socket's path may have


class GatewayError(NorthstarError):
    """The gateway is not there, refused, or did not answer; ``code`` says which: DOWN, SILENT, a refusal's, or REQUEST."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


class DeskClient:
    """One connection to the gateway of a home folder, opened when the first request is made.

    Parameters
    ----------
    home
        Northstar's folder.
    token
        What to log in with; the operator's, from its file, by default.
    timeout_s
        How long an answer is waited for.
    """

    def __init__(self, home: Path, *, token: str | None = None, timeout_s: float = ANSWER_S) -> None:
        self.home, self.timeout_s = home, timeout_s
        self._token = token
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._n = 0

    def __enter__(self) -> DeskClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, what: str, **args: Any) -> Any:
        """Return the gateway's answer to a request.

        Raises
        ------
        GatewayError
            If it is down, refuses, answers with an error, or not in time; after the last, a command may have been carried out.
        """
        deadline = time.monotonic() + self.timeout_s
        connection = self._connected()
        self._n += 1
        try:
            connection.sendall(frame(Request(self._n, what, args)))
        except OSError as error:
            # why it closed the connection may lie before the end of what it sent
            self._read_refusal(deadline)
            raise self._lost(error) from None
        while True:
            message = self._next(deadline, what)
            if isinstance(message, Answer) and message.n == self._n:
                if message.error:
                    raise GatewayError("REQUEST", message.error)
                return message.value

    def follow(self) -> Iterator[tuple[int, Any]]:
        """Yield (number, fact) as facts become durable, without end; needs no request before it.

        Raises
        ------
        GatewayError
            If the gateway goes.
        """
        self.request("follow")
        while True:
            message = self._next(None, "follow")
            if isinstance(message, Batch):
                yield from message.events

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._buffer.clear()
            self._n = 0

    # ── connection ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _connected(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        token = self._token if self._token is not None else self._operator_token()
        path = socket_path(self.home)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout_s)
        try:
            connection.connect(str(path))
            connection.sendall(frame(Login(token=token)))
        except OSError:
            connection.close()
            raise _down(self.home) from None
        self._socket = connection
        return connection

    def _operator_token(self) -> str:
        file = self.home / "gateway" / "operator.key"
        try:
            return file.read_text().strip()
        except FileNotFoundError:
            raise _down(self.home) from None
        except OSError as error:
            raise GatewayError(
                "TOKEN", f"{file}: cannot be read: {error.strerror}; the desk is another user's"
            ) from None

    def _next(self, deadline: float | None, what: str) -> Any:
        """The next message; a refusal is raised."""
        assert self._socket is not None
        while True:
            try:
                body = take(self._buffer, LARGEST)
                if body is not None:
                    message = downwards(body)
                    if isinstance(message, Refused):
                        self.close()
                        raise GatewayError(message.code, f"the gateway refused: {message.detail}")
                    return message
            except ProtocolError as error:
                self.close()
                raise GatewayError("PROTOCOL", f"the gateway's answer is not understood: {error}") from None
            try:
                self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                self.close()
                raise GatewayError("SILENT", f"{what}: no answer in {self.timeout_s:g} s; northstar status") from None
            except OSError as error:
                raise self._lost(error) from None
            if not data:
                raise self._lost(None)
            self._buffer += data

    def _read_refusal(self, deadline: float) -> None:
        """Raise the refusal that waits to be read, if there is one."""
        try:
            while True:
                self._next(deadline, "login")
        except GatewayError as error:
            if error.code not in ("LOST", "SILENT"):
                raise

    def _lost(self, error: OSError | None) -> GatewayError:
        self.close()
        reason = error.strerror if error is not None else "it closed the connection"
        return GatewayError("LOST", f"the gateway is gone: {reason}; northstar status")


def socket_path(home: Path) -> Path:
    """Return the gateway's socket.

    Raises
    ------
    GatewayError
        If the path is longer than a socket's may be.
    """
    path = home / "gateway" / "session.sock"
    if len(str(path).encode()) > LONGEST_PATH:
        raise GatewayError(
            "PATH", f"{path}: too long for a socket by {len(str(path)) - LONGEST_PATH}; use a shorter NORTHSTAR_HOME"
        )
    return path


def _down(home: Path) -> GatewayError:
    return GatewayError("DOWN", f"no gateway is running in {home}; northstar up starts one")
