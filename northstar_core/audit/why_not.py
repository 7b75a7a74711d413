"""Why no order happened: what the log, the tape and, between records, a replay say of a strategy, symbol and time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from northstar_core.audit.fold import Fold
from northstar_core.audit.tape_rows import TapeRows
from northstar_core.audit.words import describe, moment, number, terms, values
from northstar_core.model import events as e
from northstar_core.model.account import TradingState
from northstar_core.model.denial import SENTENCES
from northstar_core.model.journal import decode, parse
from northstar_core.model.market import MarketEvent
from northstar_core.model.order import PlaceOrder
from northstar_core.model.tape import Tape
from northstar_core.model.world import GatewayStarted, SessionLost, SessionResumed

Replay = Callable[[int], e.NoSignal | e.Signal | None]  #: time to what the strategy would have said of the symbol then


class Rows(Protocol):
    """What is known of the market: ``tape_rows.TapeRows``, or what a desk stored (``desk.DeskRows``)."""

    bar_ns: int

    def latest(self, symbol: str, ts: int) -> MarketEvent | None:
        """Return the last row of a symbol that was known at a time."""

    def bars(self, symbol: str, after: int, until: int) -> int:
        """Return how many bars of a symbol closed in ``(after, until]``."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Why there was no order, or that there was one."""

    #: "order placed", "denied", "no signal", "re-derived", "signal without order", "warm-up", "no data",
    #: "session closed", "not started", "ended", "unknown", "nothing recorded"
    kind: str
    text: str  #: one sentence
    seq: int = 0  #: of the record it rests on
    order_id: str = ""
    reason: str = ""
    passes_at: str = ""
    inputs: dict[str, float] = {}
    context: tuple[str, ...] = ()  #: what else held: position, working orders, trading state

    def lines(self) -> list[str]:
        """Return the answer as plain text."""
        where = f" (seq {self.seq})" if self.seq else ""
        return [f"{self.kind}: {self.text}{where}", *(f"  {line}" for line in self.context)]

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, for ``--json``."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class Asked:
    """An order that was asked for, and what became of it."""

    __slots__ = ("decided", "fact", "intent", "seq")

    def __init__(self, seq: int, intent: PlaceOrder) -> None:
        self.seq, self.intent = seq, intent
        self.decided = 0
        self.fact: e.OrderSubmitted | e.OrderDenied | None = None

    @property
    def rank(self) -> tuple[bool, bool]:
        """What is told first: an order that was accepted, an entry before its exits."""
        return not isinstance(self.fact, e.OrderSubmitted), bool(self.intent.parent)


