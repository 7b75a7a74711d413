"""The wire to a Client Portal gateway: one REST client, one socket, the session that both need, and the limits of each endpoint.

It carries; it decides nothing. Whatever ends the session (a socket that closes or goes quiet, another session's id, a login that is
gone) is raised as ``Lost`` from ``serve``, and the broker opens everything anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl as tls
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from northstar_core.brokers.base import BrokerError, Code
from northstar_core.brokers.http import Answered, Bucket, NeverSent, Outcome, RestClient, Use
from northstar_core.brokers.ibkr.session import Auth, Step, auth, may_compete, step, tickled
from northstar_core.brokers.ibkr.settings import Options
from northstar_core.brokers.ibkr.wire import Frame, Unreadable, decode, encode, error_of, frame, text
from northstar_core.model.ports import Clock

log = logging.getLogger("northstar.ibkr")

SECOND = 1_000_000_000
#: A gateway lets ten requests through in any second and shuts out who sends more: so many at once and so many a second are fewer.
AT_ONCE, A_SECOND, KEPT = 4, 5, 0.25
TURN_S = 5.0  #: so long an order waits for its turn within the limit
#: Endpoints that answer once in so many seconds, by the name used here.
PACED_S = {"orders": 5.0, "trades": 5.0, "portfolio/accounts": 5.0, "tickle": 1.0}
GREETING_S = 3.0
LONGEST_FRAME = 8 * 1024 * 1024
MISSED_TICKLES = 3


class Lost(Exception):
    """The session cannot be used any more; the words say why."""


class Unanswered(Exception):
    """A question got no usable answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)


