"""Why an order happened, or was refused: tick, signal, intent, verdict of every check, submit, broker's word, fills."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from northstar_core.audit.fold import Fold
from northstar_core.audit.headroom import Check, checks_of
from northstar_core.audit.tape_rows import Numbering, TapeRows
from northstar_core.audit.words import describe, moment
from northstar_core.model import events as e
from northstar_core.model.account import TradingState
from northstar_core.model.denial import SENTENCES
from northstar_core.model.journal import decode, parse
from northstar_core.model.market import MarketEvent
from northstar_core.model.order import PlaceOrder
from northstar_core.model.tape import Tape

KEPT = 4096  #: latest decision records and other causes remembered while the order has not come up


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One link of the chain."""

    what: str  #: "tick", "signal", "intent", "verdict", "submit", then the facts by name
    seq: int
    ts: int
    text: str
    cause: int = 0
    event: dict[str, Any] | None = None


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the log says about one order, and the checks of its decision."""

    order_id: str
    outcome: str  #: "submitted", "denied", "undecided", "unknown"
    steps: tuple[Step, ...] = ()
    checks: tuple[Check, ...] = ()
    reason: str = ""  #: code of the refusal
    passes_at: str = ""
    limits: dict[str, str] = {}  #: name of the limit set in force, by scope

    def lines(self) -> list[str]:
        """Return the chain as plain text."""
        if self.outcome == "unknown":
            return [f"order {self.order_id}: the log has no such order"]
        out = [f"order {self.order_id}: {self.outcome}" + (f", {self.reason}" if self.reason else "")]
        for step in self.steps:
            out.append(f"  seq {step.seq:>8}  {moment(step.ts)}  {step.what:10} {step.text}")
            if step.what == "verdict":
                out += [f"{'':14}{check.line()}" for check in self.checks]
        return out

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, for ``--json``."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class WhyOrder:
    """Takes a log's lines in order and keeps what concerns one order."""

    def __init__(self, order_id: str, tape: Tape | None = None) -> None:
        self.order_id = order_id
        self.tape = tape
        self.numbering = Numbering()
        self.fold = Fold()
        self.states: dict[str, TradingState] = {}
        self.run: e.RunStarted | None = None
        self.stored: dict[int, MarketEvent] | None = None  #: of a desk: the ticks read back that are asked for
        self.checks: tuple[Check, ...] = ()
        self.decision: tuple[int, int, e.OrderSubmitted | e.OrderDenied] | None = None
        self.intent: tuple[int, int, PlaceOrder] | None = None
        self.intents: set[int] = set()  #: numbers of every order with this id
        self.related: list[tuple[int, int, int, e.Event]] = []
        self._signals: dict[tuple[str, int], tuple[int, int, e.Signal]] = {}
        self._others: dict[int, tuple[int, e.Event]] = {}  #: latest events an intent may name as its cause
        self._limits: dict[str, str] = {}
        quoted = msgspec.json.encode(order_id)
        self._needles = (b'"order_id":' + quoted, b'"parent":' + quoted)

    def __enter__(self) -> WhyOrder:
        return self

    def __exit__(self, *_: object) -> None:
        self.fold.close()

    def feed(self, text: bytes) -> None:
        """Take the next line.

        Raises
        ------
        JournalError
            If it is no line of a journal, or its payload no event.
        """
        line = parse(text)
        self.numbering.event(line.seq)
        mine = any(needle in line.payload for needle in self._needles)
        if self.decision is not None and not mine:
            return
        event = decode(line.payload)
        if mine:
            self._mine(event, line.seq, line.ts, line.cause)
        if self.decision is None:
            self._before(event, line.seq, line.ts, line.cause)

    def _before(self, event: e.Event, seq: int, ts: int, cause: int) -> None:
        """Fold what leads up to the decision."""
        if isinstance(event, e.Signal):
            self._signals[event.strategy, event.n] = (seq, cause, event)
            _trim(self._signals)
        elif isinstance(event, e.RunStarted):
            self.run = event
        elif isinstance(event, e.TradingStateChanged):
            self.states[event.scope] = event.state
        self._others[seq] = (ts, event)
        _trim(self._others)
        self.fold.apply(event, seq, cause)

    def _mine(self, event: e.Event, seq: int, ts: int, cause: int) -> None:
        if isinstance(event, PlaceOrder) and event.order_id == self.order_id:
            self.intents.add(seq)
            if self.intent is None:
                self.intent = (seq, cause, event)
                return
        decides = (isinstance(event, e.OrderSubmitted) and event.order.order_id == self.order_id) or (
            isinstance(event, e.OrderDenied) and cause in self.intents
        )
        if decides and self.decision is None:
            self._decide(event, seq, cause)  # type: ignore[arg-type]
        else:
            self.related.append((seq, ts, cause, event))

    def _decide(self, event: e.OrderSubmitted | e.OrderDenied, seq: int, cause: int) -> None:
        self.decision = (seq, cause, event)
        denied = event if isinstance(event, e.OrderDenied) else None
        order = event.order if isinstance(event, e.OrderSubmitted) else self.intent[2] if self.intent else None
        if order is None:
            return
        scopes = (f"strategy:{order.strategy}", f"account:{order.account}")
        self._limits = {scope: self.fold.limit_names.get(scope, "none") for scope in scopes}
        self.checks = tuple(
            checks_of(
                self.fold,
                order,
                event.verdict,
                denied.reason if denied else None,
                self.states,
                denied.detail if denied else "",
            )
        )

    # ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────────

    def chain(self) -> Chain:
        """Return what was found."""
        if self.intent is None and self.decision is None and not self.related:
            return Chain(order_id=self.order_id, outcome="unknown")
        steps: list[Step] = []
        if self.intent is not None:
            steps += self._origin(*self.intent)
        outcome, reason, passes_at = "undecided", "", ""
        if self.decision is not None:
            seq, cause, fact = self.decision
            outcome = "submitted"
            text = "every check passed"
            if isinstance(fact, e.OrderDenied):
                outcome, reason = "denied", str(fact.reason)
                passes_at = "" if fact.passes_at is None else str(fact.passes_at)
                text = f"{SENTENCES[fact.reason]} ({fact.detail})"
                if passes_at:
                    text += f"; would have passed at quantity {passes_at}"
            named = ", ".join(f"{scope} under {name!r}" for scope, name in self._limits.items())
            steps.append(Step(what="verdict", seq=seq, ts=fact.ts, text=f"{text}; {named}", cause=cause))
            what = "submit" if outcome == "submitted" else "denied"
            steps.append(_step(what, seq, fact.ts, cause, fact))
        steps += [_step(_name(event), seq, ts, cause, event) for seq, ts, cause, event in self.related]
        return Chain(
            order_id=self.order_id,
            outcome=outcome,
            steps=tuple(steps),
            checks=self.checks,
            reason=reason,
            passes_at=passes_at,
            limits=self._limits,
        )

    def origin(self) -> int:
        """Return the number of the tick that led to the intent; 0 if it was an event, or there is no intent."""
        if self.intent is None:
            return 0
        _, cause, intent = self.intent
        signal = self._signal(intent)
        first = cause if signal is None else signal[1]
        return 0 if not first or self.numbering.is_event(first) else first

    def _signal(self, intent: PlaceOrder) -> tuple[int, int, e.Signal] | None:
        return self._signals.get((intent.strategy, intent.signal)) if intent.signal else None

    def _origin(self, seq: int, cause: int, intent: PlaceOrder) -> list[Step]:
        """The tick, the signal where there is one, and the intent."""
        steps = []
        signal = self._signal(intent)
        first = cause if signal is None else signal[1]
        steps.append(self.tick(first, intent.ts))
        if signal is not None:
            steps.append(_step("signal", signal[0], signal[2].ts, signal[1], signal[2]))
        steps.append(_step("intent", seq, intent.ts, cause, intent))
        return steps

    def tick(self, seq: int, ts: int) -> Step:
        """Return what a number that started something is: a row of the tape, or an event."""
        row = self.numbering.row_of(seq)
        if row is None:
            found = self._others.get(seq)
            if found is None:
                return Step(what="cause", seq=seq, ts=ts, text=f"an event at seq {seq}")
            return _step(_name(found[1]), seq, found[0], 0, found[1])
        if self.stored is not None:
            tick = self.stored.get(seq)
            if tick is None:
                return Step(what="tick", seq=seq, ts=ts, text="a tick that is not stored any more")
            return Step(what="tick", seq=seq, ts=tick.ts, text=describe(tick), event=msgspec.to_builtins(tick))
        data = self.run.data if self.run is not None else ()
        files = ", ".join(f"{source.name} (sha256 {source.sha256[:16]}…)" for source in data)
        where = f"row {row} of the rows consumed" + (f", from {files}" if files else "")
        event = None
        if self.tape is not None:
            event = TapeRows(self.tape, self.run.symbols if self.run else ()).row(row)
        if event is None:
            return Step(what="tick", seq=seq, ts=ts, text=where)
        return Step(
            what="tick", seq=seq, ts=event.ts, text=f"{describe(event)}; {where}", event=msgspec.to_builtins(event)
        )


