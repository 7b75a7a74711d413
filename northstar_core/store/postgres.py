"""The database: the embedded server or any other by DSN, checked for durability, migrated to head, one DSN a role."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from northstar_core.model.errors import StoreError
from northstar_core.store.queries import SQL
from northstar_core.store.server import Server
from northstar_core.store.supervisor import ADMIN

NAME = "northstar"  #: of the database on the embedded server
OLDEST_SERVER = 150000  #: MERGE-free SQL, but COPY and transition tables as tested here: Postgres 15
CONNECT_S = 10.0


class Role(StrEnum):
    """As whom one connects: what the role may do is granted in the migrations."""

    ADMIN = ADMIN  #: migrations; on a server by DSN, whoever the DSN names
    GATEWAY = "northstar_gateway"  #: as RUN_WRITER, and begins the epochs of the desk's stream
    RUN_WRITER = "northstar_run_writer"  #: appends events, reads all
    READER = "northstar_reader"  #: reads views


class Database:
    """Where the event store is, and how to connect to it.

    Parameters
    ----------
    url
        DSN of a server that somebody else runs; None for the embedded one.
    server
        Our share in the embedded server.
    """

    def __init__(self, *, url: str | None = None, server: Server | None = None) -> None:
        self.url, self.server = url, server

    def __repr__(self) -> str:
        return f"Database({self.place})"

    @property
    def place(self) -> str:
        """Where the database is, for messages: never with a password."""
        if self.url is not None:
            parts = urlsplit(self.url)
            return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
        assert self.server is not None
        return str(self.server.cluster.folder)

    def dsn(self, role: Role) -> str:
        """Return the DSN of a role, as libpq and asyncpg understand it."""
        if self.url is None:
            assert self.server is not None
            return f"postgresql://{role}@/{NAME}?host={quote(str(self.server.socket_folder))}"
        if role is Role.ADMIN:
            return self.url
        # one login serves all roles: each session takes on its role as it connects
        parts = urlsplit(self.url)
        option = f"options={quote(f'-c role={role}')}"
        return urlunsplit(parts._replace(query=f"{parts.query}&{option}" if parts.query else option))

    async def connect(self, role: Role) -> asyncpg.Connection:
        """Connect as a role. An embedded server that has died since is started again.

        Raises
        ------
        StoreError
            If the server cannot be reached or does not let us in.
        """
        try:
            return await self.attempt(role)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise self.unreachable(error) from None

    async def attempt(self, role: Role, name: str | None = None) -> asyncpg.Connection:
        """As ``connect``, to a database of this name, raising what asyncpg raises."""
        for last in (False, False, True):
            try:
                connection = await asyncpg.connect(self.dsn(role), database=name, timeout=CONNECT_S)
                if self.server is not None:
                    # a server whose supervisor was just killed still answers, and then no more
                    await connection.execute(SQL["alive"])
                return connection
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
                if self.server is None or last:
                    raise
                await asyncio.to_thread(self.server.ensure)
        raise AssertionError

    def unreachable(self, error: BaseException) -> StoreError:
        """Return the one line that says why the database cannot be reached, and the way out."""
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        way_out = "is the server up, and NORTHSTAR_DATABASE_URL right?" if self.url is not None else "start it again"
        return StoreError(f"cannot reach the database at {self.place}: {reason}; {way_out}")

    def close(self) -> None:
        """Let go of the embedded server, if that is where the database is."""
        if self.server is not None:
            self.server.close()


@contextlib.contextmanager
def database_at(home: Path | None = None, url: str | None = None) -> Iterator[Database]:
    """Yield a database as it is: running, but neither checked nor migrated."""
    url = url or os.environ.get("NORTHSTAR_DATABASE_URL") or None
    database = Database(url=url) if url is not None else Database(server=Server(home or default_home()))
    try:
        yield database
    finally:
        database.close()


@contextlib.asynccontextmanager
async def open_database(home: Path | None = None, *, url: str | None = None) -> AsyncIterator[Database]:
    """Yield the event store's database, started if need be, checked and migrated to head.

    Parameters
    ----------
    home
        Northstar's folder, in which the embedded server lives; default ``default_home()``.
    url
        DSN of a server to use instead; default ``NORTHSTAR_DATABASE_URL``.

    Raises
    ------
    StoreError
        If it cannot be started or reached, could lose what it acknowledged, or has a newer schema than this code.
    """
    place = database_at(home, url)
    database = await asyncio.to_thread(place.__enter__)
    try:
        await prepare(database)
        yield database
    finally:
        place.__exit__(None, None, None)


async def prepare(database: Database) -> None:
    """Check the server and bring the schema to head."""
    if database.url is None:
        await _create_embedded_database(database)
    connection = await database.connect(Role.ADMIN)
    try:
        await refuse_a_forgetful_server(connection, database)
        revision = await current_revision(connection)
    finally:
        await connection.close()
    newest = head_revision()
    if revision is not None and revision > newest:
        raise StoreError(
            f"the database at {database.place} has schema {revision}, this version knows {newest}; upgrade Northstar"
        )
    if revision != newest:
        await migrate(database)


async def _create_embedded_database(database: Database) -> None:
    """Create the database on a new cluster."""
    try:
        await (await database.attempt(Role.ADMIN)).close()
        return
    except asyncpg.InvalidCatalogNameError:
        pass
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise database.unreachable(error) from None
    connection = await database.attempt(Role.ADMIN, "postgres")
    try:
        await connection.execute(SQL["create_database"])
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass  # another process was first
    except asyncpg.PostgresError as error:
        raise StoreError(f"cannot create the database in {database.place}: {error}") from None
    finally:
        await connection.close()


async def refuse_a_forgetful_server(connection: asyncpg.Connection, database: Database) -> None:
    """Refuse a server that could lose a commit it acknowledged, or is too old.

    Raises
    ------
    StoreError
        If ``fsync``, ``synchronous_commit`` or ``full_page_writes`` is off.
    """
    settings = {row["name"]: row["setting"] for row in await connection.fetch(SQL["durability"])}
    off = sorted(name for name, setting in settings.items() if setting == "off")
    if off:
        raise StoreError(
            f"the database at {database.place} could lose orders it has confirmed: {', '.join(off)} is off; turn it on"
        )
    if int(settings["server_version_num"]) < OLDEST_SERVER:
        raise StoreError(f"the database at {database.place} is too old; use Postgres {OLDEST_SERVER // 10000} or later")


async def current_revision(connection: asyncpg.Connection) -> str | None:
    """Return the schema's revision; None where there is none yet."""
    if await connection.fetchval(SQL["has_schema"]):
        revision: str | None = await connection.fetchval(SQL["revision"])
        return revision
    return None


