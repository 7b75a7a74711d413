"""The session protocol: what a kernel, a command or a dashboard says to the gateway, and what it is told.

A frame is four bytes of length (big-endian) and a MessagePack body: one ``ToGateway`` message upwards, at most 64 KiB; one
``ToClient`` message downwards, where a ``Batch`` carries whatever was waiting. The first frame is ``Hello`` (a strategy) or ``Login``
(a person, the jobs worker, a dashboard). ``n`` numbers a client's frames from 1 without a gap: a repeated one is refused.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.model.errors import ProtocolError
from northstar_core.model.events import Decision, Event, Intent
from northstar_core.model.market import Bar
from northstar_core.model.world import Held, OpenSession, Works

PROTOCOL = 1
LARGEST = 64 * 1024  #: bytes of a body that the gateway reads
HEADER = 4

# ── upwards ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A strategy's kernel begins or resumes its session."""

    protocol: int = PROTOCOL
    token: str
    strategy: str
    params: dict[str, Any] = {}
    code: dict[str, str] = {}  #: name of a piece of code to its sha256
    symbols: tuple[str, ...] = ()
    options_on: tuple[str, ...] = ()
    warm_up: int = 0  #: bars of each symbol it wants before it decides
    quotes: bool = False  #: whether it listens to quotes
    trades: bool = False
    resume: str = ""  #: label of the session it was in; its own state is lost where this is empty
    seen: int = 0  #: the last number it handled in that session


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A strategy's intent or decision record."""

    n: int
    message: Intent | Decision


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Alive, and this far: ``seq`` is the last number handled by the strategy."""

    n: int
    seq: int


class Keep(msgspec.Struct, frozen=True, tag=True):
    """The strategy's ``ctx.state`` has changed: JSON of an object, to be found again after a restart."""

    n: int
    state: bytes


class Leave(msgspec.Struct, frozen=True, tag=True):
    """The session ends by the client's will; ``error`` says what the strategy raised."""

    n: int
    outcome: str  #: "completed", "stopped", "failed"
    error: str = ""


class Login(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A person's tool, the jobs worker or a dashboard."""

    protocol: int = PROTOCOL
    token: str
    follow: bool = False  #: send every fact as it becomes durable


class Request(msgspec.Struct, frozen=True, tag=True):
    """A question or command; answered by an ``Answer`` with the same ``n``."""

    n: int
    what: str
    args: dict[str, Any] = {}


ToGateway = Hello | Ask | Beat | Keep | Leave | Login | Request

# ── downwards ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The session is open."""

    strategy: str  #: its name on the desk: the notebook's, with ``@account`` where it runs twice
    account: str
    session: str
    broker: str  #: kind of the account's broker: "alpaca", "ibkr", "paper"
    simulated: bool  #: no real money: a paper account, a twin, a shadow
    rehearsed: bool = False  #: the prices come from a server on this machine: generated, or of another day
    n: int  #: the last number this strategy gave in this session
    seq: int  #: the log's last number
    now: int  #: the desk's time, ns UTC
    speed: float
    bar_ns: int  #: length of the bars it gets
    cash: Decimal  #: its bankroll
    held: tuple[Held, ...] = ()
    works: tuple[Works, ...] = ()
    opened: OpenSession | None = None
    state: dict[str, Any] = {}  #: what the strategy kept before
    calendar: str = "XNYS"
    resumed: bool = False  #: the session goes on where its connection dropped; nothing above counts
    asked: int = 0  #: of a resumed session: how many ``Ask`` of this kernel arrived; the rest is sent again
    lockstep: bool = False  #: a ``Beat`` is awaited after every ``Batch``
    beat_s: float = 1.0  #: how often the gateway wants to hear of it, wall seconds
    limits: str = ""  #: name of the limit set


class History(msgspec.Struct, frozen=True, tag=True):
    """Bars from before the session, oldest first; ``last`` with the last of them. They are no part of the log."""

    bars: tuple[Bar, ...]
    last: bool


class Batch(msgspec.Struct, frozen=True, tag=True):
    """Events with their numbers, in the order of the log."""

    events: list[tuple[int, Event]]


class Refused(msgspec.Struct, frozen=True, tag=True):
    """What the client sent was refused; after a fatal one the connection is closed."""

    code: str
    detail: str
    fatal: bool = True


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to a request: ``value``, or what stood against it in one line."""

    n: int
    value: Any = None
    error: str = ""


ToClient = Welcome | History | Batch | Refused | Answer

_encoder = msgspec.msgpack.Encoder()
_up = msgspec.msgpack.Decoder(ToGateway)
_down = msgspec.msgpack.Decoder(ToClient)

#: A batch's body is made of events encoded once for all sessions: this, the length of the array, the events.
_BATCH = _encoder.encode(Batch([]))[:-1]


def frame(message: ToGateway | ToClient) -> bytes:
    """Return a message as a frame."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER, "big") + body


def item(seq: int, event: Event) -> bytes:
    """Return an event with its number as ``batch`` takes it; encode once, send to many."""
    return _encoder.encode((seq, event))


def batch(items: list[bytes]) -> bytes:
    """Return the frame of a ``Batch`` of items."""
    body = b"".join((_BATCH, b"\xdd", len(items).to_bytes(4, "big"), *items))
    return len(body).to_bytes(HEADER, "big") + body


def upwards(body: bytes) -> ToGateway:
    """Return the client's message these bytes are.

    Raises
    ------
    ProtocolError
        If they are none.
    """
    try:
        message: ToGateway = _up.decode(body)
        return message
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"not a message of protocol {PROTOCOL}: {error}") from None


def downwards(body: bytes) -> ToClient:
    """Return the gateway's message these bytes are.

    Raises
    ------
    ProtocolError
        If they are none.
    """
    try:
        message: ToClient = _down.decode(body)
        return message
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"not a message of protocol {PROTOCOL}: {error}") from None


def take(buffer: bytearray, largest: int = LARGEST) -> bytes | None:
    """Take the first whole frame's body off a buffer; None where there is none yet.

    Raises
    ------
    ProtocolError
        If its length is above ``largest`` or zero.
    """
    if len(buffer) < HEADER:
        return None
    size = int.from_bytes(buffer[:HEADER], "big")
    if not 0 < size <= largest:
        raise ProtocolError(f"a frame of {size} bytes; 1 to {largest} are read")
    if len(buffer) < HEADER + size:
        return None
    body = bytes(memoryview(buffer)[HEADER : HEADER + size])
    del buffer[: HEADER + size]
    return body
