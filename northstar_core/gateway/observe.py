"""What preflight looks at: brokers asked, a durable write timed, disk, calendar and feeds seen."""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from northstar_core.brokers.base import BrokerError, Code
from northstar_core.data import calendar as calendars
from northstar_core.gateway.links import Link
from northstar_core.gateway.preflight import AccountSeen, FeedSeen, Observations, Verdict, evaluate
from northstar_core.model.account import TradingState
from northstar_core.model.errors import StoreError
from northstar_core.model.tape import Session
from northstar_core.store.postgres import Role, refuse_a_forgetful_server

if TYPE_CHECKING:
    from northstar_core.gateway.gateway import Gateway

ASK_S = 10.0


async def preflight(gateway: Gateway, account: str = "") -> Verdict:
    """Look at everything, or at what one account depends on, and judge it."""
    settings = gateway.settings
    names = [account] if account else list(settings.accounts)
    accounts = await asyncio.gather(*(_account(gateway, name) for name in names if name in gateway.links))
    database, durable, write_s = await _database(gateway)
    now = gateway.clock.now()
    today, following = _sessions(gateway, now)
    state = gateway.desk.engine.state
    return evaluate(
        Observations(
            now=now, wall=time.time_ns(), speed=gateway.clock.speed, accounts=tuple(accounts), feeds=_feeds(gateway),
            session="" if today is None else today.label.isoformat(), opens=0 if today is None else today.open,
            closes=0 if today is None else today.close, next_session=following, calendar=settings.desk.calendar,
            state=state.states.get("desk", TradingState.ACTIVE), disk_free=shutil.disk_usage(gateway.home).free,
            database=database, durable=durable, write_s=write_s,
        )
    )  # fmt: skip


async def _account(gateway: Gateway, name: str) -> AccountSeen:
    settings, link, state = gateway.settings, gateway.links[name], gateway.desk.engine.state
    accepted, detail, status, broker_time = await _login(link)
    feed = gateway.markets.feed_of(settings.accounts[name].feed)
    missing = [text for grant in settings.grants_of(name) if (text := _missing(gateway, gateway.names[grant.strategy, name], name))]
    return AccountSeen(
        name=name, broker=link.broker.kind, real_money=settings.accounts[name].real_money, connected=link.up, credentials=accepted,
        detail=detail or link.reason, status=status, broker_time=broker_time, asked_at=gateway.clock.now(), reconciled=link.reconciled,
        breaks=link.breaks, unknown_orders=sum(1 for o in gateway.desk.working(name) if gateway.desk.is_unknown(o.order_id)),
        missing_limits=tuple(missing), grants=len(settings.grants_of(name)),
        state=state.states.get(f"account:{name}", TradingState.ACTIVE), feed="" if feed is None else feed.name,
    )  # fmt: skip


async def _login(link: Link) -> tuple[bool | None, str, str, int]:
    """Whether the broker accepts the credentials, what it said, the account's status and the broker's time."""
    try:
        async with asyncio.timeout(ASK_S):
            info = await link.broker.info()
    except BrokerError as error:
        return (False if error.code is Code.CREDENTIALS else None), str(error), "", 0
    except TimeoutError:
        return None, f"no answer in {ASK_S:.0f} s", "", 0
    return True, "", info.status, info.time


def _missing(gateway: Gateway, strategy: str, account: str) -> str:
    seat = gateway.desk.engine.state.seat(strategy, account)
    if seat.missing is not None:
        return f"{strategy}: {seat.missing.detail}"
    return f"{strategy}: {seat.unset_equity.detail}" if seat.unset_equity is not None else ""


async def _database(gateway: Gateway) -> tuple[str, bool, float]:
    """What is wrong with the database, whether it keeps what it acknowledged, how long a durable write took."""
    if gateway.writer.failed is not None:
        return str(gateway.writer.failed), False, -1.0
    try:
        began = time.perf_counter()
        gateway.desk.declare()
        gateway.desk.take_snapshot()
        gateway.desk.settle()
        async with asyncio.timeout(ASK_S):
            await gateway.writer.flush()
        took = time.perf_counter() - began
        connection = await gateway.database.connect(Role.READER)
        try:
            await refuse_a_forgetful_server(connection, gateway.database)
        except StoreError as error:
            return str(error), False, took
        finally:
            await connection.close()
        return "", True, took
    except Exception as error:
        return f"{type(error).__name__}: {error}", False, -1.0


def _sessions(gateway: Gateway, now: int) -> tuple[Session | None, str]:
    """Today's session, if there is one, and the label of the next after it."""
    today = datetime.fromtimestamp(now / 1e9, UTC).date()
    try:
        found = calendars.sessions(today - timedelta(days=1), today + timedelta(days=14), gateway.settings.desk.calendar)
    except Exception:  # a calendar that does not reach so far: the check says what to do
        return None, ""
    label = gateway.desk.engine.state.today
    on = next((s for s in found if s.label.isoformat() == label and s.close > now), None)
    on = on or next((s for s in found if s.close > now and s.open - now < 12 * 3600 * 10**9), None)
    after = next((s.label.isoformat() for s in found if s.open > (now if on is None else on.close)), "")
    return on, after


def _feeds(gateway: Gateway) -> tuple[FeedSeen, ...]:
    return tuple(
        FeedSeen(name=name, connected=down == "", last_heard=feed.last_heard(), detail=down)
        for name, feed in gateway.markets.feeds.items()
        for down in (gateway.markets.down.get(name, "not connected yet"),)
    )