async def migrate(database: Database) -> None:
    """Bring the schema to head.

    Raises
    ------
    StoreError
        If a migration fails; nothing of it stays.
    """
    # imported here: half a second that only a new database costs
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["dsn"] = database.dsn(Role.ADMIN)
    try:
        await asyncio.to_thread(command.upgrade, config, "head")
    except Exception as error:  # SQLAlchemy wraps what asyncpg raises, in many classes; all mean the same to us
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise StoreError(f"cannot migrate the database at {database.place}: {reason}") from error


def migrations_folder() -> Path:
    """Return the folder of the Alembic migrations: the project's, else the one installed beside the package.

    Raises
    ------
    StoreError
        If there is none.
    """
    import sys

    root = Path(__file__).resolve().parents[2]
    for folder in (root / "migrations", Path(sys.prefix) / "share" / "northstar" / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise StoreError(f"no migrations in {root / 'migrations'}; install Northstar from its checkout")


def head_revision() -> str:
    """Return the newest revision: migrations are numbered, ``0001_what_it_does.py``."""
    names = (path.name for path in (migrations_folder() / "versions").iterdir())
    return max(number[1] for name in names if (number := re.match(r"(\d{4})_\w+\.py$", name)))


def default_home() -> Path:
    """Return Northstar's folder.

    ``NORTHSTAR_HOME``, else ``.northstar`` in the project that holds the working directory, else in that directory.
    """
    if named := os.environ.get("NORTHSTAR_HOME"):
        return Path(named).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "strategies").is_dir():
            return folder / ".northstar"
    return here / ".northstar"
