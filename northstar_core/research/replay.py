"""Re-derive a recorded run, and compare what came out, decision by decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

import msgspec

from northstar_core.model.events import NoSignal, Signal
from northstar_core.model.journal import parse
from northstar_core.research.backtest import Backtest


class Difference(msgspec.Struct, frozen=True):
    """The first place where a replay left the record; a line that is not there is empty."""

    seq: int
    recorded: str
    replayed: str


class Comparison(msgspec.Struct, frozen=True):
    """How a replay compares with the record."""

    lines: int  #: compared
    decisions: int  #: intents and verdicts among them
    identical: bool
    difference: Difference | None = None


_DECISIONS = (
    b'{"type":"PlaceOrder"',
    b'{"type":"OrderSubmitted"',
    b'{"type":"OrderDenied"',
    b'{"type":"CancelOrder"',
    b'{"type":"ReplaceOrder"',
)


def compare(recorded: Iterable[bytes], replayed: Iterable[bytes]) -> Comparison:
    """Compare two logs line by line; both in order, lines without newline."""
    lines = decisions = 0
    for ours, theirs in zip_longest(recorded, replayed):
        if ours != theirs:
            seq = parse(ours or theirs or b"").seq
            return Comparison(lines, decisions, False, Difference(seq, _text(ours), _text(theirs)))
        lines += 1
        decisions += parse(ours).payload.startswith(_DECISIONS)
    return Comparison(lines, decisions, True)


def _text(line: bytes | None) -> str:
    return "" if line is None else line.decode()


def replayed_lines(test: Backtest) -> Iterator[bytes]:
    """Run a backtest and yield its journal's lines as they come."""
    done = 0
    for _ in test.steps():
        new = test.journal.lines(done)
        done += len(new)
        yield from new
    yield from test.journal.lines(done)


def reason_at(test: Backtest, strategy: str, symbol: str, ts: int) -> NoSignal | Signal | None:
    """Run a backtest up to ``ts`` and return what its strategy last said of a symbol by then, repeated reasons included.

    Parameters
    ----------
    test
        Not yet run; made as the recorded run was.
    ts
        ns UTC.

    Returns
    -------
    The latest ``NoSignal`` or ``Signal`` at or before ``ts``; None if it said nothing.
    """
    host = test.hosts[strategy]
    said: list[NoSignal] = []

    def hear(record: NoSignal) -> None:
        if record.symbol == symbol and record.ts <= ts:
            said[:] = [record]

    host.probe = hear
    steps = test.steps()
    for progress in steps:
        if progress.ts > ts:
            break
    steps.close()
    signals = [
        r.event for r in test.journal.records
        if isinstance(r.event, Signal) and r.event.strategy == strategy and r.event.symbol == symbol and r.event.ts <= ts
    ]  # fmt: skip
    latest: list[NoSignal | Signal] = [*said, *signals[-1:]]
    return max(latest, key=lambda record: (record.ts, record.n)) if latest else None
