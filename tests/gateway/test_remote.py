"""Sessions from another host: the same protocol over TLS, and nothing in the clear."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from northstar_core.client.session import Connected, Session
from northstar_core.gateway.remote import context_of, listen
from northstar_core.gateway.sessions import Connection, Refusal, SessionServer
from northstar_core.gateway.settings import RemoteSettings, Settings
from northstar_core.model.errors import SettingsError
from northstar_core.model.wire import Batch, Hello, History, Leave, Login, Welcome
from northstar_core.model.world import StopRequested
from northstar_core.strategy.base import Strategy

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl, which is not here")


class Idle(Strategy):
    """Does nothing."""


class House:
    """Lets the strategy with the right token in, and asks it to stop."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.left: list[str] = []
        self.said = asyncio.Event()

    async def welcome(self, hello: Hello, connection: Connection) -> Any:
        if hello.token != "right":
            raise Refusal("BAD_TOKEN", "not this gateway's")
        self.came.append(hello.strategy)
        connection.send(Welcome(
            strategy="idle", account="paper-1", session="20240105", broker="paper", simulated=True, n=0, seq=1, now=1, speed=1.0,
            bar_ns=60 * 10**9, cash=Decimal(1000),
        ))  # fmt: skip
        connection.send(History((), True))
        connection.send(Batch([(2, StopRequested(2, "idle", "paper-1", "enough", 2.0))]))
        return self

    def login(self, login: Login, connection: Connection) -> Any:
        raise Refusal("CAPABILITY", "nobody logs in here")

    def refused(self, guest: Any, code: str, detail: str) -> None:
        self.left.append(code)

    def next_frame(self) -> bytes | None:
        return None

    def on_message(self, message: Any) -> None:
        self.left.append(type(message).__name__)
        if isinstance(message, Leave):
            self.said.set()

    def on_gone(self, reason: str) -> None:
        pass


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ns-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def certificate(folder: Path) -> RemoteSettings:
    """A certificate for 127.0.0.1 that signs itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=desk", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    (folder / "key.pem").chmod(0o400)
    return RemoteSettings(port=0, certificate="cert.pem", key="file:key.pem", host="127.0.0.1")


def settings(folder: Path) -> Settings:
    return Settings(accounts={}, limits={}, path=folder / "northstar.toml", home=folder, sha256="")


@needs_openssl
def test_a_session_over_tls_is_a_session(folder: Path) -> None:
    remote, house = certificate(folder), House()

    async def talk() -> Session:
        server = SessionServer(house, folder / "s")
        await server.start()
        door = await listen(server, settings(folder), remote)
        port = door.sockets[0].getsockname()[1]
        session = Session(Idle(), Connected(socket=f"tls://127.0.0.1:{port}", token="right", ca=str(folder / "cert.pem")))
        try:
            async with asyncio.timeout(20):
                await session.run()
                await house.said.wait()
        finally:
            door.close()
            await server.close()
        return session

    session = asyncio.run(talk())
    assert house.came == ["idle"]
    assert (session.outcome, session.detail) == ("stopped", "enough")
    assert "Leave" in house.left


@needs_openssl
def test_nothing_is_said_in_the_clear_and_to_nobody_with_another_certificate(folder: Path) -> None:
    remote, house = certificate(folder), House()

    async def talk() -> tuple[bytes, str]:
        server = SessionServer(house, folder / "s")
        await server.start()
        door = await listen(server, settings(folder), remote)
        port = door.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x00\x00\x00\x05hello")
        with_no_tls = await asyncio.wait_for(reader.read(1000), 10)
        writer.close()
        session = Session(Idle(), Connected(socket=f"tls://127.0.0.1:{port}", token="right"))
        try:
            async with asyncio.timeout(10):
                await session._converse()
            trusted = "trusted"
        except OSError as error:
            trusted = type(error).__name__
        door.close()
        await server.close()
        return with_no_tls, trusted

    with_no_tls, trusted = asyncio.run(talk())
    assert b"hello" not in with_no_tls
    assert trusted == "SSLCertVerificationError"
    assert house.came == []


@needs_openssl
def test_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    remote = certificate(folder)
    (folder / "key.pem").chmod(0o644)
    with pytest.raises(SettingsError, match=r"key\.pem"):
        context_of(settings(folder), remote)
