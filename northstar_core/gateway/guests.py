"""Who is behind a connection: a strategy's kernel, or a person's tool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from northstar_core.gateway.manners import check
from northstar_core.gateway.seats import Seat
from northstar_core.gateway.sessions import Connection, Refusal
from northstar_core.model.wire import Answer, Ask, Beat, Keep, Leave, Request, batch, frame

OUTCOMES = ("completed", "stopped", "failed")
FOLLOW_LOST = 50_000  #: facts waiting for a follower at which it is dropped


class StrategyGuest:
    """A strategy's kernel: may ask for its own strategy, in its own account, in its own session."""

    def __init__(
        self, seat: Seat, connection: Connection, *, asked: Callable[[Seat, Any], None],
        kept: Callable[[Seat, dict[str, Any]], None], left: Callable[[Seat, str, str], None],
        gone: Callable[[StrategyGuest, str], None],
    ) -> None:  # fmt: skip
        self.seat, self.connection = seat, connection
        self._asked, self._kept, self._left, self._gone = asked, kept, left, gone
        self._prefix = f"{seat.strategy_id}-{seat.session}-"

    def next_frame(self) -> bytes | None:
        return self.seat.frame()

    def on_message(self, message: Any) -> None:
        if type(message) is Ask:
            check(message.message, self.seat, self._prefix)
            self.seat.asked += 1
            self._asked(self.seat, message.message)
        elif type(message) is Beat:
            self.seat.handled = min(message.seq, self.seat.given)
        elif type(message) is Keep:
            self._kept(self.seat, _state(message.state))
        elif type(message) is Leave:
            if message.outcome not in OUTCOMES:
                raise Refusal("ARGUMENTS", f"outcome {message.outcome[:80]!r}: choose one of {', '.join(OUTCOMES)}")
            self._left(self.seat, message.outcome, message.error.replace("\0", ""))
            self.connection.close("the session has ended")
        else:
            raise Refusal("CAPABILITY", f"a strategy's session may not send {type(message).__name__}")

    def on_gone(self, reason: str) -> None:
        self._gone(self, reason)


def _state(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Refusal("STATE", f"the kept state is no JSON object: {error}") from None


class PersonGuest:
    """A person's tool, the jobs worker, a dashboard: asks questions, gives commands within its capability, follows facts."""

    def __init__(self, connection: Connection, capability: str, *, request: Callable[[PersonGuest, Request], Any],
                 gone: Callable[[PersonGuest], None]) -> None:  # fmt: skip
        self.connection, self.capability = connection, capability
        self._request, self._gone = request, gone
        self._facts: list[bytes] = []
        self._answers: list[bytes] = []

    def next_frame(self) -> bytes | None:
        if self._answers:
            return self._answers.pop(0)
        if self._facts:
            facts, self._facts = self._facts, []
            return batch(facts)
        return None

    def follow(self, seq: int, event: Any, data: bytes) -> None:
        """A fact became durable."""
        self._facts.append(data)
        if len(self._facts) >= FOLLOW_LOST:
            self.connection.close("too far behind")
        self.connection.server.wake()

    def answer(self, n: int, value: Any = None, error: str = "") -> None:
        """Answer a request."""
        self._answers.append(frame(Answer(n, value, error)))
        self.connection.server.wake()

    def on_message(self, message: Any) -> None:
        if type(message) is not Request:
            raise Refusal("CAPABILITY", f"a login may not send {type(message).__name__}")
        self._request(self, message)

    def on_gone(self, reason: str) -> None:
        self._gone(self)
