"""The stream of the Interactive Brokers twin: what one WebSocket hears, from greeting to heartbeat.

Requests are text (``sor+{}``), there are no acknowledgements and no sequence numbers. A socket belongs to the session it
was opened with: when there is another one, it keeps its heartbeat and nothing else. Gateway times (heartbeat, tic) are the
wall's, market times (quotes, executions) the market's.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from aiohttp import web

from northstar_core.model.market import MarketEvent
from northstar_core.twins.control import Control
from northstar_core.twins.ibkr.book import OrderBook
from northstar_core.twins.ibkr.contracts import Contracts, UnknownContractError
from northstar_core.twins.ibkr.portfolio import Portfolio
from northstar_core.twins.ibkr.quotes import Quotes, Watched
from northstar_core.twins.ibkr.session import BrokerageSession, session_of_cookie
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.outlet import Outlet

Row = dict[str, Any]
TIC_COPIES = 4  #: as recorded
FLOOR_S = 0.2  #: however fast the market runs, heartbeats are not closer than this on the wall
MOST_LINES = 100
LIVES_S = 900.0
PULSE_S = 1.0


class GatewayOutlet(Outlet):
    """An outlet with a heartbeat: no rule counts it, but a mute connection has none; a deaf one has nothing else."""

    deaf_until = 0.0  #: by the loop's clock: no data until then

    def heal(self) -> None:
        """End what mutes it or makes it deaf."""
        self.deaf_until = 0.0
        super().heal()

    def beat(self, frame: str) -> None:
        """Send what keeps the connection alive."""
        self._pass(frame)


class Line:
    """One client's connection: the session it was opened with, and what it has asked for."""

    def __init__(self, outlet: GatewayOutlet) -> None:
        self.outlet = outlet
        self.session_id = ""  #: empty until it says which session it belongs to
        self.topics: dict[str, Row] = {}  #: sor, str, spl, ssd, sld to the arguments given
        self.watched: dict[int, Watched] = {}  #: quotes, by conid
        self.told: dict[str, Any] = {}  #: what was sent last, by topic


