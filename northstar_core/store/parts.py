"""One statement for all that a desk makes durable at one time: one round trip, one transaction, one wait for the disk.

Each part is a query of its own, with parameters from $1 on; a statement is those parts that have something to write,
run beside each other. There are few combinations, and the database prepares each once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from northstar_core.model.errors import JournalError
from northstar_core.store.projection import NULL, Changes
from northstar_core.store.queries import SQL
from northstar_core.store.rows import Fact, read
from northstar_core.store.ticks import Block

_PARAMETER = re.compile(r"\$(\d+)")
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
_json = msgspec.json.Encoder().encode


class Statement(NamedTuple):
    """SQL and its arguments."""

    text: str
    arguments: list[Any]


class Events:
    """Rows of events that follow each other, column by column, as arrays take them."""

    __slots__ = ("columns", "facts", "size")

    def __init__(self) -> None:
        self.columns: tuple[list[Any], ...] = tuple([] for _ in range(9))
        self.facts: list[tuple[int, int, Fact]] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.columns[0])

    def put(self, lines: Iterable[bytes], epoch: int, seq: int, hash: bytes) -> tuple[int, bytes]:
        """Add journal lines that follow the event ``seq`` with this hash; returns the number and hash of the last.

        Raises
        ------
        JournalError
            If a line is malformed, of another epoch, or its number does not grow; nothing of this call is added then.
        """
        rows: list[tuple[Any, ...]] = []
        facts: list[tuple[int, int, Fact]] = []
        size = 0
        for text in lines:
            try:
                number, of_epoch, ts, cause, payload = text.split(b" ", 4)
                before, seq, at = seq, int(number), int(ts)
                why, own = int(cause), int(of_epoch)
            except ValueError as error:
                raise JournalError(f"after seq {seq}: not a journal line: {error}: {text[:120]!r}") from None
            if seq <= before or own != epoch:
                what = f"does not follow seq {before}" if seq <= before else f"is of epoch {own}, this is epoch {epoch}"
                raise JournalError(f"seq {seq} {what}")
            fact = read(payload)
            if isinstance(fact, Fact):
                order = fact.order
                if order is not None:
                    fact.strategy, fact.account, fact.order_id = order.strategy, order.account, order.order_id
                facts.append((seq, at, fact))
            hash = sha256(hash + text).digest()
            size += len(text)
            rows.append(
                (seq, at, why, fact.type, fact.strategy or None, fact.account or None, fact.order_id or None, payload, hash)
            )
        for column, values in zip(self.columns, zip(*rows, strict=True), strict=bool(rows)):
            column.extend(values)
        self.facts += facts
        self.size += size
        return seq, hash


def statement(stream: int, epoch: int, events: Events, changes: Changes, ticks: list[Block], wait: bool) -> Statement:
    """Return the statement that writes all of this in one transaction.

    Parameters
    ----------
    wait
        Whether the commit waits for the disk.
    """
    parts: list[tuple[str, list[Any]]] = []
    if len(events):
        parts.append(("put_events", [stream, epoch, *events.columns]))
    if changes.new_orders or changes.changed_orders:
        parts.append(("put_orders", [_rows(changes.new_orders + changes.changed_orders)]))
    if changes.fills:
        parts.append(("put_fills", [_rows(changes.fills)]))
    if changes.positions:
        parts.append(("put_positions", [_rows(changes.positions)]))
    if ticks:
        columns = zip(*((b.n, b.first_seq, b.last_ts, "\x1f".join(b.symbols), b.payload) for b in ticks), strict=True)
        parts.append(("put_ticks", [stream, epoch, *map(list, columns)]))
    arguments = [value for _, values in parts for value in values]
    return Statement(_text(tuple((name, len(values)) for name, values in parts), wait), arguments)


@lru_cache(maxsize=64)
def _text(parts: tuple[tuple[str, int], ...], wait: bool) -> str:
    """Return the statement of some parts, each with so many parameters; there are few combinations."""
    text, before = [], 0
    for name, count in parts:
        text.append(f"{name} AS ({_renumbered(SQL[name], before)})")
        before += count
    return f"WITH {', '.join(text)} {'SELECT' if wait else SQL['do_not_wait']}"


def _renumbered(sql: str, by: int) -> str:
    return _PARAMETER.sub(lambda match: f"${int(match[1]) + by}", sql)


def _rows(copy: bytes) -> str:
    """Return rows in COPY's text format as JSON."""
    return _json([[_field(field) for field in row.split("\t")] for row in _split(copy)]).decode()


def _split(copy: bytes) -> Iterator[str]:
    return iter(copy.decode().split("\n")[:-1])


def _field(field: str) -> str | None:
    if field == NULL:
        return None
    return _ESCAPED.sub(lambda match: _UNESCAPED[match[1]], field) if "\\" in field else field
