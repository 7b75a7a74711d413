"""Which prints form a price, and which count for volume, by Massive's numbers for the conditions of US stock and option prints.

The built-in table is the vendor's glossary of conditions (its mapping of the CTA and UTP participants' tables), which REST gives as
``/v3/reference/conditions``; ``refreshed`` takes it from there. A print forms a price (moves the last price) only if every condition
lets it move open and close. A few move high and low alone (sold out of sequence, derivatively priced, prior reference price): they
report an earlier moment or a price agreed elsewhere, so here they form none. Two that report a market centre's official open and
close move nothing: they are no new trade, and are dropped. An unknown condition is taken to form a price: most do.

Of options those from 201 to 207 (canceled, late, out of sequence) move nothing either.

Form T (extended hours) counts for volume only by those tables, because they speak of the regular session. Outside it there are no
other prints, and the vendor's own extended-hours bars are made of them: it forms prices.
"""

from __future__ import annotations

from collections.abc import Iterable

from northstar_core.data.massive.wire import ConditionRow

FORM_T = 12

#: For volume, but not for the price.
VOLUME_ONLY = frozenset({2, 5, 7, 10, 13, 20, 21, 22, 29, 32, 33, 35, 37, 52, 53})
#: For neither.
NOTHING = frozenset({15, 16, *range(201, 208)})
#: For the price, but not for volume: a correction of the consolidated close.
PRICE_ONLY = frozenset({38})


class Conditions:
    """The rules in force."""

    def __init__(
        self, no_price: frozenset[int] = VOLUME_ONLY | NOTHING, no_volume: frozenset[int] = NOTHING | PRICE_ONLY
    ) -> None:
        self.no_price, self.no_volume = no_price, no_volume

    def forms_price(self, conditions: Iterable[int]) -> bool:
        """Return whether a print with these may be taken as the last price."""
        return not any(condition in self.no_price for condition in conditions)

    def counts(self, conditions: Iterable[int]) -> bool:
        """Return whether a print with these counts for volume."""
        return not any(condition in self.no_volume for condition in conditions)

    def refreshed(self, rows: Iterable[ConditionRow]) -> Conditions:
        """Return the rules with what REST says of conditions instead of what is built in."""
        no_price, no_volume = set(self.no_price), set(self.no_volume)
        for row in rows:
            moves = row.update_rules.consolidated if row.update_rules is not None else None
            if moves is None or row.id == FORM_T:
                continue
            (no_price.discard if moves.updates_open_close else no_price.add)(row.id)
            (no_volume.discard if moves.updates_volume else no_volume.add)(row.id)
        return Conditions(frozenset(no_price), frozenset(no_volume))
