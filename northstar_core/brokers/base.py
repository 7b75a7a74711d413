"""The contract of a broker: what the gateway may ask, and what it is told.

A broker adapter turns orders into its wire's requests and whatever comes back into claims: execution reports, account activities,
links up and down. It decides nothing, keeps no books and never sends an order twice by itself. Every claim goes through ``emit``;
claims may be repeated, late and out of order: the engine books each execution once, by its id.

Rules of every adapter
----------------------
- Silence after an order, a cancel or a replace (time-out, reset, 5xx, a response that cannot be read) is ``ExecType.UNKNOWN``, never a
  rejection. Only the broker's own word rejects.
- No request that changes something is repeated. Whether an order is resent is decided and written down in the gateway.
- After every reconnect: streams first, then orders, executions and positions are read anew and emitted through the same path; then
  ``BrokerUp``.
- An order whose client id is not ours (``model.order_ids``) is an ``ExternalOrder``; its executions are ``AccountActivity`` of kind
  EXTERNAL with strategy ``external``.
- A fee that becomes known after its fill is an ``AccountActivity`` of kind FEE with record id ``<exec id>:fee`` and the order's strategy.
- A frame that cannot be read is a ``FrameUnread``; the stream goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from northstar_core.model.errors import NorthstarError
from northstar_core.model.execution import AccountActivity, BrokerSnapshot, ExecutionReport
from northstar_core.model.order import OrderStatus, PlaceOrder
from northstar_core.model.ports import Clock
from northstar_core.model.world import AlertRaised, BrokerDown, BrokerUp, ExternalOrder, FrameUnread

Claim = ExecutionReport | AccountActivity | BrokerUp | BrokerDown | ExternalOrder | FrameUnread | AlertRaised
Emit = Callable[[Claim], None]

EXTERNAL = "external"  #: the book of trades that no order of ours made


class BrokerError(NorthstarError):
    """A broker refused or could not be reached; ``code`` says which, in the words of ``Code``."""

    def __init__(self, code: Code, text: str) -> None:
        self.code = code
        super().__init__(text)


class Code(StrEnum):
    """Why a broker cannot be used."""

    CREDENTIALS = "CREDENTIALS"  #: refused: trying again is pointless
    ACCOUNT = "ACCOUNT"  #: blocked, closed, or not this login's
    UNREACHABLE = "UNREACHABLE"
    MAINTENANCE = "MAINTENANCE"
    NOT_READY = "NOT_READY"


class Evidence(StrEnum):
    """What asking the broker about one order gave."""

    FOUND = "FOUND"  #: its state was emitted
    ABSENT = "ABSENT"  #: the broker, asked while its link was healthy, knows no such order
    SILENT = "SILENT"  #: no answer: proves nothing


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a login shows of its account."""

    account_id: str
    cash: Decimal
    equity: Decimal
    buying_power: Decimal
    status: str
    time: int = 0  #: the broker's clock, ns UTC; 0 where it does not tell


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter is given as it is made; it reaches for nothing else.

    ``options`` are the broker's own settings (URLs, account number …) as the configuration file has them; ``secrets`` its credentials
    by name, resolved, never to be logged.
    """

    account: str  #: our name of the account
    clock: Clock
    emit: Emit
    order_of: Callable[[str], PlaceOrder | None]  #: our order by its id, also one sent before a restart
    options: Mapping[str, Any] = {}
    secrets: Mapping[str, str] = {}
    reads: Mapping[str, int] = {}  #: where reading goes on after a restart: by name, ns UTC of the last execution seen

    def __repr__(self) -> str:
        """Never the secrets."""
        return f"Wiring({self.account})"


class Kept(Protocol):
    """An order as the engine's blotter keeps it: what ``restore`` is given."""

    @property
    def intent(self) -> PlaceOrder: ...
    @property
    def qty(self) -> Decimal: ...
    @property
    def limit_price(self) -> Decimal | None: ...
    @property
    def stop_price(self) -> Decimal | None: ...
    @property
    def status(self) -> OrderStatus: ...
    @property
    def cum_qty(self) -> Decimal: ...
    @property
    def pending(self) -> tuple[Decimal, Decimal | None, Decimal | None] | None: ...
    @property
    def working(self) -> bool: ...


class Broker(Protocol):
    """An account at a broker.

    It may also have ``restore(books, orders, exec_ids)``, called before ``start`` with the desk's books, every order it ever sent
    (``Kept``) and the executions booked; ``async prepare(symbols)``, to look up what the first orders of these symbols would have to;
    and, where it is simulated here, ``on_market(events)`` and ``on_session(event)``.
    """

    kind: str  #: "alpaca", "ibkr", "paper", a plug-in's name
    simulated: bool  #: no real money can move: paper, a twin on loopback
    deduplicates: bool  #: a second order of the same id is refused: resending one is safe

    async def start(self) -> None:
        """Log in, open the streams, read everything anew, emit ``BrokerUp``; then keep all that up until ``close``.

        Raises
        ------
        BrokerError
            If the login is refused, or the broker does not answer within ``start_s`` (an option); the caller may try again.
        """
        ...

    async def close(self) -> None:
        """Leave: every task ended, every connection closed. Orders stay as they are."""
        ...

    async def submit(self, order: PlaceOrder) -> None:
        """Send an order. Up to the first byte it may not wait for anything but a free connection; returns when the request is answered
        or given up. What came of it is emitted."""
        ...

    async def cancel(self, order_id: str) -> None:
        """Ask to cancel an order; what came of it is emitted."""
        ...

    async def replace(
        self, order_id: str, qty: Decimal, limit_price: Decimal | None, stop_price: Decimal | None
    ) -> None:
        """Ask for other terms, ``qty`` being the whole order's; what came of it is emitted."""
        ...

    async def find(self, order_id: str) -> Evidence:
        """Ask the broker about one order and emit its state and executions."""
        ...

    async def snapshot(self) -> BrokerSnapshot:
        """Return cash, positions and open orders of ours as the broker has them now.

        Raises
        ------
        BrokerError
            If it does not answer.
        """
        ...

    async def info(self) -> AccountInfo:
        """Return what the login shows of the account; proves that the credentials are accepted.

        Raises
        ------
        BrokerError
            If they are not, or there is no answer.
        """
        ...


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine: what simulated time and twins are allowed with."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
