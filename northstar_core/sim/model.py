"""All that a simulation assumes, as one value that can be printed."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from northstar_core.model.errors import SettingsError
from northstar_core.sim.costs import Costs
from northstar_core.sim.fills import FillAt
from northstar_core.sim.latency import Latency
from northstar_core.sim.slippage import Slippage

_FILL_AT = {
    FillAt.NEXT_OPEN: "a market order fills at the open of the next bar of its symbol",
    FillAt.CLOSE: (
        "a market order fills at the close of the bar it was decided on; without one, at the close of the next"
    ),
    FillAt.QUOTE: (
        "a market order buys at the ask and sells at the bid, for no more than the size shown; the rest waits for the "
        "next quote"
    ),
}


class LifecyclePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to positions without an order."""

    #: an option this far in the money at expiry is exercised (OCC Rule 805)
    exercise_threshold: Decimal = Decimal("0.01")
    early_assignment: bool = False  #: short calls may be assigned before an ex-dividend day
    cash_in_lieu: bool = True  #: fractions of a share that a split leaves are paid in cash


class SimModel(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated exchange and broker behave. The defaults are conservative where they cost nothing to be.

    ``volume_share`` is 0.1: above a tenth of what traded in a bar an order can no longer pretend not to move the
    price (desks plan participation at 5 to 20 %). None removes the limit.
    """

    fill_at: FillAt = FillAt.NEXT_OPEN
    touch: bool = False  #: a limit order fills when the price is touched; else only when traded through
    volume_share: Decimal | None = Decimal("0.1")
    extended_hours: bool = False  #: orders work outside the regular session too
    costs: Costs | None = None
    slippage: Slippage | None = None
    latency: Latency = Latency()
    lifecycle: LifecyclePolicy = LifecyclePolicy()

    def __post_init__(self) -> None:
        if self.volume_share is not None and not 0 < self.volume_share <= 1:
            raise SettingsError(
                f"volume_share {self.volume_share}: give a part above 0 and up to 1, or None for no limit"
            )
        if self.latency.entry_ns < 0 or self.latency.response_ns < 0:
            raise SettingsError(f"latency {self.latency}: give nanoseconds, 0 or more")

    def assumptions(self) -> dict[str, str]:
        """Return every assumption as a sentence, keyed by a short name; printed in the tear sheet."""
        share = self.volume_share
        policy = self.lifecycle
        return {
            "market orders": _FILL_AT[self.fill_at],
            "when": (
                "an order fills only on bars that open at or after it reached the broker; without a trade there is no "
                "bar and it waits"
            ),
            "limit orders": (
                "at the open where that is at the limit or better, else at the limit when the price "
                + ("touches it" if self.touch else "trades through it (a touch is not enough)")
            ),
            "stop orders": "at the open where the price gapped through, else at the stop when touched; plus slippage",
            "stop-limit orders": "triggered inside a bar, the limit fills in that bar only if the close is through it",
            "brackets": "stop and target in the same bar: the stop fills; exits never exceed what the entry has filled",
            "combos": "all legs or none, in the same proportion, at the open of bars that all legs have, or at quotes",
            "volume": (
                "no limit, but a bar without volume fills nothing"
                if share is None
                else f"all orders together at most {share * 100:f} % of a bar's volume, whole lots; the rest works on"
            ),
            "hours": "also outside the regular session" if self.extended_hours else "regular session only",
            "costs": "none" if self.costs is None else self.costs.describe(),
            "slippage": "none" if self.slippage is None else self.slippage.describe(),
            "latency": self.latency.describe(),
            "option expiry": (
                f"after the last close up to expiry; ${policy.exercise_threshold:f} or more in the money is exercised "
                "or assigned, with delivery of shares at the strike (European style: in cash); the rest expires"
            ),
            "early assignment": (
                "short calls in the money with less time value than the dividend, at the open of the ex-dividend day"
                if policy.early_assignment
                else "never"
            ),
            "splits": "at the open of the ex-date; working orders in the symbol and its options are canceled",
            "dividends": "cash at the open of the ex-date, paid to longs and taken from shorts; order prices stay",
            "market impact": "own orders do not change the tape",
        }
