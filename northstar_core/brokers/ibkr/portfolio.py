"""What an account at Interactive Brokers holds and is worth, read over REST.

Only quantities and cash are taken. The average costs it shows include commissions (and an option's multiplier), and its unrealised
profit follows from them: neither is compared with anything of ours.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

from northstar_core.brokers.base import AccountInfo
from northstar_core.brokers.ibkr.care import Care
from northstar_core.brokers.ibkr.contracts import Contracts
from northstar_core.brokers.ibkr.link import Link, Unanswered
from northstar_core.brokers.ibkr.wire import Unreadable, number, rows, whole
from northstar_core.model.execution import HeldPosition

ZERO = Decimal(0)
A_PAGE = 100  #: positions on a page
MOST_PAGES = 50


class Portfolio:
    """Reads positions, cash and value.

    Every method raises ``Unanswered`` or ``Unreadable`` where the gateway says nothing that can be used.
    """

    def __init__(self, link: Link, care: Care, contracts: Contracts) -> None:
        self.link, self.care, self.contracts = link, care, contracts
        self._base = f"/portfolio/{link.options.account_id}"

    async def positions(self) -> tuple[HeldPosition, ...]:
        """Return what is held, without zeros; what nobody can name under its conid."""
        with suppress(Unanswered):  # pages are cached; not every gateway knows how to forget them
            await self.link.ask("POST", f"{self._base}/positions/invalidate")
        found: list[dict[str, Any]] = []
        for page in range(MOST_PAGES):
            more = rows(await self.link.ask("GET", f"{self._base}/positions/{page}") or [])
            found += more
            if len(more) < A_PAGE:
                break
        await self.care.names([whole(row.get("conid")) for row in found if self.contracts.name(row) is None])
        held = [(self.contracts.name(row) or f"conid {row.get('conid')}", number(row.get("position")) or ZERO) for row in found]
        return tuple(HeldPosition(symbol, qty) for symbol, qty in held if qty)

    async def cash(self) -> Decimal:
        """Return cash in dollars, settled or not."""
        return _cash(await self.link.ask("GET", f"{self._base}/ledger"))

    async def info(self) -> AccountInfo:
        """Return what the account is worth."""
        ledger = await self.link.ask("GET", f"{self._base}/ledger")
        summary = await self.link.ask("GET", f"{self._base}/summary")
        power = (summary.get("buyingpower") or {}).get("amount") if isinstance(summary, dict) else None
        return AccountInfo(
            account_id=self.link.options.account_id,
            cash=_cash(ledger),
            equity=number(_currency(ledger).get("netliquidationvalue")) or ZERO,
            buying_power=number(power) or ZERO,
            status="paper" if self.link.options.play_money else "live",
        )


def _currency(ledger: Any) -> dict[str, Any]:
    found = (ledger.get("USD") or ledger.get("BASE")) if isinstance(ledger, dict) else None
    if not isinstance(found, dict):
        raise Unreadable("a ledger without dollars")
    return found


def _cash(ledger: Any) -> Decimal:
    cash = number(_currency(ledger).get("cashbalance"))
    if cash is None:
        raise Unreadable("a ledger without cash")
    return cash
