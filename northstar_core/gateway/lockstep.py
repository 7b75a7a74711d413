"""A strategy behind a socket that is waited for: the session protocol in the place of a strategy in process.

With it a driver that steps through a tape runs a notebook in its own kernel, one event at a time. What it writes must be, byte for byte,
what it writes with the strategy in process: that is the proof that kernel, protocol and client change nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

from northstar_core.gateway.sessions import Connection, Guest, Refusal, SessionServer
from northstar_core.model.errors import NorthstarError
from northstar_core.model.wire import Ask, Batch, Beat, Hello, History, Leave, Login, Welcome, frame
from northstar_core.model.world import StopRequested

WAIT_S = 60.0


class LockstepHost:
    """Stands for one strategy, whose kernel says ``Hello`` on a socket of its own.

    Parameters
    ----------
    strategy_id, account, session, cash
        As for ``StrategyHost``.
    seq
        Returns the last number of the log.
    """

    warming = True  #: it counts its warm-up itself; a driver must hand over event by event

    def __init__(self, path: Path, strategy: Any, *, account: str, session: str, cash: Decimal, seq: Callable[[], int]) -> None:
        self.strategy = strategy
        self.strategy_id: str = strategy.strategy_id
        self.outbox: list[Any] = []
        self.clock = 0
        self._seq = seq
        self._welcome = (account, session, cash)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"lockstep {self.strategy_id}", daemon=True)
        self._connection: Connection | None = None
        self._came: Future[None] = Future()
        self._answer: Future[list[Any]] | None = None
        self._asked: list[Any] = []
        self._error = ""
        self._server = SessionServer(self, path)
        self._thread.start()
        self._call(self._server.start())

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    # ── the driver's side ─────────────────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Wait until the strategy's kernel is in session."""
        self._came.result(timeout_s)

    def deliver(self, event: Any) -> None:
        """Give the strategy an event and wait until it has handled it; what it asked for gathers in ``outbox``.

        Raises
        ------
        NorthstarError
            If the kernel is gone, or its strategy raised.
        """
        answer: Future[list[Any]] = Future()

        def give() -> None:
            self._answer = answer
            if self._connection is None:
                answer.set_exception(NorthstarError(self._error or f"{self.strategy_id} is not in session"))
            else:
                self._connection.transport.write(frame(Batch([(self._seq(), event)])))

        self._loop.call_soon_threadsafe(give)
        self.outbox.extend(answer.result(WAIT_S))

    def stop(self) -> None:
        """Let the session end."""

        def ask() -> None:
            if self._connection is not None:
                account = self._welcome[0]
                stop = StopRequested(self._seq(), self.strategy_id, account, "the tape has ended", 5.0)
                self._connection.send(Batch([(self._seq(), stop)]))

        self._loop.call_soon_threadsafe(ask)

    def close(self) -> None:
        """End the server and its thread."""
        self._call(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # ── the server's side ─────────────────────────────────────────────────────────────────────────────────────────────

    async def welcome(self, hello: Hello, connection: Connection) -> Guest:
        """Let the kernel in."""
        if hello.strategy != self.strategy_id:
            raise Refusal("SCOPE", f"this is {self.strategy_id}'s place, not {hello.strategy}'s")
        account, session, cash = self._welcome
        self._connection = connection
        connection.send(
            Welcome(
                strategy=self.strategy_id, account=account, session=session, broker="simulated", simulated=True, n=0, seq=0, now=0,
                speed=1.0, bar_ns=0, cash=cash, lockstep=True,
            )
        )  # fmt: skip
        connection.send(History((), True))
        self._came.set_result(None)
        return self

    def login(self, login: Login, connection: Connection) -> Guest:
        """Nobody else is let in."""
        raise Refusal("CAPABILITY", "this place is a strategy's")

    def refused(self, guest: Guest | None, code: str, detail: str) -> None:
        """Something was refused."""
        self._error = f"{code}: {detail}"

    def next_frame(self) -> bytes | None:
        """Nothing waits here."""
        return None

    def on_message(self, message: Any) -> None:
        """The kernel said something; a beat ends its turn."""
        if isinstance(message, Ask):
            self._asked.append(message.message)
        elif isinstance(message, Beat) and self._answer is not None:
            asked, self._asked = self._asked, []
            answer, self._answer = self._answer, None
            answer.set_result(asked)
        elif isinstance(message, Leave):
            self._error = f"{message.outcome} {message.error}".strip()

    def on_gone(self, reason: str) -> None:
        """The kernel is gone."""
        self._connection = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NorthstarError(self._error or reason))
