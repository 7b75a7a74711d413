"""Which prints may form a price: the sale conditions of the US consolidated tapes, as a bit field.

The bits are those of the tick layout (AlgoSeek's, as QuantConnect LEAN's ``TradeConditionFlags`` names them). The rule
is the CTA and UTP participants' "consolidated processing" table, read for one question: may this print be taken as the
last price? Prints the table counts for volume only may not. Neither may those that report an earlier moment or a price
that was agreed elsewhere (sold, out of sequence, prior reference, derivatively priced): the table lets them touch high
and low but not the last price, and with a single flag the cautious answer is no. Intermarket sweeps, crosses and
single-priced opening and closing prints form prices. So do extended-hours prints: outside regular hours there are no
others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CASH = 1 << 1
NEXT_DAY = 1 << 2
SELLER = 1 << 3
DERIVATIVELY_PRICED = 1 << 9
SOLD = 1 << 11
OUT_OF_SEQUENCE = 1 << 14
STOCK_OPTION = 1 << 18
AVERAGE_PRICE = 1 << 20
PRICE_VARIATION = 1 << 22
OFFICIAL_CLOSE = 1 << 24
PRIOR_REFERENCE_PRICE = 1 << 25
OFFICIAL_OPEN = 1 << 26
ODD_LOT = 1 << 31

#: Prints with any of these do not form a price.
VOLUME_ONLY = (
    CASH | NEXT_DAY | SELLER | DERIVATIVELY_PRICED | SOLD | OUT_OF_SEQUENCE | STOCK_OPTION | AVERAGE_PRICE
    | PRICE_VARIATION | OFFICIAL_CLOSE | PRIOR_REFERENCE_PRICE | OFFICIAL_OPEN | ODD_LOT
)  # fmt: skip


def forms_price(flags: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which prints may be taken as the last price, from their condition bits."""
    result: NDArray[np.bool_] = (flags & VOLUME_ONLY) == 0
    return result
