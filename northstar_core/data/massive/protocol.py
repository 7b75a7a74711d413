"""Massive's stream without I/O: frames and answers in, events and things to do out; time comes in as ``now``, desk ns UTC.

The shell (``massive``, ``massive.link``) carries bytes and tells what happened: ``connected``, ``receive``, ``lost``, ``filled``,
``fill_failed``, and ``tick`` now and then. What is to be done waits in ``Cluster.outbox`` (messages to send), ``Cluster.closing`` (why the
connection is to end) and ``take_fills`` (questions for REST).

After each subscription the bars since the last one are asked for, and those of the quarter of an hour before it, of which revisions may
have been missed. Until the answer is there, everything live of that symbol waits; then bars of both and what waited go out in order of
time, where REST's numbers of a bar stand above the stream's first ones. It waits no longer than ``hold_ns``: then what there is goes out,
an alert says what is missing, and what the answer brings later is told as revisions. The same happens where a missing bar is suspected in
the middle (see ``BarSequence``); and where nothing has come of a symbol for a while in session, its bars are asked for at growing
intervals, without waiting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from northstar_core.data.bar_sequence import BarSequence
from northstar_core.data.feed import FeedEvent, FeedStats
from northstar_core.data.massive.conditions import Conditions
from northstar_core.data.massive.symbol import Fill, Rules, Shared, SymbolFeed
from northstar_core.data.massive.wire import (
    MINUTE_NS,
    MS_NS,
    OPTIONS,
    SECOND_NS,
    STOCKS,
    ConditionRow,
    LimitsRow,
    MinuteRow,
    QuoteRow,
    SecondRow,
    StatusRow,
    TradeRow,
    cluster_of,
    rows_of,
    subscribe,
    ticker_of,
)
from northstar_core.model.errors import DataError
from northstar_core.model.market import Bar
from northstar_core.model.world import AlertRaised, FeedDown, FeedUp, FrameUnread

SPANS = {"AM": MINUTE_NS, "A": SECOND_NS}
STAGES = {TradeRow: "wire T", QuoteRow: "wire Q", MinuteRow: "wire AM", SecondRow: "wire A"}
AFTER_CLOSE_NS = 3 * MINUTE_NS  #: the last bars of a session are still looked for
UNREAD_TOLD = 100

#: Statuses after which a connection is of no use, and how bad that is.
FINAL = {
    "auth_failed": "critical", "not_authorized": "critical", "max_connections": "critical", "auth_timeout": "warning",
    "force_disconnect": "warning", "slow_consumer": "warning",
}  # fmt: skip
ADVICE = {
    "auth_failed": "; check the key of this feed and what its plan includes",
    "not_authorized": "; check the key of this feed and what its plan includes",
    "max_connections": "; another program uses this key on this cluster",
}


class Cluster(msgspec.Struct):
    """One connection's state."""

    name: str
    channels: set[str] = set()  #: wanted
    subscribed: bool = False  #: everything asked for has been answered once
    authenticated: bool = False
    up: bool = False  #: subscribed, and what was missed has been filled in
    outbox: list[str] = []
    closing: str = ""
    asked: set[str] = set()  #: channels whose answer is out
    asked_at: int = 0
    filling: set[int] = set()  #: questions that stand between it and being up
    missed: int = 0  #: bars that the answers brought

    def reset(self) -> None:
        """Another connection: nothing is known of it."""
        self.subscribed = self.authenticated = self.up = False
        self.closing, self.missed = "", 0
        self.outbox.clear()
        self.asked.clear()
        self.filling.clear()


