"""What an Alpaca account can afford: equity, margin, buying power, and the orders refused for want of them.

A margin account with Regulation T: half of what stock positions are worth is initial margin, buying power is what is
left of equity times the multiplier, less what open orders may cost. Options are paid in full; a short option needs
cover by shares, by a long option or by cash for its worst loss. Buys to open and sells short reserve while they are
open; a short is valued at the higher of its limit and the ask plus 3 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from northstar_core.model.instrument import Option, Right, exact, instrument
from northstar_core.twins.account import Holding, TwinAccount
from northstar_core.twins.alpaca.checks import NOT_ALLOWED, OrderRequest, Refusal
from northstar_core.twins.alpaca.order import AlpacaOrder, asset_class, asset_id, made_id, number, zulu

ZERO = Decimal(0)
CENT = Decimal("0.01")
HALF = Decimal("0.5")
MAINTENANCE = Decimal("0.3")
SHORT_MARKUP = Decimal("1.03")


class Money:
    """The money side of one account.

    Parameters
    ----------
    account
        Its books.
    orders
        The orders, which reserve while they are open.
    multiplier
        1 for cash, 2 for margin overnight, 4 for margin within the day.
    """

    def __init__(self, account: TwinAccount, orders: dict[str, AlpacaOrder], multiplier: int = 2) -> None:
        self._account, self._orders, self.multiplier = account, orders, multiplier
        self.last_equity = account.cash
        account.market.on_session(lambda ts, session, opens: None if opens else self._close())

    def _close(self) -> None:
        self.last_equity = self.equity

    # ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def price(self, holding: Holding) -> Decimal:
        """Return what one unit is worth now; without a price, what it cost."""
        return self._account.mark(holding.symbol) or holding.avg_price

    def value(self, holding: Holding) -> Decimal:
        """Return what a position is worth, negative when short."""
        return holding.qty * self.price(holding) * multiplier_of(holding.symbol)

    @property
    def long_value(self) -> Decimal:
        """Worth of long positions."""
        return sum((max(self.value(h), ZERO) for h in self._account.holdings.values()), ZERO)

    @property
    def short_value(self) -> Decimal:
        """Worth of short positions, zero or less."""
        return sum((min(self.value(h), ZERO) for h in self._account.holdings.values()), ZERO)

    @property
    def equity(self) -> Decimal:
        """Cash and what is held."""
        return self._account.cash + self.long_value + self.short_value

    @property
    def initial_margin(self) -> Decimal:
        """What positions bind."""
        holdings = self._account.holdings.values()
        stocks = sum((abs(self.value(h)) * HALF for h in holdings if not is_option(h.symbol)), ZERO)
        options = [h for h in holdings if is_option(h.symbol)]
        longs = sum((max(self.value(h), ZERO) for h in options), ZERO)
        short_premium = -sum((min(self.value(h), ZERO) for h in options), ZERO)
        return stocks + longs + short_premium + self.option_risk({h.symbol: h.qty for h in options})

    def option_risk(self, held: dict[str, Decimal]) -> Decimal:
        """Return the worst loss of these options at expiry, by underlying and expiry, short calls covered by shares left out."""
        groups: dict[tuple[str, object], list[tuple[Option, Decimal]]] = {}
        for symbol, qty in held.items():
            option = instrument(symbol)
            assert isinstance(option, Option)
            groups.setdefault((option.underlying, option.expiry), []).append((option, qty))
        total = ZERO
        for (underlying, _), options in groups.items():
            shares = max(self._account.position(underlying), ZERO)
            strikes = {option.strike for option, _ in options}
            worst = min(_payoff(options, at, shares) for at in (ZERO, *strikes, max(strikes) * 10))
            total += max(-worst, ZERO)
        return total

    @property
    def reserved(self) -> Decimal:
        """What open orders may cost."""
        return sum((self.order_cost(order) for order in self._orders.values() if _counts(order)), ZERO)

    @property
    def buying_power(self) -> Decimal:
        """What may still be bought."""
        free = (self.equity - self.initial_margin) * self.multiplier if self.multiplier > 1 else self._account.cash
        return max(free - self.reserved, ZERO)

    @property
    def options_buying_power(self) -> Decimal:
        """What may still be paid for options."""
        return max(min(self.equity - self.initial_margin, self.equity) - self.reserved / self.multiplier, ZERO)

    def order_cost(self, order: AlpacaOrder) -> Decimal:
        """Return what an open order may still cost."""
        if order.order_class == "mleg":
            return self.combo_cost({leg.symbol: _signed(leg) for leg in order.legs}, order.limit_price, order.leaves)
        if order.notional is not None:
            return order.notional if order.side == "buy" else ZERO
        opening = self._opening(order.symbol, order.side, order.leaves)
        return opening * self.unit_cost(order.symbol, order.side, order.limit_price, order.stop_price)

    def _opening(self, symbol: str, side: str, qty: Decimal) -> Decimal:
        """Return how much of an order would open: what closes costs nothing."""
        held = self._account.position(symbol)
        closes = max(-held if side == "buy" else held, ZERO)
        return max(qty - closes, ZERO)

    def unit_cost(self, symbol: str, side: str, limit: Decimal | None, stop: Decimal | None) -> Decimal:
        """Return what opening one unit costs."""
        state = self._account.market.last(symbol)
        quote = state.quote if state is not None else None
        ask = exact(quote.ask) if quote is not None and quote.ask else self._account.mark(symbol) or ZERO
        if side == "buy":
            price = limit or stop or ask
        elif is_option(symbol):
            option = instrument(symbol)
            assert isinstance(option, Option)
            return option.strike * option.multiplier if option.right is Right.PUT else ZERO
        else:
            price = max(limit or ZERO, ask * SHORT_MARKUP)
        return price * multiplier_of(symbol)

    def combo_cost(self, signed: dict[str, Decimal], limit: Decimal | None, units: Decimal) -> Decimal:
        """Return what units of a combo bind: the debit, and the worst loss that it adds."""
        if limit is None:
            limit = ZERO
            for symbol, ratio in signed.items():
                limit += ratio * (self._account.mark(symbol) or ZERO)
        before = {h.symbol: h.qty for h in self._account.holdings.values() if is_option(h.symbol)}
        after = dict(before)
        for symbol, ratio in signed.items():
            after[symbol] = after.get(symbol, ZERO) + ratio * units
        risk = self.option_risk({s: q for s, q in after.items() if q}) - self.option_risk(before)
        return max(risk + limit * 100 * units, ZERO)

    # ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, request: OrderRequest) -> None:
        """Refuse an order that the account cannot pay, deliver, or that might trade with another of its own."""
        if request.order_class == "mleg":
            signed = {leg.symbol: Decimal(leg.ratio) for leg in request.legs}
            self._check_power(
                self.combo_cost(signed, request.limit_price, request.qty or ZERO), self.options_buying_power
            )
            return
        qty = request.qty if request.qty is not None else ZERO
        self.check_deliverable(request.symbol, request.side, qty)
        if request.order_class in ("", "simple"):
            self._check_wash(request)
        if request.notional is not None:
            cost = request.notional if request.side == "buy" else ZERO
        else:
            opening = self._opening(request.symbol, request.side, qty)
            stop = request.stop_price
            cost = opening * self.unit_cost(request.symbol, request.side, request.limit_price, stop)
            if opening and request.side == "sell" and is_option(request.symbol):
                self._check_cover(request.symbol, opening)
        option = is_option(request.symbol)
        self._check_power(cost, self.options_buying_power if option else self.buying_power)

    def _check_power(self, cost: Decimal, power: Decimal) -> None:
        if cost > power:
            power, cost = round(power, 2), round(cost, 2)
            raise Refusal(
                403, NOT_ALLOWED, "insufficient buying power", buying_power=number(power), cost_basis=number(cost)
            )

    def check_deliverable(self, symbol: str, side: str, qty: Decimal) -> None:
        """Refuse to close more than is held and not promised elsewhere; one order may not turn a position."""
        held = self._account.position(symbol)
        if not held or (held > 0) is (side == "buy"):
            return
        available = self.available(symbol)
        if qty > available:
            raise Refusal(
                403,
                NOT_ALLOWED,
                f"insufficient qty available for order (requested: {number(qty)}, available: {number(available)})",
                available=number(available),
                existing_qty=number(abs(held)),
                held_for_orders=number(abs(held) - available),
                symbol=symbol,
            )

    def available(self, symbol: str) -> Decimal:
        """Return how much of a position no open order has promised yet."""
        held = self._account.position(symbol)
        closing = "sell" if held > 0 else "buy"
        promised: dict[str, Decimal] = {}
        for order in self._orders.values():
            for own in (order, *order.legs):
                if own.symbol == symbol and own.side == closing and own.open and own.status != "held":
                    group = (own.parent or own).id  # of orders that cancel each other only one can fill
                    promised[group] = max(promised.get(group, ZERO), own.leaves)
        return max(abs(held) - sum(promised.values(), ZERO), ZERO)

    def _check_cover(self, symbol: str, qty: Decimal) -> None:
        option = instrument(symbol)
        assert isinstance(option, Option)
        if option.right is Right.PUT:
            return  # secured by cash, which is its cost
        calls = sum(
            (-h.qty for h in self._account.holdings.values() if is_short_call(h, option.underlying)), ZERO
        )  # fmt: skip
        if (calls + qty) * option.multiplier > self._account.position(option.underlying):
            raise Refusal(403, NOT_ALLOWED, "account not eligible to trade uncovered option contracts")

    def _check_wash(self, request: OrderRequest) -> None:
        for other in self._orders.values():
            if other.symbol != request.symbol or other.side == request.side or not other.open or other.complex:
                continue
            buy, sell = request.limit_price, other.limit_price
            if request.side == "sell":
                buy, sell = sell, buy
            if buy is None or sell is None or buy >= sell:
                raise Refusal(
                    403,
                    NOT_ALLOWED,
                    "potential wash trade detected. use complex orders",
                    existing_order_id=other.id,
                    reject_reason="opposite side market/stop order exists" if None in (buy, sell)
                    else "opposite side limit order exists",
                )  # fmt: skip

    # ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def account_page(self, created: int) -> dict[str, Any]:
        """Return ``GET /v2/account``."""
        equity, power = money(self.equity), money(self.buying_power)
        return {
            "id": made_id("account", self._account.name),
            "account_number": self._account.name,
            "status": "ACTIVE",
            "crypto_status": "INACTIVE",
            "currency": "USD",
            "cash": number(self._account.cash),
            "equity": equity,
            "portfolio_value": equity,
            "last_equity": money(self.last_equity),
            "buying_power": power,
            "regt_buying_power": power,
            "options_buying_power": money(self.options_buying_power),
            "non_marginable_buying_power": money(max(min(self._account.cash - self.reserved, self.equity), ZERO)),
            "long_market_value": money(self.long_value),
            "short_market_value": money(self.short_value),
            "initial_margin": money(self.initial_margin),
            "maintenance_margin": money((self.long_value - self.short_value) * MAINTENANCE),
            "last_maintenance_margin": "0",
            "multiplier": str(self.multiplier),
            "sma": money(max(self.equity - self.initial_margin, ZERO)),
            "accrued_fees": "0",
            "pending_reg_taf_fees": "0",
            "intraday_adjustments": "0",
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": False,
            "shorting_enabled": True,
            "options_approved_level": 3,
            "options_trading_level": 3,
            "created_at": zulu(created),
        }

    def position_page(self, holding: Holding) -> dict[str, Any]:
        """Return one row of ``GET /v2/positions``."""
        symbol, price = holding.symbol, self.price(holding)
        times = multiplier_of(symbol)
        cost = holding.qty * holding.avg_price * times
        value = holding.qty * price * times
        yesterday = self._previous_close(symbol) or price
        today = (price - yesterday) * holding.qty * times
        return {
            "asset_id": asset_id(symbol),
            "symbol": symbol,
            "exchange": "" if is_option(symbol) else "NASDAQ",
            "asset_class": asset_class(symbol),
            "asset_marginable": not is_option(symbol),
            "qty": number(holding.qty),
            "qty_available": number(self.available(symbol) * (1 if holding.qty > 0 else -1)),
            "avg_entry_price": number(round(holding.avg_price, 9)),
            "side": "long" if holding.qty > 0 else "short",
            "market_value": number(value),
            "cost_basis": number(round(cost, 9)),
            "unrealized_pl": number(round(value - cost, 9)),
            "unrealized_plpc": number(round((value - cost) / abs(cost), 9)) if cost else "0",
            "unrealized_intraday_pl": number(today),
            "unrealized_intraday_plpc": number(round((price - yesterday) / yesterday, 9)) if yesterday else "0",
            "current_price": number(price),
            "lastday_price": number(yesterday),
            "change_today": number(round((price - yesterday) / yesterday, 9)) if yesterday else "0",
        }

    def _previous_close(self, symbol: str) -> Decimal | None:
        market = self._account.market
        now = market.now()
        over = [session for session in market.sessions if session.close <= now]
        if not over or market.session_at(now) is None:
            over = over[:-1]
        if not over:
            return None
        bars = market.bars(symbol, market.tape.bar_ns, over[-1].open, over[-1].close)
        return exact(bars[-1].close) if bars else None


def money(value: Decimal) -> str | None:
    """Return an amount in cents."""
    return number(value.quantize(CENT))


def is_option(symbol: str) -> bool:
    """Tell whether a symbol is an option's."""
    return type(instrument(symbol)) is Option


