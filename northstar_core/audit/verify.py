"""Verify a log: every invariant, streaming, with the auditor's own fold.

``verify(rows)`` takes the log's rows in the order of their numbers: lines of bytes (``model.journal``), or stored
rows with their hash and columns. ``Verifier`` takes them one at a time, for a caller that reads them asynchronously.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from northstar_core.audit.chain import Chain, Columns, TapeDigest
from northstar_core.audit.fold import Fold
from northstar_core.audit.log_checks import LogChecks
from northstar_core.audit.order_checks import OrderChecks
from northstar_core.audit.position_checks import PositionChecks
from northstar_core.audit.report import Report, Tally
from northstar_core.audit.risk_checks import RiskChecks
from northstar_core.audit.stored_ticks import Range, StoredTicks
from northstar_core.model import events as e
from northstar_core.model.errors import DataError, JournalError, NorthstarError
from northstar_core.model.journal import Line, decode, parse
from northstar_core.model.market import MarketEvent

JOURNAL = "journal.log"

Step = Callable[[Any, int, int], None]


class Row(NamedTuple):
    """A row as the event store holds it; ``store.reader.EventRow`` is one."""

    seq: int
    epoch: int
    ts: int
    cause: int
    kind: str
    strategy: str | None
    account: str | None
    order_id: str | None
    payload: bytes
    hash: bytes


TickBlock = tuple[int, Sequence[MarketEvent]]  #: consecutive ticks, with the number of the first
Stored = tuple[int, int, int, int, str, str | None, str | None, str | None, bytes, bytes]


class Verifier:
    """Takes a log's rows one at a time and tells, at the end, what does not hold; use it in a ``with``."""

    def __init__(self, tape_digest: TapeDigest | None = None, kept: Sequence[Range] | None = None) -> None:
        self.tally = Tally()
        self.fold = Fold()
        #: takes the ticks a desk stored, in step with the rows; None where ticks are not read back
        self.stored = None if kept is None else StoredTicks(self.tally, kept)
        self.chain = Chain(self.tally, tape_digest, self.stored)
        self.log = LogChecks(self.fold, self.tally)
        self.finished = False
        self._steps: dict[type, tuple[Step, ...]] = {}
        self._families = (
            RiskChecks(self.fold, self.tally),
            OrderChecks(self.fold, self.tally),
            PositionChecks(self.fold, self.tally),
            self.log,
        )

    def feed(self, row: Stored | bytes) -> None:
        """Take the next row.

        Raises
        ------
        JournalError
            If the first line is not of the form ``seq epoch ts cause payload``.
        """
        if isinstance(row, bytes):
            text, columns, stored = row, None, None
            try:
                line = parse(text)
            except JournalError as error:
                if not self.chain.events:
                    raise  # this is no log at all
                self.chain.unreadable(text, str(error))
                return
        else:
            seq, epoch, ts, cause, kind, strategy, account, order_id, payload, stored = row
            line = Line(seq, epoch, ts, cause or 0, bytes(payload))
            text = b"%d %d %d %d %b" % line
            columns = Columns(kind, strategy or "", account or "", order_id or "")
            stored = bytes(stored)
        self.chain.line(line, text, stored)
        try:
            event = decode(line.payload)
        except (JournalError, ValueError) as error:
            self.tally.violate("L2", line.seq, f"the payload is no event: {error}")
            return
        self.chain.payload(line, event, columns)
        try:
            self._take(event, line.seq, line.cause)
        except (ArithmeticError, DataError, ValueError) as error:
            self.tally.violate("L2", line.seq, f"the numbers of this {type(event).__name__} cannot be: {error!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.fold.close()

    def _take(self, event: e.Event, seq: int, cause: int) -> None:
        self.log.cause(event, seq, cause)
        kind = type(event)
        steps = self._steps.get(kind)
        if steps is None:
            steps = self._steps[kind] = self._steps_of(kind)
        for step in steps:
            step(event, seq, cause)

    def _steps_of(self, kind: type) -> tuple[Step, ...]:
        """Return what happens at an event of a kind: checks before the fold takes it, the fold, checks after."""
        before = [family.before[kind] for family in self._families if kind in family.before]
        own: list[Step] = [self.fold.appliers[kind]] if kind in self.fold.appliers else []
        if kind is e.TapeRead:
            own.append(lambda event, seq, cause: self.chain.tape_read(seq, event))
        if kind is e.RunFinished:
            own.append(self._finished)
        return (*before, *own, *(family.after[kind] for family in self._families if kind in family.after))

    def _finished(self, event: e.RunFinished, seq: int, cause: int) -> None:
        self.finished = True

    def finish(self, head: tuple[int, bytes] | None = None) -> Report:
        """Close the books and return what was found.

        Parameters
        ----------
        head
            Number and hash of the last line, kept apart from the lines: without it a cut-off tail is not seen.
        """
        chain = self.chain
        if not chain.events:
            return Report(error="the log is empty")
        chain.finish(self.finished, head)
        return Report(
            findings=self.tally.findings(),
            events=chain.events,
            ticks=chain.ticks,
            last_seq=chain.seq,
            head=chain.head.hex(),
            notes=tuple(self.tally.notes),
        )


def verify(
    rows: Iterable[Stored | bytes], *, head: tuple[int, bytes] | None = None, tape_digest: TapeDigest | None = None
) -> Report:
    """Verify a log.

    Parameters
    ----------
    rows
        The log in order: ``Row``s (or ``store.reader.EventRow``s), or lines of bytes without newline.
    head
        Number and hash of the last line, where they were kept apart.
    tape_digest
        Gives the digest of rows of the tape that the run consumed: compared with what the log declares.

    Returns
    -------
    A report that never raises: what cannot be read is its ``error``, and its ``exit_code`` is 2.
    """
    with Verifier(tape_digest) as verifier:
        try:
            for row in rows:
                verifier.feed(row)
        except (NorthstarError, OSError) as error:
            return Report(error=f"after seq {verifier.chain.seq}: {error}", events=verifier.chain.events)
        return verifier.finish(head)


async def verify_batches(
    batches: AsyncIterable[Sequence[Stored]],
    *,
    head: tuple[int, bytes] | None = None,
    tape_digest: TapeDigest | None = None,
    ticks: AsyncIterator[TickBlock] | None = None,
    kept: Sequence[Range] = (),
) -> Report:
    """Verify a stored log as it comes from the database (``store.reader.Reader.batches``); otherwise as ``verify``.

    Parameters
    ----------
    ticks
        The ticks that were stored with a desk's events (``store.reader.Reader.tick_blocks``): then every number must be
        an event or a stored tick, and the ticks those that were declared.
    kept
        The ranges of numbers whose ticks retention has not dropped (``Reader.kept_ticks``).
    """
    with Verifier(tape_digest, None if ticks is None else kept) as verifier:
        stored = verifier.stored
        try:
            waiting = None if ticks is None else await anext(ticks, None)
            async for batch in batches:
                for row in batch:
                    while waiting is not None and waiting[0] < row[0]:
                        assert ticks is not None and stored is not None
                        stored.block(*waiting)
                        waiting = await anext(ticks, None)
                    verifier.feed(row)
        except (NorthstarError, OSError) as error:
            return Report(error=f"after seq {verifier.chain.seq}: {error}", events=verifier.chain.events)
        return verifier.finish(head)


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a run's journal; ``path`` is the run's directory or the file.

    Raises
    ------
    JournalError
        If there is no journal, or its last line was not written to its end.
    """
    file = path / JOURNAL if path.is_dir() else path
    try:
        with file.open("rb") as stream:
            for number, text in enumerate(stream, 1):
                if not text.endswith(b"\n"):
                    raise JournalError(
                        f"{file.name}: line {number} was not written to its end; the run was cut off while writing"
                    )
                yield text[:-1]
    except OSError as error:
        raise JournalError(f"{file}: cannot be read: {error.strerror}") from None
