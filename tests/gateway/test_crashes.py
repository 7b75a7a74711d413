"""Whatever is killed, and whenever: the books are the brokers', nothing was sent twice, nothing that traded is missing."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from decimal import Decimal

import pytest

from northstar_core.model import events as e
from northstar_core.model.order_ids import order_id_of
from northstar_core.model.world import GatewayStarted
from tests.gateway.crash_day import KINDS, TWINS, CrashDay, crash_day, northstar, written

LONG = os.environ.get("NORTHSTAR_LONG_TESTS", "") not in ("", "0")
KILLS = int(os.environ.get("NORTHSTAR_CRASHES", "40")) if LONG else len(KINDS)
SEEDS = [int(seed) for seed in os.environ.get("NORTHSTAR_SEEDS", "1").split(",")]


def books(day: CrashDay) -> dict[str, list[str]]:
    """How the desk's cash and positions differ from each twin's, by account."""
    cash = {name: Decimal(account["cash"]) for name, account in day.ask("status")["accounts"].items()}
    held: dict[str, Counter[str]] = {account: Counter() for account in TWINS}
    for row in day.ask("positions"):
        held[row["account"]][row["symbol"]] += Decimal(str(row["qty"]))
    found = {}
    for account in TWINS:
        state = day.twin(account)
        theirs = {symbol: Decimal(str(qty)) for symbol, qty in state["positions"].items() if Decimal(str(qty))}
        ours = {symbol: qty for symbol, qty in held[account].items() if qty}
        found[account] = [f"cash {cash[account]} here, {state['cash']} there"] if cash[account] != Decimal(str(state["cash"])) else []
        found[account] += [f"{s}: {ours.get(s)} here, {theirs.get(s)} there" for s in {*ours, *theirs} if ours.get(s) != theirs.get(s)]
    return found


def orders_sent(day: CrashDay, account: str) -> Counter[str]:
    """How many orders its twin has of each of our ids; one that replaced another counts as that one."""
    rows = day.twin(account)["orders"]
    if account == "live-ibkr":
        return Counter(row.get("order_ref", "") for row in rows)
    return Counter(row["client_order_id"] for row in rows if not row.get("replaces"))


@pytest.mark.timeout(900 if LONG else 300)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_killed_the_books_are_the_brokers_nothing_is_sent_twice_and_no_fill_is_lost(seed: int) -> None:
    with crash_day("09:20" if LONG else "10:00", 60.0 if LONG else 100.0, seed, print) as day:
        day.play(KILLS, (0.3, 4.0), last="15:45" if LONG else "15:00")
        day.close() if LONG else day.leave()
        differences = books(day)
        reconciled = {account: day.ask("reconcile", account=account) for account in TWINS}
        sent = {account: orders_sent(day, account) for account in TWINS}
        traded = {account: day.executions(account) for account in TWINS}
        verified = northstar(day.home, "audit", "verify", "desk", "--json")
        replayed = northstar(day.home, "replay", "desk", "--notebooks", str(day.home / "notebooks"), "--json")
        log = asyncio.run(written(day.home))
    print(f"killed {dict(day.killed)}, resolved {len(day.resolved)}, orders {[len(s) for s in sent.values()]}")

    assert day.unwanted == [] and day.resolved
    assert not any(differences.values()), differences
    assert set(reconciled.values()) == {0}, reconciled
    submitted = {event.order.order_id for event in log if isinstance(event, e.OrderSubmitted)}
    filled: dict[str, Counter[str]] = {account: Counter() for account in TWINS}
    for event in log:
        if isinstance(event, e.OrderFilled):
            filled[event.account][event.order_id] += 1
    for account in TWINS:
        assert set(sent[account].values()) == {1}, [order for order, n in sent[account].items() if n > 1]
        assert {order_id_of(name) for name in sent[account]} <= submitted
        assert filled[account] == Counter({order_id_of(name): n for name, n in traded[account].items()})
        assert sum(filled[account].values()) > 20
    epochs = [event.epoch for event in log if isinstance(event, GatewayStarted)]
    assert len(epochs) == day.gateways == day.killed["gateway"] + 1
    assert epochs == sorted(set(epochs))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    again = json.loads(replayed.stdout)
    assert again["identical"], [(s["strategy"], s["differences"][:3]) for s in again["sessions"] if s["differences"]]
    assert sum(session["intents"] for session in again["sessions"]) > 50
    assert day.killed.total() >= (6 if not LONG else KILLS // 2)
