"""One run of a strategy in an account at a time, whoever starts it: the lease of ``store.leases``, held for as long as the run lives."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from northstar_core.model.errors import StoreError
from northstar_core.store.leases import Lease, Leases

log = logging.getLogger("northstar.jobs")

LEASE_S = 15.0  #: wall seconds; a holder that is gone is followed by nobody sooner
RENEW_S = 4.0


def holder_of_job(home: Path, job: str) -> str:
    """Return as whom a home's worker holds a job's lease: after a restart it is the same, and need not wait for its own lease to end.

    There is one worker in a home, and its runs die with it.
    """
    return f"{socket.gethostname()}:{home}:{job}"


def holder_by_hand() -> str:
    """Return as whom this process holds a lease."""
    return f"{socket.gethostname()}:{os.getpid()}"


@asynccontextmanager
async def held(
    leases: Leases, strategy: str, account: str, holder: str, on_lost: Callable[[str], None], *, seconds: float = LEASE_S,
    renew_s: float = RENEW_S,
) -> AsyncIterator[Lease]:  # fmt: skip
    """Hold a lease, renewed, until the block is left.

    ``on_lost`` is called once if it is lost: somebody else may run from then on.

    Raises
    ------
    StoreError
        If somebody else holds it, or the database cannot be reached.
    """
    lease = await leases.take(strategy, account, holder, seconds)

    async def renew() -> None:
        nonlocal lease
        while True:
            await asyncio.sleep(renew_s)
            try:
                lease = await leases.renew(lease, seconds)
                continue
            except StoreError as error:
                log.warning("%s", error)
            try:
                other = await leases.held(strategy, account)
                if other is not None and other.holder != holder:
                    on_lost(f"{strategy} in {account} is run by {other.holder} now; its lease had ended")
                    return
                lease = await leases.take(strategy, account, holder, seconds)
            except StoreError as error:  # a database that is away gives the lease to nobody else meanwhile
                log.warning("%s", error)

    renewing = asyncio.ensure_future(renew())
    try:
        yield lease
    finally:
        renewing.cancel()
        with suppress(StoreError):
            await leases.release(lease)
