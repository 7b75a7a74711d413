"""Preflight: GO or NO-GO, with reasons, from what was observed. Pure: whoever asks collects the observations first.

Every check is stated, passed or not; one that could not be made counts as failed. A verdict is of the wall's time and is believed for
``FRESH_S``: an account with real money starts no job without a fresh GO of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from northstar_core.model.account import TradingState

FRESH_S = 600.0  #: wall seconds a verdict is believed
DATA_AGE_S = 10.0  #: desk seconds since the feed last said anything, while the exchange is open
SETTLE_S = 60.0  #: desk seconds after the open in which no data is expected yet
SKEW_S = 2.0  #: between our clock and the broker's, and our clock and the feed's
RECONCILED_S = 900.0  #: desk seconds since the books were last found equal to the broker's
LEAST_S = 2.0  #: wall seconds: with a faster desk clock no time difference below this proves anything
DISK_FREE = 2 * 1024**3  #: bytes
DATABASE_S = 0.25  #: wall seconds one durable write may take
SECOND = 1_000_000_000


class AccountSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An account and its broker, as observed."""

    name: str
    broker: str
    real_money: bool = False
    connected: bool = False
    credentials: bool | None = None  #: whether the broker accepts them; None where it could not be asked
    detail: str = ""  #: what it said
    status: str = ""  #: of the account at the broker, as it words it
    blocked: bool = False  #: the broker lets it trade nothing
    broker_time: int = 0  #: the broker's clock, ns UTC; 0 where it does not tell
    asked_at: int = 0  #: the desk's time when it told
    reconciled: int = 0  #: the desk's time when books and broker were last found equal; 0 for never
    breaks: tuple[str, ...] = ()  #: differences that stand, in words
    unknown_orders: int = 0  #: orders whose outcome is unknown
    missing_limits: tuple[str, ...] = ()  #: limits that are not set
    grants: int = 0
    state: TradingState = TradingState.ACTIVE
    feed: str = ""  #: the feed its prices come from


class FeedSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A feed, as observed."""

    name: str
    connected: bool = False
    detail: str = ""
    last_heard: int = 0  #: the desk's time of its last frame; 0 for none
    skew_s: float | None = None  #: our clock less the exchange's at the newest event; None before the first


class Observations(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a verdict rests on."""

    now: int  #: the desk's time, ns UTC
    wall: int  #: the wall's, ns UTC
    speed: float = 1.0  #: desk seconds in a wall second
    accounts: tuple[AccountSeen, ...] = ()
    feeds: tuple[FeedSeen, ...] = ()
    session: str = ""  #: label of today's session; empty where the exchange is closed today
    opens: int = 0  #: its open and close, ns UTC
    closes: int = 0
    next_session: str = ""  #: label of the session after today's; empty where the calendar does not know it
    calendar: str = "XNYS"
    state: TradingState = TradingState.ACTIVE  #: of the desk
    disk_free: int = -1  #: bytes where the log is written; -1 where it could not be seen
    database: str = ""  #: what is wrong with it; empty where nothing is
    durable: bool = False  #: fsync, synchronous_commit and full_page_writes are on
    write_s: float = -1.0  #: how long a durable write took, wall seconds; -1 where none was made
    clock_offset_s: float | None = None  #: our wall clock less a time server's; None where nobody was asked


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    passed: bool
    text: str  #: the numbers, and the way out where it did not pass
    scope: str = "desk"  #: "desk", "feed:NAME" or "account:NAME"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What preflight says; ``wall`` is when, ns UTC."""

    wall: int
    now: int
    checks: tuple[Check, ...]
    accounts: tuple[str, ...]
    feeds: dict[str, str] = {}  #: account to the feed it depends on

    @property
    def go(self) -> bool:
        """Whether everything passed."""
        return all(check.passed for check in self.checks)

    def reasons(self, account: str = "") -> tuple[str, ...]:
        """Return what stands against trading: in one account, or anywhere."""
        if account and account not in self.accounts:
            return (f"account {account} was not looked at",)
        scopes = {"desk", f"account:{account}", f"feed:{self.feeds.get(account, '')}"}
        return tuple(
            f"{check.scope} {check.name}: {check.text}"
            for check in self.checks
            if not check.passed and (not account or check.scope in scopes)
        )

    def age_s(self, wall: int) -> float:
        """Return how old the verdict is, wall seconds."""
        return (wall - self.wall) / SECOND

    def refusal(self, account: str, wall: int, fresh_s: float = FRESH_S) -> str:
        """Return why a job may not start in an account now; empty if it may: this is a GO, its own, and fresh."""
        age = self.age_s(wall)
        if not 0 <= age <= fresh_s:
            return f"preflight is {age:.0f} s old, {fresh_s:.0f} s at most is believed; run northstar preflight"
        found = self.reasons(account)
        return f"preflight says NO-GO: {'; '.join(found)}" if found else ""


def evaluate(seen: Observations) -> Verdict:
    """Judge what was observed."""
    checks = [*_desk(seen)]
    used = {account.feed for account in seen.accounts}
    for feed in seen.feeds:
        if feed.name in used or not seen.accounts:
            checks += _feed(seen, feed)
    for account in seen.accounts:
        checks += _account(seen, account)
    return Verdict(
        wall=seen.wall, now=seen.now, checks=tuple(checks), accounts=tuple(account.name for account in seen.accounts),
        feeds={account.name: account.feed for account in seen.accounts},
    )  # fmt: skip


