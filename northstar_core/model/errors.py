"""Every exception Northstar raises on purpose.

NorthstarError
├── SettingsError      a limit file, an environment variable or a path that cannot be used
├── ParameterError     a notebook or strategy parameter: unknown, of the wrong type, out of range
├── NotebookError      a notebook without the cells a strategy needs, or a cell that failed
├── DataError          malformed, missing or out-of-order market data (names file, row, field)
├── JournalError       an event could not be written or the stored log does not add up
├── StoreError         the database cannot be reached, started or shared
├── ProtocolError      a message that the engine may never see (a programming error of a driver)
└── StrategyError      an author's exception, with the event that caused it

Expected refusals are not here: they are values (``model.denial.Denial``). Each message is one line that names the thing,
the place and the way out.
"""

from __future__ import annotations

from datetime import UTC, datetime


class NorthstarError(Exception):
    """Something went wrong that Northstar can name."""


class SettingsError(NorthstarError):
    """A setting cannot be used."""


class ParameterError(NorthstarError):
    """A parameter is unknown, of the wrong type or out of range."""


class NotebookError(NorthstarError):
    """A notebook cannot be run as a strategy, or one of its cells failed."""


class DataError(NorthstarError):
    """Market data are malformed, missing or out of order."""


class JournalError(NorthstarError):
    """An event could not be written, or what is stored does not add up."""


class StoreError(NorthstarError):
    """The event store cannot be reached, started or shared."""


class ProtocolError(NorthstarError):
    """A driver handed a state machine a message it may not receive."""


def _told(event: object) -> str:
    """An event as a person names it: its kind, its symbol, its time, and what else it holds."""
    fields = {name: getattr(event, name) for name in getattr(event, "__struct_fields__", ())}
    if "ts" not in fields:
        return repr(event)
    ts = fields.pop("ts")
    fields.pop("start", None)
    when = datetime.fromtimestamp(ts // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    symbol = f" of {fields.pop('symbol')}" if "symbol" in fields else ""
    rest = " ".join(f"{name} {value}" for name, value in fields.items())
    return f"the {type(event).__name__}{symbol} at {when}: {rest}"


class StrategyError(NorthstarError):
    """A strategy raised; carries the event it was handling."""

    def __init__(self, strategy_id: str, handler: str, event: object, error: BaseException) -> None:
        self.strategy_id, self.handler, self.event, self.error = strategy_id, handler, event, error
        super().__init__(f"{strategy_id}.{handler} raised {type(error).__name__}: {error} (while handling {_told(event)})")