def why(lines: Iterable[bytes], order_id: str, *, tape: Tape | None = None) -> Chain:
    """Return why an order happened or was refused.

    Parameters
    ----------
    lines
        The run's log, in order: lines of a journal, or ``EventRow.line`` of stored rows.
    order_id
        As in the log: strategy-session-counter.
    tape
        The data the run consumed, where at hand: then the causing tick is shown with its values, else its file and row.
    """
    with WhyOrder(order_id, tape) as asked:
        for text in lines:
            asked.feed(text)
        return asked.chain()


def _step(what: str, seq: int, ts: int, cause: int, event: Any) -> Step:
    return Step(what=what, seq=seq, ts=ts, text=describe(event), cause=cause, event=msgspec.to_builtins(event))


_NAMES = {
    "ExecutionReport": "report",
    "OrderAccepted": "accepted",
    "OrderFilled": "fill",
    "OrderCanceled": "canceled",
    "OrderExpired": "expired",
    "OrderRejected": "rejected",
    "OrderUnknown": "unknown",
    "CancelSubmitted": "cancel",
    "ReplaceSubmitted": "replace",
    "OrderReplaced": "replaced",
    "RequestRejected": "refused",
    "PlaceOrder": "intent",
    "OrderDenied": "denied",
    "OrderSubmitted": "submit",
    "CancelOrder": "intent",
    "ReplaceOrder": "intent",
    "TimerFired": "timer",
    "StrategyStarted": "start",
}


def _name(event: e.Event) -> str:
    kind = type(event).__name__
    return _NAMES.get(kind, kind)


def _trim(latest: dict[Any, Any]) -> None:
    if len(latest) > KEPT:
        del latest[next(iter(latest))]
