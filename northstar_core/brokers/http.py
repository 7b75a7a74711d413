"""A REST client for brokers: what a request came to is one of three things, and nothing that changes something is sent twice.

*Answered*: the other side said something. *Never sent*: no byte left, provably: no connection could be made, or our own rate limit
held it back. *Silent*: bytes left and no readable answer came back; whatever was asked for may have happened.

With a free connection in the pool there is no suspension between the call and the first byte (on Python 3.11, where tasks do not start
eagerly, the loop goes round once), so what the caller checked just before still holds as the request leaves.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Mapping
from enum import IntEnum
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import ClientConnectorError, ClientError, ClientTimeout, ConnectionTimeoutError

from northstar_core.model.ports import Clock

SECOND = 1_000_000_000
SHOWN = ("accept", "content-type", "host", "user-agent", "content-length")  #: headers whose values may be seen
LONGEST = 16 * 1024 * 1024  #: bytes of an answer


class Answered(msgspec.Struct, frozen=True):
    """The other side answered; what it means is the adapter's business."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}

    @property
    def ok(self) -> bool:
        """Whether the status is of the 200s."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body's JSON.

        Raises
        ------
        msgspec.DecodeError
            If it is none.
        """
        return msgspec.json.decode(self.body)


class NeverSent(msgspec.Struct, frozen=True):
    """No byte of the request left this machine."""

    reason: str


class Silent(msgspec.Struct, frozen=True):
    """The request left and no readable answer came back: it may have been carried out."""

    reason: str
    disconnected: bool = False  #: the connection was closed under it, which an idle one may have been before


Outcome = Answered | NeverSent | Silent


class Use(IntEnum):
    """What a request is for: who gets the last of a rate limit."""

    CANCEL = 0  #: brings risk down; is never held back
    ORDER = 1  #: held back, and so never sent, when the share for cancels is touched
    READ = 2  #: waits


class Bucket:
    """A token bucket: so many requests a second on average, so many at once, and a share that only cancels may use.

    Parameters
    ----------
    per_s
        Requests a desk second; 0 means no limit.
    burst
        Requests at once after a pause.
    kept
        Part of ``burst`` kept for cancels.
    """

    __slots__ = ("burst", "kept", "level", "per_s", "ts")

    def __init__(self, per_s: float, burst: float, kept: float = 0.2) -> None:
        self.per_s, self.burst, self.kept = per_s, burst, burst * kept
        self.level, self.ts = burst, 0

    def take(self, use: Use, now: int) -> float:
        """Take one and return 0.0, or take nothing and return how many desk seconds to wait."""
        if not self.per_s:
            return 0.0
        self.level = min(self.burst, self.level + max(0, now - self.ts) / SECOND * self.per_s)
        self.ts = max(now, self.ts)
        least = 1.0 + (0.0 if use is Use.CANCEL else self.kept)
        if use is Use.CANCEL or self.level >= least:
            self.level = max(self.level - 1, -self.burst)
            return 0.0
        return (least - self.level) / self.per_s

    def left(self, remaining: float) -> None:
        """The broker says how many are left; believed when it is fewer than we think."""
        self.level = min(self.level, remaining)


def redacted(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers fit to be shown: the values of all but a few well-known ones are hidden."""
    return {name: value if name.lower() in SHOWN else "***" for name, value in headers.items()}


class RestClient:
    """One base URL, one pool of connections, one rate limit.

    Parameters
    ----------
    base
        ``https://host`` or with a path; what is asked for is appended.
    headers
        Sent with every request; never shown.
    connect_s, read_s
        Desk seconds to get a connection, and from the request's end to the answer's end.
    verify
        Whether the server's certificate is checked; a gateway on this machine signs its own.
    """

    def __init__(
        self,
        base: str,
        clock: Clock,
        *,
        headers: Mapping[str, str] | None = None,
        connect_s: float = 3.0,
        read_s: float = 10.0,
        bucket: Bucket | None = None,
        connections: int = 16,
        verify: bool = True,
    ) -> None:
        self.base, self.clock = base.rstrip("/"), clock
        self.bucket = bucket or Bucket(0, 0)
        self.connect_s, self.read_s = connect_s, read_s
        self.sent = 0  #: requests that left
        self._headers = dict(headers or {})
        self._connections, self._verify = connections, verify
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        """Where it goes; never the headers."""
        return f"<RestClient {self.base}>"

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self.close()

    def open(self) -> None:
        """Make the pool; connections are made when they are needed."""
        if self._session is not None:
            return
        context: tls.SSLContext | bool = True
        if not self._verify:
            context = tls.create_default_context()
            context.check_hostname, context.verify_mode = False, tls.CERT_NONE
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=90, ssl=context)
        wait = self.connect_s  # the wall's: the network gets no faster with the desk's clock
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Accept": "application/json", "User-Agent": "northstar", **self._headers},
            timeout=ClientTimeout(total=None, connect=wait, sock_connect=wait),
            auto_decompress=True,
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        )
        # The library repeats a DELETE whose pooled connection was closed under it; a cancel is sent once.
        self._session._retry_connection = False

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        use: Use,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        read_s: float | None = None,
    ) -> Outcome:
        """Send one request, once. ``body`` is JSON."""
        while wait := self.bucket.take(use, self.clock.now()):
            if use is not Use.READ:
                return NeverSent(f"our own rate limit of {self.bucket.per_s * 60:g} requests a minute")
            await self.clock.sleep(wait)
        session = self._session
        if session is None:
            return NeverSent("not connected")
        headers = None if body is None else {"Content-Type": "application/json"}
        limit = self.connect_s + (read_s or self.read_s)
        try:
            async with asyncio.timeout(limit):
                self.sent += 1
                async with session.request(method, self.base + path, params=params, data=body, headers=headers) as answer:
                    raw = bytearray()
                    async for chunk in answer.content.iter_any():
                        raw += chunk
                        if len(raw) > LONGEST:
                            return Silent(f"{method} {path}: an answer of more than {LONGEST} bytes")
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            self.sent -= 1
            return NeverSent(f"{method} {path}: no connection: {type(error).__name__}: {_said(error)}")
        except TimeoutError:
            return Silent(f"{method} {path}: no answer within {read_s or self.read_s:g} s")
        except (ClientError, OSError) as error:
            gone = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | OSError)
            return Silent(f"{method} {path}: {type(error).__name__}: {_said(error)}", disconnected=gone)
        seen = {name.lower(): value for name, value in answer.headers.items()}
        if answer.status == 429:
            self.bucket.left(0)
        elif (left := seen.get("x-ratelimit-remaining", "")).isdigit():
            self.bucket.left(int(left))
        return Answered(answer.status, bytes(raw), seen)

    async def get(self, path: str, params: Mapping[str, str] | None = None, *, read_s: float | None = None) -> Outcome:
        """Read something; asked for once more where the connection was closed under the first request."""
        outcome = await self.ask("GET", path, use=Use.READ, params=params, read_s=read_s)
        if isinstance(outcome, Silent) and outcome.disconnected:
            outcome = await self.ask("GET", path, use=Use.READ, params=params, read_s=read_s)
        return outcome

    async def warm(self, path: str, connections: int = 2) -> Outcome:
        """Read something on several connections at once, so that as many stay open; return one of the outcomes, the worst."""
        outcomes = await asyncio.gather(*(self.get(path) for _ in range(connections)))
        return next((o for o in outcomes if not isinstance(o, Answered)), outcomes[0])


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
