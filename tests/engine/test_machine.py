"""Any sequence of intents, and a broker who reports anything: nothing raises, is lost, or is counted twice."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from northstar_core.engine.oms import Order
from northstar_core.model import events as e
from northstar_core.model.account import TradingState
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecType, ExecutionReport
from northstar_core.model.instrument import Equity, Option
from northstar_core.model.order import TERMINAL, Side, TimeInForce
from tests.engine.desks import BUY, CALL_100, CALL_105, PUT_90, PUT_95, SECOND, SELL, VERTICAL, D, Desk, state_of

ZERO = D(0)
EXAMPLES, STEPS = (2000, 100) if os.environ.get("NORTHSTAR_LONG_TESTS") else (150, 50)
SYMBOLS = ("SPY", "QQQ", CALL_100, CALL_105, PUT_95, VERTICAL, f"1*{PUT_90},-1*{PUT_95}", f"1*{CALL_100},-2*{CALL_105}")
STRATEGIES = ("s", "t")
ANSWERS = tuple(kind for kind in ExecType if kind is not ExecType.TRADE)

sides, owners, symbols = st.sampled_from((BUY, SELL)), st.sampled_from(STRATEGIES), st.sampled_from(SYMBOLS)
quantities = st.sampled_from(("1", "2", "5", "30", "400"))
offsets = st.sampled_from((-3, -1, 0, 1, 3))
picks = st.integers(0, 10**6)
often, seldom = st.sampled_from((True, True, True, False)), st.sampled_from((False, False, False, True))
#: What a broker may do to an order, the usual more often than the rest.
ACTS = ("fill", "fill", "fill", "NEW", "NEW", "replace", "replace", "REPLACED", "cancel", *ANSWERS)


class AnyBroker(RuleBasedStateMachine):
    """Strategies that order at random, beside a broker of the worst kind."""

    @initialize(uncovered=often, short=often, tight=st.booleans())
    def begin(self, uncovered: bool, short: bool, tight: bool) -> None:
        caps: dict[str, Any] = {"allow_uncovered": uncovered, "allow_short": short, "max_open_orders": 12}
        # A combo stays reserved until whole units fill, so for a while one leg counts twice, whatever the cap.
        caps["max_position_contracts"] = D(1_000_000)
        account: dict[str, Any] = {}
        if tight:
            caps |= {"max_notional": D(30_000), "max_position_qty": D(250)}
            account |= {"max_gross": D(45_000), "max_net": D(40_000), "leverage": D("0.044")}
        self.desk = Desk(limits=caps, account_limits=account)
        self.prices = {"SPY": 100, "QQQ": 100}
        self.reports: list[Any] = []
        self.authorised: dict[str, Decimal] = {}

    # ── the world ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.integers(1, 30), move=st.integers(-2, 2), symbol=st.sampled_from(("SPY", "QQQ")))
    def time_passes(self, seconds: int, move: int, symbol: str) -> None:
        desk = self.desk
        desk.now += seconds * SECOND
        self.prices[symbol] = max(self.prices[symbol] + move, 50)
        spot = self.prices["SPY"]
        for name, price in self.prices.items():
            desk.price(name, price)
        desk.price(CALL_100, max(spot - 100, 0) + 3)
        desk.price(CALL_105, max(spot - 105, 0) + 1)
        desk.price(PUT_95, max(95 - spot, 0) + 2)
        desk.price(PUT_90, max(90 - spot, 0) + 1)

    @rule(scope=st.sampled_from(("desk", "account:main", "strategy:s")), state=st.sampled_from(TradingState))
    def somebody_changes_a_state(self, scope: str, state: TradingState) -> None:
        self.desk.halt(scope, state)
        fact = self.give(self.desk.order(BUY, "1", "SPY", limit=str(self.prices["SPY"] - 20)))
        assert isinstance(fact, e.OrderDenied) or state is TradingState.ACTIVE
        self.desk.halt(scope, TradingState.ACTIVE)

    # ── intents ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def give(self, order: Any) -> Any:
        (fact,) = self.desk.give(order)
        if isinstance(fact, e.OrderSubmitted):
            self.authorised[fact.order.order_id] = fact.order.qty
        else:
            assert isinstance(fact, e.OrderDenied)
        return fact

    @rule(side=sides, qty=quantities, symbol=symbols, strategy=owners, limit=offsets, stop=offsets,
          kind=st.sampled_from((0, 1, 1, 1, 2, 3)), reduce_only=seldom)  # fmt: skip
    def order(
        self, side: Side, qty: str, symbol: str, strategy: str, limit: int, stop: int, kind: int, reduce_only: bool
    ) -> None:
        around = self.prices.get(symbol, 3)
        prices = {}
        if kind in (1, 3):
            prices["limit"] = str(max(around + limit, 1) if symbol in self.prices else around + limit)
        if kind in (2, 3):
            prices["stop"] = str(max(around + stop, 1))
        self.give(self.desk.order(side, qty, symbol, strategy=strategy, reduce_only=reduce_only, **prices))

    @rule(side=sides, qty=quantities, strategy=owners,
          symbol=st.sampled_from(("SPY", CALL_100)), exits=st.integers(1, 3))  # fmt: skip
    def bracket(self, side: Side, qty: str, strategy: str, symbol: str, exits: int) -> None:
        fact = self.give(self.desk.order(side, qty, symbol, strategy=strategy))
        if isinstance(fact, e.OrderDenied):
            return
        around = self.prices.get(symbol, 3)
        for n in range(exits):
            price = {("limit", "stop", "limit")[n]: str(around + side.sign * (2, -2, 1)[n])}
            terms = {"reduce_only": True, "parent": fact.order.order_id, "tif": TimeInForce.GTC, **price}
            self.give(self.desk.order(side.opposite, qty, symbol, strategy=strategy, **terms))

    def any_order(self, pick: int) -> Order | None:
        orders = list(self.desk.engine.state.blotter.orders.values())
        recent = orders[-8:]
        return recent[pick % len(recent)] if recent else None

    @rule(acts=st.lists(st.tuples(st.sampled_from(ACTS), picks, picks, quantities, offsets), min_size=1, max_size=12))
    def a_broker_acts(self, acts: list[tuple[str, int, int, str, int]]) -> None:
        for act, pick, other, qty, move in acts:
            if (order := self.any_order(pick)) is None:
                return
            if act == "fill":
                self.fill(order, other, qty)
            elif act == "replace":
                self.replace(order, qty, move)
            elif act == "cancel":
                fact = self.desk.cancel(order.order_id, order.intent.strategy)
                assert isinstance(fact, e.CancelSubmitted) or order.status in (*TERMINAL, "PENDING_CANCEL")
            else:
                self.hear(ExecutionReport(self.desk.now, order.order_id, ExecType(act), text="said so"))
            self.reservations_are_what_the_orders_say()

    def replace(self, order: Order, qty: str, move: int) -> None:
        terms = {"qty": qty}
        if order.limit_price is not None:
            terms["limit_price"] = str(order.limit_price + move)
        fact = self.desk.replace(order.order_id, order.intent.strategy, **terms)
        if isinstance(fact, e.ReplaceSubmitted):
            self.authorised[order.order_id] = max(self.authorised[order.order_id], fact.qty)

    # ── the broker ────────────────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, report: Any) -> None:
        """Let the engine hear a report, and then hear it again: the copy changes nothing."""
        cause = self.desk.submits.get(getattr(report, "order_id", ""), 0)
        self.desk.give(report, cause)
        self.reports.append(report)
        before = state_of(self.desk.engine)
        self.desk.give(report, cause)
        assert state_of(self.desk.engine) == before

    def fill(self, order: Order, other: int, qty: str) -> None:
        """Fill a leg: all that is left of it, half, a little, or more than there is."""
        legs = order.instrument.legs
        traded = legs[other % len(legs)]
        left = (order.qty - order.cum_qty) * abs(traded.ratio)
        if len(legs) > 1:
            left = order.qty * abs(traded.ratio) - (order.leg_fills or {}).get(traded.instrument.symbol, ZERO)
        much = (left, left // 2, min(left, D(qty)), left + 1)[other % 4]
        self.desk.executions += 1
        price = D(self.prices.get(traded.instrument.symbol, 3))
        side = order.side if traded.ratio > 0 else order.side.opposite
        exec_id, symbol = f"x{self.desk.executions}", traded.instrument.symbol
        terms = (exec_id, symbol, side, much, price, D(other % 200) / 100)
        self.hear(ExecutionReport(self.desk.now, order.order_id, ExecType.TRADE, *terms))

    @precondition(lambda self: self.reports)
    @rule(pick=picks)
    def repeat_a_trade_of_long_ago(self, pick: int) -> None:
        trades = [r for r in self.reports if getattr(r, "exec_type", None) is ExecType.TRADE and r.exec_id]
        booked = {exec_id for _, exec_id in self.desk.engine.state.blotter.exec_ids}
        known = [r for r in trades if r.exec_id in booked]
        if known:
            before = state_of(self.desk.engine)
            report = known[pick % len(known)]
            assert self.desk.give(report, self.desk.submits[report.order_id]) == []
            assert state_of(self.desk.engine) == before

    @rule(symbol=st.sampled_from(("SPY", "QQQ", CALL_100, CALL_105, PUT_95)), cents=st.integers(1, 99))
    def something_happens_to_a_position(self, symbol: str, cents: int) -> None:
        held = self.desk.line(symbol, None).qty
        record = f"r{len(self.reports)}"
        now = self.desk.now
        if symbol not in ("SPY", "QQQ"):
            if held:
                self.hear(AccountActivity(now, "main", ActivityKind.EXPIRATION, record, symbol, -held))
        elif held and cents % 2:
            self.hear(AccountActivity(now, "main", ActivityKind.SPLIT, record, symbol, held, price=D(2)))
        elif held:
            self.hear(AccountActivity(now, "main", ActivityKind.DIVIDEND, record, symbol, cash=held * cents / 100))
        else:
            self.hear(AccountActivity(now, "main", ActivityKind.FEE, record, cash=-D(cents) / 100))

    # ── what always holds ─────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def reservations_are_what_the_orders_say(self) -> None:
        if not hasattr(self, "desk"):
            return
        account = self.desk.engine.state.portfolio.accounts["main"]
        expected: dict[tuple[str, str], list[Decimal]] = {}
        for order in self.desk.engine.state.blotter.orders.values():
            wanted = reservation(order, self.desk)
            assert order.reserved == wanted >= 0, order
            for leg in order.instrument.legs:
                for owner in (order.intent.strategy, ""):
                    pair = expected.setdefault((owner, leg.instrument.symbol), [ZERO, ZERO])
                    pair[(order.side is BUY) != (leg.ratio > 0)] += wanted * abs(leg.ratio)
        held: dict[str, Decimal] = {}
        for name, book in account.strategies.items():
            for symbol, line in book.lines.items():
                assert [line.buys, line.sells] == expected.get((name, symbol), [0, 0]), (name, symbol)
                held[symbol] = held.get(symbol, ZERO) + line.qty
                position = account.positions.get((name, symbol))
                assert line.qty == (position.qty if position is not None else 0)
        for symbol, line in account.book.lines.items():
            assert [line.buys, line.sells] == expected.get(("", symbol), [0, 0]), symbol
            assert line.qty == held.get(symbol, 0), f"{symbol}: strategies' books do not sum to the account"
        for book in (account.book, *account.strategies.values()):
            worst = {
                s: max(abs(line.qty + line.buys), abs(line.qty - line.sells))
                for s, line in book.lines.items()
                if isinstance(line.instrument, Equity) and (line.qty or line.buys or line.sells)
            }
            assert {s: line.worst for s, line in book.exposed.items()} == {s: float(most) for s, most in worst.items()}
            assert all(line.held == float(line.qty) for line in book.lines.values())
            options = {o: q for group in book.options.values() for o, q in group.items()}
            assert options == {
                line.instrument: line.qty for line in book.lines.values()
                if isinstance(line.instrument, Option) and line.qty
            }  # fmt: skip

    @invariant()
    def cash_is_the_opening_cash_and_every_flow_since(self) -> None:
        if not hasattr(self, "desk"):
            return
        cash, filled = D(1_000_000), dict[tuple[str, str], Decimal]()
        blotter = self.desk.engine.state.blotter
        for record in self.desk.journal.records:
            event = record.event
            if isinstance(event, e.OrderFilled):
                legs = blotter.orders[event.order_id].instrument.legs
                (leg,) = [leg for leg in legs if leg.instrument.symbol == event.symbol]
                cash -= event.qty * event.side.sign * event.price * leg.instrument.multiplier + event.fees
                key = event.order_id, event.symbol
                total = filled[key] = filled.get(key, ZERO) + event.qty
                assert total <= self.authorised[event.order_id] * abs(leg.ratio)
            elif isinstance(event, e.PositionAdjusted):
                cash += event.cash
        assert self.desk.cash == cash

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.desk.assert_clean()


def reservation(order: Order, desk: Desk) -> Decimal:
    """What an order reserves, by the words: all that may fill; of a bracket's exits the largest, as far as entered."""
    most = ZERO
    if order.status not in TERMINAL:
        most = max(order.qty, order.pending[0] if order.pending else ZERO) - order.cum_qty
    if not order.intent.parent:
        return most
    blotter = desk.engine.state.blotter
    entered = blotter.orders[order.intent.parent].cum_qty
    family = [o for o in blotter.orders.values() if o.intent.parent == order.intent.parent and o.status not in TERMINAL]
    rank = [max(o.qty, o.pending[0] if o.pending else ZERO) - o.cum_qty for o in family]
    if not entered or order not in family or family[rank.index(max(rank))] is not order:
        return ZERO
    return min(most, entered)


AnyBroker.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, derandomize=EXAMPLES < 2000, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
test_any_sequence_of_intents_and_reports_keeps_the_books = AnyBroker.TestCase
