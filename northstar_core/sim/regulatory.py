"""What US regulators charge on sales: the SEC's Section 31 fee and FINRA's Trading Activity Fee.

Rates are dated: a fill pays what was in force on its day (UTC). A day before the first row pays the first row's rate,
a day after the last the last row's. Both are rounded up to the cent on each execution, as retail brokers pass them
on.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from northstar_core.model.instrument import Equity, Option
from northstar_core.sim.costs import Tally, cents_up

ZERO = Decimal(0)
MILLION = Decimal(1_000_000)

#: First day, dollars a million dollars of sales. Source: SEC Fee Rate Advisories and FINRA Information Notices.
SECTION_31: tuple[tuple[str, str], ...] = (
    ("2012-04-01", "22.40"),
    ("2013-05-25", "17.40"),
    ("2014-03-18", "22.10"),
    ("2015-02-14", "18.40"),
    ("2016-02-16", "21.80"),
    ("2017-07-04", "23.10"),
    ("2018-05-22", "13.00"),
    ("2019-04-16", "20.70"),
    ("2020-02-18", "22.10"),
    ("2021-02-25", "5.10"),
    ("2022-05-14", "22.90"),
    ("2023-02-27", "8.00"),
    ("2024-05-22", "27.80"),
    ("2025-05-14", "0.00"),
    ("2026-04-04", "20.60"),
)

#: First day, dollars a share, most a trade, dollars an option contract. Source: FINRA By-Laws, Schedule A, Section 1.
TRADING_ACTIVITY: tuple[tuple[str, str, str, str], ...] = (
    ("2012-07-01", "0.000119", "5.95", "0.002"),
    ("2022-01-01", "0.000130", "6.49", "0.00218"),
    ("2023-01-01", "0.000145", "7.27", "0.00244"),
    ("2024-01-01", "0.000166", "8.30", "0.00279"),
    ("2026-01-01", "0.000195", "9.79", "0.00329"),
)


def _ns(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9


_SEC_FROM = [_ns(row[0]) for row in SECTION_31]
_SEC_RATE = [Decimal(row[1]) for row in SECTION_31]
_TAF_FROM = [_ns(row[0]) for row in TRADING_ACTIVITY]
_TAF = [(Decimal(share), Decimal(most), Decimal(contract)) for _, share, most, contract in TRADING_ACTIVITY]


def section_31_fee(value: Decimal, ts: int) -> Decimal:
    """Return the SEC's fee on a sale of this value."""
    return cents_up(value * _SEC_RATE[max(bisect_right(_SEC_FROM, ts) - 1, 0)] / MILLION)


def trading_activity_fee(instrument: Equity | Option, qty: Decimal, ts: int) -> Decimal:
    """Return FINRA's fee on a sale of this many shares or contracts."""
    share, most, contract = _TAF[max(bisect_right(_TAF_FROM, ts) - 1, 0)]
    return cents_up(min(share * qty, most) if type(instrument) is Equity else contract * qty)


class RegulatoryFees(msgspec.Struct, frozen=True, tag=True):
    """Section 31 and Trading Activity fees on every sale, nothing on a purchase."""

    def fee(
        self, instrument: Equity | Option, buy: bool, qty: Decimal, price: Decimal, ts: int, before: Tally
    ) -> Decimal:
        """Return both fees."""
        if buy:
            return ZERO
        return section_31_fee(qty * price * instrument.multiplier, ts) + trading_activity_fee(instrument, qty, ts)

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return "SEC Section 31 and FINRA trading activity fees on sales at the day's rates, each rounded up to the cent"
