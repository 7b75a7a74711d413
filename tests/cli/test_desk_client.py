"""A command's connection to the gateway: whatever is at the other end, the command says it in one line and leaves nothing open."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from northstar_core.client.desk import LARGEST, DeskClient, GatewayError, socket_path
from northstar_core.model.wire import Answer, Batch, Login, Refused, Request, frame, take, upwards

Behave = Callable[[socket.socket], None]


@contextmanager
def gateway(home: Path, behave: Behave) -> Iterator[None]:
    """Somebody on the gateway's socket who does this with the first connection."""
    (home / "gateway").mkdir(parents=True)
    (home / "gateway" / "operator.key").write_text("the-token\n")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(socket_path(home)))
    server.listen()
    server.settimeout(30)

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(30)
            behave(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        server.close()
        assert not thread.is_alive()


def messages(connection: socket.socket, n: int) -> list[object]:
    """Read so many messages of the client."""
    buffer, found = bytearray(), []
    while len(found) < n:
        while (body := take(buffer)) is not None:
            found.append(upwards(body))
        if len(found) < n:
            data = connection.recv(65536)
            assert data
            buffer += data
    return found


def until_closed(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_it_logs_in_numbers_its_requests_and_reads_past_what_it_did_not_ask_for(tmp_path: Path) -> None:
    seen: list[object] = []

    def behave(connection: socket.socket) -> None:
        seen.extend(messages(connection, 2))
        answer = frame(Batch([])) + frame(Answer(7, "another's")) + frame(Answer(1, {"qty": "1.50"}))
        for i in range(len(answer)):  # in the smallest pieces there are
            connection.sendall(answer[i : i + 1])
        seen.extend(messages(connection, 1))
        connection.sendall(frame(Answer(2, error="fills: no")))
        until_closed(connection)

    with gateway(tmp_path, behave), DeskClient(tmp_path) as desk:
        assert desk.request("positions", account="a") == {"qty": "1.50"}
        with pytest.raises(GatewayError, match=r"^fills: no$") as caught:
            desk.request("fills")
        assert caught.value.code == "REQUEST"
    assert seen == [Login(token="the-token"), Request(1, "positions", {"account": "a"}), Request(2, "fills", {})]


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [
        (frame(Refused("BAD_TOKEN", "no")), "BAD_TOKEN", "the gateway refused: no"),
        (b"", "LOST", "the gateway is gone: it closed the connection; northstar status"),
        (frame(Answer(1, 1))[:-1], "LOST", "the gateway is gone"),
        (b"\x00\x00\x00\x03abc", "PROTOCOL", "the gateway's answer is not understood: not a message of protocol"),
        (b"\x00\x00\x00\x00", "PROTOCOL", "a frame of 0 bytes"),
        ((LARGEST + 1).to_bytes(4, "big"), "PROTOCOL", f"a frame of {LARGEST + 1} bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "PROTOCOL", "a frame of"),
    ],
)
def test_whatever_comes_instead_of_an_answer_is_told(tmp_path: Path, sent: bytes, code: str, told: str) -> None:
    def behave(connection: socket.socket) -> None:
        messages(connection, 2)
        connection.sendall(sent)

    with gateway(tmp_path, behave), DeskClient(tmp_path) as desk:
        with pytest.raises(GatewayError) as caught:
            desk.request("status")
    assert caught.value.code == code and told in str(caught.value) and "the-token" not in str(caught.value)


def test_a_refusal_that_came_before_the_request_left_is_not_lost(tmp_path: Path) -> None:
    """A gateway that refuses a login closes; whether the next request fails while it is sent or while it is answered is a race."""

    def behave(connection: socket.socket) -> None:
        messages(connection, 1)
        connection.sendall(frame(Refused("EXPIRED", "the token has expired")))

    with gateway(tmp_path, behave), DeskClient(tmp_path) as desk:
        with pytest.raises(GatewayError, match="the token has expired") as caught:
            desk.request("place", text="x" * 60_000)
    assert caught.value.code == "EXPIRED"


def test_a_gateway_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with gateway(tmp_path, until_closed), DeskClient(tmp_path, timeout_s=0.2) as desk:
        with pytest.raises(GatewayError, match=r"cancel: no answer in 0.2 s; northstar status") as caught:
            desk.request("cancel", order_id="x")
    assert caught.value.code == "SILENT"


def test_no_gateway_is_told_as_such(tmp_path: Path) -> None:
    for _ in range(2):
        with DeskClient(tmp_path) as desk, pytest.raises(GatewayError) as caught:
            desk.request("status")
        assert (caught.value.code, str(caught.value)) == (
            "DOWN", f"no gateway is running in {tmp_path}; northstar up starts one",
        )  # fmt: skip
        (tmp_path / "gateway").mkdir(exist_ok=True)
        (tmp_path / "gateway" / "operator.key").write_text("a token of a gateway that is gone")


def test_a_home_too_deep_for_a_socket_is_told(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 100)
    with (
        DeskClient(home, token="t") as desk,
        pytest.raises(GatewayError, match=r"too long for a socket by .*use a shorter NORTHSTAR_HOME"),
    ):
        desk.request("status")
