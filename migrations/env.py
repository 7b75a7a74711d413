"""Alembic's entry: ``alembic upgrade head`` from a shell, or ``store.postgres.migrate`` from Python.

Which database: the one handed over by Python, else ``NORTHSTAR_DATABASE_URL``, else the embedded server of
``NORTHSTAR_HOME``.
"""

from __future__ import annotations

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from northstar_core.store.postgres import Role, database_at

LOCK = 0x6E6F7274  # one migration at a time; "nort"


def run(connection: Connection) -> None:
    """Bring the schema to the wanted revision, in one transaction."""
    connection.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS northstar"))
    connection.commit()
    context.configure(connection=connection, version_table_schema="northstar", transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_async(dsn: str) -> None:
    """Connect with asyncpg, the only driver Northstar has."""
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda *_, **__: asyncpg.connect(dsn), poolclass=NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", version_table_schema="northstar", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif dsn := context.config.attributes.get("dsn"):
    asyncio.run(run_async(dsn))
else:
    with database_at() as database:
        asyncio.run(run_async(database.dsn(Role.ADMIN)))
