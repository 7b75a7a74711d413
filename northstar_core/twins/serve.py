"""Start twins on loopback: each on a port of its own, all in one market that plays while they are up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from importlib import import_module
from typing import Any

from aiohttp import web

from northstar_core.model.errors import SettingsError
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.faults import Fault, Faults
from northstar_core.twins.market import TwinMarket

NAMES = ("alpaca", "massive", "ibkr")
ACCOUNTS = {"alpaca": "PA1234567", "ibkr": "DU1234567"}
CASH = Decimal(100_000)
KEY, SECRET = "KEY", "SECRET"  # of no use anywhere else


class Served:
    """Twins that are up."""

    def __init__(self, market: TwinMarket) -> None:
        self.market = market
        self.ports: dict[str, int] = {}
        self.accounts: dict[str, TwinAccount] = {}
        self.faults: dict[str, Faults] = {}

    def url(self, name: str, scheme: str = "http") -> str:
        """Return where a twin is."""
        return f"{scheme}://127.0.0.1:{self.ports[name]}"


@asynccontextmanager
async def serve(
    market: TwinMarket, *, alpaca: int | None = None, massive: int | None = None, ibkr: int | None = None,
    faults: Mapping[str, list[Fault]] | None = None, seed: int = 0, cash: Decimal = CASH,
    options: Mapping[str, Mapping[str, Any]] | None = None, play: bool = True,
) -> AsyncIterator[Served]:  # fmt: skip
    """Serve the twins whose port is given (0: any free one) until the block ends.

    Parameters
    ----------
    faults
        Rules by twin; its account asks the same ones.
    seed
        Of the faults' draws.
    cash
        What each brokerage account begins with.
    options
        More arguments of a twin's ``app``, by twin.
    play
        Whether the market runs; otherwise the caller steps it.

    Raises
    ------
    SettingsError
        If a port is taken.
    """
    served = Served(market)
    async with AsyncExitStack() as stack:
        for name, port in zip(NAMES, (alpaca, massive, ibkr), strict=True):
            if port is None:
                continue
            rules = served.faults[name] = Faults((faults or {}).get(name, ()), seed)
            twin: Any = import_module(f"northstar_core.twins.{name}")
            more = dict((options or {}).get(name, {}))
            if name in ACCOUNTS:
                account = TwinAccount(market, ACCOUNTS[name], cash, more.pop("model", getattr(twin, "MODEL", None)), rules)
                served.accounts[name] = account
                app = twin.app(market, account, rules, **more)
            else:
                app = twin.app(market, rules, more.pop("key", KEY), **more)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            try:
                await web.TCPSite(runner, "127.0.0.1", port).start()
            except OSError as error:
                raise SettingsError(
                    f"--{name} {port}: cannot listen ({error.strerror}); choose another port or 0"
                ) from None
            served.ports[name] = runner.addresses[0][1]
        if play:
            task = asyncio.create_task(market.run())
            stack.push_async_callback(_end, task)
            market.clock.start()
        yield served


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
