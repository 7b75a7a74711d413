"""The brokerage session behind the gateway: whether it may be traded in, and what to do where not.

The gateway logs in with a browser; what is kept alive here is the session it opened. It dies when nobody tickles it, when the same user
logs in elsewhere, and once a day. A login after that is a new session, and a socket of the old one may go on beating its heart while
it delivers nothing; only the session's id tells.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from northstar_core.brokers.ibkr.wire import Unreadable, error_of, text


class Auth(msgspec.Struct, frozen=True):
    """What the gateway says of its login."""

    authenticated: bool
    connected: bool
    competing: bool
    words: str = ""


class Step(StrEnum):
    """What is to be done before anything can be traded."""

    READY = "READY"
    INIT = "INIT"  #: the gateway is up, its brokerage session is not: open one
    YIELD = "YIELD"  #: another login of the same user has the session, and we may not take it
    WAIT = "WAIT"  #: not logged in: a person must


def auth(body: Any) -> Auth:
    """Return what a status says: an answer to ``auth/status`` or ``ssodh/init``, a tickle's part, or a frame's arguments.

    Raises
    ------
    Unreadable
        If it is no status.
    """
    if not isinstance(body, dict):
        raise Unreadable(f"a login's status was expected, not {str(body)[:80]}")
    if words := error_of(body):
        return Auth(False, False, False, words)
    if "authenticated" not in body:
        raise Unreadable("a login's status without the word authenticated")
    words = text(body.get("fail")) or text(body.get("message"))
    return Auth(body["authenticated"] is True, body.get("connected", True) is True, body.get("competing") is True, words)


def tickled(body: Any) -> tuple[str, Auth | None]:
    """Return the session's id and the login's status as a tickle tells them; "" and None where it does not.

    Raises
    ------
    Unreadable
        If it is no answer to a tickle.
    """
    if not isinstance(body, dict):
        raise Unreadable(f"a tickle's answer was expected, not {str(body)[:80]}")
    if words := error_of(body):
        return "", Auth(False, False, False, words)
    status = (body.get("iserver") or {}).get("authStatus") if isinstance(body.get("iserver"), dict) else None
    session = body.get("session")
    return session if isinstance(session, str) else "", auth(status) if status is not None else None


def step(status: Auth, *, may_compete: bool) -> Step:
    """Return what to do."""
    if status.authenticated and not status.competing:
        return Step.READY
    if status.competing and not may_compete:
        return Step.YIELD
    if not status.connected and not status.competing:
        return Step.WAIT
    return Step.INIT


def may_compete(policy: str, *, starting: bool) -> bool:
    """Whether another login may be thrown out: ``never``, only as we ``start``, ``always``."""
    return policy == "always" or (policy == "start" and starting)