def _desk(seen: Observations) -> Iterator[Check]:
    yield Check("database", not seen.database, seen.database or "reached")
    yield Check(
        "durability", seen.durable,
        "commits are on disk before they are answered" if seen.durable
        else "fsync, synchronous_commit or full_page_writes is off, or could not be asked",
    )  # fmt: skip
    fast = 0 <= seen.write_s <= DATABASE_S
    took = "no write was made" if seen.write_s < 0 else f"a durable write took {seen.write_s * 1000:.1f} ms"
    yield Check("database speed", fast, took if fast else f"{took}; up to {DATABASE_S * 1000:.0f} ms are fine")
    enough = seen.disk_free >= DISK_FREE
    free = "could not be seen" if seen.disk_free < 0 else f"{seen.disk_free / 1024**3:.1f} GiB free"
    yield Check("disk", enough, free if enough else f"{free}; {DISK_FREE / 1024**3:.0f} GiB are wanted")
    yield _session(seen)
    known = bool(seen.next_session)
    text = (
        f"next session {seen.next_session}"
        if known
        else f"{seen.calendar} does not know the next session; update exchange-calendars"
    )
    yield Check("calendar", known, text)
    if seen.clock_offset_s is not None:
        yield _skew("clock", seen.clock_offset_s, "a time server's", "desk")
    yield _state(seen.state, "desk")


def _session(seen: Observations) -> Check:
    if not seen.session:
        return Check("session", False, f"{seen.calendar} has no session today")
    if seen.now >= seen.closes:
        return Check("session", False, f"session {seen.session} has closed")
    return Check("session", True, f"session {seen.session} {'is open' if seen.now >= seen.opens else 'opens later'}")


def _feed(seen: Observations, feed: FeedSeen) -> Iterator[Check]:
    scope = f"feed:{feed.name}"
    yield Check("connected", feed.connected, feed.detail or ("yes" if feed.connected else "no"), scope)
    age = (seen.now - feed.last_heard) / SECOND if feed.last_heard else None
    if seen.session and seen.opens + SETTLE_S * SECOND <= seen.now < seen.closes:
        most = max(DATA_AGE_S, LEAST_S * seen.speed)
        fresh = age is not None and age <= most
        text = "nothing was heard" if age is None else f"last heard {age:.1f} s ago"
        yield Check("data age", fresh, text if fresh else f"{text}; in session {most:.0f} s at most", scope)
    else:
        yield Check("data age", True, "no data is expected while the exchange is closed", scope)
    if feed.skew_s is not None:
        yield _skew("clock skew", feed.skew_s, "the exchange's", scope, seen.speed)


def _account(seen: Observations, account: AccountSeen) -> Iterator[Check]:
    scope = f"account:{account.name}"
    accepted = account.credentials is True
    refused = "refused" if account.credentials is False else "could not be asked"
    said = f": {account.detail}" if account.detail else ""
    yield Check("credentials", accepted, "accepted" if accepted else f"{refused}{said}", scope)
    yield Check("connected", account.connected, "yes" if account.connected else f"no{said}", scope)
    if account.status or account.blocked:
        yield Check("status", not account.blocked, account.status or "blocked", scope)
    if account.broker_time:
        yield _skew("clock skew", (account.asked_at - account.broker_time) / SECOND, "the broker's", scope, seen.speed)
    yield _books(seen, account, scope)
    unknown = account.unknown_orders
    text = f"{unknown} of unknown outcome; northstar order list" if unknown else "none of unknown outcome"
    yield Check("orders", not unknown, text, scope)
    missing = account.missing_limits
    yield Check("limits", not missing, f"not set: {', '.join(missing)}" if missing else "all set", scope)
    yield Check(
        "grants", account.grants > 0, f"{account.grants}" if account.grants else "no strategy may trade here", scope
    )
    has = any(feed.name == account.feed for feed in seen.feeds)
    yield Check("feed", has, account.feed if has else "no feed is configured: there are no prices to decide on", scope)
    yield _state(account.state, scope)


def _books(seen: Observations, account: AccountSeen, scope: str) -> Check:
    if account.breaks:
        shown = "; ".join(account.breaks[:3]) + (
            f"; and {len(account.breaks) - 3} more" if len(account.breaks) > 3 else ""
        )
        return Check("books", False, f"differ from the broker's: {shown}", scope)
    age = (seen.now - account.reconciled) / SECOND
    if not account.reconciled or age > RECONCILED_S:
        when = f"{age:.0f} s ago, {RECONCILED_S:.0f} s at most" if account.reconciled else "never"
        return Check("books", False, f"last found equal to the broker's {when}", scope)
    return Check("books", True, f"equal to the broker's {max(age, 0):.0f} s ago", scope)


def _skew(name: str, seconds: float, whose: str, scope: str, speed: float = 1.0) -> Check:
    most = SKEW_S if speed <= 1 else max(SKEW_S, LEAST_S * speed)
    fine = abs(seconds) <= most
    text = f"{abs(seconds):.2f} s {'ahead of' if seconds > 0 else 'behind'} {whose}"
    return Check(name, fine, text if fine else f"{text}; {most:.0f} s at most: is the time synchronised?", scope)


def _state(state: TradingState, scope: str) -> Check:
    fine = state is TradingState.ACTIVE
    return Check("trading state", fine, str(state) if fine else f"{state}: set it back when the reason is gone", scope)
