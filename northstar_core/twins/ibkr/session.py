"""The session of the Interactive Brokers twin: who is logged in, which steps it has taken, how often it may ask.

One user has one brokerage session. A new login gives a new session id; sockets opened with the old one stay open and
keep their heartbeat, but nothing else reaches them any more.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from typing import Any

from northstar_core.twins.ibkr.questions import Questions

Row = dict[str, Any]

SERVER = {"serverName": "JifTwin001", "serverVersion": "Build 10.44.1h, simulated"}
MAC = "02:00:00:00:00:01"
_COOKIE = re.compile(r"""\bapi=["\\{\s]*(?:session)?["\\:\s]*([0-9a-fA-F]{16,64})""")


class BrokerageSession:
    """What the service remembers between login and logout.

    Parameters
    ----------
    account
        The one account of the user.
    user
        The user's name.
    seed
        Makes session ids differ between twins; the same seed gives the same ids.
    """

    def __init__(self, account: str, user: str = "twinuser", seed: int = 0) -> None:
        self.account, self.user = account, user
        self._seed = seed
        self.logins = 0
        self.id = ""
        self.authenticated = self.connected = self.competing = False
        self.login()

    def login(self) -> None:
        """Begin a session: a new id, and every step is to be taken again."""
        self.logins += 1
        self.id = hashlib.sha256(f"{self.account}-{self._seed}-{self.logins}".encode()).hexdigest()[:32]
        self.authenticated = self.connected = True
        self.competing = False
        self.questions = Questions(self.id)
        self.accounts_seen = False  #: iserver/accounts was called: orders may be sent
        self.portfolio_seen = False  #: portfolio/accounts was called
        self.orders_primed = False  #: live orders were asked for once
        self.filtered = False  #: live orders were asked for with a filter: the order stream is off
        self.searched: set[str] = set()  #: symbols that secdef/search was called for
        self.months: set[tuple[str, str]] = set()  #: (symbol, month) that secdef/strikes was called for
        self.quoted: set[int] = set()  #: conids that marketdata/snapshot was called for

    def lose(self, *, competing: bool = False) -> None:
        """Lose the brokerage session; the gateway stays up. ``competing``: the user logged in elsewhere."""
        self.authenticated = False
        self.competing = competing
        self.questions.drop()

    def logout(self) -> None:
        """End it: the gateway itself is no longer logged in."""
        self.lose()
        self.connected = False

    @property
    def status(self) -> Row:
        """The answer to ``iserver/auth/status``."""
        return {
            "authenticated": self.authenticated,
            "established": self.authenticated,
            "competing": self.competing,
            "connected": self.connected,
            "message": "",
            "MAC": MAC,
            "serverInfo": SERVER,
            "hardware_info": f"00000000|{MAC}",
            "fail": "",
        }

    def sts(self) -> Row:
        """The status frame of the stream."""
        args = {
            "connected": self.connected,
            "authenticated": self.authenticated,
            "established": self.authenticated,
            "competing": self.competing,
            "message": "",
            "fail": "",
            **SERVER,
            "username": self.user,
        }
        return {"topic": "sts", "args": args}

    def tickle(self, wall_ms: int) -> Row:
        """The answer to ``tickle``; the misspelt key is the service's."""
        return {
            "session": self.id,
            "ssoExpires": 600_000,
            "collission": False,
            "userId": 181_000_001,
            "lastAccessed": wall_ms,
            "hmds": {"error": "no bridge"},
            "iserver": {"authStatus": self.status},
        }

    def accounts(self) -> Row:
        """The answer to ``iserver/accounts``, and the arguments of the stream's ``act`` frame."""
        properties = {
            "hasChildAccounts": False,
            "supportsCashQty": True,
            "supportsFractions": True,
            "allowCustomerTime": False,
            "isProp": False,
            "liteUnderPro": False,
            "noFXConv": False,
            "autoFx": False,
        }
        return {
            "accounts": [self.account],
            "acctProps": {self.account: properties},
            "aliases": {self.account: self.account},
            "allowFeatures": {"allowedAssetTypes": "STK,OPT,BAG", "snapshotRefreshTimeout": 30},
            "chartPeriods": {"STK": ["*"], "OPT": ["2h", "1d", "2d", "1w", "1m"]},
            "groups": [],
            "profiles": [],
            "selectedAccount": self.account,
            "serverInfo": SERVER,
            "sessionId": f"{self.id[:8]}.{self.id[8:16]}",
            "isFT": False,
            "isPaper": self.account.startswith("D"),
        }

    def portfolio_account(self) -> Row:
        """One row of ``portfolio/accounts``."""
        return {
            "id": self.account,
            "accountId": self.account,
            "accountVan": self.account,
            "accountTitle": "Twin",
            "displayName": self.account,
            "accountAlias": None,
            "accountStatus": 1_600_000_000_000,
            "currency": "USD",
            "type": "DEMO" if self.account.startswith("D") else "INDIVIDUAL",
            "tradingType": "STKNOPT",
            "faclient": False,
            "clearingStatus": "O",
            "parent": {"mmc": [], "accountId": "", "isMParent": False, "isMChild": False, "isMultiplex": False},
            "desc": self.account,
        }


def session_of_cookie(header: str) -> str:
    """Return the session id in a Cookie header (``api={"session":"…"}`` or ``api=…``), or nothing."""
    found = _COOKIE.search(header)
    return found[1] if found else ""


#: Endpoints that answer once in so many seconds.
PACED_S = {"orders.get": 5.0, "trades": 5.0, "pnl": 5.0, "portfolio.accounts": 5.0, "tickle": 1.0}
A_SECOND = 10
BLOCKED_S = 600.0


class Pace:
    """How often a client may ask: ten requests a second, some endpoints once in five; whoever asks more is shut out.

    Parameters
    ----------
    blocked_s
        For how long a client that was too fast gets nothing but 429.
    """

    def __init__(self, blocked_s: float = BLOCKED_S) -> None:
        self._blocked_s = blocked_s
        self._recent: deque[float] = deque()
        self._last: dict[str, float] = {}
        self._until = -1.0

    def too_fast(self, route: str, now_s: float) -> bool:
        """Count a request; tell whether it comes too soon."""
        if now_s < self._until:
            return True
        while self._recent and self._recent[0] <= now_s - 1:
            self._recent.popleft()
        gap = PACED_S.get(route, 0.0)
        fast = len(self._recent) >= A_SECOND or now_s - self._last.get(route, -gap) < gap
        if fast:
            self._until = now_s + self._blocked_s
            return True
        self._recent.append(now_s)
        self._last[route] = now_s
        return False
