"""One live run of a strategy in an account: a lease with a holder and an end, by the database's clock."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Self

from northstar_core.model.errors import StoreError
from northstar_core.store.postgres import Database, Role
from northstar_core.store.session import Session


class Lease(NamedTuple):
    """The right to run a strategy in an account until ``expires``, for whoever shows the ``token``."""

    strategy: str
    account: str
    holder: str
    token: int  #: grows each time the lease passes to somebody; what carries an older one is of an earlier run
    taken: datetime  #: UTC, by the database's clock
    expires: datetime


class Leases:
    """Takes, renews and gives back leases. An asynchronous context manager.

    A holder that stops renewing loses the lease when it expires, and nobody has to find out why. Times are the
    database's, which every host shares; a lease is a matter of wall-clock seconds also where the desk's clock is scaled.
    """

    def __init__(self, database: Database, role: Role = Role.RUN_WRITER) -> None:
        self._session = Session(database, role)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def take(self, strategy: str, account: str, holder: str, seconds: float) -> Lease:
        """Take a lease that is free or has expired. The holder of a living one gets the same again, for longer.

        Parameters
        ----------
        holder
            Says who: unique to a process or a run, as ``HOST:PID:RUN``.
        seconds
            How long it lasts without being renewed.

        Raises
        ------
        StoreError
            If somebody else holds it, who and until when.
        """
        row = await self._session.row("take_lease", strategy, account, holder, float(seconds))
        if row is not None:
            return Lease(*row.values())
        held = await self.held(strategy, account)
        if held is None:  # it expired between the two
            return await self.take(strategy, account, holder, seconds)
        raise StoreError(
            f"strategy {strategy} is running in account {account} already: {held.holder}, lease until "
            f"{held.expires:%H:%M:%S} UTC; stop that run or wait"
        )

    async def renew(self, lease: Lease, seconds: float) -> Lease:
        """Hold a lease for so many seconds from now.

        Raises
        ------
        StoreError
            If it has expired or passed to somebody else: whoever holds it no more must stop.
        """
        row = await self._session.row("renew_lease", lease.strategy, lease.account, lease.token, float(seconds))
        if row is None:
            raise StoreError(f"the lease of {lease.strategy} in {lease.account} is lost: token {lease.token} holds no more")
        return Lease(*row.values())

    async def release(self, lease: Lease) -> bool:
        """Give a lease back; False if it was ours no longer."""
        return await self._session.row("release_lease", lease.strategy, lease.account, lease.token) is not None

    async def held(self, strategy: str, account: str) -> Lease | None:
        """Return the lease of a strategy in an account that is held now; None where nobody does."""
        return next((lease for lease in await self.all() if (lease.strategy, lease.account) == (strategy, account)), None)

    async def all(self) -> list[Lease]:
        """Return every lease that is held now."""
        return [Lease(*row.values()) for row in await self._session.rows("leases")]
