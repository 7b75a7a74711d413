"""What the Massive twin's REST routes share: keys, error envelopes, numbers in queries, and pages.

A page's ``next_url`` names the vendor's own host, as the real one does, with an opaque cursor and without the key: a client keeps the
path and the query and asks the same server again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from aiohttp import web

from northstar_core.twins.massive.messages import MS_NS, NEW_YORK, SECOND_NS, new_york_midnight

HOST = "https://api.massive.com"
DAY_S = 86_400
_requests = 0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Row = dict[str, Any]


class BadRequest(Exception):
    """The query cannot be answered; the text says why."""


def request_id() -> str:
    """Return the next request's id, 32 hex digits."""
    global _requests
    _requests += 1
    return f"{_requests:032x}"


def answer(body: Row, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def ok(results: Any = None, **more: Any) -> web.Response:
    """Return the usual envelope; without results where there are none."""
    body: Row = {"status": "OK", "request_id": request_id(), **more}
    if results is not None:
        body["results"] = results
    return answer(body)


def error(status: int, text: str) -> web.Response:
    """Return the error envelope: what went wrong under ``error``; under ``message`` what is missing or not allowed."""
    if status == 404:
        return answer({"status": "NOT_FOUND", "request_id": request_id(), "message": text}, 404)
    if status == 403:
        return answer({"status": "NOT_AUTHORIZED", "request_id": request_id(), "message": text}, 403)
    return answer({"status": "ERROR", "request_id": request_id(), "error": text}, status)


def authorized(request: web.Request, key: str) -> bool:
    """Tell whether a request holds the key, as a bearer token or in its query."""
    return request.headers.get("Authorization") == f"Bearer {key}" or request.query.get("apiKey") == key


def limit_of(request: web.Request, default: int, most: int) -> int:
    """Return the page size asked for.

    Raises
    ------
    BadRequest
        If it is not a number above zero, or above ``most``.
    """
    text = request.query.get("limit", str(default))
    if not text.isdigit() or not 0 < int(text) <= most:
        raise BadRequest(f"limit must be between 1 and {most}: {text}")
    return int(text)


def date_of(text: str) -> date:
    """Return a date.

    Raises
    ------
    BadRequest
        If it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"Could not parse the date: {text}") from None


def aggregate_time(text: str, *, last: bool) -> int:
    """Return the ns of a date (its beginning in New York, or with ``last`` its last nanosecond) or of milliseconds."""
    if text.lstrip("-").isdigit():
        return int(text) * MS_NS + (MS_NS - 1 if last else 0)
    day = new_york_midnight(date_of(text))
    return _next_midnight(day) - 1 if last else day


def tick_span(request: web.Request) -> tuple[int, int]:
    """Return the first and last ns that the ``timestamp`` filters ask for, both included."""
    first, last = 0, (1 << 62)
    for name, value in request.query.items():
        field, _, how = name.partition(".")
        if field != "timestamp":
            continue
        if value.isdigit():
            begin = end = int(value)
        else:
            begin = new_york_midnight(date_of(value))
            end = _next_midnight(begin) - 1
        if how == "gt":
            first = max(first, end + 1)
        elif how == "lt":
            last = min(last, begin - 1)
        else:
            first = max(first, begin) if how in ("", "gte") else first
            last = min(last, end) if how in ("", "lte") else last
    return first, last


def wanted(request: web.Request, field: str, value: Any) -> bool:
    """Tell whether a row's value passes the query's filters on a field: equal, ``.gt``, ``.gte``, ``.lt``, ``.lte``, ``.any_of``."""
    for name, text in request.query.items():
        asked, _, how = name.partition(".")
        if asked != field:
            continue
        if how == "any_of":
            if str(value) not in text.split(","):
                return False
            continue
        try:
            bound: Any = Decimal(text) if isinstance(value, (int, float, Decimal)) else text
        except InvalidOperation:
            raise BadRequest(f"{name} is not a number: {text}") from None
        own = Decimal(str(value)) if isinstance(bound, Decimal) else str(value)
        if not {
            "": own == bound, "gt": own > bound, "gte": own >= bound, "lt": own < bound, "lte": own <= bound,
        }.get(how, False):  # fmt: skip
            return False
    return True


def page(request: web.Request, rows: Sequence[Any], limit: int) -> tuple[Sequence[Any], Row]:
    """Return one page of all rows, and what says where the next one is."""
    begin = cursor_of(request).get("at", 0)
    part = rows[begin : begin + limit]
    return part, next_url(request, at=begin + limit) if begin + limit < len(rows) else {}


def cursor_of(request: web.Request) -> dict[str, Any]:
    """Return what a page's cursor holds; nothing on the first page."""
    text = request.query.get("cursor")
    if text is None:
        return {}
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(text.encode()))
    except (msgspec.DecodeError, binascii.Error, ValueError):
        raise BadRequest("cursor not understood") from None
    return found if isinstance(found, dict) else {}


def next_url(request: web.Request, *, path: str | None = None, **cursor: Any) -> Row:
    """Return the ``next_url`` of a page: the same question, from where the cursor says."""
    asked = {**cursor_of(request), **{k: v for k, v in request.query.items() if k not in ("cursor", "apiKey")}, **cursor}
    text = base64.urlsafe_b64encode(msgspec.json.encode(asked)).decode()
    return {"next_url": f"{HOST}{path or request.path}?cursor={text}"}


def resumed(request: web.Request) -> web.Request:
    """Return the request with the query it had on its first page, where it comes with a cursor."""
    cursor = cursor_of(request)
    asked = {name: value for name, value in cursor.items() if isinstance(value, str)}
    if not asked:
        return request
    return request.clone(rel_url=request.rel_url.update_query(asked))


def _next_midnight(midnight: int) -> int:
    day = datetime.fromtimestamp(midnight // SECOND_NS + DAY_S + DAY_S // 8, NEW_YORK).date()
    return new_york_midnight(day)
