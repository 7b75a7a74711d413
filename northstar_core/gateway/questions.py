"""What people and programs may ask the gateway, and what they may tell it: one method a word of the protocol."""

from __future__ import annotations

import asyncio
import inspect
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec

from northstar_core.engine.portfolio import mark_price
from northstar_core.gateway.sessions import Refusal
from northstar_core.model import events as e
from northstar_core.model.account import TradingState
from northstar_core.model.denial import SENTENCES
from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.instrument import instrument
from northstar_core.model.order import CancelOrder, OrderType, PlaceOrder, ReplaceOrder, Side, TimeInForce

if TYPE_CHECKING:
    from northstar_core.gateway.gateway import Gateway
    from northstar_core.gateway.guests import PersonGuest
    from northstar_core.model.wire import Request

MANUAL = "manual"  #: the strategy id of orders by hand; it needs a grant like any
READS = frozenset({"status", "positions", "orders", "fills", "bars", "preflight", "follow", "alerts", "kill"})
ANSWER_S = 10.0  #: how long a command waits for its order's fate


class Questions:
    """Answers requests."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, guest: PersonGuest, request: Request) -> None:
        """Answer a request, now or when its answer is known."""
        if request.what not in READS and guest.capability != "operate":
            raise Refusal("CAPABILITY", f"{request.what} needs an operator's token")
        method = getattr(self, f"on_{request.what}", None)
        if method is None:
            known = ", ".join(sorted(name[3:] for name in dir(self) if name.startswith("on_")))
            guest.answer(request.n, error=f"no request {request.what!r}; there are {known}")
            return
        task = asyncio.get_running_loop().create_task(self._answer(guest, request, method))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, guest: PersonGuest, request: Request, method: Any) -> None:
        try:
            signature = inspect.signature(method)
            try:
                extra = {"guest": guest} if "guest" in signature.parameters else {}
                bound = signature.bind(**request.args, **extra)
            except TypeError as error:
                raise Refusal("ARGUMENTS", f"{request.what}: {error}") from None
            value = method(*bound.args, **bound.kwargs)
            if inspect.isawaitable(value):
                value = await value
            guest.answer(request.n, value)
        except Exception as error:
            self.gateway.refusals += 1
            text = str(error) or type(error).__name__
            guest.answer(request.n, error=text if isinstance(error, Refusal) else f"{request.what}: {text}")

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_status(self) -> dict[str, Any]:
        """The desk at a glance."""
        return self.gateway.status()

    def on_positions(self) -> list[dict[str, Any]]:
        """Every position that is not flat, by account and strategy, marked."""
        marks = self.gateway.desk.engine.state.marks
        out = []
        for account, strategy, held in self.gateway.ledger.rows():
            mark = marks.get(held.symbol)
            price = mark_price(mark) if mark is not None else None
            row = {
                "account": account, "strategy": strategy, "symbol": held.symbol, "qty": held.qty, "avg_price": held.avg_price,
                "mark": price, "mark_ts": mark.ts if mark is not None else None, "realized": held.realized, "fees": held.fees,
            }  # fmt: skip
            row["unrealized"] = None if price is None else Decimal(str(price)) * held.qty * held.multiplier - held.cost
            out.append(row)
        return out

    def on_orders(self, account: str = "", strategy: str = "", all: bool = False) -> list[dict[str, Any]]:
        """Working orders; with ``all`` those that have ended too."""
        blotter = self.gateway.desk.engine.state.blotter
        orders = (blotter.orders if all else blotter.working).values()
        return [
            {
                "order_id": o.order_id, "account": o.intent.account, "strategy": o.intent.strategy, "symbol": o.intent.symbol,
                "side": o.intent.side, "type": o.intent.order_type, "tif": o.intent.tif, "qty": o.qty, "limit_price": o.limit_price,
                "stop_price": o.stop_price, "status": o.status, "filled_qty": o.cum_qty, "leaves_qty": o.leaves_qty, "ts": o.intent.ts,
            }
            for o in orders
            if (not account or o.intent.account == account) and (not strategy or o.intent.strategy == strategy)
        ]  # fmt: skip

    async def on_fills(self, account: str = "", strategy: str = "", n: int = 200) -> list[dict[str, Any]]:
        """The latest fills, newest last."""
        rows = await self.gateway.read(lambda reader, stream: reader.fills(stream))
        keep = ("seq", "ts", "order_id", "exec_id", "strategy", "account", "symbol", "side", "qty", "price", "fees", "late")
        chosen = [
            {name: row[name] for name in keep}
            for row in rows
            if (not account or row["account"] == account) and (not strategy or row["strategy"] == strategy)
        ]
        return chosen[-n:]

    async def on_bars(self, symbol: str, n: int = 50) -> list[dict[str, Any]]:
        """The latest bars of a symbol, as the feed has them."""
        markets = self.gateway.markets
        bars = await markets.history(markets.feed_of(""), symbol.upper(), n)
        return [{name: getattr(bar, name) for name in bar.__struct_fields__} for bar in bars]

    async def on_preflight(self, account: str = "") -> Any:
        """GO or NO-GO, with reasons."""
        return await self.gateway.preflight(account)

    def on_alerts(self, n: int = 50) -> list[dict[str, Any]]:
        """The latest alerts."""
        return [msgspec.structs.asdict(alert) for alert in list(self.gateway.alerts)[-n:]]

    def on_follow(self, guest: PersonGuest) -> int:
        """Send every fact from now on."""
        self.gateway.follow(guest)
        seq: int = self.gateway.desk.log.seq
        return seq

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_token(self, strategy: str, account: str, hours: float = 12.0) -> dict[str, Any]:
        """A session token for a strategy's kernel."""
        return self.gateway.session_token(strategy, account, hours)

    async def on_place(
        self, account: str, symbol: str, side: str, qty: Any, type: str = "MARKET", limit_price: Any = None,
        stop_price: Any = None, tif: str = "DAY", strategy: str = MANUAL, reduce_only: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Place an order by hand, through the same checks as any."""
        gateway = self.gateway
        strategy = gateway.name_by_hand(strategy, account)
        try:
            traded = instrument(symbol.upper())
            order = PlaceOrder(
                gateway.clock.now(), gateway.next_order_id(strategy), strategy, account, traded.symbol, Side(side.upper()),
                _decimal(qty, "qty"), OrderType(type.upper()), _optional(limit_price, "limit_price"),
                _optional(stop_price, "stop_price"), TimeInForce(tif.upper()), reduce_only,
            )  # fmt: skip
        except ValueError as error:
            raise Refusal("ARGUMENTS", str(error)) from None
        gateway.want_for_orders(account, traded)
        fate = gateway.fate_of(order.order_id)
        gateway.desk.asked(order, gateway.desk.log.seq)
        return await self._fate(order.order_id, fate)

    async def on_cancel(self, order_id: str) -> dict[str, Any]:
        """Cancel an order, whoever's it is."""
        order = self._order(order_id)
        fate = self.gateway.fate_of(order_id)
        self.gateway.desk.asked(
            CancelOrder(self.gateway.clock.now(), order_id, order.strategy, order.account, "by hand"), self.gateway.desk.log.seq
        )
        return await self._fate(order_id, fate)

    async def on_replace(self, order_id: str, qty: Any = None, limit_price: Any = None, stop_price: Any = None) -> dict[str, Any]:
        """Give a working order other terms."""
        order = self._order(order_id)
        fate = self.gateway.fate_of(order_id)
        self.gateway.desk.asked(
            ReplaceOrder(
                self.gateway.clock.now(), order_id, order.strategy, order.account, _optional(qty, "qty"),
                _optional(limit_price, "limit_price"), _optional(stop_price, "stop_price"),
            ),
            self.gateway.desk.log.seq,
        )  # fmt: skip
        return await self._fate(order_id, fate)

    def on_resolve(self, order_id: str, outcome: str, who: str, reason: str) -> dict[str, Any]:
        """Say what became of an order that is UNKNOWN: a person's word is evidence, under his name."""
        self._order(order_id)
        kinds = {"canceled": ExecType.CANCELED, "rejected": ExecType.REJECTED, "working": ExecType.NEW, "expired": ExecType.EXPIRED}
        if outcome not in kinds:
            raise Refusal("ARGUMENTS", f"outcome {outcome!r}: choose one of {', '.join(kinds)}")
        if not self.gateway.desk.is_unknown(order_id):
            raise Refusal("STATE", f"order {order_id} is not UNKNOWN; only those are resolved by hand")
        if not who or not reason:
            raise Refusal("ARGUMENTS", "resolve: give who says so, and why")
        report = ExecutionReport(self.gateway.clock.now(), order_id, kinds[outcome], text=f"resolved by {who}: {reason}")
        self.gateway.desk.claim(report)
        return self._row(order_id)

    def on_set_state(self, scope: str, state: str, who: str, reason: str) -> int:
        """Set what the desk, an account or a strategy may do."""
        now = self.gateway.clock.now()
        try:
            wanted = TradingState(state.upper())
        except ValueError:
            raise Refusal("ARGUMENTS", f"state {state!r}: choose one of {', '.join(TradingState)}") from None
        if scope != "desk" and not scope.startswith(("account:", "strategy:")):
            raise Refusal("ARGUMENTS", f"scope {scope!r}: write desk, account:NAME or strategy:NAME")
        if not who or not reason:
            raise Refusal("ARGUMENTS", "set_state: give who does so, and why")
        return self.gateway.desk.operate(e.SetTradingState(ts=now, scope=scope, state=wanted, who=who, reason=reason))

    def on_stop(self, strategy: str, account: str, reason: str = "asked to stop", grace_s: float = 20.0) -> bool:
        """Ask a strategy in session to stop; false if it is not in session."""
        return self.gateway.stop_session(strategy, account, reason, grace_s)

    def on_alert(self, severity: str, about: str, text: str) -> None:
        """Raise an alert on the record."""
        if severity not in ("info", "warning", "critical"):
            raise Refusal("ARGUMENTS", f"severity {severity!r}: choose info, warning or critical")
        self.gateway.desk.alert(severity, about[:200], text[:2000])

    async def on_reconcile(self, account: str) -> int:
        """Compare an account's books with its broker's now; returns how many differences there are, -1 without an answer."""
        link = self.gateway.links.get(account)
        if link is None:
            raise Refusal("ARGUMENTS", f"no account {account!r}; there are {', '.join(self.gateway.links)}")
        return await link.reconcile()

    def on_login(self) -> None:
        """Log in at every broker that is not reached yet, each for itself."""
        self.gateway.login()

    def on_down(self) -> None:
        """Stop the gateway."""
        self.gateway.stopping.set()

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, order_id: str) -> PlaceOrder:
        order = self.gateway.desk.order(order_id)
        if order is None:
            raise Refusal("ARGUMENTS", f"no order {order_id}; northstar order list shows them")
        return order

    async def _fate(self, order_id: str, fate: asyncio.Future[Any]) -> dict[str, Any]:
        """The order as it stands once something was decided or answered."""
        try:
            async with asyncio.timeout(ANSWER_S):
                fact = await fate
        except TimeoutError:
            fact = None
        row = self._row(order_id)
        if isinstance(fact, e.OrderDenied):
            row |= {"denied": fact.reason, "text": f"{SENTENCES[fact.reason]} ({fact.detail})"}
        elif fact is not None:
            row |= {"event": type(fact).__name__, "text": getattr(fact, "reason", "")}
        return row

    def _row(self, order_id: str) -> dict[str, Any]:
        found = [row for row in self.on_orders(all=True) if row["order_id"] == order_id]
        return found[0] if found else {"order_id": order_id, "status": "DENIED"}


def _decimal(value: Any, name: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise Refusal("ARGUMENTS", f"{name} {value!r}: is no number") from None
    if not number.is_finite():
        raise Refusal("ARGUMENTS", f"{name} {value!r}: is not finite")
    return number


def _optional(value: Any, name: str) -> Decimal | None:
    return None if value is None else _decimal(value, name)
