"""What a live session's report says of itself: whose prices, whose broker, and whether it came to its end."""

from __future__ import annotations

from decimal import Decimal

import pytest

from northstar_core.client.heard import Heard
from northstar_core.model.market import Bar
from northstar_core.model.wire import Welcome
from northstar_core.strategy.base import Strategy

MINUTE = 60 * 10**9


class Idle(Strategy):
    """Does nothing."""


@pytest.mark.parametrize(("simulated", "rehearsed"), [(True, False), (False, False), (True, True)])
def test_prices_are_called_synthetic_where_a_twin_plays_them_and_not_because_the_broker_is_simulated(
    simulated: bool, rehearsed: bool
) -> None:
    heard, strategy = Heard(), Idle()
    heard.begin(
        Welcome(
            strategy="idle", account="paper-1", session="20240105", broker="paper", simulated=simulated, rehearsed=rehearsed, n=0, seq=1,
            now=MINUTE, speed=1.0, bar_ns=MINUTE, cash=Decimal(1000),
        ),
        strategy, {},
    )  # fmt: skip
    heard.market(Bar("SPY", MINUTE, 2 * MINUTE, 1.0, 1.0, 1.0, 1.0, 1.0))
    result = heard.result(strategy, "completed", "", 1.0)
    assert result.synthetic is rehearsed
    assert ("simulated" in result.assumptions["broker"]) is simulated
    assert ("twin" in result.assumptions["prices"]) is rehearsed


def test_the_report_of_a_session_that_was_stopped_does_not_say_that_data_are_missing() -> None:
    heard, strategy = Heard(), Idle()
    heard.begin(
        Welcome(
            strategy="idle", account="paper-1", session="20240105", broker="paper", simulated=True, n=0, seq=1, now=MINUTE, speed=1.0,
            bar_ns=MINUTE, cash=Decimal(1000),
        ),
        strategy, {},
    )  # fmt: skip
    heard.market(Bar("SPY", MINUTE, 2 * MINUTE, 1.0, 1.0, 1.0, 1.0, 1.0))
    page = heard.result(strategy, "stopped", "the close", 1.0).tear_sheet().html(plotly_js=False)
    assert "STOPPED.</b> the close" in page
    assert "did not reach" not in page
