"""The vendor's own stream client against the twin, unchanged but for its address; and the frames it does not show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from massive import WebSocketClient
from massive.exceptions import AuthError

from northstar_core.data.synthetic import synthesize
from northstar_core.model.market import Bar
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import MINUTE_NS, TwinMarket
from northstar_core.twins.serve import Served, serve

TAPE = synthesize(symbols=["SPY", "QQQ"], days=3, options_on="SPY", expiries=1, strikes=2)
OPTION = next(symbol for symbol in TAPE.symbols if len(symbol) > 6)
DEADLINE_S = 20.0


@asynccontextmanager
async def twin(*rules: Fault, **options: Any) -> AsyncIterator[Served]:
    market = TwinMarket(TAPE, start=TAPE.sessions[1].open)
    async with serve(market, massive=0, faults={"massive": list(rules)}, options={"massive": options}, play=False) as served:
        yield served


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0)


async def listen(served: Served, market: str, channels: list[str], play: Callable[[list[Any]], Awaitable[None]]) -> list[Any]:
    """Run the vendor's client while ``play`` plays; return what it was given."""
    got: list[Any] = []
    client = WebSocketClient(
        "KEY", feed=f"127.0.0.1:{served.ports['massive']}", market=market, secure=False, subscriptions=channels
    )

    async def take(messages: list[Any]) -> None:
        got.extend(messages)

    running = asyncio.create_task(client.connect(take))
    await until(lambda: bool(client.subs))
    try:
        await play(got)
    finally:
        await client.close()
        await asyncio.wait([running], timeout=DEADLINE_S)
        if running.done() and not running.cancelled():
            running.exception()
        running.cancel()
    return got


async def subscribed(served: Served, *names: str) -> None:
    """Wait until the twin knows the market is listened to."""
    listeners = served.market._listeners
    await until(lambda: any(wanted is None or set(names) <= set(wanted) for _, wanted in listeners))


def of(kind: str, messages: list[Any]) -> list[Any]:
    return [message for message in messages if message.event_type == kind]


