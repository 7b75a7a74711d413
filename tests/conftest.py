"""Fixtures that several rooms share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from northstar_core.store.postgres import Database, open_database


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A real Postgres with the schema at head, one for the whole session; give each test's runs ids of their own."""
    home: Path = tmp_path_factory.mktemp("northstar")
    with asyncio.Runner() as runner:
        opened = open_database(home)
        database = runner.run(opened.__aenter__())
        try:
            yield database
        finally:
            runner.run(opened.__aexit__(None, None, None))
            assert database.server is not None
            assert database.server.wait_stopped()
