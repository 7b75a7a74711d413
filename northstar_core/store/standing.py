"""Taking up the projection of a long stream from its own tables, not from its first event.

Orders that work, and the newest of those that ended, come from ``order_state``; flat positions from ``position``. What is
held is folded from its fills, because a position's row says what it cost, not which lots it has.
"""

from __future__ import annotations

import asyncpg

from northstar_core.model.account import Position
from northstar_core.model.instrument import instrument
from northstar_core.store.projection import OrderRow, Projection, text
from northstar_core.store.queries import SQL
from northstar_core.store.rows import Fact, read

ENDED = 50_000  #: orders that ended and are remembered: a fill that comes later still changes its order's row


async def take_up(connection: asyncpg.Connection, projection: Projection) -> None:
    """Bring an empty projection to where its stream's tables stand."""
    stream = projection.stream
    for row in await connection.fetch(SQL["standing_orders"], stream, ENDED):
        projection.orders[row["order_id"]] = _order(stream, row)
    held = set()
    for row in await connection.fetch(SQL["standing_positions"], stream):
        symbol = row["symbol"]
        key = (row["account"], row["strategy"], symbol)
        if row["qty"]:
            held.add(key)
        else:
            multiplier = instrument(symbol).legs[0].instrument.multiplier
            projection.positions[key] = Position.flat(symbol, multiplier, row["realized"], row["fees"])
    moves = []
    for row in await connection.fetch(SQL["moves_of_open_positions"], stream):
        fact = read(row["payload"])
        assert isinstance(fact, Fact)
        if (fact.account, fact.strategy, fact.symbol) in held:
            moves.append((row["seq"], row["ts"], fact))
    projection.fold_positions(moves)


def _order(stream: int, row: asyncpg.Record) -> OrderRow:
    words = (row[name] for name in ("order_id", "strategy", "account", "symbol", "side", "order_type", "tif", "parent"))
    return OrderRow(
        "\t".join([str(stream), *map(text, words)]), row["qty"], row["limit_price"], row["stop_price"],
        row["submitted_seq"], row["submitted_ts"], row["last_seq"], row["last_ts"], row["leaves_qty"], row["status"],
        row["cum_qty"], row["reason"], True,
    )  # fmt: skip
