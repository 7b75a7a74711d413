"""A run's wiring, decided outside of the notebook: which data, how much cash, which limits, which broker.

The launcher writes it as JSON; the kernel reads it from the path in ``NORTHSTAR_RUN_SPEC``. It holds no secret.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from northstar_core.model.errors import SettingsError
from northstar_core.model.limit_sets import LimitSet, default_limits, parse_limits
from northstar_core.sim.costs import AllOf, Costs, Fixed, Percent, PerContract, PerShare, per_share_and_contract
from northstar_core.sim.fills import FillAt
from northstar_core.sim.latency import Latency
from northstar_core.sim.model import SimModel
from northstar_core.sim.regulatory import RegulatoryFees
from northstar_core.sim.slippage import BpsSlippage, ImpactSlippage, Slippage, TickSlippage

SPEC_VARIABLE = "NORTHSTAR_RUN_SPEC"
SPEC_FILE = "spec.json"
JOURNAL_FILE = "journal.log"
PROGRESS_FILE = "progress.json"
SUMMARY_FILE = "summary.json"
LATENCY_MAX_MS = 3_600_000.0


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the simulated broker behaves, in words a command line can carry.

    ``commission``: "none", "us" (the default: a fixed-rate broker's per share and contract, and "regulatory"),
    "share:0.005", "percent:0.001", "fixed:1", "contract:0.65", "regulatory" (SEC and FINRA fees on sales), or several
    joined by "+". ``slippage``: "none", "bps:2", "ticks:1", "impact:0.1".
    """

    fill_at: str = "next_open"
    touch: bool = False
    volume_share: Decimal | None = Decimal("0.1")
    commission: str = "us"
    slippage: str = "none"
    entry_latency_ms: float = 0.0
    response_latency_ms: float = 0.0

    def model(self) -> SimModel:
        """Return the simulation these words describe.

        Raises
        ------
        SettingsError
            If a word is not understood; names it and what there is.
        """
        try:
            fill_at = FillAt(self.fill_at)
        except ValueError:
            raise SettingsError(f"fill_at {self.fill_at!r}: choose one of {', '.join(FillAt)}") from None
        if self.volume_share is not None and not self.volume_share.is_finite():
            raise SettingsError(
                f"volume_share {self.volume_share}: give a part above 0 and up to 1, or none for no limit"
            )
        for name, value in (("entry", self.entry_latency_ms), ("response", self.response_latency_ms)):
            if not 0 <= value <= LATENCY_MAX_MS:
                raise SettingsError(f"{name} latency {value} ms: give 0 up to {LATENCY_MAX_MS:.0f} (an hour)")
        return SimModel(
            fill_at=fill_at,
            touch=self.touch,
            volume_share=self.volume_share,
            costs=_costs(self.commission),
            slippage=_slippage(self.slippage),
            latency=Latency(entry_ns=int(self.entry_latency_ms * 1e6), response_ns=int(self.response_latency_ms * 1e6)),
        )


class RunSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a backtest needs besides its notebook."""

    data: tuple[str, ...] = ()  #: files, folders or globs; empty: the generated demo market
    start: str | None = None
    end: str | None = None
    hours: str = "regular"
    calendar: str = "XNYS"
    cash: Decimal = Decimal(100_000)
    limits: str | None = None  #: TOML; None: the default set
    limits_name: str = "limits"
    broker: Broker = Broker()
    actions: str | None = None  #: a file of splits and dividends
    rules: tuple[str, ...] = ()  #: names of plugged-in risk rules
    simulator: str | None = None  #: name of a plugged-in simulated broker
    code: dict[str, str] = {}  #: names of pieces of code and their sha256
    run_dir: str | None = None  #: where the journal and the summary go

    def check(self) -> None:
        """Refuse what can be seen to be wrong before any data are read.

        Raises
        ------
        SettingsError
            If the cash is no amount, a bound is no date, the end comes before the start, or ``model`` refuses.
        """
        if not self.cash.is_finite() or self.cash <= 0:
            raise SettingsError(f"cash {self.cash}: must be above zero")
        bounds = []
        for name, text in (("start", self.start), ("end", self.end)):
            if text is not None:
                try:
                    when = datetime.fromisoformat(text)
                except ValueError:
                    raise SettingsError(
                        f"{name} {text!r}: no date; write 2023-08-03, or a time with its zone: 2023-08-03T13:30:00Z"
                    ) from None
                if len(text) > 10 and when.tzinfo is None:
                    raise SettingsError(f"{name} {text}: has no time zone; write {text}Z, or a date alone")
                bounds.append(when.date())
        if len(bounds) == 2 and bounds[1] < bounds[0]:
            raise SettingsError(f"start {self.start} is after end {self.end}; swap them")
        self.broker.model()

    def limit_set(self, *, daily: bool) -> LimitSet:
        """Return the limits in force."""
        if self.limits is None:
            return default_limits(self.cash, daily=daily)
        return parse_limits(self.limits, self.cash, where=self.limits_name)


def read_spec(path: Path) -> RunSpec:
    """Return the spec in a file.

    Raises
    ------
    SettingsError
        If it cannot be read or is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunSpec)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"{path}: not a run specification: {error}") from None


def write_spec(spec: RunSpec, path: Path) -> None:
    """Write a spec."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(spec)))


def _number(text: str, word: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise SettingsError(f"{word!r}: {text!r} is not a number") from None
    if not number.is_finite() or number < 0:
        raise SettingsError(f"{word!r}: must be zero or more")
    return number


def _costs(words: str) -> Costs | None:
    if words == "none":
        return None
    parts: list[Costs] = []
    for word in words.split("+"):
        kind, _, amount = word.partition(":")
        match kind:
            case "share":
                parts.append(PerShare(_number(amount, word)))
            case "contract":
                parts.append(PerContract(_number(amount, word)))
            case "percent":
                parts.append(Percent(_number(amount, word)))
            case "fixed":
                parts.append(Fixed(_number(amount, word)))
            case "us" if not amount:
                parts += [*per_share_and_contract().parts, RegulatoryFees()]
            case "regulatory" if not amount:
                parts.append(RegulatoryFees())
            case _:
                raise SettingsError(
                    f"commission {word!r}: choose none, us, regulatory, share:0.005, contract:0.65, percent:0.001, "
                    "fixed:1"
                )
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _slippage(word: str) -> Slippage | None:
    if word == "none":
        return None
    kind, _, amount = word.partition(":")
    match kind:
        case "bps":
            return BpsSlippage(_number(amount, word))
        case "ticks":
            return TickSlippage(int(_number(amount, word)))
        case "impact":
            return ImpactSlippage(float(_number(amount, word)))
        case _:
            raise SettingsError(f"slippage {word!r}: choose none, bps:2, ticks:1 or impact:0.1")
