"""The REST client against real sockets: what left, what did not, and that nothing leaves twice."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from northstar_core.brokers.http import Answered, Bucket, NeverSent, Outcome, RestClient, Silent, Use, redacted
from northstar_core.gateway.clock import WallClock

SECOND = 10**9
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
    return head + await reader.readexactly(length)


def against(peer: Peer, ask: Callable[[RestClient], Awaitable[None]], **more: float) -> None:
    """Serve raw connections with ``peer`` and ask it something."""

    async def run() -> None:
        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await peer(reader, writer)
            writer.close()

        server = await asyncio.start_server(served, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(20), server:
            async with RestClient(f"http://127.0.0.1:{port}", WallClock(), headers={"X-Key": "hush"}, **more) as rest:  # type: ignore[arg-type]
                await ask(rest)

    asyncio.run(run())


def post(rest: RestClient) -> Awaitable[Outcome]:
    return rest.ask("POST", "/orders", use=Use.ORDER, body=b'{"a":1}')


def test_an_answer_is_an_answer_whatever_its_status() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 422 No\r\nContent-Length: 7\r\nX-A: b\r\n\r\n{\"a\":2}")
        await writer.drain()
        await request(reader)

    async def ask(rest: RestClient) -> None:
        outcome = await post(rest)
        assert isinstance(outcome, Answered) and (outcome.status, outcome.ok, outcome.json()) == (422, False, {"a": 2})
        assert outcome.headers["x-a"] == "b"

    against(peer, ask)


def test_a_port_that_is_closed_is_never_sent() -> None:
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with RestClient(f"http://127.0.0.1:{taken.getsockname()[1]}", WallClock()) as rest:
                outcome = await post(rest)
                assert isinstance(outcome, NeverSent) and rest.sent == 0

    asyncio.run(run())


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Len", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"])
def test_a_connection_cut_after_the_request_is_silence(head: bytes) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(head)
        await writer.drain()

    async def ask(rest: RestClient) -> None:
        assert isinstance(await post(rest), Silent)

    against(peer, ask)


def test_no_answer_in_time_is_silence() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        await reader.read()

    async def ask(rest: RestClient) -> None:
        outcome = await post(rest)
        assert isinstance(outcome, Silent) and not outcome.disconnected

    against(peer, ask, read_s=0.1, connect_s=0.1)


def test_an_answer_that_trickles_is_cut_off() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        quiet = asyncio.Event()
        while True:
            writer.write(b" ")
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(quiet.wait(), 0.02)

    async def ask(rest: RestClient) -> None:
        assert isinstance(await post(rest), Silent)

    against(peer, ask, read_s=0.1, connect_s=0.1)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "PUT"])
def test_a_request_that_changes_something_goes_out_once_over_a_connection_that_dies_under_it(method: str) -> None:
    seen: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await request(reader))
            if len(seen) > 1:
                return
            writer.write(OK)
            await writer.drain()

    async def ask(rest: RestClient) -> None:
        assert isinstance(await rest.get("/clock"), Answered)
        outcome = await rest.ask(method, "/orders/1", use=Use.CANCEL)
        assert isinstance(outcome, Silent) and outcome.disconnected

    against(peer, ask)
    assert [head.split()[0] for head in seen] == [b"GET", method.encode()]


def test_a_read_is_asked_again_where_the_idle_connection_had_been_closed() -> None:
    count = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            await request(reader)
            count += 1
            if count == 2:
                return
            writer.write(OK)
            await writer.drain()

    async def ask(rest: RestClient) -> None:
        assert isinstance(await rest.get("/clock"), Answered)
        assert isinstance(await rest.get("/clock"), Answered)

    against(peer, ask)
    assert count == 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from 3.12 on")
def test_with_a_free_connection_the_bytes_leave_before_anything_else_runs() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            async with RestClient(f"http://127.0.0.1:{listening.getsockname()[1]}", WallClock()) as rest:
                first = asyncio.create_task(rest.get("/clock"))
                peer, _ = await loop.sock_accept(listening)
                with peer:
                    await loop.sock_recv(peer, 65536)
                    await loop.sock_sendall(peer, OK)
                    assert isinstance(await first, Answered)
                    coroutine = post(rest)
                    coroutine.send(None)  # type: ignore[attr-defined]  # up to its first wait, with the loop standing still
                    sent = peer.recv(65536)
                    coroutine.close()  # type: ignore[attr-defined]
                    assert sent.startswith(b"POST /orders") and sent.endswith(b'{"a":1}')

    asyncio.run(run())


def test_secrets_are_in_no_representation_error_or_shown_header() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)

    async def ask(rest: RestClient) -> None:
        assert "hush" not in f"{rest!r} {await post(rest)!r}"

    against(peer, ask)
    assert redacted({"APCA-API-KEY-ID": "k", "Cookie": "c", "Accept": "json"}) == {
        "APCA-API-KEY-ID": "***", "Cookie": "***", "Accept": "json",
    }  # fmt: skip


def test_a_bucket_keeps_its_last_share_for_cancels_and_never_holds_one_back() -> None:
    bucket = Bucket(per_s=1, burst=10, kept=0.3)
    assert [bucket.take(Use.ORDER, 0) for _ in range(7)] == [0.0] * 7
    assert bucket.take(Use.ORDER, 0) == pytest.approx(1.0) and bucket.take(Use.READ, 0) > 0
    assert [bucket.take(Use.CANCEL, 0) for _ in range(20)] == [0.0] * 20
    assert bucket.take(Use.ORDER, 0) > 10
    assert bucket.take(Use.ORDER, 60 * SECOND) == 0.0


def test_a_bucket_believes_the_broker_when_it_says_less_is_left() -> None:
    bucket = Bucket(per_s=1, burst=10, kept=0.0)
    bucket.left(1)
    assert bucket.take(Use.ORDER, 0) == 0.0 and bucket.take(Use.ORDER, 0) > 0
    bucket.left(50)
    assert bucket.take(Use.ORDER, 0) > 0


def test_an_order_beyond_the_limit_is_never_sent_and_a_read_waits() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(OK)
            await writer.drain()

    async def ask(rest: RestClient) -> None:
        rest.bucket = Bucket(per_s=2, burst=1, kept=0.0)  # half a second: no machine is that slow between two lines
        rest.bucket.take(Use.ORDER, time.time_ns())
        assert isinstance(await post(rest), NeverSent)
        assert isinstance(await rest.get("/clock"), Answered)
        assert isinstance(await rest.ask("DELETE", "/orders/1", use=Use.CANCEL), Answered)

    against(peer, ask)
