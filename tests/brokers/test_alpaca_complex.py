"""Combos, exits and the door at Alpaca: orders of several parts, and who is let in."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.brokers.base import BrokerError, Code, Wiring
from northstar_core.brokers.plugins import make_broker
from northstar_core.model.errors import SettingsError
from northstar_core.model.execution import ExecType
from northstar_core.model.world import BrokerUp
from tests.brokers.alpaca_scenes import S, caught_up, play, resolved
from tests.brokers.house import ACCOUNT, AlpacaHouse, PaperHouse, house

# ── combos ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("leg_events", [True, False])
@pytest.mark.parametrize("fault", ["", "drop", "duplicate", "reorder"])
def test_a_combo_is_booked_leg_by_leg_with_and_without_events_of_legs(leg_events: bool, fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        if fault:
            h.fault("stream.*fill", fault, times=0, delay_s=0.05)
        order = await h.place("SELL", 2, "3.50", symbol="1*SPY260619C00600000,-1*SPY260619C00610000")
        await caught_up(h, order, S.FILLED)
        assert {p.symbol: p.qty for p in h.truth().positions} == {"SPY260619C00600000": -2, "SPY260619C00610000": 2}

    play(scene, twin={"leg_events": leg_events})


def test_legs_heard_of_before_the_answer_are_not_taken_for_anothers() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", "early", delay_s=0.1)
        order = await h.place("BUY", 2, "4.50", symbol="1*SPY260619C00600000,-1*SPY260619C00610000")
        await h.until_status(order, S.FILLED)

    play(scene, twin={"leg_events": True})


def test_a_combo_rests_is_replaced_and_cancelled_as_one() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 2, "1.00", symbol="1*SPY260619C00600000,-1*SPY260619C00610000")
        await h.until_status(order, S.NEW)
        await h.replace(order, 3, "1.10")
        await h.until(lambda: ExecType.REPLACED in h.kinds(order))
        await h.cancel(order)
        await h.until_status(order, S.CANCELED)

    play(scene)


# ── exits ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def bracket(h: AlpacaHouse, entry_qty: int = 10, limit: str = "600.50", loss: str = "590.00") -> tuple[str, str, str]:
    entry = h.order("BUY", entry_qty, limit)
    target = h.order("SELL", entry_qty, "604.00", parent=entry.order_id, reduce_only=True)
    stop = h.order("SELL", entry_qty, stop=loss, parent=entry.order_id, reduce_only=True)
    for order in (entry, target, stop):
        await h.broker.submit(order)
    return entry.order_id, target.order_id, stop.order_id


def test_a_stop_that_fills_cancels_its_target() -> None:
    async def scene(h: AlpacaHouse) -> None:
        _, target, stop = await bracket(h, loss="599.00")
        await h.until(lambda: h.broker.book.tracks[stop].seats)  # type: ignore[attr-defined]
        await h.step(31)
        await h.until_status(stop, S.FILLED)
        await h.until_status(target, S.CANCELED)
        assert not h.truth().positions

    play(scene, orders=2)


def test_exits_of_an_entry_cancelled_in_part_cover_what_it_filled() -> None:
    async def scene(h: AlpacaHouse) -> None:
        entry, target, stop = await bracket(h, 120, "600.20")
        await h.until_status(entry, S.PARTIALLY_FILLED)
        await h.cancel(entry)
        await h.until_status(entry, S.CANCELED)
        await h.until(lambda: h.broker.book.tracks[stop].seats)  # type: ignore[attr-defined]
        await h.step(41)
        await h.until_status(stop, S.FILLED, S.CANCELED)
        await h.until_status(target, S.FILLED, S.CANCELED)
        assert not h.truth().positions

    play(scene, at=12, orders=2)


def test_exits_that_are_held_are_changed_and_cancelled_here() -> None:
    async def scene(h: AlpacaHouse) -> None:
        _, target, stop = await bracket(h, 10, "590.00")
        await h.until_status(target, S.NEW)
        await h.until_status(stop, S.NEW)
        await h.agrees()
        await h.replace(target, 10, "605.00")
        await h.until(lambda: ExecType.REPLACED in h.kinds(target))
        assert h[target].limit_price == Decimal("605.00")
        await h.cancel(stop)
        await h.until_status(stop, S.CANCELED)

    play(scene, orders=1)


@pytest.mark.parametrize("fault", ["lost_response", "504", "junk"])
def test_a_lost_answer_to_the_pair_of_exits_sends_no_second_pair(fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", fault, after=1)
        entry, target, stop = await bracket(h)
        await h.until_status(entry, S.FILLED)
        await h.until(lambda: ExecType.UNKNOWN in h.kinds(target) or h.broker.book.tracks[target].seats)  # type: ignore[attr-defined]
        for order in (target, stop):
            await resolved(h, order)
        await h.step(41)
        await h.until_status(target, S.FILLED)
        await h.until_status(stop, S.CANCELED)

    play(scene, orders=2)


@pytest.mark.parametrize("sent", [True, False])
def test_exits_are_taken_up_again_after_a_restart(sent: bool) -> None:
    async def scene(h: AlpacaHouse) -> None:
        entry, target, stop = await bracket(h, 10, "600.50" if sent else "599.00")
        if sent:
            await h.until(lambda: h.broker.book.tracks[stop].seats)  # type: ignore[attr-defined]
        else:
            await h.until_status(entry, S.NEW)
        await h.broker.close()
        if not sent:
            await h.step(31)  # the entry fills while nobody is there
        h.broker = h.make()
        h.broker.restore(h.engine.books(), list(h.engine.state.blotter.orders.values()))  # type: ignore[attr-defined]
        await h.broker.start()
        await h.until_status(entry, S.FILLED)
        await h.until(lambda: h.broker.book.tracks[stop].seats)  # type: ignore[attr-defined]
        await h.step(41)
        await h.until_status(target, S.FILLED)
        await h.until_status(stop, S.CANCELED)

    play(scene, orders=2)


# ── the door ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_refused_credentials_are_an_error_with_that_code_and_without_the_secret() -> None:
    async def run() -> None:
        async with house("alpaca", up=False, twin={"secret": "OTHER"}) as h:
            with pytest.raises(BrokerError) as caught:
                await h.broker.start()
            assert caught.value.code is Code.CREDENTIALS and "SECRET" not in str(caught.value) + repr(h.broker)

    asyncio.run(run())


def test_another_account_than_the_one_configured_is_refused() -> None:
    async def run() -> None:
        async with house("alpaca", up=False, account_id="PA999") as h:
            with pytest.raises(BrokerError) as caught:
                await h.broker.start()
            assert caught.value.code is Code.ACCOUNT

    asyncio.run(run())


def test_maintenance_is_said_and_a_later_start_succeeds() -> None:
    async def run() -> None:
        async with house("alpaca", up=False) as h:
            h.fault("account", "503", times=0)
            with pytest.raises(BrokerError) as caught:
                await h.broker.start()
            assert caught.value.code is Code.MAINTENANCE
            h.heal()
            await h.broker.start()
            await h.agrees()

    asyncio.run(run())


def test_lists_that_fail_while_all_is_read_anew_are_read_again_before_the_link_is_up() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 10, "599.00")
        await h.until_status(order, S.NEW)
        h.fault("orders.list", "503", times=2)
        h.fault("activities.type", "junk", times=2)
        await h.disconnect()
        await h.step(31)
        await h.until_status(order, S.FILLED)
        await h.until(lambda: len(h.of(BrokerUp)) == 2)

    play(scene)


def test_neither_key_nor_secret_is_in_any_log_however_much_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    key, secret = "CANARY-KEY-93", "CANARY-SECRET-71"

    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", "junk")
        await h.place("BUY", 10)
        await h.disconnect()
        await h.until(lambda: len(h.of(BrokerUp)) == 2)
        assert key not in repr(h.claims) and secret not in repr(h.claims)

    caplog.set_level(logging.DEBUG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AlpacaHouse, "secrets", lambda self: {"key": key, "secret": secret})
        play(scene, twin={"key": key, "secret": secret})
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert key not in text and secret not in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 1}, "no option 'speed'"), ({"read_s": "long"}, "read_s = 'long'"), ({"replace_qty": "half"}, "'rest' or 'whole'"),
        ({"url": "http://paper-api.alpaca.markets"}, "https://"), ({"stream": "ws://example.com/stream"}, "wss://"), ({"url": ""}, "https://"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    clock = PaperHouse().clock
    wiring = Wiring(
        account=ACCOUNT, clock=clock, emit=print, order_of=dict[str, Any]().get, options=options, secrets={"key": "k", "secret": "s"}
    )
    with pytest.raises(SettingsError, match=words):
        make_broker("alpaca", wiring)


def test_a_missing_secret_is_named_and_what_can_move_money_says_so() -> None:
    clock = PaperHouse().clock

    def wiring(**more: Any) -> Wiring:
        return Wiring(account=ACCOUNT, clock=clock, emit=print, order_of=dict[str, Any]().get, **more)

    with pytest.raises(SettingsError, match="secret is missing"):
        make_broker("alpaca", wiring(secrets={"key": "k"}))
    secrets = {"key": "k", "secret": "s"}
    assert make_broker("alpaca", wiring(secrets=secrets)).simulated
    assert not make_broker("alpaca", wiring(secrets=secrets, options={"url": "https://api.alpaca.markets"})).simulated
