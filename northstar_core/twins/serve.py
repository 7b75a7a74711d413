"""Start twins on loopback: each on a port of its own, all in one market that plays while they are up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from importlib import import_module
from typing import Any

import msgspec
from aiohttp import web

from northstar_core.model.errors import SettingsError
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.faults import Fault, Faults, faults_from_json
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

        self._playing: asyncio.Task[None] | None = None

    def play(self) -> None:
        """Let the market run."""
        self._playing = asyncio.create_task(self.market.run())
        self.market.clock.start()

    async def until(self, stop: asyncio.Event) -> None:
        """Wait until told to stop; what breaks the market is raised at once."""
        waiting = asyncio.create_task(stop.wait())
        tasks: set[asyncio.Task[Any]] = {waiting, *([self._playing] if self._playing is not None else [])}
        while not waiting.done():
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def close(self) -> None:
        """End the market."""
        if self._playing is not None:
            self._playing.cancel()
            with suppress(asyncio.CancelledError):
                await self._playing

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
            twin: Any = import_module(f"northstar_core.twins.{name}.server")
            more = dict((options or {}).get(name, {}))
            if name in ACCOUNTS:
                account = TwinAccount(
                    market, ACCOUNTS[name], cash, more.pop("model", getattr(twin, "MODEL", None)), rules
                )
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
        stack.push_async_callback(served.close)
        if play:
            served.play()
        yield served


def faults_by_twin(text: str, *, where: str) -> dict[str, list[Fault]]:
    """Return rules from JSON: an object of lists by twin, or one list for every twin.

    Raises
    ------
    SettingsError
        If it is neither, or names another twin or an unknown kind of fault.
    """
    try:
        raw = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{where}: not JSON ({error})") from None
    by_twin = raw if isinstance(raw, dict) else dict.fromkeys(NAMES, raw)
    unknown = sorted(set(by_twin) - set(NAMES))
    if unknown:
        raise SettingsError(f"{where}: no twin is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    return {
        name: faults_from_json(msgspec.json.encode(rules), where=f"{where}: {name}") for name, rules in by_twin.items()
    }
