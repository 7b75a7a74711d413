"""A connection for statements that may be repeated: opened when first needed, and again when it was lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

import asyncpg

from northstar_core.model.errors import StoreError
from northstar_core.store.events import LOST
from northstar_core.store.postgres import Database, Role
from northstar_core.store.queries import SQL


class Session:
    """Runs named statements, one at a time. A statement whose connection breaks is run again, once, on another.

    Only for statements that do the same when they are run twice.
    """

    def __init__(self, database: Database, role: Role = Role.RUN_WRITER) -> None:
        self.database, self.role = database, role
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def rows(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Return the rows of a statement of ``queries.sql``; raises as ``ask``."""
        return (await self.ask(name, *arguments))[0]

    async def ask(self, name: str, *arguments: Any) -> tuple[list[asyncpg.Record], bool]:
        """Return the rows of a statement, and whether it was run a second time because the first answer was lost.

        Raises
        ------
        StoreError
            If the database cannot be reached or refuses.
        """
        async with self._turn:
            for again in (False, True):
                try:
                    if self._connection is None:
                        self._connection = await self.database.connect(self.role)
                    found: list[asyncpg.Record] = await self._connection.fetch(SQL[name], *arguments)
                    return found, again
                except LOST as error:
                    await self._let_go()
                    if again:
                        raise self.database.unreachable(error) from None
                except asyncpg.PostgresError as error:
                    raise StoreError(f"{name}: {str(error).splitlines()[0]}") from None
        raise AssertionError

    async def row(self, name: str, *arguments: Any) -> asyncpg.Record | None:
        """Return the one row of a statement; None where there is none."""
        found = await self.rows(name, *arguments)
        return found[0] if found else None

    async def close(self) -> None:
        """End the session; the next statement would open another."""
        async with self._turn:
            await self._let_go()

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close(timeout=5)
