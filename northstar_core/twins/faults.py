"""What goes wrong, and when: rules by place, counted and drawn from a seed, so that a run of faults can be repeated.

A place is a route of a server by its name (``orders.post``, ``orders.delete``, …), its stream (``stream``, or
``stream.fill`` where events have names), or a step of the account (``account.submit``). What each kind does is written
where it is done: ``control`` for answers, ``outlet`` for streams, ``account`` for orders.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from northstar_core.model.errors import SettingsError

ANSWERS = ("429", "500", "503", "504", "504_lost", "lost_response", "drop", "delay", "late", "early", "junk", "refuse")
STREAMS = ("drop", "duplicate", "delay", "reorder", "mute", "dead", "disconnect", "junk")
ORDERS = ("reject", "partial", "split")
PRICES = ("revise", "late", "force_disconnect", "slow_consumer")  # of a stream of prices, see ``massive.stream``
GATEWAY = ("401", "expire", "question", "correction", "deaf")  # of a gateway with a session, see ``ibkr``
KINDS = frozenset((*ANSWERS, *STREAMS, *ORDERS, *PRICES, *GATEWAY))


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: at this place, do this."""

    at: str  #: a place; ``orders`` is every ``orders.…``; ``*`` and ``?`` match as in file names
    do: str  #: one of ``KINDS``
    times: int = 1  #: how often it strikes; 0 = without end
    after: int = 0  #: this many passages of the place are spared first
    delay_s: float = 0  #: wall seconds, where the kind waits or lasts
    every: int = 0  #: of the passages that are left, every n-th; 0 = each
    share: float = 0  #: strikes with this probability; 0 = always
    part: float = 0.5  #: of an order, for partial fills
    text: str = ""  #: reason to give

    def __post_init__(self) -> None:
        if self.do not in KINDS:
            raise SettingsError(f"fault at {self.at}: {self.do!r} is not known; use one of {', '.join(sorted(KINDS))}")


class Faults:
    """Rules in force, and what has struck.

    Parameters
    ----------
    rules
        In the order in which they are asked; the first that strikes is the one.
    seed
        Of the draws for rules with a ``share``; the same passages then meet the same faults.
    """

    def __init__(self, rules: Iterable[Fault] = (), seed: int = 0) -> None:
        self._draws = random.Random(seed)
        self._rules: list[tuple[Fault, list[int]]] = []  # rule, [passages, strikes]
        self.struck: list[Fault] = []  #: oldest first
        self.add(rules)

    def add(self, rules: Iterable[Fault]) -> None:
        """Put more rules into force, after those there are."""
        self._rules += [(rule, [0, 0]) for rule in rules]

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._rules.clear()

    @property
    def rules(self) -> list[Fault]:
        """The rules in force."""
        return [rule for rule, _ in self._rules]

    def hit(self, at: str, *kinds: str) -> Fault | None:
        """Pass a place; return the fault that strikes there, or None.

        ``kinds`` limits it to rules of these kinds: others do not count the passage.
        """
        found: Fault | None = None
        for rule, counts in self._rules:
            if (kinds and rule.do not in kinds) or not (fnmatchcase(at, rule.at) or at.startswith(f"{rule.at}.")):
                continue
            counts[0] += 1
            passage = counts[0] - rule.after
            if found is not None or passage <= 0 or (rule.times and counts[1] >= rule.times):
                continue
            if rule.every and passage % rule.every:
                continue
            if rule.share and self._draws.random() >= rule.share:
                continue
            counts[1] += 1
            found = rule
        if found is not None:
            self.struck.append(found)
        return found


def faults_from_json(data: bytes | str, *, where: str) -> list[Fault]:
    """Return rules from a JSON list of objects (or one object).

    Raises
    ------
    SettingsError
        If it is not that, or a rule has an unknown kind or field.
    """
    try:
        raw: Any = msgspec.json.decode(data)
        return msgspec.convert(raw if isinstance(raw, list) else [raw], list[Fault])
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where}: not a JSON list of faults ({error}); fields are {_FIELDS}") from None


_FIELDS = ", ".join(Fault.__struct_fields__)
