"""What old market data may go: ticks, in whole ranges of numbers. Events are never dropped."""

from __future__ import annotations

import asyncpg

from northstar_core.model.errors import StoreError
from northstar_core.store.postgres import Database, Role
from northstar_core.store.queries import SQL


async def drop_ticks(database: Database, below: int) -> list[int]:
    """Drop the stored ticks, of every stream, in ranges whose numbers are all below one.

    An auditor reports what they were as not checkable: their numbers, and the digests that were declared over them.

    Parameters
    ----------
    below
        The lowest number whose tick must stay.

    Returns
    -------
    The first number of each range dropped.

    Raises
    ------
    StoreError
        If the database cannot be reached, or whoever we are there does not own it.
    """
    connection = await database.connect(Role.ADMIN)
    try:
        async with connection.transaction():
            await connection.execute(SQL["be_owner"])
            return [row[0] for row in await connection.fetch(SQL["drop_ticks"], below)]
    except asyncpg.PostgresError as error:
        raise StoreError(f"cannot drop ticks below {below} in {database.place}: {error}") from None
    finally:
        await connection.close()