class WhyNot:
    """Takes a log's lines in order and keeps the nearest records at or before a time."""

    def __init__(
        self,
        strategy: str,
        symbol: str,
        ts: int,
        *,
        replay: Replay | None = None,
        tape: Tape | None = None,
        rows: Rows | None = None,
    ) -> None:
        self.strategy, self.symbol, self.ts = strategy, symbol, ts
        self.replay = replay
        self.tape = tape
        self.rows = rows
        self.began: int | None = None  #: when the log begins: a run, or a desk's first gateway
        self.lost: SessionLost | None = None
        self.fold = Fold()
        self.run: e.RunStarted | None = None
        self.strategies: list[str] = []
        self.started: e.StrategyStarted | None = None
        self.stopped: e.StrategyStopped | None = None
        self.finished: e.RunFinished | None = None
        self.states: dict[str, TradingState] = {}
        self.said: tuple[int, e.Signal | e.NoSignal] | None = None  #: the latest record about the symbol
        self.asked: dict[int, Asked] = {}  #: the latest orders asked for in the symbol, all of one time, by number

    def __enter__(self) -> WhyNot:
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
        if line.ts > self.ts and self.began is not None:
            if b'"RunFinished"' in line.payload or b'"StrategySt' in line.payload:
                self._life(decode(line.payload))
            return
        event = decode(line.payload)
        self._life(event)
        self._record(event, line.seq, line.cause)
        self.fold.apply(event, line.seq, line.cause)

    def _life(self, event: e.Event) -> None:
        if isinstance(event, e.RunStarted | GatewayStarted):
            if isinstance(event, e.RunStarted):
                self.run = event
            if self.began is None:
                self.began = event.ts
        elif isinstance(event, e.RunFinished):
            self.finished = event
        elif isinstance(event, e.StrategyStarted):
            if event.strategy not in self.strategies:
                self.strategies.append(event.strategy)
            # on a desk it starts again and again: the last time before the one asked about counts, else its first
            if event.strategy == self.strategy and (self.started is None or event.ts <= self.ts):
                self.started, self.stopped, self.lost = event, None, None
        elif isinstance(event, e.StrategyStopped | SessionLost | SessionResumed):
            if event.strategy == self.strategy and event.ts <= self.ts:
                self.stopped = event if isinstance(event, e.StrategyStopped) else self.stopped
                self.lost = event if isinstance(event, SessionLost) else None

    def _record(self, event: e.Event, seq: int, cause: int) -> None:
        mine = getattr(event, "strategy", None) == self.strategy
        if isinstance(event, e.Signal | e.NoSignal):
            if mine and event.symbol == self.symbol:
                self.said = (seq, event)
        elif isinstance(event, PlaceOrder):
            if mine and event.symbol == self.symbol:
                if any(asked.intent.ts != event.ts for asked in self.asked.values()):
                    self.asked.clear()
                self.asked[seq] = Asked(seq, event)
        elif isinstance(event, e.OrderSubmitted | e.OrderDenied):
            if cause in self.asked:
                self.asked[cause].decided, self.asked[cause].fact = seq, event
        elif isinstance(event, e.TradingStateChanged):
            self.states[event.scope] = event.state

    # ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self) -> Answer:
        """Return why there was no order."""
        outside = self._outside()
        if outside is not None:
            return outside
        rows = self.rows
        if self.tape is not None:
            rows = TapeRows(self.tape, self.run.symbols if self.run is not None else ())
        tick = rows.latest(self.symbol, self.ts) if rows is not None else None
        at = tick.ts if tick is not None else None
        context = self._context()
        gone = self.rows is not None and at is not None and 0 < self.rows.bar_ns <= self.ts - at
        placed = None if gone else self._placed(at, context)
        if placed is not None:
            return placed
        if self.said is not None and not gone and self._then(self.said[1].ts, self.ts if at is None else at):
            return self._said(context)
        absent = self._absent(rows, at, context)
        if absent is not None:
            return absent
        return self._between(self.ts if at is None else at, context)

    def _then(self, said: int, at: int) -> bool:
        """Whether something was said of this very bar: on a desk a moment later than the bar ends."""
        return said == at or (self.rows is not None and said >= at)

    def _outside(self) -> Answer | None:
        """The time, the strategy or the symbol is none of this run's."""
        if self.began is None:
            return Answer(kind="not started", text="the log has no run")
        if self.ts < self.began:
            return Answer(kind="not started", text=f"the run begins at {moment(self.began)}", seq=1)
        if self.started is None:
            return Answer(
                kind="unknown",
                text=f"no strategy {self.strategy!r} in this run; it has {', '.join(self.strategies) or 'none'}",
            )
        if self.run is not None and self.run.symbols and self.symbol not in self.run.symbols and "*" not in self.symbol:
            return Answer(
                kind="unknown", text=f"the run has no data of {self.symbol}; it has {', '.join(self.run.symbols[:12])}"
            )
        if self.ts < self.started.ts:
            return Answer(kind="not started", text=f"{self.strategy} starts at {moment(self.started.ts)}")
        ends = [event.ts for event in (self.stopped, self.finished) if event is not None and event.ts < self.ts]
        if ends:
            return Answer(kind="ended", text=f"{self.strategy} had ended at {moment(min(ends))}")
        if self.lost is not None:
            text = f"{self.strategy}'s session was lost at {moment(self.lost.ts)} ({self.lost.reason}); its policy: {self.lost.policy}"
            return Answer(kind="ended", text=text, context=self._context())
        return None

    def _placed(self, at: int | None, context: tuple[str, ...]) -> Answer | None:
        """An order was asked for in the bar that ends at this time."""
        if not self.asked:
            return None
        told = min(self.asked.values(), key=lambda asked: asked.rank)
        intent, fact, decided = told.intent, told.fact, told.decided
        verdict = None if fact is None else fact.verdict
        span = max(verdict.ref_span if verdict is not None else 0, 1)
        if not (intent.ts >= at if at is not None else self.ts - intent.ts < span):
            return None
        if fact is None:
            return Answer(
                kind="order placed",
                text=f"an order was asked for and is not decided yet: {terms(intent)}",
                seq=told.seq,
                order_id=intent.order_id,
                context=context,
            )
        if isinstance(fact, e.OrderSubmitted):
            text = f"an order was placed then: {terms(fact.order)}; ask why {intent.order_id}"
            return Answer(kind="order placed", text=text, seq=decided, order_id=intent.order_id, context=context)
        text = f"{terms(intent)} was refused by {fact.reason}: {SENTENCES[fact.reason]} ({fact.detail})"
        if fact.passes_at:
            text += f"; {number(fact.passes_at)} would have passed"
        return Answer(
            kind="denied",
            text=text,
            seq=decided,
            order_id=intent.order_id,
            reason=str(fact.reason),
            passes_at="" if fact.passes_at is None else str(fact.passes_at),
            context=context,
        )

    def _said(self, context: tuple[str, ...]) -> Answer:
        """The strategy said something at this very time."""
        assert self.said is not None
        seq, record = self.said
        if isinstance(record, e.NoSignal):
            text = f"{self.strategy} wanted nothing of {self.symbol}: {record.reason} ({values(record.inputs)})"
            kind = "warm-up" if record.reason == "warm-up" else "no signal"
            return Answer(kind=kind, text=text, seq=seq, reason=record.reason, inputs=record.inputs, context=context)
        return Answer(
            kind="signal without order",
            text=f"{describe(record)}; no order followed from it",
            seq=seq,
            reason=record.reason,
            inputs=record.inputs,
            context=context,
        )

    def _absent(self, rows: Rows | None, at: int | None, context: tuple[str, ...]) -> Answer | None:
        """Nothing could be said: no row, still warming up, or no session."""
        assert self.started is not None
        if rows is not None and at is None:
            return Answer(
                kind="no data", text=f"no row of {self.symbol} was known by {moment(self.ts)}", context=context
            )
        if rows is not None and self.started.warm_up and rows.bar_ns:
            have = rows.bars(self.symbol, self.started.ts, self.ts)
            if have <= self.started.warm_up:
                text = f"{have} bars of {self.symbol} seen, {self.started.warm_up} wanted before the first decision"
                return Answer(kind="warm-up", text=text, context=context)
        if not self.fold.session_close or not self.fold.session_open <= self.ts <= self.fold.session_close:
            if at is None or self.ts - at >= (rows.bar_ns if rows is not None else 0):
                return Answer(kind="session closed", text=f"no regular session at {moment(self.ts)}", context=context)
        elif rows is not None and at is not None and rows.bar_ns and self.ts - at >= rows.bar_ns:
            text = f"no row of {self.symbol} between {moment(at)} and {moment(self.ts)}: in that bar it did not trade"
            return Answer(kind="no data", text=text, context=context)
        return None

    def _between(self, at: int, context: tuple[str, ...]) -> Answer:
        """Between two records: ask a replay, else say what was recorded last."""
        if self.replay is not None:
            found = self.replay(at)
            if found is not None:
                return Answer(
                    kind="re-derived",
                    text=f"by replay at {moment(at)}: {describe(found)}",
                    reason=found.reason,
                    inputs=found.inputs,
                    seq=self.said[0] if self.said else 0,
                    context=context,
                )
        if self.said is None:
            text = f"{self.strategy} recorded nothing about {self.symbol} by {moment(self.ts)}"
            return Answer(kind="nothing recorded", text=text, context=context)
        seq, record = self.said
        if isinstance(record, e.NoSignal):
            text = (
                f"since {moment(record.ts)} the reason has been the same: {record.reason}"
                f" (it is recorded when it changes; the values then: {values(record.inputs)})"
            )
            kind = "warm-up" if record.reason == "warm-up" else "no signal"
            return Answer(kind=kind, text=text, seq=seq, reason=record.reason, inputs=record.inputs, context=context)
        text = f"the last thing {self.strategy} said of {self.symbol} was at {moment(record.ts)}: {describe(record)}"
        return Answer(
            kind="nothing recorded", text=text, seq=seq, reason=record.reason, inputs=record.inputs, context=context
        )

    def _context(self) -> tuple[str, ...]:
        """What the strategy held and had working in the symbol, and what it might not do."""
        assert self.started is not None
        out = []
        line = self.fold.account(self.started.account).of(self.strategy).line(self.symbol)
        if line.qty:
            out.append(f"it held {number(line.qty)} {self.symbol} already")
        for order in self.fold.working(self.strategy):
            if order.symbol == self.symbol:
                out.append(
                    f"order {order.id} was working: {order.side} {number(order.qty - order.cum)}, {order.status}"
                )
        scopes = ("desk", f"account:{self.started.account}", f"strategy:{self.strategy}")
        out += [f"{scope} was {self.states[scope]}" for scope in scopes if self.states.get(scope, "ACTIVE") != "ACTIVE"]
        return tuple(out)


def why_not(
    lines: Iterable[bytes],
    strategy: str,
    symbol: str,
    ts: int,
    *,
    replay: Replay | None = None,
    tape: Tape | None = None,
) -> Answer:
    """Return why a strategy placed no order in a symbol at a time.

    Parameters
    ----------
    lines
        The run's log, in order: lines of a journal, or ``EventRow.line`` of stored rows.
    ts
        ns UTC; the bar that was known then is the one that is asked about.
    replay
        Re-derives what the strategy would have said at a time between two records.
    tape
        The data the run consumed, where at hand: tells a missing bar from one that was seen, and counts the warm-up.
    """
    with WhyNot(strategy, symbol, ts, replay=replay, tape=tape) as asked:
        for text in lines:
            asked.feed(text)
        return asked.answer()
