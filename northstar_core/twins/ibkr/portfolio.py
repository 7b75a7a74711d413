"""The portfolio of the Interactive Brokers twin: positions with their costs, ledger, summary, and what an order may cost."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from northstar_core.model.execution import AccountActivity, ExecType
from northstar_core.model.instrument import CENT, Combo, Equity, Option, instrument
from northstar_core.model.order import Side
from northstar_core.sim.exchange import Update
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.ibkr.contracts import Contracts, description, sec_type
from northstar_core.twins.ibkr.costs import Cost, Costs
from northstar_core.twins.ibkr.rows import order_text
from northstar_core.twins.ibkr.tickets import Ticket

Row = dict[str, Any]
ZERO = Decimal(0)
A_PAGE = 100
SECOND_NS = 10**9


def _held(symbol: str) -> Equity | Option:
    found = instrument(symbol)
    assert not isinstance(found, Combo)
    return found


class Portfolio:
    """What an account holds and is worth, in the service's words.

    Parameters
    ----------
    cash
        The account's cash as the service shows it.
    leverage
        Positions may be worth this many times the equity; options are paid in full.
    cache_s
        The paged positions are this old at most, market seconds; ``portfolio2`` is always fresh.
    """

    def __init__(
        self, account: TwinAccount, contracts: Contracts, cash: Callable[[], Decimal], *, leverage: Decimal = Decimal(4),
        cache_s: float = 5.0,
    ) -> None:  # fmt: skip
        self._account, self._contracts, self._cash = account, contracts, cash
        self._leverage, self._cache_ns = leverage, int(cache_s * SECOND_NS)
        self._costs = Costs()
        self._cached: list[Row] = []
        self._cached_at: int | None = None
        account.on_update(self._on_update)

    def _on_update(self, update: Update) -> None:
        if isinstance(update, AccountActivity):
            self._costs.changed(update)
        elif update.exec_type is ExecType.TRADE:
            self._costs.traded(update)

    # ── what it is worth ──────────────────────────────────────────────────────────────────────────────────────────────

    def _price(self, symbol: str) -> Decimal:
        return self._account.mark(symbol) or self._account.holdings[symbol].avg_price

    def _value(self, symbol: str) -> Decimal:
        return self._account.position(symbol) * self._price(symbol) * _held(symbol).multiplier

    def _values(self, kind: type[Equity] | type[Option]) -> Decimal:
        return sum((self._value(s) for s in self._account.holdings if isinstance(_held(s), kind)), ZERO)

    @property
    def gross(self) -> Decimal:
        """Absolute market value of everything held."""
        return sum((abs(self._value(symbol)) for symbol in self._account.holdings), ZERO)

    @property
    def equity(self) -> Decimal:
        """Net liquidation value."""
        return self._cash() + sum((self._value(symbol) for symbol in self._account.holdings), ZERO)

    @property
    def margin(self) -> Decimal:
        """What positions bind of the equity."""
        return self.gross / self._leverage

    @property
    def unrealized(self) -> Decimal:
        """Open profit over costs."""
        costs = self._costs.of
        return sum((self._value(s) - costs[s].total for s in self._account.holdings if s in costs), ZERO)

    def needed(self, ticket: Ticket) -> Decimal:
        """Return what an order would bind: shares on margin, options in full; nothing where it only closes."""
        total = ZERO
        for leg in ticket.instrument.legs:
            symbol = leg.instrument.symbol
            price = self._account.mark(symbol) or ticket.limit_price or ZERO
            held = self._account.position(symbol)
            after = held + leg.ratio * ticket.qty * (1 if ticket.side is Side.BUY else -1)
            more = max(abs(after) - abs(held), ZERO)
            part = Decimal(1) if isinstance(leg.instrument, Option) else self._leverage
            total += more * abs(price) * leg.instrument.multiplier / part
        return total

    def shortfall(self, ticket: Ticket) -> str:
        """Return the refusal of an order that the account cannot carry, or nothing."""
        needed, equity = self.needed(ticket), self.equity
        if not needed or needed <= equity - self.margin:
            return ""
        return (
            f"Order rejected: the equity with loan value [{equity:.2f} USD] must exceed the initial margin "
            f"[{self.margin + needed:.2f} USD]: {order_text(ticket)}"
        )

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def page(self, number: int) -> list[Row]:
        """Return a page of positions, a hundred rows, as they were when they were last looked up."""
        now = self._account.market.now()
        if self._cached_at is None or now - self._cached_at >= self._cache_ns:
            self._cached, self._cached_at = [self._row(symbol) for symbol in sorted(self._account.holdings)], now
        return self._cached[number * A_PAGE : (number + 1) * A_PAGE]

    def invalidate(self) -> None:
        """Look positions up again at the next call."""
        self._cached_at = None

    def fresh(self) -> list[Row]:
        """Return all positions as ``portfolio2`` shows them: other names, and the conid a string."""
        rows = []
        for row in (self._row(symbol) for symbol in sorted(self._account.holdings)):
            rows.append(
                {
                    "position": row["position"],
                    "conid": str(row["conid"]),
                    "avgCost": row["avgCost"],
                    "avgPrice": row["avgPrice"],
                    "currency": "USD",
                    "description": row["contractDesc"],
                    "isLastToLoq": False,
                    "marketPrice": row["mktPrice"],
                    "marketValue": row["mktValue"],
                    "realizedPnl": row["realizedPnl"],
                    "unrealizedPnl": row["unrealizedPnl"],
                    "secType": row["assetClass"],
                    "assetClass": row["assetClass"],
                    "timestamp": self._account.market.now() // SECOND_NS,
                    "sector": None,
                    "group": None,
                    "model": "",
                }
            )
        return rows

    def of(self, conid: int) -> list[Row]:
        """Return the position in one contract, or nothing."""
        return [self._row(s) for s in sorted(self._account.holdings) if self._contracts.conid(s) == conid]

    def _row(self, symbol: str) -> Row:
        found = _held(symbol)
        option = found if isinstance(found, Option) else None
        qty, price, cost = self._account.position(symbol), self._price(symbol), self._costs.of.get(symbol, Cost())
        return {
            "acctId": self._account.name,
            "conid": self._contracts.conid(symbol),
            "contractDesc": description(found),
            "position": float(qty),
            "mktPrice": float(price),
            "mktValue": float(self._value(symbol).quantize(CENT)),
            "currency": "USD",
            "avgCost": float(cost.average),
            "avgPrice": float(cost.average / found.multiplier),
            "realizedPnl": float(cost.realized),
            "unrealizedPnl": float((self._value(symbol) - cost.total).quantize(CENT)),
            "exchs": None,
            "expiry": f"{option.expiry:%Y%m%d}" if option else None,
            "putOrCall": option.right.value if option else None,
            "multiplier": float(option.multiplier) if option else None,
            "strike": float(option.strike) if option else 0.0,
            "exerciseStyle": "A" if option else None,
            "conExchMap": [],
            "assetClass": sec_type(found),
            "undConid": self._contracts.conid(option.underlying) if option else 0,
            "model": "",
        }

    def ledger(self) -> dict[str, Row]:
        """Return cash and values by currency: dollars, and the base currency, which is dollars too."""
        cash = float(self._cash())
        values = {
            "cashbalance": cash,
            "settledcash": cash,
            "netliquidationvalue": float(self.equity),
            "stockmarketvalue": float(self._values(Equity)),
            "stockoptionmarketvalue": float(self._values(Option)),
            "optionmarketvalue": float(self._values(Option)),
            "realizedpnl": float(self._costs.realized),
            "unrealizedpnl": float(self.unrealized),
            "exchangerate": 1,
            "interest": 0.0,
            "dividends": 0.0,
            "acctcode": self._account.name,
            "key": "LedgerList",
            "sessionid": 1,
            "severity": 0,
            "timestamp": self._account.market.now() // SECOND_NS,
        }
        return {name: {**values, "currency": name, "secondkey": name} for name in ("USD", "BASE")}

    def _figures(self) -> dict[str, Decimal]:
        """The amounts of the summary, by the service's name."""
        equity, margin = self.equity, self.margin
        return {
            "NetLiquidation": equity,
            "TotalCashValue": self._cash(),
            "SettledCash": self._cash(),
            "EquityWithLoanValue": equity,
            "GrossPositionValue": self.gross,
            "InitMarginReq": margin,
            "MaintMarginReq": margin,
            "AvailableFunds": equity - margin,
            "ExcessLiquidity": equity - margin,
            "BuyingPower": (equity - margin) * self._leverage,
        }

    def summary(self) -> dict[str, Row]:
        """Return the answer to ``summary``: each figure with amount, currency, value and time."""
        ms = self._account.market.now() // 1_000_000
        rest = {"isNull": False, "timestamp": ms, "severity": 0}
        words = {"accountcode": self._account.name, "accountready": "true", "accounttype": "INDIVIDUAL"}
        out: dict[str, Row] = {key: {"amount": 0.0, "currency": None, "value": value, **rest} for key, value in words.items()}
        for name, amount in self._figures().items():
            out[name.lower()] = {"amount": float(amount), "currency": "USD", "value": None, **rest}
        return out

    # ── on the stream ─────────────────────────────────────────────────────────────────────────────────────────────────

    def pnl(self) -> dict[str, Row]:
        """Return the arguments of ``spl``, and the answer to ``pnl/partitioned`` under ``upnl``."""
        opening = self._account.opening_cash
        row = {
            "rowType": 1,
            "dpl": float((self.equity - opening).quantize(CENT)),
            "nl": float(self.equity.quantize(CENT)),
            "upl": float(self.unrealized.quantize(CENT)),
            "uel": float((self.equity - self.margin).quantize(CENT)),
            "el": float((self.equity - self.margin).quantize(CENT)),
            "mv": float((self._values(Equity) + self._values(Option)).quantize(CENT)),
        }
        return {f"{self._account.name}.Core": row}

    def stream_summary(self) -> list[Row]:
        """Return the ``result`` of ``ssd``."""
        at = self._account.market.now() // SECOND_NS
        rows: list[Row] = [{"key": "AccountCode", "value": self._account.name, "severity": 0, "timestamp": at}]
        for name, amount in self._figures().items():
            money = float(amount)
            rows.append({"key": name, "currency": "USD", "monetaryValue": money, "severity": 0, "timestamp": at})
        return rows

    def stream_ledger(self) -> list[Row]:
        """Return the ``result`` of ``sld``; the names are spelt differently from REST."""
        rows = []
        for name, row in self.ledger().items():
            rows.append(
                {
                    "acctCode": self._account.name,
                    "cashbalance": row["cashbalance"],
                    "cashBalanceFXSegment": 0.0,
                    "dividends": 0.0,
                    "exchangeRate": 1.0,
                    "interest": 0.0,
                    "key": f"LedgerList{name}",
                    "netLiquidationValue": row["netliquidationvalue"],
                    "realizedPnl": row["realizedpnl"],
                    "secondKey": name,
                    "settledCash": row["settledcash"],
                    "severity": 0,
                    "stockMarketValue": row["stockmarketvalue"],
                    "stockOptionMarketValue": row["stockoptionmarketvalue"],
                    "unrealizedPnl": row["unrealizedpnl"],
                    "timestamp": row["timestamp"],
                }
            )
        return rows

    def whatif(self, ticket: Ticket, commission: Decimal) -> Row:
        """Return the answer to ``whatif``: amounts as text with thousands separators."""
        price = ticket.limit_price or ticket.stop_price or self._account.mark(ticket.symbol) or ZERO
        multiplier = ticket.instrument.multiplier
        amount, needed = price * ticket.qty * multiplier, self.needed(ticket)
        unit = "Shares" if isinstance(ticket.instrument, Equity) else "Contracts"

        def change(current: Decimal, by: Decimal) -> Row:
            return {"current": f"{current:,.0f}", "change": f"{by:,.0f}", "after": f"{current + by:,.0f}"}

        return {
            "amount": {
                "amount": f"{amount:,.2f} USD ({ticket.qty:f} {unit})",
                "commission": f"{commission:,.2f} USD",
                "total": f"{amount + commission:,.2f} USD",
            },
            "equity": change(self.equity, -commission),
            "initial": change(self.margin, needed),
            "maintenance": change(self.margin, needed),
            "warn": None,
            "error": self.shortfall(ticket) or None,
        }
