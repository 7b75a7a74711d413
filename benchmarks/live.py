"""The live desk against the clock: ``make bench-live``. README.md says what is measured and how.

Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.live_desk import LISTENERS, TRADER, BenchError, Desk
from benchmarks.live_figures import fsync_times, load, spread, table
from northstar_core.model.errors import NorthstarError
from northstar_core.model.order_ids import client_order_id
from northstar_core.store.postgres import open_database
from northstar_core.store.reader import Reader

BUSY_TICKS, ORDERS_S = 10_000, 25
LONG_TICKS, IN_A_FRAME = 1_200, (1, 10)
RATES = (5_000, 7_500, 10_000, 12_500, 15_000, 20_000, 25_000, 30_000, 35_000, 40_000, 45_000, 50_000)
NEWEST = 1_000
AIMS = {"happened to stored": "p50 5"}
SETTLE_S = 3.0  #: before anything is counted


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


async def orders(desk: Desk, seconds: float) -> dict[str, Any]:
    """Orders from a kernel, while so many ticks a second are stored and given to it."""
    await desk.enter([TRADER], limit_price=round(desk.twin["price"] * 0.95, 2))
    desk.rate(BUSY_TICKS, orders=ORDERS_S)
    await asyncio.sleep(SETTLE_S)
    begun, before, used = time.time_ns(), desk.sent(), desk.used()
    read = asyncio.create_task(asyncio.to_thread(_newest, desk, seconds))
    await asyncio.sleep(seconds)
    ended, after, now_used, latency = time.time_ns(), desk.sent(), desk.used(), desk.status()["latency"]
    busy = load()
    reads = await read
    desk.rate(0)
    await asyncio.sleep(1.0)
    noted = await desk.leave(TRADER)
    stamps = desk.stamps()
    wire, answered, accepted = [], [], []
    for order_id, (_, signal, order, told) in noted["orders"].items():
        if begun <= order < ended:
            arrived, replied = stamps[client_order_id(order_id)]
            wire.append(arrived - order)
            answered.append(replied - signal)
            accepted.append(told - signal)
    if not wire:
        raise BenchError("no order reached the twin")
    took = (ended - begun) / 1e9
    return {
        "ticks_s": round((after["sent"] - before["sent"]) / took), "orders": len(wire), "load": busy,
        "intent_to_wire": spread(wire), "signal_to_answer": spread(answered), "signal_to_accepted": spread(accepted),
        "newest": reads, "latency": latency, "processor": _shares(used, now_used, took),
    }  # fmt: skip


def _newest(desk: Desk, seconds: float) -> dict[str, Any]:
    """Read the last 1,000 ticks of a symbol, again and again."""

    async def read() -> dict[str, Any]:
        taken: list[int] = []
        async with open_database(desk.home) as database, await Reader.open(database) as reader:
            run = await reader.run("desk")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                begun = time.perf_counter_ns()
                found = await reader.last_ticks(run.stream, desk.symbols[len(taken) % len(desk.symbols)], NEWEST)
                if len(found) == NEWEST:
                    taken.append(time.perf_counter_ns() - begun)
                await asyncio.sleep(0.1)
        ordered = sorted(taken)
        p95 = ordered[int(0.95 * len(ordered))] / 1e6 if ordered else float("nan")
        return spread(taken) | {"p95": round(p95, 3)}

    return asyncio.run(read())


async def long(desk: Desk, seconds: float) -> list[dict[str, Any]]:
    """A moderate rate for long: what it costs, with each message in a frame of its own, and with ten in one."""
    await desk.enter([TRADER])
    found = []
    for together in IN_A_FRAME:
        desk.rate(LONG_TICKS, frames_s=LONG_TICKS / together)
        await asyncio.sleep(SETTLE_S)
        begun, before, used = time.monotonic(), desk.sent(), desk.used()
        await asyncio.sleep(seconds)
        took, after, now_used = time.monotonic() - begun, desk.sent(), desk.used()
        found.append({
            "messages_s": round((after["sent"] - before["sent"]) / took), "in_a_frame": together, "seconds": round(took), "load": load(),
            "processor": _shares(used, now_used, took), "latency": desk.status()["latency"],
        })  # fmt: skip
    desk.rate(0)
    await desk.leave(TRADER)
    return found


def _shares(before: dict[str, float], after: dict[str, float], took: float) -> dict[str, float]:
    return {name: round(100 * (after[name] - before[name]) / took, 1) for name in after}


async def fan_out(desk: Desk, seconds: float, rates: tuple[int, ...]) -> dict[str, Any]:
    """Ever more ticks a second to five kernels, until some are lost or the backlog grows."""
    await desk.enter(LISTENERS)
    best: dict[str, Any] = {"ticks_s": 0}
    steps: list[dict[str, Any]] = []
    for rate in rates:
        step = await _step(desk, rate, seconds)
        steps.append(step)
        say(f"{rate:>9,} ticks/s to {len(LISTENERS)} kernels: {step}")
        if step["held"]:
            best = step
        else:
            break
    return {"kernels": len(LISTENERS), **best, "steps": steps}


async def _step(desk: Desk, rate: int, seconds: float) -> dict[str, Any]:
    """One rate for some seconds: held, if nothing was left out, the gateway had nothing left a second after its end, and the kernels said
    within three (they say so once a second) that they had handled all."""
    stored, status, heard = await desk.stored(), desk.status(), desk.heard()
    before, used = desk.rate(rate), desk.used()
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    now_used, took = desk.used(), time.monotonic() - begun
    after = desk.rate(0)
    sent = after["sent"] + after["bars"] - before["sent"] - before["bars"]
    late_ms = after["late_ms"]
    ended = time.monotonic()

    def counts() -> tuple[int, int, int]:
        now = desk.status()
        feed, was = now["feeds"]["massive"]["stats"], status["feeds"]["massive"]["stats"]
        return feed["events"] - was["events"], now["durable"] - now["seq"], sum(s["waiting"] for s in now["sessions"])

    deadline = ended + 20.0
    while (found := counts()) != (sent, 0, 0) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    behind = time.monotonic() - ended
    while any(desk.heard()[name] - heard[name] < sent for name in desk.runs) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    handled = time.monotonic() - ended
    given = [desk.heard()[name] - heard[name] for name in desk.runs]
    in_session, stored = len(desk.status()["sessions"]), await desk.stored() - stored
    whole = found == (sent, 0, 0) and stored == sent and all(count == sent for count in given) and in_session == len(LISTENERS)
    timely = behind < 1.0 and handled < 3.0 and late_ms < 1000
    return {
        "ticks_s": round(sent / took), "sent": sent, "events": found[0], "stored": stored, "lost": sent * len(given) - sum(given),
        "behind_s": round(behind, 2), "handled_s": round(handled, 2), "feed_late_ms": round(late_ms), "held": whole and timely,
        "processor": _shares(used, now_used, took), "load": load(),
    }  # fmt: skip


def shown(found: dict[str, Any]) -> str:
    """Return the table."""
    head = ["ms", "p50", "p99", "p99.9", "n", "load", "aim"]

    def row(name: str, of: dict[str, float], busy: float, aim: str) -> list[str]:
        return [name, f"{of['p50']:.3f}", f"{of['p99']:.3f}", f"{of['p99.9']:.3f}", f"{of['n']:,}", f"{busy:.1f}", aim]

    rows = [head, row("wait for the disk (fsync)", found["fsync"], found["fsync"]["load"], "")]
    if placed := found.get("orders"):
        busy = placed["load"]
        rows += [
            row("intent in the kernel to the broker's socket", placed["intent_to_wire"], busy, "p50 1, p99 5"),
            row("signal to the twin's answer", placed["signal_to_answer"], busy, "p99 50"),
            row("signal to OrderAccepted in the kernel", placed["signal_to_accepted"], busy, ""),
            row(f"last {NEWEST:,} ticks of a symbol", placed["newest"], busy, f"p95 10: {placed['newest']['p95']:.1f}"),
        ]
    for of in [*([placed] if placed else []), *found.get("long", [])]:
        rate = f"{of.get('ticks_s') or of['messages_s']:,}/s" + (f", {of['in_a_frame']} a frame" if "in_a_frame" in of else "")
        rows += [row(f"{stage} ({rate})", spread_, of["load"], AIMS.get(stage, "")) for stage, spread_ in of["latency"].items()]
    lines = [table(rows), ""]
    for of in found.get("long", []):
        what = f"{of['messages_s']:,} messages/s, {of['in_a_frame']} a frame, for {of['seconds']} s"
        lines.append(f"{what}: % of a core {of['processor']}, load {of['load']}")
    if of := found.get("fan_out"):
        what = f"{of['ticks_s']:,} ticks/s to {of['kernels']} kernels, all of it to each, nothing lost (aim 50,000)"
        lines.append(f"{what}: % of a core {of.get('processor')}, load {of.get('load')}")
    return "\n".join(lines)


async def measure(args: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Bring the desk up and measure one thing after the other."""
    quick = args.quick
    found: dict[str, Any] = {"fsync": spread(fsync_times(home, 200 if quick else 1000)) | {"load": load()}}
    desk = Desk(home, args.symbols)
    try:
        desk.up()
        if "orders" in args.only:
            say("orders from a kernel")
            found["orders"] = await orders(desk, args.seconds or (10 if quick else 60))
        if "long" in args.only:
            say("a moderate rate for long")
            found["long"] = await long(desk, args.seconds or (10 if quick else 150))
        if "fan_out" in args.only:
            say("five kernels")
            rates = tuple(map(int, args.rates.split(","))) if args.rates else RATES[::3] if quick else RATES
            found["fan_out"] = await fan_out(desk, args.seconds or (4 if quick else 10), rates)
    finally:
        await desk.down()
    return found


def main() -> int:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--quick", action="store_true", help="short runs: to see that all of it works")
    asked.add_argument("--only", default="orders,long,fan_out", help="which parts, by comma")
    asked.add_argument("--seconds", type=float, help="of each part; of each rate in fan_out")
    asked.add_argument("--rates", help="of fan_out, by comma; it stops at the first that is not held")
    asked.add_argument("--symbols", type=int, default=100, help="quoted (100); one of them is traded")
    asked.add_argument("--folder", help="where the desk's folder is made: on the disk to be measured")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="ns-", dir=args.folder, ignore_cleanup_errors=True) as folder:
        try:
            found = asyncio.run(measure(args, Path(folder)))
        except (BenchError, NorthstarError) as error:
            print(error, file=sys.stderr)
            return 1
    print(shown(found))
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
