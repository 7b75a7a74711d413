"""Alpaca's desk: what is asked of it, and when that takes effect.

A request is answered first and takes effect a moment later (``later``), as on the wire: the answer to an order says
``pending_new``, to a replace it shows the new order while the old one may still fill, to a cancel nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.order import OrderType, PlaceOrder, Side, TimeInForce
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.alpaca.book import Book
from northstar_core.twins.alpaca.checks import OrderRequest, bad, check_price, unprocessable
from northstar_core.twins.alpaca.groups import exits_of
from northstar_core.twins.alpaca.money import Money
from northstar_core.twins.alpaca.order import AlpacaOrder, made_id

ZERO = Decimal(0)
SIM_TYPE = {
    "market": OrderType.MARKET, "limit": OrderType.LIMIT, "stop": OrderType.STOP, "stop_limit": OrderType.STOP_LIMIT,
    "trailing_stop": OrderType.STOP,
}  # fmt: skip
REPLACEABLE = frozenset({"new", "partially_filled"})
GTC_NS = 90 * 86_400 * 10**9
BELOW_50, FROM_50 = Decimal("1.04"), Decimal("1.025")


class Desk(Book):
    """Takes orders, cancels and replaces of one account.

    Parameters
    ----------
    account
        Where they are matched.
    later
        Carries out a call a moment later.
    replaced_qty
        What the quantity of a replacement means where the old order has partly filled: "whole" = the new order works
        all of it again (as reported of Alpaca); "remaining" = it counts what has filled.
    leg_events
        Legs of a combo have events of their own, after the parent's.
    multiplier
        Of the account's margin.
    """

    def __init__(
        self, account: TwinAccount, later: Callable[[Callable[[], None]], None], *, replaced_qty: str = "whole",
        leg_events: bool = False, multiplier: int = 2,
    ) -> None:  # fmt: skip
        super().__init__(account, leg_events=leg_events)
        self.money = Money(account, self.live, multiplier)
        self._later, self._replaced_qty = later, replaced_qty
        self._made = 0
        self._last_submitted = 0

    # ── placing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def place(self, request: OrderRequest, *, at_once: bool = False) -> AlpacaOrder:
        """Take an order, or refuse it; ``at_once`` lets everything happen before the answer."""
        self._require_new(request.client_order_id)
        self.money.check(request)
        order = self._made_order(request)
        order.legs = self._made_legs(order, request)
        self.keep(order)
        if at_once:
            self._send(order)
        else:
            self._later(lambda: self._send(order))
        return order

    def _require_new(self, client_order_id: str | None) -> None:
        if client_order_id is not None and client_order_id in self._by_client:
            raise bad("client_order_id must be unique")

    def _identity(self) -> tuple[str, int]:
        """Return a new id and the time of submission, later than every other's."""
        self._made += 1
        self._last_submitted = max(self.market.now(), self._last_submitted + 1000)
        return made_id(self.account.name, "order", self._made), self._last_submitted

    def _made_order(self, request: OrderRequest) -> AlpacaOrder:
        order_id, ts = self._identity()
        limit = request.limit_price
        if request.order_class == "oco":
            limit = request.take_profit or limit
        order = AlpacaOrder(
            id=order_id,
            client_order_id=request.client_order_id or made_id(order_id, "client"),
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            submitted_at=ts,
            qty=request.qty,
            notional=request.notional,
            limit_price=limit,
            stop_price=request.stop_price,
            trail_price=request.trail_price,
            trail_percent=request.trail_percent,
            extended_hours=request.extended_hours,
            order_class=request.order_class,
            position_intent=request.position_intent or self._intent(request.symbol, request.side),
            expires_at=self._expires(request.time_in_force, ts),
        )
        if order.type == "trailing_stop":
            self.watch.start_trailing(order)
        return order

    def _made_legs(self, order: AlpacaOrder, request: OrderRequest) -> list[AlpacaOrder]:
        specs = exits_of(request)
        if request.order_class == "mleg":
            specs = [
                {
                    "symbol": leg.symbol, "side": "buy" if leg.ratio > 0 else "sell", "type": "",
                    "qty": abs(leg.ratio) * (request.qty or ZERO), "ratio_qty": Decimal(abs(leg.ratio)),
                    "position_intent": leg.intent, "status": "pending_new",
                }
                for leg in request.legs
            ]  # fmt: skip
        legs = []
        for spec in specs:
            order_id, ts = self._identity()
            legs.append(
                AlpacaOrder(
                    id=order_id,
                    client_order_id=made_id(order_id, "client"),
                    submitted_at=ts,
                    parent=order,
                    time_in_force=order.time_in_force,
                    order_class=order.order_class,
                    expires_at=order.expires_at,
                    **{"symbol": order.symbol, "qty": order.qty, "status": "held", **spec},
                )
            )
        return legs

    def _intent(self, symbol: str, side: str) -> str | None:
        if not symbol:
            return None
        held = self.account.position(symbol)
        closes = held < 0 if side == "buy" else held > 0
        return f"{side}_to_{'close' if closes else 'open'}"

    def _expires(self, tif: str, ts: int) -> int | None:
        if tif == "gtc":
            return ts + GTC_NS
        session = self.market.session_at(ts) or self.market.next_session(ts)
        return session.close if session is not None else None

    def _send(self, order: AlpacaOrder) -> None:
        """Let an order reach the exchange."""
        self._say("pending_new", order, executed=False)
        self._submit(order)
        if order.order_class == "oco":
            for leg in order.legs:
                self._submit(leg)

    def _submit(self, order: AlpacaOrder) -> None:
        order.sim = order.id if order.id not in self._by_sim else made_id(order.id, "again")
        self._by_sim[order.sim] = order
        if self.watch.takes(order):
            self.watch.take(order)
            self._arrived(order)
            self.watch.meet(order)
            return
        self.account.submit(self._sim_order(order), extended=order.extended_hours)

    def _sim_order(self, order: AlpacaOrder) -> PlaceOrder:
        kind, limit, stop = SIM_TYPE[order.type], order.limit_price, order.stop_price
        if order.type == "stop" and order.side == "buy":
            assert stop is not None  # a buy stop becomes a stop limit with some room
            kind, limit = OrderType.STOP_LIMIT, _room_above(stop)
        symbol, side = order.symbol, Side(order.side.upper()) if order.side else Side.BUY
        if order.order_class == "mleg":
            symbol = ",".join(
                f"{'-' if leg.side == 'sell' else ''}{leg.ratio_qty:f}*{leg.symbol}" for leg in order.legs
            )
        return PlaceOrder(
            self.market.now(), order.sim, "", self.account.name, symbol, side, order.qty or ZERO, kind, limit, stop,
            TimeInForce(order.time_in_force.upper()),
        )  # fmt: skip

    # ── cancelling ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, order: AlpacaOrder, *, at_once: bool = False) -> None:
        """Take the wish to cancel, or refuse it."""
        if not order.open:
            raise unprocessable(f'order is already in "{order.status}" state')
        if order.status == "pending_cancel":
            raise unprocessable("order is already pending cancel")
        if order.order_class == "mleg" and order.parent is not None:
            raise unprocessable("legs of a multi-leg order cannot be canceled")
        if order.status not in ("pending_new", "held"):
            order.status = "pending_cancel"
            self._say("pending_cancel", order, executed=False)
        if at_once:
            self._cancel(order)
        else:
            self._later(lambda: self._cancel(order))

    def _cancel(self, order: AlpacaOrder) -> None:
        if order.open:
            self._drop(order)
        else:
            self._say("order_cancel_rejected", order)

    # ── replacing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def replace(self, old: AlpacaOrder, terms: dict[str, Any], *, at_once: bool = False) -> AlpacaOrder:
        """Take the wish to change an order, or refuse it; return the order that is to take its place."""
        if old.status not in REPLACEABLE:
            raise unprocessable(f'cannot replace order in "{old.status}" status')
        if old.notional is not None or self.watch.takes(old):
            raise unprocessable("cannot replace notional or fractional orders")
        if old.order_class == "mleg" and old.parent is not None:
            raise unprocessable("legs of a multi-leg order cannot be replaced")
        qty = terms.get("qty")
        if qty is not None and (qty <= 0 or qty != int(qty)):
            raise bad("qty must be a whole number above zero")
        if qty is not None and qty != old.qty and (old.parent is not None or old.order_class == "oco"):
            raise unprocessable("the quantity of exits follows their entry")
        for name in ("limit_price", "stop_price"):
            value = terms.get(name)
            if value is not None:
                if getattr(old, name) is None:
                    raise unprocessable(f"{old.type} orders have no {name}")
                check_price(name, value, credit=old.order_class == "mleg")
        if terms.get("trail") is not None and old.type != "trailing_stop":
            raise unprocessable(f"{old.type} orders have no trail")
        if qty is not None and self._replaced_qty == "remaining" and qty <= old.filled_qty:
            raise unprocessable("qty must be more than what has filled")
        tif = terms.get("time_in_force") or old.time_in_force
        if tif != old.time_in_force and (old.complex or tif not in ("day", "gtc", "ioc", "fok")):
            raise unprocessable("time_in_force cannot be replaced with this")
        self._require_new(terms.get("client_order_id"))
        new = self._replacement(old, terms, tif)
        self.keep(new)
        old.replaced_by, old.status = new.id, "pending_replace"
        self._say("pending_replace", old, executed=False)
        if at_once:
            self._replace(old, new)
        else:
            self._later(lambda: self._replace(old, new))
        return new

    def _replacement(self, old: AlpacaOrder, terms: dict[str, Any], tif: str) -> AlpacaOrder:
        order_id, ts = self._identity()
        asked = Decimal(terms.get("qty") or old.qty or ZERO)
        new = AlpacaOrder(
            id=order_id,
            client_order_id=terms.get("client_order_id") or made_id(order_id, "client"),
            symbol=old.symbol,
            side=old.side,
            type=old.type,
            time_in_force=tif,
            submitted_at=ts,
            qty=asked if self._replaced_qty == "whole" else asked - old.filled_qty,
            limit_price=terms.get("limit_price") or old.limit_price,
            stop_price=terms.get("stop_price") or old.stop_price,
            trail_price=old.trail_price,
            trail_percent=old.trail_percent,
            hwm=old.hwm,
            extended_hours=old.extended_hours,
            order_class=old.order_class,
            position_intent=old.position_intent,
            expires_at=self._expires(tif, ts),
            replaces=old.id,
            parent=old.parent,
            filled_before=old.filled_qty,
        )
        if terms.get("trail") is not None:
            name = "trail_price" if old.trail_price is not None else "trail_percent"
            setattr(new, name, terms["trail"])
            self.watch.follow(new)
        if old.order_class == "mleg":
            for leg in old.legs:
                leg_id, leg_ts = self._identity()
                made = AlpacaOrder(
                    id=leg_id, client_order_id=made_id(leg_id, "client"), symbol=leg.symbol, side=leg.side, type="",
                    time_in_force=tif, submitted_at=leg_ts, qty=(new.qty or ZERO) * (leg.ratio_qty or ZERO),
                    ratio_qty=leg.ratio_qty, position_intent=leg.position_intent, order_class="mleg", parent=new,
                    replaces=leg.id,
                )  # fmt: skip
                new.legs.append(made)
        return new

    def _replace(self, old: AlpacaOrder, new: AlpacaOrder) -> None:
        """Let the new order take the place of the old one, unless that has ended meanwhile or filled too much."""
        qty = new.qty or ZERO
        if self._replaced_qty == "remaining":
            qty -= old.filled_qty - new.filled_before
        if not old.open or qty <= 0:
            self._refuse_replacement(old, new)
            return
        new.qty = qty
        if new.time_in_force != old.time_in_force:
            self._silent.add(old.sim)
            self.account.cancel(old.sim)
            self._replaced(old, new)
            self._submit(new)
        elif self._take_over(old, new):
            self._replaced(old, new)
            self._become_new(new)
        else:
            self._refuse_replacement(old, new)

    def _take_over(self, old: AlpacaOrder, new: AlpacaOrder) -> bool:
        """Change the order at the account; tell whether it could be."""
        assert new.qty is not None
        limit = new.limit_price if new.limit_price != old.limit_price else None
        stop = new.stop_price if new.stop_price != old.stop_price else None
        if old.type == "stop" and old.side == "buy":
            limit = _room_above(stop) if stop is not None else None
        spent = self._filled.get(old.sim, ZERO)
        reports = self.account.replace(old.sim, qty=spent + new.qty, limit_price=limit, stop_price=stop)
        if not any(isinstance(r, ExecutionReport) and r.exec_type is ExecType.REPLACED for r in reports):
            return False
        new.sim = old.sim
        self._by_sim[new.sim] = new
        self.watch.follow(new, instead_of=old)
        return True

    def _replaced(self, old: AlpacaOrder, new: AlpacaOrder) -> None:
        """The old order has ended; what belonged to it belongs to the new one."""
        if old.order_class == "mleg":
            for leg in old.legs:
                self._set(leg, "replaced")
        else:
            new.legs, old.legs = old.legs, []
            for leg in new.legs:
                leg.parent = new
        if old.parent is not None:
            old.parent.legs = [new if leg is old else leg for leg in old.parent.legs]
        old.replaced_at = self.market.now()
        self._set(old, "replaced")
        self._forget(old)
        self._say("replaced", old)

    def _refuse_replacement(self, old: AlpacaOrder, new: AlpacaOrder) -> None:
        old.replaced_by = None
        if old.open:
            self._set(old, "partially_filled" if old.filled_qty else "new")
        self._say("order_replace_rejected", old)
        new.legs = [] if old.order_class != "mleg" else new.legs
        if new.parent is not None:
            new.parent = None  # its place is taken by the old one still
        self._end(new, "rejected")


def _room_above(stop: Decimal) -> Decimal:
    """Return the limit of the stop limit that a buy stop becomes: 4 % above it below 50 dollars, else 2.5 %."""
    return round(stop * (FROM_50 if stop >= 50 else BELOW_50), 2)
