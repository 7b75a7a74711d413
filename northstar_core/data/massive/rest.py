"""Massive's REST API: bars, contracts and conditions, page by page, with explicit time-outs and patient repetition.

Only GET, so a question may be asked again: on 429 (after ``Retry-After`` where given), on server errors and on silence. A page's
``next_url`` is followed by its path and query alone, at our own base: the key goes to no other host.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from northstar_core.data.feed import FeedStats
from northstar_core.data.liveness import Backoff
from northstar_core.data.massive.wire import (
    MS_NS,
    SECOND_NS,
    AggregatePage,
    ConditionPage,
    ConditionRow,
    ContractPage,
    bar_of,
    problem_text,
    symbol_of,
    ticker_of,
)
from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.market import Bar
from northstar_core.model.ports import Clock

PAGE_LIMIT = 50_000
MOST_PAGES = 2_000
SPANS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
REPEATED = frozenset({408, 425, 429, 500, 502, 503, 504})

P = TypeVar("P", AggregatePage, ContractPage, ConditionPage)


class MassiveRest:
    """A client for one key.

    Parameters
    ----------
    base
        ``https://api.massive.com`` or a twin's address.
    timeout_s
        Wall seconds for one page, from the request to its last byte; connecting may take a third of it.
    tries
        How often a page is asked for before ``DataError``.
    at_once
        Questions under way at a time.
    """

    def __init__(
        self, base: str, key: str, clock: Clock, stats: FeedStats, backoff: Backoff, *, timeout_s: float = 10.0, tries: int = 5,
        at_once: int = 8,
    ) -> None:  # fmt: skip
        self._base, self._key, self._clock, self._stats = base.rstrip("/"), key, clock, stats
        self._backoff, self._tries = backoff, tries
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s / 3)
        self._gate = asyncio.Semaphore(at_once)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def bars(self, symbol: str, span_ns: int, start: int, end: int) -> list[Bar]:
        """Return the bars that begin in ``[start, end)``, oldest first, raw prices; also one that has not ended, if it is told.

        Raises
        ------
        DataError
            If there is no answer, or one that cannot be read.
        """
        found: list[Bar] = []
        first, last = -(-start // MS_NS), -(-end // MS_NS) - 1
        path = f"{_range(symbol, span_ns)}/{first}/{last}"
        async for page in self._pages(path, {"adjusted": "false", "sort": "asc", "limit": PAGE_LIMIT}, AggregatePage):
            found += [bar_of(row, symbol, span_ns) for row in page.results]
        return [bar for bar in found if start <= bar.start < end]

    async def last_bars(self, symbol: str, span_ns: int, n: int, end: int) -> list[Bar]:
        """Return the last ``n`` bars that had ended by ``end``, oldest first; fewer where there are no more within two years.

        Raises
        ------
        DataError
            As ``bars``.
        """
        found: list[Bar] = []
        reach, stop = max(n * span_ns * 2, 4 * 86_400 * SECOND_NS), end
        while len(found) < n and end - stop < 730 * 86_400 * SECOND_NS:
            begin = stop - reach
            part = [bar for bar in await self.bars(symbol, span_ns, begin, stop) if bar.ts <= end]
            found, stop, reach = part + found, begin, reach * 2
        return found[-n:] if n else []

    async def chain(self, underlying: str, on: date, days: int, low: float, high: float) -> list[str]:
        """Return option symbols by expiry within ``days`` of ``on`` and strike in ``[low, high]``, sorted; standard contracts only.

        Raises
        ------
        DataError
            As ``bars``.
        """
        asked = {
            "underlying_ticker": underlying, "expiration_date.gte": on.isoformat(),
            "expiration_date.lte": (on + timedelta(days=days)).isoformat(), "strike_price.gte": low, "strike_price.lte": high,
            "expired": "false", "as_of": on.isoformat(), "limit": 1000, "sort": "ticker", "order": "asc",
        }  # fmt: skip
        symbols: set[str] = set()
        async for page in self._pages("/v3/reference/options/contracts", asked, ContractPage):
            for row in page.results:
                symbol = symbol_of(row.ticker)
                if row.shares_per_contract == 100 and _is_option(symbol):
                    symbols.add(symbol)
                else:
                    self._stats.drop("contract not standard")
        return sorted(symbols)

    async def conditions(self) -> list[ConditionRow]:
        """Return the conditions of stock and option prints and what they move.

        Raises
        ------
        DataError
            As ``bars``.
        """
        found: list[ConditionRow] = []
        for kind in ("stocks", "options"):
            asked = {"asset_class": kind, "data_type": "trade", "limit": 1000}
            async for page in self._pages("/v3/reference/conditions", asked, ConditionPage):
                found += page.results
        return found

    async def _pages(self, path: str, query: Mapping[str, Any], kind: type[P]) -> AsyncIterator[P]:
        decoder = msgspec.json.Decoder(kind)
        url = self._base + path
        params: dict[str, str] | None = {name: str(value) for name, value in query.items()}
        for _ in range(MOST_PAGES):
            body = await self._get(url, params)
            try:
                page = decoder.decode(body)
            except (msgspec.MsgspecError, ValueError) as error:
                raise DataError(f"{path}: the answer cannot be read: {' '.join(str(error).split())[:200]}") from None
            yield page
            if not page.next_url:
                return
            parts = urlsplit(page.next_url)
            following = f"{self._base}{parts.path}" + (f"?{parts.query}" if parts.query else "")
            if following == url:
                raise DataError(f"{path}: the next page is the same page")
            url, params = following, None
        raise DataError(f"{path}: more than {MOST_PAGES} pages; ask for less")

    async def _get(self, url: str, params: dict[str, str] | None) -> bytes:
        path = urlsplit(url).path
        problem = ""
        backoff = self._backoff.fresh()
        for attempt in range(self._tries):
            wait = 0.0
            try:
                async with self._gate:
                    self._stats.requests += 1
                    async with self._client().get(url, params=params) as answer:
                        body = await answer.read()
                if answer.status == 200:
                    return body
                problem = f"{answer.status} {problem_text(body)}"
                if answer.status not in REPEATED:
                    break
                wait = _seconds(answer.headers.get("Retry-After", ""))
            except TimeoutError:
                problem = "no answer in time"
            except aiohttp.ClientError as error:
                problem = f"{type(error).__name__} {error}"
            if attempt + 1 < self._tries:
                await self._clock.sleep(max(backoff.next(), wait))
        raise DataError(f"{path}: {problem}")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, headers={"Authorization": f"Bearer {self._key}"}, trust_env=False,
                auto_decompress=True,
            )  # fmt: skip
        return self._session


def _range(symbol: str, span_ns: int) -> str:
    for name, seconds in SPANS:
        if span_ns > 0 and span_ns % (seconds * SECOND_NS) == 0:
            return f"/v2/aggs/ticker/{ticker_of(symbol)}/range/{span_ns // (seconds * SECOND_NS)}/{name}"
    raise DataError(f"bars of {span_ns} ns: the feed has whole seconds")


def _is_option(symbol: str) -> bool:
    try:
        return type(instrument(symbol)) is Option
    except DataError:
        return False


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 120.0)
    except ValueError:
        return 0.0
