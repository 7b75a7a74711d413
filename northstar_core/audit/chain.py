"""L1 and L2: the numbering and the hashes, and what was done to a log where they do not hold."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from northstar_core.audit.report import Tally
from northstar_core.audit.stored_ticks import StoredTicks
from northstar_core.model import events as e
from northstar_core.model.journal import GENESIS, Line, encode
from northstar_core.model.world import GatewayStarted

BREAKS_KEPT = 12

TapeDigest = Callable[[int, int], str]  #: (first row, rows) to the digest of these rows of the tape


class Columns(NamedTuple):
    """A stored row's columns that its payload also says."""

    kind: str
    strategy: str
    account: str
    order_id: str


class Break(NamedTuple):
    """A place where the chain does not hold."""

    after: int  #: number of the row before
    previous: bytes  #: its stored hash
    line: Line
    computed: bytes
    stored: bytes


class Hole(NamedTuple):
    """Numbers that are neither events nor declared rows."""

    after: int  #: number of the ``TapeRead`` before
    until: int  #: number of the one that declares another count
    missing: int


def columns_of(event: e.Event) -> Columns:
    """Return what a stored row's columns must say of this event; empty where it has no such key."""
    source: Any = event.order if isinstance(event, e.OrderSubmitted) else event
    keys = (getattr(source, name, "") for name in ("strategy", "account", "order_id"))
    return Columns(type(event).__name__, *(key if isinstance(key, str) else "" for key in keys))


def text_of(line: Line) -> bytes:
    """Return a line's bytes."""
    return b"%d %d %d %d %b" % line


