"""R1 to R4: every accepted order judged again, and worst-case quantities at every fill."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import isclose
from typing import Any

from northstar_core.audit.books import ZERO
from northstar_core.audit.fold import Fold
from northstar_core.audit.judged import RELATIVE, Judged, account_caps, order_faults
from northstar_core.audit.report import Tally
from northstar_core.model import events as e
from northstar_core.model.account import StrategyLimits, Verdict
from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.order import PlaceOrder


class RiskChecks:
    """Reads the fold as it stood before each accepted order."""

    def __init__(self, fold: Fold, tally: Tally) -> None:
        self.fold = fold
        self.tally = tally
        self._worst_before = 0.0
        self.before: dict[type, Callable[[Any, int, int], None]] = {
            e.OrderSubmitted: self._submitted,
            e.ReplaceSubmitted: self._replace,
            e.OrderFilled: self._before_fill,
        }
        self.after: dict[type, Callable[[Any, int, int], None]] = {e.OrderFilled: self._after_fill}

    # ── which orders ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _submitted(self, event: e.OrderSubmitted, seq: int, cause: int) -> None:
        self.judge(event.order, event.verdict, seq)

    def _replace(self, event: e.ReplaceSubmitted, seq: int, cause: int) -> None:
        """Judge a replace as a new order of what would be left, beside the books without the old one."""
        order = self.fold.open.get(event.order_id)
        if order is None or event.verdict is None:
            if order is not None:
                self.tally.violate("R1", seq, f"replace of {event.order_id} was accepted without a verdict")
            return
        reserved = order.reserved
        self.fold.reserve(order, ZERO)
        old = order.terms
        trial = PlaceOrder(
            event.ts,
            old.order_id,
            old.strategy,
            old.account,
            old.symbol,
            old.side,
            event.qty - order.cum,
            old.order_type,
            event.limit_price,
            event.stop_price,
            old.tif,
            old.reduce_only,
            old.parent,
        )
        self.judge(trial, event.verdict, seq)
        self.fold.reserve(order, reserved)

    def judge(self, order: PlaceOrder, verdict: Verdict, seq: int) -> None:
        """Take a decision again."""
        tally = self.tally
        for invariant in ("R1", "R2", "R3", "R4"):
            tally.checked[invariant] += 1
        try:
            case = Judged(self.fold, order, verdict, instrument(order.symbol), seq)
        except DataError as error:
            tally.violate("R4", seq, f"order {order.order_id}: {error}")
            return
        try:
            notional = case.notional()
            reducing = case.reducing(notional)
            self._strategy(case, notional, reducing)
            self._account(case, reducing)
        except KeyError as missing:
            tally.violate(
                "R1",
                seq,
                f"order {order.order_id}: the verdict has no price for {missing.args[0]}, which is held or working",
            )
            reducing = False
        if not reducing:
            self._quantities(case)
        self._order(case)

    # ── R1 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _strategy(self, case: Judged, notional: float, reducing: bool) -> None:
        order, verdict = case.order, case.verdict
        violate, seq = self.tally.violate, case.seq
        for leg in verdict.legs:
            line = case.book.line(leg.symbol)
            stored, own = (leg.position, leg.buys, leg.sells), (line.qty, line.buys, line.sells)
            if stored != own:
                violate(
                    "R1",
                    seq,
                    f"order {order.order_id}: the verdict has {leg.symbol} at {_line(stored)},"
                    f" the fold at {_line(own)}",
                )
        if not _same(verdict.notional, notional, case.plain):
            violate(
                "R1", seq, f"order {order.order_id}: stored notional {verdict.notional!r}, taken again {notional!r}"
            )
        cap = None if case.limits is None else case.limits.max_notional
        if cap is None:
            violate("R1", seq, f"order {order.order_id}: strategy:{order.strategy} has no max_notional")
        elif not notional <= cap and not reducing:
            violate(
                "R1", seq, f"order {order.order_id}: worst-case notional {notional!r} over the strategy's cap {cap}"
            )

    # ── R2 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _quantities(self, case: Judged) -> None:
        order, limits = case.order, case.limits
        for leg in case.traded.legs:
            line = case.book.line(leg.instrument.symbol)
            signed = order.qty * leg.ratio * order.side.sign
            worst = abs(line.qty + line.buys + signed) if signed > 0 else abs(line.qty - line.sells + signed)
            cap = self._position_cap(limits, isinstance(leg.instrument, Option))
            if cap is None or not worst <= cap:
                self.tally.violate(
                    "R2",
                    case.seq,
                    f"order {order.order_id}: worst-case quantity {worst} of {leg.instrument.symbol}, the cap is {cap}",
                )

    @staticmethod
    def _position_cap(limits: StrategyLimits | None, is_option: bool) -> Decimal | None:
        if limits is None:
            return None
        return limits.max_position_contracts if is_option else limits.max_position_qty

    def _before_fill(self, event: e.OrderFilled, seq: int, cause: int) -> None:
        self._worst_before = self.fold.account(event.account).of(event.strategy).line(event.symbol).worst

    def _after_fill(self, event: e.OrderFilled, seq: int, cause: int) -> None:
        """A fill moves quantity from working to held: what could be must not grow, unless it came too late."""
        self.tally.checked["R2"] += 1
        line = self.fold.account(event.account).of(event.strategy).line(event.symbol)
        if line.worst > self._worst_before and not event.late:
            cap = self._position_cap(
                self.fold.strategy_limits.get(f"strategy:{event.strategy}"), line.option is not None
            )
            if cap is None or not line.worst <= cap:
                self.tally.violate(
                    "R2",
                    seq,
                    f"fill of {event.order_id}: worst-case quantity of {event.symbol} grows to {line.worst:g},"
                    f" the cap is {cap}",
                )

    # ── R3 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _account(self, case: Judged, reducing: bool) -> None:
        order, verdict, limits = case.order, case.verdict, case.account_limits
        violate, seq = self.tally.violate, case.seq
        gross, net, symbol, equity = case.gross(), case.net(), case.symbol_exposure(), case.equity()
        for name, stored, own in (
            ("gross", verdict.gross, gross),
            ("net", verdict.net, net),
            ("symbol exposure", verdict.symbol_exposure, symbol),
            ("equity", verdict.equity, equity),
        ):
            if not _same(stored, own, case.plain):
                violate("R3", seq, f"order {order.order_id}: stored {name} {stored!r}, taken again {own!r}")
        if reducing:
            return
        for name, value, cap in account_caps(case, gross, net, symbol, equity, limits):
            if cap is None or not value <= cap:
                violate("R3", seq, f"order {order.order_id}: {name} {value!r} over {cap} of account:{order.account}")

    # ── R4 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, case: Judged) -> None:
        for fault in order_faults(case, self.fold):
            self.tally.violate("R4", case.seq, f"order {case.order.order_id}: {fault}")


def _same(stored: float, own: float, exactly: bool) -> bool:
    return stored == own or (not exactly and isclose(stored, own, rel_tol=RELATIVE, abs_tol=RELATIVE))


def _line(line: tuple[Decimal, Decimal, Decimal]) -> str:
    return f"{line[0]} held, {line[1]} buying, {line[2]} selling"