class Streams:
    """Every connection of the twin."""

    def __init__(
        self,
        market: TwinMarket,
        session: BrokerageSession,
        contracts: Contracts,
        control: Control,
        *,
        heartbeat_s: float = 10.0,
        lives_s: float = LIVES_S,
    ) -> None:
        self._market, self._session, self._contracts, self._control = market, session, contracts, control
        self._heartbeat_s, self._lives_s = heartbeat_s, lives_s
        self._lines: set[Line] = set()
        self._quotes = Quotes(market, contracts)
        self._symbols: set[str] = set()
        market.listen(self._on_market, self._symbols)
        self._book: OrderBook | None = None
        self._portfolio: Portfolio | None = None

    def attach(self, book: OrderBook, portfolio: Portfolio) -> None:
        """Say whose orders and values are told."""
        self._book, self._portfolio = book, portfolio

    # ── one connection ────────────────────────────────────────────────────────────────────────────────────────────────

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one WebSocket until it ends."""
        socket = web.WebSocketResponse(autoping=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        line = Line(GatewayOutlet(socket, request, self._control.faults))
        self._control.outlets.add(line.outlet)
        self._lines.add(line)
        try:
            given = session_of_cookie(request.headers.get("Cookie", ""))
            if given or "oauth_token" in request.query:
                self._open(line, given or self._session.id)
            while (frame := await line.outlet.receive()) is not None:
                self._on_text(line, frame if isinstance(frame, str) else frame.decode(errors="replace"))
        finally:
            self._lines.discard(line)
            self._control.outlets.discard(line.outlet)
            self._follow()
            line.outlet.stop()
        return socket

    def _open(self, line: Line, session_id: str) -> None:
        if session_id != self._session.id or not self._session.connected:
            line.outlet.tell(json.dumps({"message": "waiting for session"}))
            return
        line.session_id = session_id
        paper = self._session.account.startswith("D")
        for frame in (
            {"topic": "system", "success": self._session.user, "isFT": False, "isPaper": paper},
            {"topic": "act", "args": self._session.accounts()},
            self._session.sts(),
        ):
            line.outlet.tell(json.dumps(frame))

    def _on_text(self, line: Line, text: str) -> None:
        if text.startswith("{"):
            try:
                given = json.loads(text).get("session", "")
            except ValueError:
                given = ""
            if not line.session_id:
                self._open(line, str(given))
            return
        if text == "tic":
            tic = {"topic": "tic", "alive": True, "id": line.session_id, "lastAccessed": _wall_ms()}
            for _ in range(TIC_COPIES):
                line.outlet.beat(json.dumps(tic))
            return
        if text.startswith("ech"):
            return
        if not self._hears(line):
            return
        topic, target, arguments = _request(text)
        if arguments is None:
            self._refuse(line, topic, 400, "bad arguments")
        elif topic.startswith("u"):
            self._unsubscribe(line, topic[1:], target)
        else:
            self._subscribe(line, topic, target, arguments)

    def _refuse(self, line: Line, topic: str, code: int, why: str) -> None:
        line.outlet.tell(json.dumps({"error": why, "code": code, "topic": topic}))

    def _subscribe(self, line: Line, topic: str, target: str, arguments: Row) -> None:
        fault = self._control.faults.hit(f"subscribe.{topic}", "refuse", "drop")
        if fault is not None:
            if fault.do == "refuse":
                self._refuse(line, topic, 500, fault.text or "unable to subscribe")
            return
        assert self._book is not None and self._portfolio is not None
        account = self._session.account
        if topic == "sor":
            line.topics[topic] = arguments
            rows = self._book.rows(stream=True)
            if rows and not self._session.filtered:
                self._send(line, "sor", {"topic": "sor", "args": rows})
        elif topic == "str":
            line.topics[topic] = arguments
            self._send(line, "str", {"topic": "str", "args": []})
            executions = self._book.executions
            if not arguments.get("realtimeUpdatesOnly"):
                for execution in executions.recent(int(arguments.get("days", 1) or 1)):
                    for settled in (False, True) if execution.settled else (False,):
                        self._send(line, "str", {"topic": "str", "args": [executions.row(execution, settled=settled)]})
        elif topic == "spl":
            line.topics[topic] = arguments
            self._tell_pnl(line)
        elif topic in ("ssd", "sld") and target == account:
            line.topics[topic] = arguments
            self._tell_values(line, topic)
        elif topic == "smd":
            self._watch(line, target, arguments)
        else:
            self._refuse(line, topic, 400, f"unknown topic or target in {topic}+{target}")

    def _unsubscribe(self, line: Line, topic: str, target: str) -> None:
        if topic == "md":
            if target.isdigit():
                line.watched.pop(int(target), None)
                self._follow()
            return
        if line.topics.pop(f"s{topic}", None) is not None and topic in ("sd", "ld"):
            what = "summary" if topic == "sd" else "ledger"
            line.outlet.tell(json.dumps({"result": f"unsubscribed from {what}"}))
        line.told.pop(f"s{topic}", None)

    def _watch(self, line: Line, target: str, arguments: Row) -> None:
        try:
            conid = int(target)
            symbol = self._contracts.symbol(conid)
        except (UnknownContractError, ValueError):
            self._refuse(line, f"smd+{target}", 400, f"Contract {target} is not found")
            return
        if conid not in line.watched and len(line.watched) >= MOST_LINES:
            self._refuse(line, f"smd+{target}", 400, f"at most {MOST_LINES} market data lines")
            return
        until = self._market.now() + int(self._lives_s * 1e9)
        fields = [str(field) for field in arguments.get("fields") or ()]
        watched = line.watched[conid] = Watched(conid, symbol, fields, until, f"q{len(line.watched)}")
        self._follow()
        first = self._quotes.frame(watched)
        for _ in range(2):  # recorded: the whole of it, twice
            self._send(line, "smd", first)

    # ── what everybody hears ──────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, topic: str, rows: list[Row]) -> None:
        """Tell rows to whoever asked for them; notices to everybody."""
        if topic == "sor" and self._session.filtered:
            return
        for line in tuple(self._lines):
            if topic == "ntf":
                for row in rows:
                    self._send(line, topic, {"topic": topic, "args": [row]})
            elif topic in line.topics:
                self._send(line, topic, {"topic": topic, "args": rows})

    def say_status(self) -> None:
        """Tell the session's status, which has changed."""
        for line in tuple(self._lines):
            if line.session_id == self._session.id:
                line.outlet.put(json.dumps(self._session.sts()), "sts")

    def _send(self, line: Line, name: str, frame: Row) -> None:
        if not self._hears(line):
            return
        fault = self._control.faults.hit(f"stream.{name}", "deaf")
        if fault is not None:
            now = asyncio.get_running_loop().time()
            line.outlet.deaf_until = now + fault.delay_s if fault.delay_s else float("inf")
            return
        line.outlet.put(json.dumps(frame), name)

    def _hears(self, line: Line) -> bool:
        """Tell whether data reach a connection: its session is the one there is, and works."""
        live = bool(line.session_id) and line.session_id == self._session.id and self._session.authenticated
        return live and asyncio.get_running_loop().time() >= line.outlet.deaf_until

    def _follow(self) -> None:
        wanted = {watched.symbol for line in self._lines for watched in line.watched.values()}
        if wanted != self._symbols:
            self._symbols.clear()
            self._symbols.update(wanted)
            self._market.refresh()

    def _on_market(self, events: list[MarketEvent]) -> None:
        touched = {event.symbol for event in events}
        now = self._market.now()
        for line in tuple(self._lines):
            for conid, watched in tuple(line.watched.items()):
                if watched.until <= now:
                    del line.watched[conid]  # it ends in silence
                elif watched.symbol in touched and (frame := self._quotes.delta(watched)) is not None:
                    self._send(line, "smd", frame)

    # ── by the clock ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Send heartbeats, profit and values until cancelled."""
        clock, loop = self._market.clock, asyncio.get_running_loop()
        beat = max(clock.wall_s(self._heartbeat_s), FLOOR_S)
        due = loop.time() + beat
        while True:
            await asyncio.sleep(min(max(clock.wall_s(PULSE_S), FLOOR_S), beat))
            beats = loop.time() >= due
            if beats:
                due += beat
            for line in tuple(self._lines):
                if beats:
                    line.outlet.beat(json.dumps({"topic": "system", "hb": _wall_ms()}))
                    for topic in ("ssd", "sld"):
                        if topic in line.topics:
                            self._tell_values(line, topic)
                if "spl" in line.topics:
                    self._tell_pnl(line)

    def _tell_pnl(self, line: Line) -> None:
        assert self._portfolio is not None
        args = self._portfolio.pnl()
        if line.told.get("spl") != args:
            line.told["spl"] = args
            self._send(line, "spl", {"topic": "spl", "args": args})

    def _tell_values(self, line: Line, topic: str) -> None:
        """Send the summary or ledger; an entry that has not changed is its key and time alone."""
        assert self._portfolio is not None
        rows = self._portfolio.stream_summary() if topic == "ssd" else self._portfolio.stream_ledger()
        wanted = line.topics[topic]
        keys, fields = wanted.get("keys") or (), set(wanted.get("fields") or ())
        told: dict[str, Row] = line.told.setdefault(topic, {})
        result = []
        for row in rows:
            if keys and row["key"] not in keys:
                continue
            values = {k: v for k, v in row.items() if k != "timestamp" and (not fields or k in fields or k == "key")}
            fresh = told.get(row["key"]) != values
            told[row["key"]] = values
            result.append({**(values if fresh else {"key": row["key"]}), "timestamp": row["timestamp"]})
        self._send(line, topic, {"result": result, "topic": f"{topic}+{self._session.account}"})


def _request(text: str) -> tuple[str, str, Row | None]:
    """Split ``topic+target+{json}``; None for arguments that are no JSON object."""
    topic, _, rest = text.partition("+")
    target, brace, tail = rest.partition("{")
    target = target.strip("+")
    if not brace:
        return topic, target, {}
    try:
        arguments = json.loads(brace + tail)
    except ValueError:
        return topic, target, None
    return topic, target, arguments if isinstance(arguments, dict) else None


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


