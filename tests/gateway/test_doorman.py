"""Who is let in, and what may be said: everything else is refused with a code, on the record, and disturbs nobody."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from northstar_core.gateway import doorman, sessions
from northstar_core.model import events as e
from northstar_core.model.order import CancelOrder, PlaceOrder, Side
from northstar_core.model.wire import HEADER, LARGEST, Ask, Beat, Hello, Leave, Login, Request, frame
from northstar_core.model.world import FrameRefused, SessionLost, StateKept
from northstar_core.store.postgres import Database
from tests.gateway.raw import Raw
from tests.gateway.room import Room, grant, paper, play, room

TWO = {"accounts": paper() + paper("paper-2"), "grants": grant("trend") + grant("carry") + grant("trend", "paper-2")}


async def refused(room: Room, raw: Raw, code: str) -> str:
    """The client is refused with this code, and the log says so."""
    before = len(room.of(FrameRefused))
    found = await raw.refusal()
    assert found.code == code, found
    await room.until(lambda: len(room.of(FrameRefused)) >= before, code)
    assert room.of(FrameRefused)[-1].code == code
    return found.detail


# ── coming in ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_an_expired_and_a_foreign_token_are_refused_with_their_codes_and_disturb_nobody(database: Database) -> None:
    async def scene(room: Room) -> None:
        bystander = await room.enter("carry")
        tokens = room.gateway.tokens
        expired = tokens.issue(strategy="trend", account="paper-1", capability="trade", now=time.time_ns() - 10**12, seconds=1)
        reader = tokens.issue(strategy="trend", account="paper-1", capability="read", now=time.time_ns(), seconds=60)
        good = room.token("trend")
        stranger = tokens.issue(strategy="carry", account="paper-2", capability="trade", now=time.time_ns(), seconds=60)
        for token, strategy, code in (
            ("nonsense", "trend", "BAD_TOKEN"),
            (good[:-2] + ("AA" if good[-2:] != "AA" else "BB"), "trend", "BAD_TOKEN"),
            (expired, "trend", "EXPIRED"),
            (good, "carry", "WRONG_SCOPE"),
            (reader, "trend", "WRONG_SCOPE"),
            (stranger, "carry", "GRANT"),
            (room.operator(), "trend", "GRANT"),
        ):
            raw = await room.connect()
            raw.send(Hello(token=token, strategy=strategy))
            detail = await refused(room, raw, code)
            assert token not in detail
        assert [f.code for f in await room.logged(FrameRefused)] == [
            "BAD_TOKEN", "BAD_TOKEN", "EXPIRED", "WRONG_SCOPE", "WRONG_SCOPE", "GRANT", "GRANT",
        ]  # fmt: skip
        room.price()
        await room.filled(bystander, bystander.place())

    play(database, scene, **TWO)


def test_a_login_with_a_kernels_token_and_a_command_with_a_readers_are_refused(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.connect()
        raw.send(Login(token=room.token()))
        await refused(room, raw, "WRONG_SCOPE")
        token = room.gateway.tokens.issue(strategy="*", account="*", capability="read", now=time.time_ns(), seconds=60)
        raw = await room.connect()
        raw.send(Login(token=token))
        assert (await raw.request("status")).value["desk"] == room.settings.desk.name
        raw.send(Request(raw.next(), "place", {"account": "paper-1", "symbol": "SPY", "side": "BUY", "qty": 1}))
        await refused(room, raw, "CAPABILITY")
        assert room.broker().calls == []

    play(database, scene)


def test_another_protocol_is_refused(database: Database) -> None:
    async def scene(room: Room) -> None:
        for message in (Hello(token=room.token(), strategy="trend", protocol=2), Login(token=room.operator(), protocol=0)):
            raw = await room.connect()
            raw.send(message)
            assert "speaks protocol 1" in await refused(room, raw, "PROTOCOL")

    play(database, scene)


def test_a_second_session_of_a_strategy_is_refused_and_the_first_goes_on(database: Database) -> None:
    async def scene(room: Room) -> None:
        first = await room.enter()
        second = await room.connect()
        second.send(Hello(token=room.token(), strategy="trend", symbols=("SPY",)))
        await refused(room, second, "SESSION")
        room.price()
        await room.filled(first, first.place())
        other = await room.enter("trend", "paper-2")  # the same strategy in another account is another
        assert other.welcome is not None and other.welcome.strategy == "trend@paper-2"

    play(database, scene, **TWO)


def test_two_that_come_at_once_are_one_session(database: Database) -> None:
    async def scene(room: Room) -> None:
        both = [await room.connect() for _ in range(2)]
        for raw in both:
            raw.send(Hello(token=room.token(), strategy="trend", symbols=("SPY",), warm_up=3))
        firsts = [type(await raw.read()).__name__ for raw in both]
        assert sorted(firsts) == ["Refused", "Welcome"]

    play(database, scene)


def test_a_beginning_that_asks_for_what_cannot_be_is_refused(database: Database) -> None:
    async def scene(room: Room) -> None:
        wrong: list[dict[str, Any]] = [
            {"warm_up": 2**40}, {"warm_up": -1}, {"symbols": ("A\0",)}, {"params": {"x": msgspec.msgpack.Ext(5, b"x")}}, {"seen": -1},
        ]  # fmt: skip
        for more in wrong:
            raw = await room.connect()
            raw.send(Hello(token=room.token(), strategy="trend", **more))
            await refused(room, raw, "ARGUMENTS")
        assert (await room.enter()).welcome is not None

    play(database, scene)


def test_who_says_nothing_at_first_is_let_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "FIRST_FRAME_S", 0.1)

    async def scene(room: Room) -> None:
        await refused(room, await room.connect(), "TIMEOUT")

    play(database, scene)


# ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────────────


FIRST = [
    (b"\0\0\0\x05hello", "FRAME"),
    (b"\0\0\0\0", "FRAME"),
    ((LARGEST + 1).to_bytes(HEADER, "big"), "FRAME"),
    (b"GET / HTTP/1.1\r\n\r\n", "FRAME"),
    (frame(msgspec.Raw(msgspec.msgpack.encode({"type": "Sudo", "n": 1}))), "FRAME"),  # type: ignore[arg-type]
    (frame(Beat(1, 0)), "ORDER"),
    (frame(Ask(1, CancelOrder(1, "trend-20260601-1", "trend", "paper-1"))), "ORDER"),
    (frame(Request(1, "down")), "ORDER"),
]


def test_a_first_frame_that_is_none_is_refused(database: Database) -> None:
    async def scene(room: Room) -> None:
        for data, code in FIRST:
            raw = await room.connect()
            raw.write(data)
            await refused(room, raw, code)
        assert not room.gateway.stopping.is_set()

    play(database, scene)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\0\0\0\x05hello", "FRAME"),
        (b"\0\0\0\0", "FRAME"),
        (b"\xff\xff\xff\xff", "FRAME"),
        (frame(Beat(1, 0)), "REPLAY"),
        (frame(Beat(2, 0)) * 2, "REPLAY"),
        (frame(Beat(4, 0)), "REPLAY"),
        (frame(Beat(2**63, 0)), "REPLAY"),
        (frame(Request(2, "down")), "CAPABILITY"),
        (frame(Login(token="x")), "ORDER"),
        (frame(Hello(token="x", strategy="trend")), "ORDER"),
        (frame(Leave(2, "won")), "ARGUMENTS"),
    ],
    ids=["garbage", "empty", "oversized", "replayed", "twice", "ahead", "far ahead", "command", "login", "hello again", "outcome"],
)
def test_in_session_a_frame_that_may_not_be_ends_that_session_and_no_other(database: Database, data: bytes, code: str) -> None:
    async def scene(room: Room) -> None:
        raw, bystander = await room.enter("trend"), await room.enter("carry")
        room.price()
        order = raw.place(limit="90")  # frame 1
        await raw.hear(e.OrderAccepted)
        raw.write(data)
        await refused(room, raw, code)
        lost = await room.fact(SessionLost)
        assert (lost.strategy, lost.policy) == ("trend", "cancel") and code in lost.reason
        await room.until_status(order, "CANCELED")
        assert (room.of(FrameRefused)[-1].strategy, room.of(FrameRefused)[-1].account) == ("trend", "paper-1")
        await room.filled(bystander, bystander.place())
        assert not room.gateway.stopping.is_set()

    play(database, scene, **TWO)


def test_what_is_anothers_may_not_be_asked_for(database: Database) -> None:
    async def scene(room: Room) -> None:
        room.price()
        carry = await room.enter("carry")
        theirs = carry.place(limit="90")
        await carry.hear(e.OrderAccepted)
        wrong = [
            ({"strategy": "carry"}, "SCOPE"),
            ({"account": "paper-2"}, "SCOPE"),
            ({"order_id": "carry-20260601-7"}, "SCOPE"),
            ({"order_id": "trend-20260602-7"}, "SCOPE"),
            ({"order_id": "trend-20260601-x"}, "SCOPE"),
            ({"order_id": "trend-20260601-²"}, "SCOPE"),
            ({"order_id": "trend-20260601-007"}, "SCOPE"),
            ({"order_id": "trend-20260601-"}, "SCOPE"),
            ({"order_id": "trend-20260601-1234567890"}, "SCOPE"),
            ({"order_id": "trend-20260601-1\0"}, "ARGUMENTS"),
            ({"basis_seq": 10**9}, "ARGUMENTS"),
            ({"basis_seq": 0}, "ARGUMENTS"),
            ({"ts": 2**63}, "ARGUMENTS"),
            ({"qty": Decimal("1." + "1" * 60)}, "ARGUMENTS"),
            ({"qty": Decimal("1E+9999")}, "ARGUMENTS"),
        ]
        for change, code in wrong:
            raw = await room.enter("trend")
            raw.ask(raw.order(**change))
            await refused(room, raw, code)
            await room.until(lambda: "trend" not in room.gateway.doorman.guests)
        raw = await room.enter("trend")
        raw.cancel(theirs)  # an id of another, under its own name: there is no such order of its own
        _, denied = await raw.hear(e.OrderDenied)
        assert (denied.reason, room.status(theirs)) == ("ORDER_UNKNOWN", "NEW")
        raw.ask(e.Signal(1, "trend", "SPY", 1, "x", float("nan"), {}, raw.given[-1][0]))
        await refused(room, raw, "ARGUMENTS")
        assert room.broker().calls == [("submit", theirs)]

    play(database, scene, **TWO)


def test_what_a_strategy_keeps_must_be_an_object(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        raw.keep(b'{"level": 3}')
        assert (await room.fact(StateKept)).state == {"level": 3}
        raw.keep(b"[1, 2]")
        await refused(room, raw, "STATE")

    play(database, scene)


def test_after_its_end_a_session_says_nothing_more(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        raw.leave()
        raw.place()
        assert await raw.read() is None or await raw.read() is None
        await room.quiet()
        assert room.broker().calls == [] and room.of(e.OrderSubmitted) == []

    play(database, scene)


# ── silence and floods ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_silent_client_is_dropped_and_its_policy_applied_while_one_that_beats_stays(database: Database) -> None:
    async def scene(room: Room) -> None:
        silent, alive = await room.enter("trend"), await room.enter("carry")
        room.price()
        order = silent.place(limit="90")

        async def beating() -> None:
            while True:
                alive.beat()
                await room.stir()

        task = asyncio.create_task(beating())
        lost = await room.fact(SessionLost)
        task.cancel()
        assert (lost.strategy, lost.policy) == ("trend", "cancel") and "silent" in lost.reason
        await room.until_status(order, "CANCELED")
        assert list(room.gateway.doorman.guests) == ["carry"]

    play(database, scene, **TWO, SILENT_S=0.5)


def test_a_flood_of_refusals_is_counted_not_written_one_by_one(database: Database) -> None:
    async def scene(room: Room) -> None:
        raws = [await room.connect() for _ in range(60)]
        for raw in raws:
            raw.write(b"\0\0\0\0")
        for raw in raws:
            assert (await raw.refusal()).code == "FRAME"
        flood = await room.fact(FrameRefused, lambda f: f.code == "FLOOD")
        assert "more refusals" in flood.detail
        told = [f for f in await room.logged(FrameRefused) if f.code == "FRAME"]
        assert len(told) <= 2 * doorman.REFUSALS_A_SECOND < 60
        counted = sum(int(f.detail.split()[0]) for f in room.of(FrameRefused) if f.code == "FLOOD")
        assert len(told) + counted == room.gateway.refusals == 60

    play(database, scene)


# ── fuzz ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _plain() -> st.SearchStrategy[Any]:
    numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.sampled_from(["NaN", "sNaN", "1E+999999", "-5", "0.001", "7" * 70])
    scalars = st.none() | st.booleans() | numbers | st.text(max_size=12) | st.binary(max_size=8)
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


def _mutated() -> st.SearchStrategy[bytes]:
    """Valid messages of a session with some fields set to something else, or some bytes flipped, or cut."""
    order = PlaceOrder(1, "trend-20260601-3", "trend", "paper-1", "SPY", Side.BUY, Decimal(5), basis_seq=1)
    bases: list[Any] = [
        Ask(1, order),
        Ask(1, CancelOrder(1, "trend-20260601-1", "trend", "paper-1", basis_seq=1)),
        Ask(1, e.Signal(1, "trend", "SPY", 2, "why", 1.5, {"a": 1.0}, 1)),
        Ask(1, e.NoSignal(1, "trend", "SPY", 2, "why", {"a": 1.0}, 1)),
        Ask(1, e.SetTimer(1, "trend", "t", 5)),
        Beat(1, 7),
        Leave(1, "completed", "x"),
        Request(1, "place", {"account": "paper-1"}),
    ]
    fields = sorted({*order.__struct_fields__, "n", "message", "type", "name", "at", "inputs", "value", "outcome", "seq", "state"})

    @st.composite
    def draw(pick: Any) -> bytes:
        tree = msgspec.msgpack.decode(msgspec.msgpack.encode(pick(st.sampled_from(bases))))
        for name, value in pick(st.dictionaries(st.sampled_from(fields), _plain(), max_size=3)).items():
            inner = tree.get("message")
            target = inner if isinstance(inner, dict) and (name in inner or pick(st.booleans())) else tree
            target[name] = value
        try:
            body = bytearray(msgspec.msgpack.encode(tree))
        except (OverflowError, TypeError, ValueError):
            body = bytearray(b"\x00")
        for at, byte in pick(st.dictionaries(st.integers(0, len(body) - 1), st.integers(0, 255), max_size=2)).items():
            body[at] = byte
        return len(body).to_bytes(HEADER, "big") + bytes(body)

    return draw()


def test_no_frame_whatsoever_crashes_the_gateway_or_gets_what_is_not_allowed(database: Database) -> None:
    with asyncio.Runner() as runner:
        opened = room(database, **TWO)
        here = runner.run(opened.__aenter__())
        try:
            bystander = runner.run(here.enter("carry"))

            async def throw(frames: list[bytes]) -> None:
                here.price()
                raw = await here.enter("trend")
                for data in frames:
                    raw.write(data)
                raw.beat(1)
                raw.writer.write_eof()
                while await raw.read() is not None:
                    pass
                bystander.beat()
                await here.until(lambda: "trend" not in here.gateway.doorman.guests, frames)
                await here.gateway.writer.flush()
                assert not here.gateway.stopping.is_set()
                assert all(o.intent.strategy == "trend" for o in here.gateway.desk.engine.state.blotter.orders.values())

            @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(st.lists(_mutated() | st.binary(max_size=60), min_size=1, max_size=4))
            def fuzz(frames: list[bytes]) -> None:
                runner.run(throw(frames))

            fuzz()
            assert not [a for a in here.gateway.alerts if a.about == "gateway"], list(here.gateway.alerts)
            log = runner.run(here.log())
            assert not [f for _, f in log if type(f) is FrameRefused and f.code == "INTERNAL"]
            asked = [a for _, a in log if isinstance(a, PlaceOrder)]
            assert all((a.strategy, a.account) == ("trend", "paper-1") and a.order_id.startswith("trend-20260601-") for a in asked)
            here.price()
            runner.run(here.filled(bystander, bystander.place()))
        finally:
            runner.run(opened.__aexit__(None, None, None))
