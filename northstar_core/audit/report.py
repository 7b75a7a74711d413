"""What a verification found: one finding an invariant, with the place."""

from __future__ import annotations

from typing import Any

import msgspec

#: What is checked, in the order in which it is reported: id to its predicate in a sentence.
INVARIANTS: dict[str, str] = {
    "L1": "numbers are gapless: each is one event or one declared row of the tape; epochs only grow",
    "L2": "each row hashes, with the hash before it, to its stored hash; payloads are canonical and the columns agree",
    "L6": "each snapshot equals the fold of the log up to it",
    "L7": "each event that is no input names an earlier cause",
    "O1": "each order id was submitted once, and the broker's open orders are ours",
    "O2": "nothing happens to an order before it was submitted",
    "O3": "what was submitted is what was intended, or a recorded rule changed it",
    "O4": "nothing is sent again while its outcome is known or could be",
    "O5": "each order's life is a path of the published state machine",
    "O6": "an order ends once; a fill after its end is recorded as late",
    "O7": "each intent is decided once; the same id with other content is refused as a conflict",
    "O9": "an order ends only on the broker's word, newer than the submit",
    "P1": "each fill is of a submitted order: its account, strategy, symbol and side, as the broker reported it",
    "P2": "each execution is booked once",
    "P3": "fills add up to the filled quantity and never exceed what was authorised",
    "P4": "at each clean reconciliation the broker's positions equal the fold exactly, cash within 0.01",
    "P5": "the strategies' positions sum to the account's",
    "R1": "each accepted order's worst-case notional, taken again, is as stored and within the strategy's cap",
    "R2": "worst-case quantities stay within the position limits",
    "R3": "gross, net, symbol share and buying power, taken again, are as stored and within the account's limits",
    "R4": "quantity, value, collar, tick, lot, session, universe and freshness, taken again, all pass",
}
KEPT = 16  #: places remembered for each invariant


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One invariant over the whole log."""

    invariant: str
    checked: int
    violated: int
    first_seq: int | None = None  #: of the first violation
    detail: str = ""  #: of the first violation: what, where, both numbers
    places: tuple[tuple[int, str], ...] = ()  #: (seq, detail) of the first violations


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``verify`` found.

    ``exit_code`` is 0 when every invariant held, 1 when one was violated, 2 when the log could not be read.
    """

    findings: tuple[Finding, ...] = ()
    events: int = 0
    ticks: int = 0
    last_seq: int = 0
    head: str = ""  #: hash of the last line, hexadecimal
    notes: tuple[str, ...] = ()  #: what could not be checked, and why
    error: str = ""  #: why the log could not be read

    @property
    def exit_code(self) -> int:
        """0 clean, 1 violated, 2 could not run."""
        return 2 if self.error else int(any(finding.violated for finding in self.findings))

    def __getitem__(self, invariant: str) -> Finding:
        """Return the finding of an invariant."""
        return next(finding for finding in self.findings if finding.invariant == invariant)

    @property
    def violated(self) -> tuple[str, ...]:
        """The invariants that do not hold."""
        return tuple(finding.invariant for finding in self.findings if finding.violated)

    def lines(self) -> list[str]:
        """Return the report as plain text: one line an invariant, then what is wrong, then what was not checked."""
        if self.error:
            return [f"could not verify: {self.error}"]
        out = [f"{'':4}{'checked':>10} {'violated':>9} {'first seq':>10}"]
        for found in self.findings:
            first = "" if found.first_seq is None else str(found.first_seq)
            out.append(
                f"{found.invariant:4}{found.checked:>10} {found.violated:>9} {first:>10}  {INVARIANTS[found.invariant]}"
            )
        for found in self.findings:
            out += [f"{found.invariant} seq {seq}: {detail}" for seq, detail in found.places]
            if found.violated > len(found.places):
                out.append(f"{found.invariant} and {found.violated - len(found.places)} more")
        out += [f"note: {note}" for note in self.notes]
        verdict = f"violated: {', '.join(self.violated)}" if self.violated else "every invariant holds"
        out.append(
            f"{self.events} events and {self.ticks} rows to seq {self.last_seq}, head {self.head[:16]}: {verdict}"
        )
        return out

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, for ``--json``."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found | {"exit_code": self.exit_code, "violated": list(self.violated)}


class Tally:
    """Counts what was checked and remembers what did not hold."""

    def __init__(self) -> None:
        self.checked: dict[str, int] = dict.fromkeys(INVARIANTS, 0)
        self.violated: dict[str, int] = dict.fromkeys(INVARIANTS, 0)
        self.places: dict[str, list[tuple[int, str]]] = {name: [] for name in INVARIANTS}
        self.notes: list[str] = []

    def violate(self, invariant: str, seq: int, detail: str) -> None:
        """Remember that an invariant does not hold at this number of the log."""
        self.violated[invariant] += 1
        if len(self.places[invariant]) < KEPT:
            self.places[invariant].append((seq, detail))

    def findings(self) -> tuple[Finding, ...]:
        """Return one finding an invariant; its places are in the log's order."""
        out = []
        for name in INVARIANTS:
            places = tuple(sorted(self.places[name], key=lambda place: place[0]))
            first_seq, detail = places[0] if places else (None, "")
            out.append(
                Finding(
                    invariant=name,
                    checked=self.checked[name],
                    violated=self.violated[name],
                    first_seq=first_seq,
                    detail=detail,
                    places=places,
                )
            )
        return tuple(out)