class Chain:
    """L1 and L2, line by line: the numbering and the hashes."""

    def __init__(
        self, tally: Tally, tape_digest: TapeDigest | None = None, stored: StoredTicks | None = None
    ) -> None:
        self.tally = tally
        self.tape_digest = tape_digest
        self.stored = stored
        self.epoch = 0
        self.seq = 0
        self.head = GENESIS
        self.events = 0
        self.ticks = 0
        self.undeclared = 0  #: numbers without an event since the last TapeRead
        self.declared_at = 0  #: number of the last TapeRead
        self.next_row: dict[str, int] = {}
        self.breaks: list[Break] = []
        self.gaps: list[tuple[int, int]] = []  #: (from, to) around a break that numbers are missing in
        self.holes: list[Hole] = []
        self.hashed = True

    def line(self, line: Line, text: bytes, stored: bytes | None) -> None:
        """Check one line's number and hash."""
        tally, seq = self.tally, line.seq
        tally.checked["L1"] += 1
        tally.checked["L2"] += 1
        step = seq - self.seq
        if step == 1:
            pass
        elif step > 1:
            self.undeclared += step - 1
            self.ticks += step - 1
        else:
            tally.violate("L1", seq, f"number {seq} stands after {self.seq}: rows were swapped, repeated or inserted")
        if self.stored is not None:
            self.stored.event(seq)
        computed = sha256(self.head + text).digest()
        if stored is None:
            self.head, self.hashed = computed, False
        else:
            if computed != stored:
                tally.violated["L2"] += 1
                if len(self.breaks) < BREAKS_KEPT:
                    self.breaks.append(Break(self.seq, self.head, line, computed, stored))
            self.head = stored
        self.events += 1
        self.seq = max(seq, self.seq) if step <= 0 else seq

    def unreadable(self, text: bytes, error: str) -> None:
        """Take note of a line that cannot be taken apart."""
        self.tally.checked["L2"] += 1
        self.tally.violate("L2", self.seq + 1, f"the line after seq {self.seq} was changed: {error}")
        self.head, self.hashed = sha256(self.head + text).digest(), False

    def payload(self, line: Line, event: e.Event, columns: Columns | None) -> None:
        """Check that a payload is canonical and that the row's columns say the same."""
        self._epoch(line, event)
        if encode(event) != line.payload:
            self.tally.violate("L2", line.seq, f"the payload is not the canonical form of its {type(event).__name__}")
        if columns is not None and columns != (expected := columns_of(event)):
            named = [
                f"{name} {ours!r}, the payload says {theirs!r}"
                for name, ours, theirs in zip(Columns._fields, columns, expected, strict=True)
                if ours != theirs
            ]
            self.tally.violate("L2", line.seq, f"column {'; '.join(named)}")

    def _epoch(self, line: Line, event: e.Event) -> None:
        """Epochs only grow, and each begins with the gateway that took it."""
        if type(event) is GatewayStarted:
            if event.epoch != line.epoch:
                self.tally.violate("L1", line.seq, f"the gateway of epoch {event.epoch} wrote in epoch {line.epoch}")
        elif line.epoch > self.epoch:
            self.tally.violate("L1", line.seq, f"epoch {line.epoch} begins without its gateway's GatewayStarted")
        if line.epoch < self.epoch:
            self.tally.violate(
                "L1", line.seq, f"written in epoch {line.epoch} after epoch {self.epoch} had begun: it was fenced off"
            )
        self.epoch = max(self.epoch, line.epoch)

    def tape_read(self, seq: int, event: e.TapeRead) -> None:
        """Check that the rows declared are the numbers no event has, that they follow on, and their digest."""
        if event.rows != self.undeclared:
            missing = self.undeclared - event.rows
            self.holes.append(Hole(self.declared_at, seq, missing))
            self.tally.violated["L1"] += 1
        expected = self.next_row.get(event.table, 0)
        if event.first_row != expected:
            self.tally.violate(
                "L1", seq, f"declares rows of {event.table!r} from {event.first_row}; the rows before end at {expected}"
            )
        self.next_row[event.table] = event.first_row + event.rows
        self.undeclared, self.declared_at = 0, seq
        if self.stored is not None:
            self.stored.tape_read(seq, event)
        if self.tape_digest is not None and self.tape_digest(event.first_row, event.rows) != event.digest:
            last = event.first_row + event.rows - 1
            self.tally.violate(
                "L2", seq, f"rows {event.first_row} to {last} of {event.table!r} are not those of this tape"
            )

    def finish(self, finished: bool, head: tuple[int, bytes] | None) -> None:
        """Check the log's end, and say of each break what was done to the log there."""
        if self.stored is not None:
            self.stored.finish()
        if self.undeclared and finished:
            self.holes.append(Hole(self.declared_at, self.seq, self.undeclared))
            self.tally.violated["L1"] += 1
        elif self.undeclared:
            self.tally.notes.append(
                f"{self.undeclared} numbers after seq {self.declared_at} are not declared as rows yet"
            )
        self._place_holes()
        self._place_breaks()
        if head is not None:
            self.tally.checked["L2"] += 1
            self._compare_head(*head)
        elif not finished:
            self.tally.notes.append(
                "the log does not end with RunFinished and no head was given: whether its tail is missing is not known"
            )
        if not self.hashed and head is None:
            self.tally.notes.append(
                "neither stored hashes nor a head were given: that no byte was changed is not known"
            )

    def _compare_head(self, seq: int, head: bytes) -> None:
        if self.seq < seq:
            self.tally.violate("L1", self.seq, f"the log ends here, its head is seq {seq}: what follows was deleted")
        elif self.seq > seq:
            self.tally.violate("L1", self.seq, f"the log goes on to seq {self.seq} beyond its head, seq {seq}")
        if self.head != head and self.seq == seq:
            where = "the last row" if self.hashed else "some row (the lines have no stored hashes to say which)"
            self.tally.violate(
                "L2",
                self.seq,
                f"the chain ends in {self.head.hex()[:16]}, the head is {head.hex()[:16]}: {where} was changed",
            )

    # ── what was done, and where ──────────────────────────────────────────────────────────────────────────────────────

    def _place_holes(self) -> None:
        for hole in self.holes:
            if hole.missing < 0:
                detail = (
                    f"{-hole.missing} more row(s) are declared than numbers without an event since seq {hole.after}"
                )
                self.tally.places["L1"].insert(0, (hole.until, f"{detail}: events were inserted or numbers changed"))
                continue
            # Where the chain breaks over missing numbers, the deleted rows had numbers between these two.
            gaps = [(broken.after, broken.line.seq) for broken in self.breaks if self._spans(broken, hole)]
            where = "".join(f", between seq {after} and {seq}" for after, seq in gaps)
            if sum(seq - after - 1 for after, seq in gaps) == hole.missing:
                where += " (exactly these numbers)"
            span = f"{hole.missing} number(s) between seq {hole.after} and {hole.until}"
            first = gaps[0][0] + 1 if gaps else hole.after + 1
            detail = f"{span} are neither an event nor a declared row: events were deleted{where}"
            self.tally.places["L1"].insert(0, (first, detail))

    @staticmethod
    def _spans(broken: Break, hole: Hole) -> bool:
        """Whether the chain breaks over missing numbers inside a hole."""
        return hole.after < broken.line.seq <= hole.until and broken.line.seq > broken.after + 1

    def _place_breaks(self) -> None:
        if not self.breaks:
            return
        swapped = self._swapped()
        if swapped is not None:
            first, second = swapped
            self.tally.places["L2"].insert(0, (first, f"the rows of seq {first} and {second} were swapped"))
            return
        skip = False
        for index, broken in enumerate(self.breaks):
            if skip:
                skip = False
                continue
            seq = broken.line.seq
            follower = self.breaks[index + 1] if index + 1 < len(self.breaks) else None
            if (
                follower is not None
                and follower.after == seq
                and sha256(broken.computed + text_of(follower.line)).digest() == follower.stored
            ):
                detail, skip = "the stored hash of this row was changed, its content was not", True
            elif any(hole.missing > 0 and self._spans(broken, hole) for hole in self.holes):
                detail = f"does not follow from seq {broken.after}: rows between them were deleted"
            elif seq > broken.after + 1:
                detail = (
                    f"hashes to {broken.computed.hex()[:16]}, stored is {broken.stored.hex()[:16]}:"
                    f" this row was changed (or rows after seq {broken.after} were deleted)"
                )
            else:
                computed, stored = broken.computed.hex()[:16], broken.stored.hex()[:16]
                detail = f"hashes to {computed}, stored is {stored}: this row was changed"
            self.tally.places["L2"].insert(0, (seq, detail))

    def _swapped(self) -> tuple[int, int] | None:
        """Return the numbers of two rows that, put back, make the chain whole; None if there are no such two."""
        by_seq = {broken.line.seq: broken for broken in self.breaks}
        for first in self.breaks:
            for second in self.breaks:
                if first.line.seq < second.line.seq and any(
                    self._whole_after(by_seq, first, second, with_hash) for with_hash in (False, True)
                ):
                    return first.line.seq, second.line.seq
        return None

    @staticmethod
    def _whole_after(by_seq: dict[int, Break], first: Break, second: Break, with_hash: bool) -> bool:
        one, two = first.line, second.line
        for swapped in (
            (two._replace(seq=one.seq), one._replace(seq=two.seq)),
            (one._replace(payload=two.payload), two._replace(payload=one.payload)),
        ):
            lines = {one.seq: swapped[0], two.seq: swapped[1]}
            hashes = {one.seq: second.stored, two.seq: first.stored} if with_hash else {}
            if all(
                sha256(hashes.get(broken.after, broken.previous) + text_of(lines.get(seq, broken.line))).digest()
                == hashes.get(seq, broken.stored)
                for seq, broken in by_seq.items()
            ):
                return True
        return False