class MassiveProtocol:
    """One feed.

    Parameters
    ----------
    name
        As events name it.
    stats
        Counters to keep.
    opened
        Tells when the session of a time opened; None while the exchange is closed.
    """

    def __init__(
        self, name: str, stats: FeedStats, opened: Callable[[int], int | None], rules: Rules | None = None,
        clusters: Iterable[str] = (STOCKS, OPTIONS),
    ) -> None:  # fmt: skip
        self.name, self.stats, self._opened = name, stats, opened
        self.clusters = {cluster: Cluster(cluster) for cluster in clusters}
        self.up = False
        self._shared = Shared(name, stats, rules or Rules(), Conditions())
        self._symbols: dict[str, SymbolFeed] = {}
        self._by_ticker: dict[str, SymbolFeed] = {}
        self._told_unread: set[str] = set()

    # ── what is wanted ────────────────────────────────────────────────────────────────────────────────────────────────

    def want(
        self, symbols: Iterable[str], now: int, *, bars: bool = True, seconds: bool = False, quotes: bool = False,
        trades: bool = False,
    ) -> None:  # fmt: skip
        """Subscribe channels of symbols, beside what is subscribed; bars begin with the one in progress.

        Raises
        ------
        DataError
            If a symbol is none, or of a cluster that this feed does not have.
        """
        fresh: dict[str, set[str]] = defaultdict(set)
        for symbol in symbols:
            ticker = ticker_of(symbol)
            cluster = self.clusters.get(cluster_of(ticker))
            if cluster is None:
                raise DataError(f"feed {self.name}: {symbol} needs the {cluster_of(ticker)} cluster; add it to the feed's clusters")
            known = self._by_ticker.get(ticker)
            if known is None:
                known = self._symbols[symbol] = self._by_ticker[ticker] = SymbolFeed(symbol, cluster.name, self._shared)
            for channel, wanted in (("AM", bars), ("A", seconds), ("Q", quotes), ("T", trades)):
                name = f"{channel}.{ticker}"
                if wanted and name not in cluster.channels:
                    cluster.channels.add(name)
                    fresh[cluster.name].add(name)
                    if channel in SPANS:
                        known.bars[SPANS[channel]] = BarSequence(symbol, SPANS[channel], now)
                        known.due.add(SPANS[channel])
        for cluster_name, names in fresh.items():
            if self.clusters[cluster_name].authenticated:
                self._subscribe(self.clusters[cluster_name], names, now)

    def refresh_conditions(self, rows: Iterable[ConditionRow]) -> None:
        """Take the rules of conditions from REST."""
        self._shared.conditions = self._shared.conditions.refreshed(rows)

    def _subscribe(self, cluster: Cluster, names: set[str], now: int) -> None:
        cluster.asked |= names
        cluster.asked_at = now
        cluster.outbox += subscribe(names)

    # ── the connection ────────────────────────────────────────────────────────────────────────────────────────────────

    def connected(self, cluster_name: str) -> None:
        """A connection is open; the server speaks first."""
        self.clusters[cluster_name].reset()
        for known in self._of(cluster_name):
            known.forget_fills()
            known.due = set(known.bars)

    def lost(self, cluster_name: str, now: int, reason: str) -> list[FeedEvent]:
        """The connection has ended, or is given up. What waits goes on waiting for the next one's answers."""
        self.clusters[cluster_name].reset()
        if not self.up:
            return []
        self.up = False
        return [FeedDown(now, self.name, f"{cluster_name}: {reason}")]

    def receive(self, cluster_name: str, frame: bytes, now: int) -> list[FeedEvent]:
        """Take a frame that arrived at ``now``; return what is to be handed over."""
        stats, cluster = self.stats, self.clusters[cluster_name]
        rows, unread = rows_of(frame)
        stats.frames += 1
        stats.bytes += len(frame)
        stats.messages += len(rows)
        out: list[FeedEvent] = []
        for problem in unread:
            stats.unread += 1
            # one of each kind goes on the record; a server that talks nonsense must not fill it
            if len(self._told_unread) < UNREAD_TOLD and problem.error not in self._told_unread:
                self._told_unread.add(problem.error)
                out.append(FrameUnread(now, self.name, problem.raw, problem.error))
        by_ticker = self._by_ticker
        last: TradeRow | QuoteRow | MinuteRow | SecondRow | None = None
        for row in rows:
            if isinstance(row, StatusRow):
                self._status(cluster, row, now, out)
            elif isinstance(row, LimitsRow):
                stats.drop("price bands")
            else:
                last = row
                known = by_ticker.get(row.sym)
                if known is None:
                    stats.drop("not subscribed")
                else:
                    known.take(row, now, out)
        if last is not None:
            happened = last.e if isinstance(last, (MinuteRow, SecondRow)) else last.t
            stats.took(STAGES[type(last)], now - happened * MS_NS)
        stats.events += len(out)
        return out

    def _status(self, cluster: Cluster, row: StatusRow, now: int, out: list[FeedEvent]) -> None:
        about = f"feed {self.name}"
        if row.status == "auth_success":
            cluster.authenticated = True
            if cluster.channels:
                self._subscribe(cluster, set(cluster.channels), now)
            else:
                self._all_answered(cluster, now, out)
        elif row.status in FINAL:
            cluster.closing = row.status
            text = f"{cluster.name}: {row.status}: {row.message}{ADVICE.get(row.status, '')}"
            out.append(AlertRaised(now, FINAL[row.status], about, text))
        elif row.status in ("success", "error"):
            if row.status == "error":
                out.append(AlertRaised(now, "warning", about, f"{cluster.name}: not subscribed: {row.message}"))
            cluster.asked.discard(row.message.rpartition(": ")[2].strip())
            if not cluster.asked and cluster.authenticated:
                self._all_answered(cluster, now, out)
        elif row.status != "connected":
            out.append(AlertRaised(now, "warning", about, f"{cluster.name}: {row.status}: {row.message}"))

    def _all_answered(self, cluster: Cluster, now: int, out: list[FeedEvent]) -> None:
        """From here on the stream tells everything; what was before is asked for."""
        first, cluster.subscribed = not cluster.subscribed, True
        for known in self._of(cluster.name):
            if known.due:
                cluster.filling.update(fill.number for fill in known.ask_due(now, out))
        if first and not cluster.filling:
            self._up(cluster, now, out)

    def _up(self, cluster: Cluster, now: int, out: list[FeedEvent]) -> None:
        cluster.up = True
        if not self.up and all(other.up or not other.channels for other in self.clusters.values()):
            self.up = True
            missed = sum(other.missed for other in self.clusters.values())
            out.append(FeedUp(now, self.name, f"{missed} bars filled in" if missed else ""))

    def _of(self, cluster_name: str) -> list[SymbolFeed]:
        return [known for known in self._symbols.values() if known.cluster == cluster_name]

    # ── REST ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def take_fills(self) -> list[Fill]:
        """Return the questions to ask; each is answered with ``filled`` or ``fill_failed``, once."""
        fills, self._shared.fills = self._shared.fills, []
        return fills

    def filled(self, fill: Fill, bars: Iterable[Bar], now: int) -> list[FeedEvent]:
        """REST has answered a question."""
        out: list[FeedEvent] = []
        known = self._symbols[fill.symbol]
        before = known.filled
        known.answered(fill, bars, now, out)
        self._settle(known, fill, known.filled - before, now, out)
        return out

    def fill_failed(self, fill: Fill, now: int, reason: str) -> list[FeedEvent]:
        """REST has not answered a question, and will not."""
        out: list[FeedEvent] = []
        known = self._symbols[fill.symbol]
        known.give_up(fill, now, out, reason)
        self._settle(known, fill, 0, now, out)
        return out

    def _settle(self, known: SymbolFeed, fill: Fill, missed: int, now: int, out: list[FeedEvent]) -> None:
        cluster = self.clusters[known.cluster]
        cluster.missed += missed
        if fill.number in cluster.filling:
            cluster.filling.discard(fill.number)
            if not cluster.filling and not cluster.up:
                self._up(cluster, now, out)
        self.stats.events += len(out)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, now: int) -> list[FeedEvent]:
        """Time has passed: stop waiting for what does not come, ask for what may be missing."""
        out: list[FeedEvent] = []
        for cluster in self.clusters.values():
            if cluster.asked and now - cluster.asked_at > self._shared.rules.hold_ns:
                text = f"{cluster.name}: no answer to the subscription of {', '.join(sorted(cluster.asked)[:5])}"
                out.append(AlertRaised(now, "warning", f"feed {self.name}", text))
                cluster.asked.clear()
                self._all_answered(cluster, now, out)
        opened = self._opened(now) or self._opened(now - AFTER_CLOSE_NS)
        for known in list(self._symbols.values()):
            for fill in known.overdue(now):
                out += self.fill_failed(fill, now, "no answer in time")
            if self.clusters[known.cluster].up:
                known.sweep(now, opened)
        self.stats.events += len(out)
        return out
