"""``northstar.run`` in a kernel that a launcher connected: a strategy in session at the gateway.

The kernel holds a token that opens one strategy's session in one account, and nothing else: no broker's key, no database. Everything
runs in the cell's own event loop, so widgets and a Stop button get their turn between batches.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import ssl
import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.client.evidence import summary
from northstar_core.client.heard import Heard
from northstar_core.model.errors import NorthstarError, ProtocolError, SettingsError, StrategyError
from northstar_core.model.wire import (
    HEADER,
    Answer,
    Ask,
    Batch,
    Beat,
    Hello,
    History,
    Keep,
    Leave,
    Refused,
    Welcome,
    downwards,
    frame,
)  # fmt: skip
from northstar_core.model.world import StopRequested
from northstar_core.research.result import Result
from northstar_core.research.spec import PROGRESS_FILE, SUMMARY_FILE
from northstar_core.strategy.base import Strategy
from northstar_core.strategy.seat import FedSeat

SESSION_VARIABLE = "NORTHSTAR_SESSION"  #: path of the file a launcher leaves for the kernel
LARGEST_DOWN = 1 << 26
WELCOME_S = 120.0  #: bars from before the session may take long
BACK_S = 60.0  #: wall seconds in which a gateway that went may come back
KEPT = 10_000  #: messages kept in case the connection drops before they arrived
LATER = frozenset({"SESSION", "BROKER", "HISTORY", "INTERNAL"})  #: refusals that a session which comes back need not take for an answer
PROGRESS_S = 1.0


class SessionError(NorthstarError):
    """The gateway refused the session, or is gone."""


class _NotYet(Exception):
    """The gateway cannot let the session in yet."""


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher left: where the gateway is, and the token for this one session."""

    socket: str  #: path of the Unix socket, or ``tls://HOST:PORT``
    token: str
    run_dir: str = ""
    code: dict[str, str] = {}
    ca: str = ""  #: path of the certificates to trust, where the gateway's is not signed by one the system trusts

    def __repr__(self) -> str:
        """Never the token."""
        return f"Connected({self.socket})"


_connected: Connected | None = None


def connected() -> Connected | None:
    """Return what the launcher left for this kernel; its file is read once and removed.

    Raises
    ------
    SettingsError
        If the launcher named a file that is not there or is none of its kind.
    """
    global _connected
    path = os.environ.get(SESSION_VARIABLE)
    if _connected is None and path:
        file = Path(path)
        try:
            raw = file.read_bytes()
            file.unlink()
            _connected = msgspec.json.decode(raw, type=Connected)
        except (OSError, msgspec.MsgspecError) as error:
            raise SettingsError(f"{path}: no session for this kernel: {error}; start it with northstar run") from None
    return _connected


