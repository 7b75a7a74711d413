"""The digest of consumed market events depends on the events and their order, and on nothing else."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade
from northstar_core.model.tick_digest import HELD, TickDigest, tick_digest


def ticks(count: int) -> list[MarketEvent]:
    kinds = (
        lambda n: Quote("SPY", n, 448.1, 448.2, 3.0, 5.0), lambda n: Trade("QQQ", n, 380.5, 100.0, n % 2 == 0),
        lambda n: Bar("SPY", n - 60, n, 1.0, 2.0, 0.5, 1.5, 1e6), lambda n: Halt("IWM", n, True, "news"),
    )  # fmt: skip
    return [kinds[n % 4](n) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 15, 16, HELD - 1, HELD, HELD + 1, 2 * HELD + 7])
def test_digest_is_the_sha256_of_the_events_bytes_one_after_the_other(count: int) -> None:
    some = ticks(count)
    assert tick_digest(some) == sha256(b"".join(map(msgspec.msgpack.encode, some))).hexdigest()


def test_taking_begins_anew_and_counts_rows() -> None:
    digest = TickDigest(ticks(HELD + 3))
    assert digest.rows == HELD + 3
    assert digest.take() == tick_digest(ticks(HELD + 3))
    assert digest.rows == 0
    digest.add(ticks(1)[0])
    assert digest.take() == tick_digest(ticks(1))


def test_order_and_every_field_matter() -> None:
    some = ticks(20)
    swapped = [some[1], some[0], *some[2:]]
    changed = [msgspec.structs.replace(some[0], bid=448.11), *some[1:]]
    assert len({tick_digest(each) for each in (some, swapped, changed, some[:-1])}) == 4