def is_short_call(holding: Holding, underlying: str) -> bool:
    """Tell whether a position is short calls on an underlying."""
    found = instrument(holding.symbol)
    return isinstance(found, Option) and (found.underlying, found.right) == (underlying, Right.CALL) and holding.qty < 0


def multiplier_of(symbol: str) -> int:
    """Return how many units of price one of quantity stands for."""
    return instrument(symbol).multiplier


def _signed(leg: AlpacaOrder) -> Decimal:
    ratio = leg.ratio_qty or ZERO
    return ratio if leg.side == "buy" else -ratio


def _counts(order: AlpacaOrder) -> bool:
    """Tell whether an order reserves: exits of a bracket close what their entry opens."""
    return order.open and order.parent is None


def _payoff(options: Iterable[tuple[Option, Decimal]], at: Decimal, shares: Decimal) -> Decimal:
    """Return what options are worth at expiry with the underlying at a price; shares cover calls short of them."""
    total = ZERO
    uncovered = ZERO
    for option, qty in options:
        total += qty * option.intrinsic(at) * option.multiplier
        if option.right is Right.CALL:
            uncovered -= qty * option.multiplier
    lowest = min((option.strike for option, qty in options if qty < 0 and option.right is Right.CALL), default=ZERO)
    covered = min(max(uncovered, ZERO), shares)
    return total + covered * max(at - lowest, ZERO)