class _Pipe:
    """A connection to the gateway: frames in and out, numbered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._n = 0

    @classmethod
    async def open(cls, link: Connected) -> _Pipe:
        if not link.socket.startswith("tls://"):
            return cls(*await asyncio.open_unix_connection(link.socket, limit=1 << 20))
        host, _, port = link.socket.removeprefix("tls://").rpartition(":")
        context = ssl.create_default_context(cafile=link.ca or None)
        return cls(*await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, limit=1 << 20))

    async def read(self) -> Any:
        size = int.from_bytes(await self._reader.readexactly(HEADER), "big")
        if not 0 < size <= LARGEST_DOWN:
            raise ProtocolError(f"the gateway sent a frame of {size} bytes")
        return downwards(await self._reader.readexactly(size))

    def send(self, message: Any) -> None:
        self._writer.write(frame(message))

    def next(self) -> int:
        self._n += 1
        return self._n

    def close(self) -> None:
        self._writer.close()


class Session:
    """One strategy in session, over as many connections as it takes."""

    def __init__(self, strategy: Strategy, link: Connected) -> None:
        self.strategy, self.link = strategy, link
        self.heard = Heard()
        self.seat: FedSeat | None = None
        self.welcome: Welcome | None = None
        self.outcome, self.detail = "running", ""
        self._pipe: _Pipe | None = None
        self._sent: deque[Any] = deque(maxlen=KEPT)
        self._warm = False  #: every bar from before the session has come: from here on it can be resumed
        self._asked = 0  #: messages ever sent in this session, of which ``_sent`` has the last
        self._gone_since = 0.0  #: when the connection was lost, monotonic; 0 while there is one
        self._stop_by = 0.0
        self._said = 0.0
        self._started = time.perf_counter()

    async def run(self) -> Result:
        """Stay in session until it is to end, and return what it left.

        Raises
        ------
        StrategyError
            If the author's code raises.
        SessionError
            If the gateway refuses the session, or is gone and does not come back.
        """
        try:
            while self.outcome == "running":
                try:
                    await self._converse()
                except (OSError, EOFError, _NotYet) as error:
                    if self._stop_by:
                        self._end("stopped", "the gateway is gone")
                        break
                    self._gone_since = self._gone_since or time.monotonic()
                    if time.monotonic() - self._gone_since > BACK_S:
                        self._end("failed", "the gateway is gone")
                        raise SessionError(f"{self.link.socket}: the gateway is gone: {error or type(error).__name__}") from None
                    await asyncio.sleep(0.25)
        except NorthstarError as error:
            self._end("failed", str(error))
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._interrupted()
            raise
        finally:
            self._keep_progress(0.0)
            self._keep_summary()
            if self._pipe is not None:
                self._pipe.close()
        return self.result()

    def result(self) -> Result:
        """Return what the session left so far."""
        return self.heard.result(self.strategy, self.outcome, self.detail, time.perf_counter() - self._started)

    # ── one connection ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _converse(self) -> None:
        """Begin or resume over a new connection, and go on until it or the session ends."""
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = pipe = await _Pipe.open(self.link)
        strategy = self.strategy
        kind = type(strategy)
        seat = self.seat
        pipe.send(
            Hello(
                token=self.link.token, strategy=strategy.strategy_id, params=msgspec.to_builtins(strategy.params), code=self.link.code,
                symbols=tuple(strategy.symbols), options_on=tuple(strategy.options_on), warm_up=strategy.warm_up,
                quotes=kind.on_quote is not Strategy.on_quote, trades=kind.on_trade is not Strategy.on_trade,
                resume="" if seat is None or not self._warm else seat.place.session, seen=0 if seat is None else seat.seq,
            )
        )  # fmt: skip
        async with asyncio.timeout(WELCOME_S):
            message = await pipe.read()
        if isinstance(message, Refused):
            if seat is not None and message.code in LATER:
                raise _NotYet(f"{message.code}: {message.detail}")
            self._end("failed", f"{message.code}: {message.detail}")
            raise SessionError(f"the gateway refused the session: {message.code}: {message.detail}")
        if not isinstance(message, Welcome):
            raise ProtocolError(f"the gateway began with {type(message).__name__}")
        seat = self._welcomed(message)
        self._gone_since = 0.0
        beat = asyncio.get_running_loop().create_task(self._beat(pipe, message.beat_s))
        try:
            while self.outcome == "running":
                await self._hear(pipe, seat, await self._next(pipe))
        finally:
            beat.cancel()

    def _welcomed(self, welcome: Welcome) -> FedSeat:
        seat, self.welcome = self.seat, welcome
        if seat is not None and welcome.resumed:
            assert self._pipe is not None
            seat.resumed_at = seat.seq
            missing = self._asked - welcome.asked
            if not 0 <= missing <= len(self._sent):
                raise ProtocolError(f"{missing} messages did not arrive, {len(self._sent)} are kept; the session cannot go on")
            for message in list(self._sent)[len(self._sent) - missing :]:
                self._pipe.send(Ask(self._pipe.next(), message))
            if (state := seat.state()) is not None:
                self._pipe.send(Keep(self._pipe.next(), state))
            return seat
        if seat is not None:  # the gateway knows nothing of the session any more: begin anew, with what it says is held
            self.strategy = type(self.strategy)(**msgspec.structs.asdict(self.strategy.params))
        self._sent.clear()
        self._asked, self._warm = 0, False
        self.heard.begin(welcome, self.strategy, self.link.code)
        self.seat = FedSeat(self.strategy, welcome, welcome.seq, self.heard)
        return self.seat

    async def _next(self, pipe: _Pipe) -> Any:
        """The next message; while the session is ending, None once nothing works any more or time is up."""
        if not self._stop_by:
            return await pipe.read()
        assert self.seat is not None
        left = self._stop_by - time.monotonic()
        if self.seat.quiet or left <= 0:
            return None
        try:
            async with asyncio.timeout(left):
                return await pipe.read()
        except TimeoutError:
            return None

    async def _hear(self, pipe: _Pipe, seat: FedSeat, message: Any) -> None:
        if isinstance(message, Batch):
            try:
                seat.take(message.events)
            except StrategyError as error:
                self._send(pipe, seat.asked)
                pipe.send(Leave(pipe.next(), "failed", str(error)[:1000]))
                raise
            self._send(pipe, seat.asked)
            if seat.stopping is not None and not self._stop_by:
                self.detail = seat.stopping.reason
                self._stop_by = time.monotonic() + seat.stopping.grace_s * 0.8
            if not self._lockstep and (state := seat.changed_state()) is not None:
                pipe.send(Keep(pipe.next(), state))
            if self._lockstep:
                pipe.send(Beat(pipe.next(), seat.seq))
            self._keep_progress(PROGRESS_S)
            await asyncio.sleep(0)  # widgets and a Stop button get their turn
        elif isinstance(message, History):
            seat.before(message.bars)
            self._warm = message.last
        elif isinstance(message, Refused):
            self._end("failed", f"{message.code}: {message.detail}")
            raise SessionError(f"the gateway refused a message: {message.code}: {message.detail}")
        elif message is None:
            pipe.send(Leave(pipe.next(), "stopped"))
            self._end("stopped", self.detail)
        elif not isinstance(message, Answer):
            raise ProtocolError(f"the gateway sent {type(message).__name__} in a session")

    def _send(self, pipe: _Pipe, messages: list[Any]) -> None:
        self._asked += len(messages)
        for message in messages:
            self._sent.append(message)
            pipe.send(Ask(pipe.next(), message))

    async def _beat(self, pipe: _Pipe, every_s: float) -> None:
        """Say that the loop is alive and how far the strategy is."""
        while True:
            await asyncio.sleep(every_s)
            if self.seat is not None and not self._lockstep:
                pipe.send(Beat(pipe.next(), self.seat.seq))
            self._keep_progress(PROGRESS_S)

    @property
    def _lockstep(self) -> bool:
        return self.welcome is not None and self.welcome.lockstep

    # ── ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, outcome: str, detail: str) -> None:
        if self.outcome == "running":
            self.outcome, self.detail = outcome, detail

    def _interrupted(self) -> None:
        """Somebody pressed Stop: the strategy's last word goes out, its orders are what it says."""
        self._end("stopped", "interrupted")
        if self._pipe is not None and self.seat is not None:
            try:
                now = max(self.seat.host.clock, 0 if self.welcome is None else self.welcome.now)
                stop = StopRequested(now, self.seat.host.strategy_id, self.seat.place.account, "interrupted", 0.0)
                self._send(self._pipe, self.seat.take([(self.seat.seq, stop)]))
                self._pipe.send(Leave(self._pipe.next(), "stopped"))
            except (StrategyError, OSError):
                pass

    def _keep_progress(self, every_s: float) -> None:
        """Tell the launcher how far the session is."""
        now = time.monotonic()
        if not self.link.run_dir or now - self._said < every_s:
            return
        self._said = now
        seat, folder = self.seat, Path(self.link.run_dir)
        text = json.dumps(
            {
                "seq": 0 if seat is None else seat.seq, "done": self.heard.journal.ticks, "total": 0, "unit": "ticks",
                "outcome": self.outcome, "detail": self.detail,
            }
        )
        beside = folder / f".{PROGRESS_FILE}"
        try:
            beside.write_text(text)
            os.replace(beside, folder / PROGRESS_FILE)
        except OSError:
            pass  # the session is worth more than its progress bar

    def _keep_summary(self) -> None:
        if not self.link.run_dir or not self.heard.journal.records:
            return
        try:
            told = summary(self.result())
        except Exception as error:  # a run without a bar has no figures; the session ended all the same
            told = {"outcome": self.outcome, "detail": self.detail, "error": f"{type(error).__name__}: {error}"}
        if self.seat is not None and (welcome := self.welcome) is not None:
            told |= {
                "strategy": welcome.strategy, "account": welcome.account, "session": welcome.session, "broker": welcome.broker,
                "simulated": welcome.simulated, "last_seq": self.seat.seq,
            }  # fmt: skip
        try:
            (Path(self.link.run_dir) / SUMMARY_FILE).write_text(json.dumps(told, indent=1, default=str))
        except OSError:
            pass


async def trade(strategy: Strategy, link: Connected) -> Result:
    """Run a strategy in session at the gateway."""
    # what the notebook has loaded stays while it trades; looking through it at each collection would hold up the strategy for 0.1 s
    gc.collect()
    gc.freeze()
    try:
        return await Session(strategy, link).run()
    finally:
        gc.unfreeze()
