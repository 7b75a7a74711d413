"""A gateway's front door for the tests of jobs: its own session server, behind it a house that notes what is asked of it."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

from northstar_core.gateway.sessions import Connection, Refusal, SessionServer
from northstar_core.model.wire import Batch, Beat, Hello, Leave, Login, Request, Welcome, frame
from northstar_core.model.world import StopRequested

OPERATOR = "operator-of-the-test"
TOKEN = "token-of-a-session-in-the-test"

#: What a strategy notebook's run cell does here: a session of the real protocol, without a strategy in it.
SESSION = """
import asyncio, json, os
from pathlib import Path
from northstar_core.model.wire import Batch, Beat, Hello, Leave, downwards, frame, take

path = Path(os.environ["NORTHSTAR_SESSION"])
wiring = json.loads(path.read_text())
path.unlink()
folder = Path(wiring["run_dir"])

async def session(stay=True):
    reader, writer = await asyncio.open_unix_connection(wiring["socket"])
    writer.write(frame(Hello(token=wiring["token"], strategy="cross")))
    buffer, n = bytearray(), 0
    while take(buffer) is None:  # Welcome
        buffer += await reader.read(65536)
    while True:
        n += 1
        writer.write(frame(Beat(n, 100 + n)))
        new = folder / "progress.json.new"
        new.write_text(json.dumps({"seq": 100 + n}))
        os.replace(new, folder / "progress.json")
        try:
            buffer += await asyncio.wait_for(reader.read(65536), 0.1)
        except TimeoutError:
            continue
        while (body := take(buffer)) is not None:
            if isinstance(message := downwards(body), Batch):
                writer.write(frame(Leave(n + 1, "stopped")))
                await writer.drain()
                (folder / "progress.json").write_text(json.dumps({"seq": 100 + n, "outcome": "stopped"}))
                (folder / "summary.json").write_text(json.dumps({"broker": "paper", "simulated": True}))
                return message.events[0][1].reason
"""


class Kernel:
    """A strategy's kernel in session."""

    def __init__(self, desk: TestDesk, connection: Connection, hello: Hello) -> None:
        self.desk, self.connection, self.hello = desk, connection, hello
        self._first: bytes | None = frame(
            Welcome(
                account="paper-1", strategy="cross", session="20261120abc", broker="paper", simulated=True, n=0, seq=100, now=0, speed=1.0,
                bar_ns=60 * 10**9, cash=Decimal(1000),
            )
        )  # fmt: skip

    def next_frame(self) -> bytes | None:
        first, self._first = self._first, None
        return first

    def on_message(self, message: Any) -> None:
        if isinstance(message, Beat):
            self.desk.note("beat", message.seq)
        elif isinstance(message, Leave):
            self.desk.note("leave", message.outcome)

    def on_gone(self, reason: str) -> None:
        self.desk.kernels.pop(self.hello.strategy, None)
        self.desk.note("gone", reason)


class Person:
    """Somebody with the operator's token."""

    def __init__(self, desk: TestDesk, connection: Connection) -> None:
        self.desk, self.connection = desk, connection

    def next_frame(self) -> None:
        return None

    def on_message(self, message: Any) -> None:
        assert isinstance(message, Request)
        self.desk.note(message.what, message.args)
        answer = self.desk.answers.get(message.what)
        if isinstance(answer, Exception):
            self.connection.answer(message.n, error=str(answer))
        elif message.what == "stop":
            kernel = self.desk.kernels.get(message.args["strategy"])
            if kernel is not None:
                stop = StopRequested(
                    1, kernel.hello.strategy, "paper-1", message.args["reason"], message.args["grace_s"]
                )
                kernel.connection.send(Batch([(101, stop)]))
            self.connection.answer(message.n, kernel is not None)
        else:
            self.connection.answer(message.n, answer)

    def on_gone(self, reason: str) -> None:
        pass


class TestDesk:
    """A session server in a thread of its own, in ``home``."""

    __test__ = False

    def __init__(self, home: Path, **answers: Any) -> None:
        self.home = home
        self.answers = {"token": {"token": TOKEN}, "preflight": {"go": True, "reasons": []}, **answers}
        self.kernels: dict[str, Kernel] = {}
        self.noted: list[tuple[str, Any]] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> TestDesk:
        folder = self.home / "gateway"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "operator.key").write_text(OPERATOR)
        self._thread.start()
        self.server = SessionServer(self, folder / "session.sock")
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await self.server.close()
        await asyncio.sleep(0)

    async def welcome(self, hello: Hello, connection: Connection) -> Kernel:
        if hello.token != TOKEN:
            raise Refusal("TOKEN", "not a token of this desk")
        self.kernels[hello.strategy] = kernel = Kernel(self, connection, hello)
        self.note("hello", hello.strategy)
        return kernel

    def login(self, login: Login, connection: Connection) -> Person:
        if login.token != OPERATOR:
            raise Refusal("TOKEN", "not the operator's")
        return Person(self, connection)

    def refused(self, guest: Any, code: str, detail: str) -> None:
        self.note("refused", code)

    def note(self, what: str, about: Any) -> None:
        with self._changed:
            self.noted.append((what, about))
            self._changed.notify_all()

    def of(self, what: str) -> list[Any]:
        """What was noted of this kind so far."""
        return [about for noted, about in list(self.noted) if noted == what]

    def wait_for_alert(self, severity: str, timeout_s: float = 60.0) -> None:
        """Wait until an alert of this severity was raised."""
        with self._changed:
            wanted = self._changed.wait_for(lambda: any(a["severity"] == severity for a in self.of("alert")), timeout_s)
            assert wanted, f"no {severity} alert; {self.noted[-5:]}"

    def wait_for(self, what: str, count: int = 1, timeout_s: float = 60.0) -> list[Any]:
        """Wait until so much was noted of this kind."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(what)) >= count, timeout_s), (
                f"no {what}; {self.noted[-5:]}"
            )
        return self.of(what)