def test_vendors_client_is_given_exactly_the_markets_minutes_seconds_prints_and_quotes() -> None:
    async def run() -> None:
        async with twin() as served:
            market, begin = served.market, served.market.now()

            async def play(got: list[Any]) -> None:
                await subscribed(served, "SPY")
                market.step(begin + 3 * MINUTE_NS + 3_000_000_000)
                await until(lambda: len(of("AM", got)) == 3 and len(of("A", got)) >= 100)

            got = await listen(served, "stocks", ["AM.SPY", "A.SPY", "T.SPY", "Q.SPY", "LULD.SPY"], play)
            end = begin + 3 * MINUTE_NS
            for kind, span in (("AM", MINUTE_NS), ("A", MINUTE_NS // 60)):
                bars = [
                    Bar(m.symbol, m.start_timestamp * 10**6, m.end_timestamp * 10**6, m.open, m.high, m.low, m.close, m.volume)
                    for m in of(kind, got) if m.end_timestamp * 10**6 <= end
                ]  # fmt: skip
                assert bars == market.bars("SPY", span, begin, end)
            for kind in ("AM", "A"):
                volumes = [m.volume for m in of(kind, got)]
                totals = [m.accumulated_volume for m in of(kind, got)]
                assert totals == [sum(volumes[: n + 1]) for n in range(len(volumes))]
            prints = [m for m in of("T", got) if m.timestamp * 10**6 < end]
            assert sum(m.size for m in prints) == sum(bar.volume for bar in market.bars("SPY", MINUTE_NS, begin, end))
            assert [m.sequence_number for m in prints] == sorted({m.sequence_number for m in prints})
            assert all(0 < m.bid_price < m.ask_price for m in of("Q", got)) and len(of("Q", got)) >= 180
            assert all(m.low_price < m.high_price for m in of("LULD", got)) and len(of("LULD", got)) == 3

    asyncio.run(run())


def test_vendors_client_hears_options_on_their_cluster_and_indices_on_theirs() -> None:
    async def run() -> None:
        async with twin() as served:
            for market, channels, symbol in (("options", [f"Q.O:{OPTION}"], OPTION), ("indices", ["V.I:SPY"], "SPY")):

                async def play(got: list[Any], symbol: str = symbol) -> None:
                    await subscribed(served, symbol)
                    while not got:
                        served.market.step(served.market.now() + MINUTE_NS)
                        await asyncio.sleep(0)

                got = await listen(served, market, channels, play)
                assert {getattr(m, "symbol", None) or m.ticker for m in got} == {channels[0][2:]}

    asyncio.run(run())


def test_vendors_client_follows_every_stock_by_wildcard() -> None:
    async def run() -> None:
        async with twin() as served:

            async def play(got: list[Any]) -> None:
                await until(lambda: any(wanted is None for _, wanted in served.market._listeners))
                served.market.step(served.market.now() + MINUTE_NS)
                await until(lambda: len(got) == 2)

            got = await listen(served, "stocks", ["AM.*"], play)
            assert [m.symbol for m in got] == ["QQQ", "SPY"]

    asyncio.run(run())


def test_vendors_client_is_refused_with_a_wrong_key() -> None:
    async def run() -> None:
        async with twin() as served:
            client = WebSocketClient("WRONG", feed=f"127.0.0.1:{served.ports['massive']}", secure=False)
            with pytest.raises(AuthError, match="authentication failed"):
                async with asyncio.timeout(DEADLINE_S):
                    await client.connect(lambda messages: asyncio.sleep(0))

    asyncio.run(run())


@asynccontextmanager
async def socket(served: Served, cluster: str = "stocks", key: str | None = "KEY") -> AsyncIterator[Any]:
    async with websockets.connect(served.url("massive", "ws") + f"/{cluster}", close_timeout=1) as connection:
        assert json.loads(await connection.recv())[0]["status"] == "connected"
        if key is not None:
            await connection.send(json.dumps({"action": "auth", "params": key}))
            assert json.loads(await connection.recv())[0]["status"] == "auth_success"
        yield connection


async def ask(connection: Any, params: str, action: str = "subscribe") -> list[Any]:
    await connection.send(json.dumps({"action": action, "params": params}))
    answer: list[Any] = json.loads(await connection.recv())
    return answer


def test_each_channel_has_its_own_answer_and_a_bad_one_leaves_the_connection_up() -> None:
    async def run() -> None:
        async with twin() as served, socket(served) as connection:
            answers = await ask(connection, "AM.SPY,XX.SPY,NOI.SPY,T.QQQ")
            assert [row["status"] for row in answers] == ["success", "error", "error", "success"]
            assert answers[0]["message"] == "subscribed to: AM.SPY"
            assert (await ask(connection, "AM.SPY", "unsubscribe"))[0]["message"] == "unsubscribed to: AM.SPY"
            await connection.send("no json")
            assert json.loads(await connection.recv())[0]["status"] == "error"

    asyncio.run(run())


def test_more_than_a_thousand_option_quotes_are_refused_one_by_one() -> None:
    async def run() -> None:
        async with twin() as served, socket(served, "options") as connection:
            names = [f"Q.O:SPY240119C{strike:05d}000" for strike in range(1, 1003)]
            statuses = [row["status"] for row in await ask(connection, ",".join(names))]
            assert statuses == ["success"] * 1000 + ["error"] * 2

    asyncio.run(run())


def test_a_second_connection_of_a_cluster_ends_the_first_and_another_cluster_does_not() -> None:
    async def run() -> None:
        async with twin() as served, socket(served) as first, socket(served, "options") as other, socket(served):
            assert json.loads(await first.recv())[0]["status"] == "max_connections"
            with pytest.raises(websockets.ConnectionClosed):
                await first.recv()
            assert (await ask(other, "T.*"))[0]["status"] == "success"

    asyncio.run(run())


def test_who_does_not_authenticate_in_time_is_told_so_and_closed() -> None:
    async def run() -> None:
        async with twin(auth_timeout_s=0.01) as served, socket(served, key=None) as connection:
            assert json.loads(await connection.recv())[0]["status"] == "auth_timeout"
            with pytest.raises(websockets.ConnectionClosed):
                await connection.recv()

    asyncio.run(run())


def test_who_reads_too_slowly_is_told_so_and_closed() -> None:
    async def run() -> None:
        async with twin(buffer=500) as served, socket(served) as connection:
            await ask(connection, "T.*,Q.*,A.*")
            served.market.step(served.market.now() + 30 * MINUTE_NS)  # all at once: more than the buffer holds
            last = []
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    last = json.loads(await connection.recv())
            assert last[-1]["status"] == "slow_consumer"

    asyncio.run(run())


async def minutes(connection: Any, served: Served, count: int, *, channel: str = "AM") -> list[Any]:
    """Play so many minutes and return the messages of a channel until the one of the last minute."""
    end = served.market.now() + count * MINUTE_NS
    served.market.step(end + MINUTE_NS)
    got: list[Any] = []
    async with asyncio.timeout(DEADLINE_S):
        while not any(row["e"] * 10**6 > end for row in got):
            frame = await connection.recv()
            with_junk = json.loads(frame) if frame.startswith('[{"ev"') else []
            got += [row for row in with_junk if row["ev"] == channel and "e" in row]
    return [row for row in got if row["e"] * 10**6 <= end]


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("drop", [0, 1, 3, 4]),
        ("duplicate", [0, 1, 2, 2, 3, 4]),
        ("reorder", [0, 1, 3, 2, 4]),
        ("revise", [0, 1, 2, 3, 2, 4]),
        ("junk", [0, 1, 2, 3, 4]),
    ],
)
def test_a_fault_strikes_the_minute_it_names(kind: str, order: list[int]) -> None:
    async def run() -> None:
        async with twin(Fault(at="stream.AM", do=kind, after=2)) as served, socket(served) as connection:
            await ask(connection, "AM.SPY")
            begin = served.market.now()
            got = await minutes(connection, served, 5)
            assert [(row["s"] * 10**6 - begin) // MINUTE_NS for row in got] == order
            bars = served.market.bars("SPY", MINUTE_NS, begin, begin + 5 * MINUTE_NS)
            final = {row["s"]: row for row in got}
            assert [final[bar.start // 10**6]["v"] for n, bar in enumerate(bars) if n in order] == [
                bar.volume for n, bar in enumerate(bars) if n in order
            ]

    asyncio.run(run())


def test_a_late_print_comes_after_others_and_says_so() -> None:
    async def run() -> None:
        async with twin(Fault(at="stream.T", do="late", after=5)) as served, socket(served) as connection:
            await ask(connection, "T.SPY")
            served.market.step(served.market.now() + MINUTE_NS)
            got: list[Any] = []
            while len(got) < 30:
                got += json.loads(await connection.recv())
            times = [row["t"] for row in got]
            at = next(n for n, row in enumerate(got) if 33 in row.get("c", []))
            assert times[at] < times[at - 1] and at == 15
            assert sorted(times[:at] + times[at + 1 :]) == times[:at] + times[at + 1 :]

    asyncio.run(run())


def test_a_mute_connection_sends_nothing_and_a_new_one_everything() -> None:
    async def run() -> None:
        async with twin(Fault(at="stream.AM", do="mute", after=1), most=2) as served, socket(served) as connection:
            await ask(connection, "AM.SPY")
            served.market.step(served.market.now() + 3 * MINUTE_NS)
            async with socket(served) as second:
                await ask(second, "AM.SPY")
                assert len(await minutes(second, served, 2)) == 2
            assert len(json.loads(await connection.recv())) == 1
            async with asyncio.timeout(DEADLINE_S):
                await (await connection.ping())
            await ask(connection, "T.SPY")  # answered: only data are mute

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["disconnect", "force_disconnect", "slow_consumer"])
def test_a_connection_ends_as_the_fault_says(kind: str) -> None:
    async def run() -> None:
        async with twin(Fault(at="stream.AM", do=kind)) as served, socket(served) as connection:
            await ask(connection, "AM.SPY")
            served.market.step(served.market.now() + MINUTE_NS)
            rows: list[Any] = []
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    rows += json.loads(await connection.recv())
            assert [row.get("status") for row in rows][-1:] == ([] if kind == "disconnect" else [kind])
            await until(lambda: True)

    asyncio.run(run())