class Link:
    """One login at one gateway.

    Parameters
    ----------
    heard
        Takes every frame that is about orders, executions or words, as it came and as read; what it raises is kept as unread.
    unread
        Takes a frame that could not be read, and why.
    """

    def __init__(
        self,
        options: Options,
        clock: Clock,
        heard: Callable[[Frame], None],
        unread: Callable[[str, str | bytes, Exception], None],
    ) -> None:
        self.options, self.clock = options, clock
        self._heard, self._unread = heard, unread
        self.rest = RestClient(
            options.url, clock, connect_s=options.connect_s, read_s=options.read_s, verify=not options.self_signed,
            bucket=Bucket(A_SECOND if options.paced else 0, AT_ONCE, KEPT),
        )  # fmt: skip
        self.session = ""
        self.frames = 0
        self._socket: ClientConnection | None = None
        self._next: dict[str, int] = {}  # when a paced endpoint may be asked again, ns UTC
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def connected(self) -> bool:
        """Whether a socket is open."""
        return self._socket is not None

    def __repr__(self) -> str:
        """Where it goes; never the session's id."""
        return f"<Link {self.options.account_id} at {self.options.url}>"

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: object = None, *, paced: str = ""
    ) -> Any:
        """Ask for something that changes nothing at an exchange, and return what its JSON says.

        Raises
        ------
        Unanswered
            If there is no answer, or it is an error, also one with the status 200.
        """
        if not paced or not self.options.paced:
            return await self._ask(method, path, params, body)
        async with self._turns.setdefault(paced, asyncio.Lock()):
            while (left := self._next.get(paced, 0) - self.clock.now()) > 0:
                await self.clock.sleep(left / SECOND)
            try:
                return await self._ask(method, path, params, body)
            finally:  # counted from the answer: the question arrived before that, however long its way was
                self._next[paced] = self.clock.now() + int(PACED_S[paced] * SECOND)

    async def _ask(self, method: str, path: str, params: Mapping[str, str] | None, body: object) -> Any:
        if method == "GET":
            outcome = await self.rest.get(path, params)
        else:
            outcome = await self.rest.ask(method, path, use=Use.READ, params=params, body=encode({} if body is None else body))
        return answer_of(outcome, path)

    async def send(self, method: str, path: str, body: object = None, *, use: Use) -> Outcome:
        """Send a request that changes something, once; where our own limit is reached, a moment later."""
        raw = None if body is None else encode(body)
        until = self.clock.now() + int(TURN_S * SECOND)
        while True:
            outcome = await self.rest.ask(method, path, use=use, body=raw, read_s=self.options.answer_s)
            full = isinstance(outcome, NeverSent) and self.rest.bucket.per_s and self.rest.bucket.level < 1 + self.rest.bucket.kept
            if not full or self.clock.now() >= until:
                return outcome
            await self.clock.sleep(1 / A_SECOND)  # nothing has left, so this is no second time

    # ── coming up ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def log_in(self, *, starting: bool) -> None:
        """Find a session that can trade, opening one where the gateway has none, and take the steps it insists on.

        Raises
        ------
        BrokerError
            If a person must log in, another login has the session, the account is not this login's, or nothing answers.
        """
        self.rest.open()
        compete = may_compete(self.options.compete, starting=starting)
        status = await self._status("/iserver/auth/status")
        todo = step(status, may_compete=compete)
        if todo is Step.INIT:
            status = await self._status("/iserver/auth/ssodh/init", {"publish": True, "compete": compete})
            for _ in range(30):
                todo = step(status, may_compete=compete)
                if todo is not Step.INIT:
                    break
                await self.clock.sleep(1.0)
                status = await self._status("/iserver/auth/status")
        if todo is Step.YIELD:
            raise BrokerError(Code.NOT_READY, "another login of this user has the brokerage session; end it there, or set compete")
        if todo is not Step.READY:
            raise BrokerError(Code.NOT_READY, f"not logged in: log in at {self.options.url.partition('/v1')[0]} {status.words}".rstrip())
        try:
            accounts = await self.ask("GET", "/iserver/accounts")
            if not isinstance(accounts, dict) or self.options.account_id not in (accounts.get("accounts") or ()):
                raise BrokerError(Code.ACCOUNT, f"account {self.options.account_id} is not one of this login's")
            if accounts.get("selectedAccount") not in (None, "", self.options.account_id):
                await self.ask("POST", "/iserver/account", body={"acctId": self.options.account_id})
            await self.ask("GET", "/portfolio/accounts", paced="portfolio/accounts")
        except Unanswered as error:
            raise broker_error(error) from None

    async def _status(self, path: str, body: object = None) -> Auth:
        try:
            return auth(await self.ask("POST", path, body=body))
        except (Unanswered, Unreadable) as error:
            raise broker_error(error) from None

    async def tickle(self) -> tuple[str, Auth | None]:
        """Keep the session alive; return its id and the login's status.

        Raises
        ------
        Unanswered
            If there is no answer.
        """
        try:
            return tickled(await self.ask("POST", "/tickle", paced="tickle"))
        except Unreadable as error:
            raise Unanswered(f"/tickle: {error}") from None

    async def open(self) -> None:
        """Open the socket of the session there is now, and ask for orders and executions.

        Raises
        ------
        BrokerError
            If there is no session, or the socket is refused.
        """
        try:
            self.session, status = await self.tickle()
        except Unanswered as error:
            raise broker_error(error) from None
        if not self.session or (status is not None and not status.authenticated):
            raise BrokerError(Code.NOT_READY, "the gateway has no session")
        wait = self.options.answer_s
        url = self.options.stream
        context: tls.SSLContext | None = None
        if url.startswith("wss://"):
            context = tls.create_default_context()
            if self.options.self_signed:
                context.check_hostname, context.verify_mode = False, tls.CERT_NONE
        try:
            self._socket = await connect(
                url, ssl=context, additional_headers={"Cookie": f"api={json.dumps({'session': self.session}, separators=(',', ':'))}"},
                user_agent_header="northstar", proxy=None, ping_interval=None, open_timeout=wait, close_timeout=1.0,
                max_size=LONGEST_FRAME, compression=None,
            )  # fmt: skip
            await self._greeted(self._socket)
            await self._socket.send("sor+{}")
            days = json.dumps({"realtimeUpdatesOnly": False, "days": self.options.trades_days}, separators=(",", ":"))
            await self._socket.send(f"str+{days}")
        except asyncio.CancelledError:
            await self.hang_up()
            raise
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed, Lost) as error:
            await self.hang_up()
            raise BrokerError(Code.UNREACHABLE, f"stream {url}: {type(error).__name__}: {_said(error)}") from None

    async def _greeted(self, socket: ClientConnection) -> None:
        """Wait for the greeting: what is asked for before it may be passed over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GREETING_S):
                while True:
                    raw = await socket.recv()
                    self._take(raw)
                    with suppress(Unreadable):
                        if frame(raw).topic in ("act", "sts"):
                            return

    # ── staying up ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self) -> None:
        """Read frames until the session is lost; never returns.

        Raises
        ------
        Lost
            With the reason.
        """
        socket = self._socket
        if socket is None:
            raise Lost("the stream is closed")
        tickler = asyncio.create_task(self._keep_alive(socket))
        reader = asyncio.create_task(self._read(socket))
        try:
            await asyncio.wait((tickler, reader), return_when=asyncio.FIRST_COMPLETED)
            for task in (tickler, reader):
                if task.done():
                    task.result()
        finally:
            for task in (tickler, reader):
                task.cancel()
            try:
                await asyncio.gather(tickler, reader, return_exceptions=True)
            finally:  # also where this is cancelled while it ends
                await self.hang_up()

    async def _read(self, socket: ClientConnection) -> None:
        quiet = False
        while True:
            try:
                wait = self.options.answer_s if quiet else self.clock.wall_s(self.options.quiet_s)
                async with asyncio.timeout(wait):
                    raw = await socket.recv()
            except TimeoutError:
                if quiet:
                    raise Lost("the stream is silent, and answers nothing") from None
                quiet = True
                with suppress(ConnectionClosed):
                    await socket.send("tic")
                continue
            except ConnectionClosed as error:
                raise Lost(f"the stream was closed: {_said(error)}") from None
            quiet = False
            self.frames += 1
            self._take(raw)

    def _take(self, raw: str | bytes) -> None:
        try:
            message = frame(raw)
            if message.topic == "sts":
                status = auth({"connected": True, **(message.args if isinstance(message.args, dict) else {})})
                if not status.authenticated or status.competing:
                    raise Lost("another login took the session" if status.competing else f"the login ended {status.words}".rstrip())
            elif message.topic == "tic":
                if message.body.get("alive") is False:
                    raise Lost("the session is no longer alive")
            elif message.topic == "message":  # a socket without a session says so and then nothing
                raise Lost(f"the stream has no session: {text(message.body['message'])}")
            elif message.topic not in ("system", "act"):
                self._heard(message)
        except Unreadable as error:
            self._unread("stream", raw, error)

    async def _keep_alive(self, socket: ClientConnection) -> None:
        missed = 0
        while True:
            await self.clock.sleep(self.options.tickle_s)
            try:
                session, status = await self.tickle()
            except Unanswered as error:
                missed += 1
                if error.status == 401 or missed >= MISSED_TICKLES:
                    raise Lost(f"the session cannot be kept alive: {error}") from None
                continue
            missed = 0
            if status is not None and (not status.authenticated or status.competing):
                raise Lost("another login took the session" if status.competing else f"the login ended {status.words}".rstrip())
            if session and session != self.session:
                raise Lost("the gateway has a new session; this stream belongs to an old one")
            with suppress(ConnectionClosed):
                await socket.send("tic")

    # ── going down ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def hang_up(self) -> None:
        """Close the socket; cut it where there is no time for that."""
        socket, self._socket = self._socket, None
        if socket is not None:
            try:
                await socket.close()
            except asyncio.CancelledError:
                socket.transport.abort()
                raise
            except (ConnectionClosed, OSError, TimeoutError):
                pass

    async def close(self) -> None:
        """Close everything."""
        await self.hang_up()
        await self.rest.close()


def answer_of(outcome: Outcome, path: str) -> Any:
    """Return what an answer's JSON says.

    Raises
    ------
    Unanswered
        If there is no answer, or it is an error.
    """
    if not isinstance(outcome, Answered):
        raise Unanswered(f"{path}: {outcome.reason}", -1 if isinstance(outcome, NeverSent) else 0)
    try:
        said = decode(outcome.body)
    except Unreadable as error:
        raise Unanswered(f"{path}: status {outcome.status}: {error}", outcome.status) from None
    if not outcome.ok or error_of(said):
        raise Unanswered(f"{path}: status {outcome.status}: {error_of(said) or 'no reason given'}", outcome.status)
    return said


def broker_error(error: Exception) -> BrokerError:
    """Say it in the words of the contract."""
    status = error.status if isinstance(error, Unanswered) else 0
    if status in (401, 403):
        return BrokerError(Code.NOT_READY, f"not logged in at the gateway: {error}")
    if status in (500, 502, 503, 504):
        return BrokerError(Code.MAINTENANCE, str(error))
    return BrokerError(Code.UNREACHABLE if status <= 0 else Code.NOT_READY, str(error))


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
