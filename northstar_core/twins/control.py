"""What the HTTP side of every twin shares: answers that go wrong, requests counted by route, and ``/_twin/…`` to steer it.

A route's name is its place for faults. What each kind does to an answer:

- ``429``, ``503`` and ``504_lost``: answered so, the request is not carried out; ``drop``: the connection is closed instead.
- ``500``, ``504``: answered so although the request was carried out; ``lost_response``: the connection is closed instead.
- ``delay``: waits ``delay_s``, then carries out; ``late``: carries out, waits, then answers.
- ``early``: what follows on the stream is sent before the answer, which waits ``delay_s``.
- ``junk``: carried out, and answered with something that is not JSON.
- ``refuse``: not carried out; the twin answers as it does when it refuses, with ``text``.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from northstar_core.model.errors import SettingsError
from northstar_core.twins.faults import ANSWERS, Fault, Faults, faults_from_json
from northstar_core.twins.outlet import Outlet

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FAULT: web.RequestKey[Fault | None] = web.RequestKey("fault", Fault)  # what strikes this request, for its handler
JUNK = b"<html><h1>Bad Gateway</h1>\x00\xff"
ARRIVAL_S = 0.05  #: a stream's event that is to arrive before an answer needs this long at least


class Control:
    """Steers one twin and counts what it was asked.

    Parameters
    ----------
    faults
        Rules in force.
    state
        What ``GET /_twin/state`` adds to the counters: orders, positions, cash, executions.
    errors
        Makes the twin's own error answer of (status, text, request).
    """

    def __init__(
        self, faults: Faults, state: Callable[[], dict[str, Any]],
        errors: Callable[[int, str], web.Response] | None = None,
    ) -> None:  # fmt: skip
        self.faults = faults
        self.requests: Counter[str] = Counter()  #: by the route's name
        self.outlets: set[Outlet] = set()  #: streams that are open
        self._state = state
        self._errors = errors or (lambda status, text: web.json_response({"error": text}, status=status))

    def install(self, app: web.Application) -> None:
        """Add the middleware and the routes."""
        app.middlewares.append(self._middleware)
        app.router.add_post("/_twin/faults", self._add_faults)
        app.router.add_delete("/_twin/faults", self._clear_faults)
        app.router.add_get("/_twin/state", self._get_state)
        app.router.add_post("/_twin/disconnect", self._disconnect)
        app.on_shutdown.append(self._close)

    @property
    def _middleware(self) -> Any:
        @web.middleware
        async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
            place = request.match_info.route.name
            if place is None:
                return await handler(request)
            self.requests[place] += 1
            fault = request[FAULT] = self.faults.hit(place, *ANSWERS)
            return await handler(request) if fault is None else await self._strike(fault, request, handler)

        return faulty

    async def _strike(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        kind = fault.do
        if kind == "drop":
            return _hang_up(request)
        if kind in ("429", "503", "504_lost"):
            return self._errors(int(kind[:3]), fault.text or _TEXTS[kind[:3]])
        if kind == "delay":
            await asyncio.sleep(fault.delay_s)
        answer = await handler(request)
        if isinstance(answer, web.WebSocketResponse) or kind in ("delay", "refuse"):
            return answer
        if kind == "late":
            await asyncio.sleep(fault.delay_s)
        elif kind == "early":
            await asyncio.sleep(max(fault.delay_s, ARRIVAL_S))
        elif kind in ("500", "504"):
            return self._errors(int(kind), fault.text or _TEXTS[kind])
        elif kind == "lost_response":
            return _hang_up(request)
        elif kind == "junk":
            return web.Response(body=JUNK, content_type="text/html")
        return answer

    # ── /_twin/… ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _add_faults(self, request: web.Request) -> web.Response:
        try:
            rules = faults_from_json(await request.read(), where="/_twin/faults")
        except SettingsError as error:
            return web.json_response({"error": str(error)}, status=400)
        self.faults.add(rules)
        return web.json_response({"rules": len(self.faults.rules)})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self.faults.clear()
        for outlet in self.outlets:
            outlet.heal()
        return web.json_response({"rules": 0})

    async def _get_state(self, request: web.Request) -> web.Response:
        body = {
            **self._state(),
            "requests": dict(self.requests),
            "connections": len(self.outlets),
            "struck": [f"{fault.at} {fault.do}" for fault in self.faults.struck],
        }
        return web.json_response(text=json.dumps(body, default=_plain))

    async def _disconnect(self, request: web.Request) -> web.Response:
        outlets = tuple(self.outlets)
        for outlet in outlets:
            outlet.cut()
        return web.json_response({"disconnected": len(outlets)})

    async def _close(self, app: web.Application) -> None:
        for outlet in tuple(self.outlets):
            await outlet.close()


_TEXTS = {
    "429": "too many requests.",
    "500": "internal server error occurred",
    "503": "service unavailable: maintenance",
    "504": "upstream request timeout",
}


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{type(value).__name__} in a twin's state")
