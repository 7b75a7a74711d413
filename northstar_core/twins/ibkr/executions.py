"""Executions of the Interactive Brokers twin: each told twice, sometimes corrected.

The first copy of an execution has no commission, the second has. A correction repeats it with the last part of its id
raised; until then, what the account shows agrees with what was told first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.model.execution import ExecutionReport
from northstar_core.model.instrument import Combo, Option, instrument
from northstar_core.model.order import Side
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.faults import Faults
from northstar_core.twins.ibkr.contracts import Contracts, company, description, exchange, sec_type, ticker
from northstar_core.twins.ibkr.rows import TwinOrder, price_text, text

Row = dict[str, Any]
Publish = Callable[[str, list[Row]], None]
Later = Callable[[float, Callable[[], object]], None]

ZERO = Decimal(0)
DAY_NS = 86_400 * 10**9
MOST_DAYS = 7
WRONG_BY = Decimal("0.01")  #: how far off the price of an execution is that will be corrected


class Execution(msgspec.Struct):
    """One fill of one contract."""

    base_id: str  #: without the part that corrections raise
    order_id: int
    ts: int
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal  #: as told now
    true_price: Decimal
    commission: Decimal
    position: Decimal  #: held after it
    coid: str
    version: int = 1
    settled: bool = False  #: its commission is known

    @property
    def exec_id(self) -> str:
        """The id as told: a correction has a higher last part."""
        return f"{self.base_id}.{self.version:02d}"

    @property
    def misstated(self) -> Decimal:
        """How much cash the told price leaves out of the account's true cash."""
        found = instrument(self.symbol)
        assert not isinstance(found, Combo)
        signed = self.qty * found.multiplier * (1 if self.side is Side.BUY else -1)
        return signed * (self.price - self.true_price)


def base_id(account: str, number: int, ts: int) -> str:
    """Return the id of the ``number``-th execution of an account: four parts, of which two are drawn from it."""
    head = hashlib.sha256(account.encode()).hexdigest()[:4]
    return f"0000{head}.{(ts // 10**9 + number) & 0xFFFFFFFF:08x}{number:04x}.01"


def execution_row(execution: Execution, account: str, contracts: Contracts, *, settled: bool) -> Row:
    """Return a row as in trades and on the stream; ``settled`` adds the commission."""
    found = instrument(execution.symbol)
    assert not isinstance(found, Combo)
    option = found if isinstance(found, Option) else None
    moment = datetime.fromtimestamp(execution.ts // 10**9, UTC)
    where = "CBOE" if option else exchange(execution.symbol)
    verb = "Bot" if execution.side is Side.BUY else "Sold"
    conid = contracts.conid(execution.symbol)
    row: Row = {
        "execution_id": execution.exec_id,
        "symbol": ticker(found),
        "supports_tax_opt": "1",
        "side": "B" if execution.side is Side.BUY else "S",
        "order_description": f"{verb} {text(execution.qty)} @ {price_text(execution.price)} on {where}",
        "trade_time": f"{moment:%Y%m%d-%H:%M:%S}",
        "trade_time_r": execution.ts // 10**9 * 1000,
        "size": float(execution.qty),
        "price": price_text(execution.price),
        "exchange": where,
        "net_amount": float(execution.qty * execution.price * found.multiplier),
        "account": account,
        "accountCode": account,
        "account_allocation_name": account,
        "company_name": company(ticker(found)),
        "contract_description_1": ticker(found),
        "sec_type": sec_type(found),
        "conid": conid,
        "conidEx": str(conid),
        "position": text(execution.position) if execution.position else "0",
        "clearing_id": "IB",
        "clearing_name": "IB",
        "liquidation_trade": "0",
        "is_event_trading": "0",
        "order_id": execution.order_id,
    }
    if option:
        row["contract_description_2"] = description(option).partition(" ")[2]
    else:
        row["listing_exchange"] = where
    if execution.coid:
        row["order_ref"] = execution.coid
    if settled:
        row["commission"] = f"{float(execution.commission)}"
    return row


class Executions:
    """The executions of one account, as the service keeps and tells them.

    Parameters
    ----------
    faults
        Asked at ``execution``: "correction" tells it with a wrong price first, and puts that right ``delay_s`` later.
    publish
        Takes ("str", rows).
    later
        Calls back after so many wall seconds.
    commission_s
        How much later than an execution its commission is told, wall seconds.
    """

    def __init__(
        self, account: TwinAccount, contracts: Contracts, faults: Faults, publish: Publish, later: Later,
        commission_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._account, self._contracts, self._faults = account, contracts, faults
        self._publish, self._later, self._commission_s = publish, later, commission_s
        self.all: list[Execution] = []  #: oldest first

    def add(self, order: TwinOrder | None, report: ExecutionReport) -> None:
        """Take a fill: tell it, then its commission, then perhaps that it was wrong."""
        assert report.side is not None
        fault = self._faults.hit("execution", "correction")
        execution = Execution(
            base_id=base_id(self._account.name, len(self.all) + 1, report.ts),
            order_id=order.order_id if order is not None else 0,
            ts=report.ts,
            symbol=report.symbol,
            side=report.side,
            qty=report.qty,
            price=report.price if fault is None else report.price + WRONG_BY,
            true_price=report.price,
            commission=report.fees,
            position=self._account.position(report.symbol),
            coid=order.ticket.coid if order is not None else "",
        )
        self.all.append(execution)
        self._tell(execution, settled=False)
        if self._commission_s:
            self._later(self._commission_s, lambda: self._settle(execution))
        else:
            self._settle(execution)
        if fault is not None:
            self._later(fault.delay_s, lambda: self._correct(execution))

    def recent(self, days: int) -> list[Execution]:
        """Return the executions of the last days (1 to 7), oldest first."""
        since = self._account.market.now() - min(max(days, 1), MOST_DAYS) * DAY_NS
        return [execution for execution in self.all if execution.ts >= since]

    def rows(self, days: int) -> list[Row]:
        """Return executions as ``trades`` shows them, the newest first; with the commission where it is known."""
        return [self.row(execution, settled=execution.settled) for execution in reversed(self.recent(days))]

    def row(self, execution: Execution, *, settled: bool) -> Row:
        """Return one row."""
        return execution_row(execution, self._account.name, self._contracts, settled=settled)

    @property
    def misstated(self) -> Decimal:
        """How much of the account's true cash the executions, as told now, leave out."""
        return sum((execution.misstated for execution in self.all), ZERO)

    def _settle(self, execution: Execution) -> None:
        execution.settled = True
        self._tell(execution, settled=True)

    def _correct(self, execution: Execution) -> None:
        execution.version += 1
        execution.price = execution.true_price
        self._tell(execution, settled=False)
        self._tell(execution, settled=True)

    def _tell(self, execution: Execution, *, settled: bool) -> None:
        self._publish("str", [self.row(execution, settled=settled)])
