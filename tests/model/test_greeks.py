"""Option prices, Greeks and implied volatilities against published answers and independent arithmetic."""

from __future__ import annotations

import csv
import math
import os
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from northstar_core.model.american import exercise_below
from northstar_core.model.errors import ParameterError
from northstar_core.model.greeks import Greeks, american, black_scholes, greeks, implied_volatility
from northstar_core.model.instrument import Right

SHARED = Path(os.environ.get("NORTHSTAR_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))

spots = st.floats(20, 300)
contracts = st.fixed_dictionaries(
    {
        "spot": spots,
        "strike": st.floats(50, 150),
        "years": st.floats(0.01, 2.5),
        "rate": st.floats(0, 0.15),
        "vol": st.floats(0.05, 1.0),
        "right": st.sampled_from(["C", "P"]),
        "dividend_yield": st.floats(0, 0.12),
    }
)


# --- European, published
# ------------------------------------------------------------------------------------------------


def test_hulls_european_call_and_put_are_4_76_and_0_81() -> None:
    # Hull, Options, Futures, and Other Derivatives, the Black-Scholes-Merton chapter: S 42, K 40, r 10 %, vol 20 %, 6
    # months
    assert round(black_scholes(42, 40, 0.5, 0.1, 0.2, "C"), 2) == 4.76
    assert round(black_scholes(42, 40, 0.5, 0.1, 0.2, Right.PUT), 2) == 0.81


def test_hulls_index_call_with_a_dividend_yield_is_51_83() -> None:
    # Hull, the chapter on options on stock indices: S 930, K 900, r 8 %, vol 20 %, yield 3 %, two months
    assert round(black_scholes(930, 900, 2 / 12, 0.08, 0.2, "C", 0.03), 2) == 51.83


@pytest.mark.parametrize(
    ("contract", "price"),
    [
        ((60, 65, 0.25, 0.08, 0.30, "C", 0.0), 2.1334),  # Black-Scholes
        ((100, 95, 0.5, 0.10, 0.20, "P", 0.05), 2.4648),  # Merton's dividend yield
        ((19, 19, 0.75, 0.10, 0.28, "C", 0.10), 1.7011),  # Black-76: a future costs nothing to carry
        ((19, 19, 0.75, 0.10, 0.28, "P", 0.10), 1.7011),
        ((1.56, 1.60, 0.5, 0.06, 0.12, "C", 0.08), 0.0291),  # Garman and Kohlhagen's currency option
    ],
)
def test_haugs_european_examples_come_out(contract: tuple[Any, ...], price: float) -> None:
    # Haug, The Complete Guide to Option Pricing Formulas, chapter 1
    assert black_scholes(*contract) == pytest.approx(price, abs=5e-5)


def test_hulls_greeks_come_out() -> None:
    # Hull, the chapter on the Greek letters: S 49, K 50, r 5 %, vol 20 %, 20 weeks of 52
    g = greeks(49, 50, 20 / 52, 0.05, 0.2, "C")
    assert (round(g.delta, 3), round(g.gamma, 3), round(g.theta, 2)) == (0.522, 0.066, -4.31)
    assert (round(g.vega, 1), round(g.rho, 2)) == (12.1, 8.91)
    assert round(g.theta_per_day, 4) == -0.0118  # Hull: -4.31 / 365
    assert (g.vega_per_point, g.rho_per_point) == (g.vega / 100, g.rho / 100)


@pytest.mark.parametrize(
    ("contract", "name", "value"),
    [
        ((105, 100, 0.5, 0.10, 0.36, "C", 0.10), "delta", 0.5946),
        ((105, 100, 0.5, 0.10, 0.36, "P", 0.10), "delta", -0.3566),
        ((55, 60, 0.75, 0.10, 0.30, "C", 0.0), "gamma", 0.0278),
        ((430, 405, 0.0833, 0.07, 0.20, "P", 0.05), "theta", -31.1924),
        ((72, 75, 1.0, 0.09, 0.19, "C", 0.0), "rho", 38.7325),
    ],
)
def test_haugs_greeks_come_out(contract: tuple[Any, ...], name: str, value: float) -> None:
    # Haug, chapter 2; his cost of carry is our rate less dividend_yield
    assert getattr(greeks(*contract), name) == pytest.approx(value, abs=5e-5)


# --- American, published
# ------------------------------------------------------------------------------------------------

# Longstaff and Schwartz, "Valuing American options by simulation", Review of Financial Studies 14 (2001), table 1:
# puts, strike 40, rate 6 %; finite-difference American value and closed-form European value
LONGSTAFF_SCHWARTZ = [
    (36, 0.2, 1, 4.478, 3.844), (36, 0.2, 2, 4.840, 3.763), (36, 0.4, 1, 7.101, 6.711), (36, 0.4, 2, 8.508, 7.700),
    (38, 0.2, 1, 3.250, 2.852), (38, 0.2, 2, 3.745, 2.991), (38, 0.4, 1, 6.148, 5.834), (38, 0.4, 2, 7.670, 6.979),
    (40, 0.2, 1, 2.314, 2.066), (40, 0.2, 2, 2.885, 2.356), (40, 0.4, 1, 5.312, 5.060), (40, 0.4, 2, 6.920, 6.326),
    (42, 0.2, 1, 1.617, 1.465), (42, 0.2, 2, 2.212, 1.841), (42, 0.4, 1, 4.582, 4.379), (42, 0.4, 2, 6.248, 5.736),
    (44, 0.2, 1, 1.110, 1.017), (44, 0.2, 2, 1.690, 1.429), (44, 0.4, 1, 3.948, 3.783), (44, 0.4, 2, 5.647, 5.202),
]  # fmt: skip


@pytest.mark.parametrize(("spot", "vol", "years", "value", "european"), LONGSTAFF_SCHWARTZ)
def test_longstaff_and_schwartz_s_table_comes_out(
    spot: float, vol: float, years: float, value: float, european: float
) -> None:
    # the table's option can be exercised on 50 dates a year, so one that can at any time is worth up to a cent more
    assert value - 0.001 < american(spot, 40, years, 0.06, vol, "P") < value + 0.01
    assert black_scholes(spot, 40, years, 0.06, vol, "P") == pytest.approx(european, abs=0.00051)


def test_hulls_american_put_is_4_28() -> None:
    # Hull, the chapter on binomial trees in practice: S = K = 50, r 10 %, vol 40 %, 5 months; 4.278 with 100 steps,
    # 4.283 with 500. The European put is 4.08.
    assert american(50, 50, 5 / 12, 0.1, 0.4, "P") == pytest.approx(4.283, abs=0.002)
    assert round(black_scholes(50, 50, 5 / 12, 0.1, 0.4, "P"), 2) == 4.08


@pytest.mark.parametrize(
    ("strike", "vol", "years", "value"),
    [
        (35, 0.2, 0.5833, 0.4328), (40, 0.2, 0.0833, 0.8522), (40, 0.2, 0.3333, 1.5798),
        (40, 0.2, 0.5833, 1.9904), (45, 0.2, 0.0833, 5.0000), (45, 0.2, 0.3333, 5.0883), (45, 0.2, 0.5833, 5.2670),
        (40, 0.3, 0.3333, 2.4825), (40, 0.3, 0.5833, 3.1696), (45, 0.3, 0.3333, 5.7056), (45, 0.3, 0.5833, 6.2436),
        (40, 0.4, 0.3333, 3.3874), (40, 0.4, 0.5833, 4.3526), (45, 0.4, 0.3333, 6.5099), (45, 0.4, 0.5833, 7.3830),
    ],
)  # fmt: skip
def test_geske_and_johnsons_contracts_come_out(strike: float, vol: float, years: float, value: float) -> None:
    # Geske and Johnson (1984), S 40, r 4.88 %; the values are those of 10,000-step trees in the literature since, as in
    # Huang, Subrahmanyam and Yu, Review of Financial Studies 9 (1996), table 1
    assert american(40, strike, years, 0.0488, vol, "P") == pytest.approx(value, abs=2e-4)


@pytest.mark.parametrize(
    ("spot", "rate", "vol", "dividend_yield", "value"),
    [
        (80, 0.03, 0.2, 0.07, 2.605), (100, 0.03, 0.2, 0.07, 9.065), (120, 0.03, 0.2, 0.07, 21.398),
        (80, 0.03, 0.4, 0.07, 11.336), (100, 0.03, 0.4, 0.07, 20.760), (120, 0.03, 0.4, 0.07, 32.709),
        (80, 0.00001, 0.3, 0.07, 5.552), (100, 0.00001, 0.3, 0.07, 13.158), (120, 0.00001, 0.3, 0.07, 24.786),
        (80, 0.07, 0.3, 0.03, 12.177), (100, 0.07, 0.3, 0.03, 23.402), (120, 0.07, 0.3, 0.03, 37.177),
    ],
)  # fmt: skip
def test_jus_long_dated_calls_come_out(
    spot: float, rate: float, vol: float, dividend_yield: float, value: float
) -> None:
    # Ju, "An approximate formula for pricing American options", Journal of Derivatives (1999), exhibit 6: strike 100,
    # three years; the formula is itself up to 0.08 off, the band allows that
    assert american(spot, 100, 3.0, rate, vol, "C", dividend_yield) == pytest.approx(value, abs=0.08)


@pytest.mark.parametrize(
    ("years", "vol", "values"),
    [
        (0.1, 0.15, (0.0206, 1.8771, 10.0089)), (0.1, 0.25, (0.3159, 3.1280, 10.3919)),
        (0.1, 0.35, (0.9495, 4.3777, 11.1679)), (0.5, 0.15, (0.8208, 4.0842, 10.8087)),
        (0.5, 0.25, (2.7437, 6.8015, 13.0170)), (0.5, 0.35, (5.0063, 9.5106, 15.5689)),
    ],
)  # fmt: skip
def test_haugs_table_of_american_calls_on_futures_comes_out(
    years: float, vol: float, values: tuple[float, ...]
) -> None:
    # Haug, chapter 3, the Barone-Adesi and Whaley approximation: strike 100, rate 10 %, carry 0. The approximation
    # itself is up to 0.05 too dear on such contracts (Barone-Adesi and Whaley, Journal of Finance 1987), so the band is
    # that wide.
    for forward, value in zip((90, 100, 110), values, strict=True):
        assert american(forward, 100, years, 0.1, vol, "C", 0.1) == pytest.approx(value, abs=0.05)


# --- American, independent arithmetic
# -------------------------------------------------------------------------------------


def tree_premium(c: dict[str, Any], steps: int) -> float:
    """American less European value on a Leisen-Reimer tree (1996), a method that shares nothing with ours."""
    sign = 1 if c["right"] == "C" else -1
    spot, strike, years, rate, vol, q = (c[k] for k in ("spot", "strike", "years", "rate", "vol", "dividend_yield"))

    def probability(z: float) -> float:
        root = math.sqrt(1 - math.exp(-((z / (steps + 1 / 3 + 0.1 / (steps + 1))) ** 2) * (steps + 1 / 6)))
        return 0.5 + math.copysign(0.5 * root, z)

    dt = years / steps
    d1 = (math.log(spot / strike) + (rate - q + vol * vol / 2) * years) / (vol * math.sqrt(years))
    up, up_asset = probability(d1 - vol * math.sqrt(years)), probability(d1)
    growth, discount = math.exp((rate - q) * dt), math.exp(-rate * dt)
    u, d = growth * up_asset / up, growth * (1 - up_asset) / (1 - up)
    ups = np.arange(steps + 1)
    at = spot * np.exp(ups * math.log(u) + (steps - ups) * math.log(d))
    free = held = np.maximum(sign * (at - strike), 0.0)
    for n in range(steps, 0, -1):
        at = at[:n] / d
        free = discount * (up * free[1:] + (1 - up) * free[:-1])
        held = np.maximum(discount * (up * held[1:] + (1 - up) * held[:-1]), sign * (at - strike))
    return float(held[0] - free[0])


def tree(c: dict[str, Any], steps: int = 801) -> float:
    return black_scholes(**c) + 2 * tree_premium(c, 2 * steps + 1) - tree_premium(c, steps)


def random_contracts(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(11)
    return [
        {
            "spot": float(rng.uniform(70, 130)), "strike": 100.0, "years": float(rng.choice([0.04, 0.25, 1, 2])),
            "rate": float(rng.choice([0.0, 0.02, 0.05, 0.1])), "vol": float(rng.choice([0.1, 0.2, 0.35, 0.6])),
            "right": str(rng.choice(["C", "P"])), "dividend_yield": float(rng.choice([0.0, 0.02, 0.05, 0.1])),
        }
        for _ in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("c", random_contracts(40), ids=str)
def test_american_prices_agree_with_a_tree(c: dict[str, Any]) -> None:
    assert american(**c) == pytest.approx(tree(c), abs=1.2e-3)  # the tree's own error; a finer one comes closer


def test_american_prices_are_a_fine_trees_limit() -> None:
    for c in random_contracts(3):
        assert american(**c) == pytest.approx(tree(c, 2501), abs=3e-4)


@settings(max_examples=60, deadline=None)
@given(contracts)
def test_an_american_option_is_worth_at_least_the_european_and_exercise(c: dict[str, Any]) -> None:
    value = american(**c)
    sign = 1 if c["right"] == "C" else -1
    assert value >= black_scholes(**c)
    assert value >= sign * (c["spot"] - c["strike"])
    assert value <= (c["spot"] if sign > 0 else c["strike"]) + 1e-9


@settings(max_examples=40, deadline=None)
@given(contracts, st.floats(0.001, 0.1), st.floats(0.01, 0.5))
def test_an_american_option_is_worth_more_with_more_volatility_and_more_time(
    c: dict[str, Any], more_vol: float, more_time: float
) -> None:
    value = american(**c)
    assert american(**c | {"vol": c["vol"] + more_vol}) >= value - 2e-5 * c["strike"]
    assert american(**c | {"years": c["years"] + more_time}) >= value - 2e-5 * c["strike"]


def test_an_american_call_without_dividends_is_the_european_one() -> None:
    assert american(42, 40, 0.5, 0.1, 0.2, "C") == black_scholes(42, 40, 0.5, 0.1, 0.2, "C")
    assert american(42, 40, 0.5, 0.0, 0.2, "P") == black_scholes(42, 40, 0.5, 0.0, 0.2, "P"), "no interest to earn"


def test_calls_and_puts_are_symmetric_in_what_is_exchanged() -> None:
    # McDonald and Schroder (1998)
    assert american(90, 100, 1, 0.03, 0.3, "C", 0.07) == pytest.approx(american(100, 90, 1, 0.07, 0.3, "P", 0.03),
    rel=1e-12)


def test_a_put_is_exercised_at_its_boundary_and_not_above() -> None:
    boundary = exercise_below(100, 1.0, 0.08, 0.2, 0.0)
    assert boundary < 100
    assert american(boundary * 0.999, 100, 1.0, 0.08, 0.2, "P") == 100 - boundary * 0.999
    above = american(boundary * 1.01, 100, 1.0, 0.08, 0.2, "P")
    assert above > 100 - boundary * 1.01
    # the perpetual put's boundary (Merton 1973) is K / (1 + vol^2 / 2r) and lies below that of any expiry
    assert boundary > 100 / (1 + 0.04 / 0.16)
    assert exercise_below(100, 200.0, 0.08, 0.2, 0.0) == pytest.approx(100 / (1 + 0.04 / 0.16), rel=1e-3)


# --- identities and Greeks
# ------------------------------------------------------------------------------------------------


@given(contracts)
def test_put_call_parity_holds(c: dict[str, Any]) -> None:
    call, put = black_scholes(**c | {"right": "C"}), black_scholes(**c | {"right": "P"})
    forward = c["spot"] * math.exp(-c["dividend_yield"] * c["years"]) - c["strike"] * math.exp(-c["rate"] * c["years"])
    assert call - put == pytest.approx(forward, abs=1e-11 * (c["spot"] + c["strike"]))


def differences(price: Any, c: dict[str, Any], step: float) -> Greeks:
    """Central differences of a price function in each argument."""

    def slope(name: str, h: float) -> float:
        return float((price(**c | {name: c[name] + h}) - price(**c | {name: c[name] - h})) / (2 * h))

    h = c["spot"] * step
    up, here, down = (price(**c | {"spot": c["spot"] + x}) for x in (h, 0.0, -h))
    return Greeks(
        delta=(up - down) / (2 * h), gamma=(up - 2 * here + down) / h**2, theta=-slope("years", step * c["years"]),
        vega=slope("vol", step), rho=slope("rate", step),
    )  # fmt: skip


@given(contracts)
def test_european_greeks_are_the_differences_of_prices(c: dict[str, Any]) -> None:
    assume(c["vol"] * math.sqrt(c["years"]) > 0.02)
    got, expected = greeks(**c), differences(black_scholes, c | {"rate": c["rate"]}, 1e-4)
    for name in Greeks.__struct_fields__:
        assert getattr(got, name) == pytest.approx(getattr(expected, name), rel=2e-3, abs=2e-3), name


def away_from_the_boundary(c: dict[str, Any]) -> bool:
    """Whether neither the contract nor one with a slightly other spot price is to be exercised now."""
    near = c | {"spot": c["spot"] * (0.96 if c["right"] == "P" else 1.04)}
    return american(**near) > abs(near["spot"] - near["strike"]) * 1.002 and c["years"] > 0.1 and c["rate"] > 0


@pytest.mark.parametrize("c", [c for c in random_contracts(60) if away_from_the_boundary(c)][:6], ids=str)
def test_american_greeks_are_those_of_a_tree(c: dict[str, Any]) -> None:
    got = greeks(**c, style="american")
    # second differences magnify the tree's error, so its step in the spot price is wide
    wide, narrow = differences(lambda **x: tree(x), c, 0.01), differences(lambda **x: tree(x), c, 0.001)
    assert got.delta == pytest.approx(wide.delta, abs=2e-3)
    assert got.gamma == pytest.approx(wide.gamma, rel=0.03, abs=5e-4)
    assert got.theta == pytest.approx(wide.theta, abs=0.02)
    assert got.vega == pytest.approx(narrow.vega, abs=0.1)
    assert got.rho == pytest.approx(narrow.rho, abs=0.2)


def test_a_put_that_should_be_exercised_now_moves_with_the_spot_alone() -> None:
    assert greeks(50, 100, 0.5, 0.05, 0.2, "P", style="american") == Greeks(-1.0, 0.0, 0.0, 0.0, 0.0)


# --- edges
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", (black_scholes, american))
def test_at_expiry_an_option_is_worth_what_exercise_pays(price: Any) -> None:
    assert [price(s, 100, 0.0, 0.05, 0.2, "C", 0.02) for s in (90, 100, 103.5)] == [0.0, 0.0, 3.5]
    assert [price(s, 100, 0.0, 0.05, 0.2, "P", 0.02) for s in (96.5, 100, 110)] == [3.5, 0.0, 0.0]


@pytest.mark.parametrize("style", ("european", "american"))
def test_at_expiry_delta_is_a_step_and_the_rest_is_nothing(style: str) -> None:
    assert greeks(110, 100, 0.0, 0.05, 0.2, "C", style=style) == Greeks(1.0, 0.0, 0.0, 0.0, 0.0)
    assert greeks(90, 100, 0.0, 0.05, 0.2, "C", style=style) == Greeks(0.0, 0.0, 0.0, 0.0, 0.0)
    assert greeks(100, 100, 0.0, 0.0, 0.2, "P").delta == -0.5


def test_without_volatility_the_payoff_is_certain() -> None:
    assert black_scholes(100, 100, 1, 0.05, 0.0, "C") == pytest.approx(100 - 100 * math.exp(-0.05))
    assert black_scholes(100, 100, 1, 0.05, 0.0, "P") == 0.0
    assert american(90, 100, 1, 0.05, 0.0, "P") == 10.0, "now is best: the spot can only rise"
    assert american(110, 100, 1, 0.0, 0.0, "C", 0.05) == 10.0
    assert greeks(110, 100, 1, 0.05, 0.0, "C").delta == 1.0
    # a little volatility is nearly none; the value at the money is the one QuantLib's tests take from R
    assert american(100, 100, 1, 0.05, 0.0021, "C", 0.05) == pytest.approx(0.08032, abs=3e-4)
    assert american(90, 100, 1, 0.05, 1e-5, "P") == pytest.approx(10.0)
    assert american(101, 100, 1, 0.02, 0.0005, "C", 0.05) == pytest.approx(1.0, abs=0.02)


def test_a_rate_of_zero_is_no_special_case() -> None:
    at = [black_scholes(100, 100, 1, r, 0.2, "C") for r in (-1e-9, 0.0, 1e-9)]
    assert at[1] == pytest.approx(at[0]) == pytest.approx(at[2])
    assert black_scholes(100, 100, 1, 0.0, 0.2, "C") == pytest.approx(100 * math.erf(0.1 / math.sqrt(2)))
    assert american(100, 100, 1, 1e-6, 0.2, "P") == pytest.approx(black_scholes(100, 100, 1, 0, 0.2, "P"), abs=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"spot": 0.0}, {"spot": math.nan}, {"strike": -1.0}, {"years": -0.1}, {"vol": -0.2}, {"vol": math.inf},
     {"rate": math.nan}, {"right": "call"}],
)  # fmt: skip
def test_arguments_without_meaning_are_refused_by_name(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"spot": 100.0, "strike": 100.0, "years": 1.0, "rate": 0.0, "vol": 0.2, "right": "C"}
    for function in (black_scholes, american, greeks):
        with pytest.raises(ParameterError, match=rf"option .*{next(iter(wrong))}"):
            function(**good | wrong)


def test_negative_rates_and_unknown_styles_are_refused_for_american_options() -> None:
    with pytest.raises(ParameterError, match="at least 0"):
        american(100, 100, 1, -0.01, 0.2, "P")
    with pytest.raises(ParameterError, match="bermudan"):
        greeks(100, 100, 1, 0.01, 0.2, "P", style="bermudan")


# --- implied volatility
# ---------------------------------------------------------------------------------------------------


@given(contracts)
def test_implied_volatility_gives_back_the_volatility(c: dict[str, Any]) -> None:
    price = black_scholes(**c)
    sure = black_scholes(**c | {"vol": 0.0})
    assume(price - sure > 1e-6 * c["spot"])
    c = dict(c)
    vol = c.pop("vol")
    assert implied_volatility(price, **c) == pytest.approx(vol, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(contracts)
def test_implied_volatility_of_an_american_price_reprices_it(c: dict[str, Any]) -> None:
    price, c = american(**c), {k: v for k, v in c.items() if k != "vol"}
    vol = implied_volatility(price, **c, style="american")
    pays = max(c["spot"] - c["strike"] if c["right"] == "C" else c["strike"] - c["spot"], 0.0)
    if vol is None:
        assert price - max(pays, american(**c, vol=0.0)) <= 1e-5 * c["spot"]
    else:
        assert american(**c, vol=vol) == pytest.approx(price, abs=1e-5)


def test_hulls_implied_volatility_is_23_5_percent() -> None:
    # Hull, the Black-Scholes-Merton chapter: a call at 1.875, S 21, K 20, r 10 %, three months
    vol = implied_volatility(1.875, 21, 20, 0.25, 0.1, "C")
    assert vol is not None and round(vol, 3) == 0.235


def test_a_price_no_volatility_explains_has_none() -> None:
    floor = black_scholes(120, 100, 0.25, 0.05, 0.0, "C")
    for price in (floor - 0.01, floor, 120.0, 130.0, 0.0, -1.0, math.nan):
        assert implied_volatility(price, 120, 100, 0.25, 0.05, "C") is None
    assert implied_volatility(20.0, 80, 100, 0.25, 0.05, "P", style="american") is None, "exercise pays as much"
    assert implied_volatility(5.0, 105, 100, 0.0, 0.05, "C") is None, "expired"


def test_implied_volatility_survives_the_far_wings() -> None:
    for strike, right in ((40, "P"), (60, "P"), (160, "C"), (250, "C"), (60, "C"), (160, "P")):
        price = black_scholes(100, strike, 0.25, 0.03, 0.45, right)
        assert implied_volatility(price, 100, strike, 0.25, 0.03, right) == pytest.approx(0.45, abs=1e-4)


def chain(name: str) -> list[dict[str, str]]:
    path = SHARED / "options" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    with path.open() as file:
        return list(csv.DictReader(file))


def test_deep_calls_a_day_before_expiry_have_no_volatility_or_one_that_reprices_them() -> None:
    underlying, *rows = chain("SPY_2024-01-04_chain_eod.csv")
    spot, today = float(underlying["close"]), date(2024, 1, 4)
    without = 0
    for row in rows:
        years = (date.fromisoformat(row["expiration_date"]) - today).days / 365
        price, strike = float(row["close"]), float(row["strike"])
        for style, value in (("european", black_scholes), ("american", american)):
            vol = implied_volatility(price, spot, strike, years, 0.053, row["right"], 0.014, style=style)
            if years < 0.01:
                without += vol is None
            if vol is not None:
                assert value(spot, strike, years, 0.053, vol, row["right"], 0.014) == pytest.approx(price, abs=1e-5)
                assert 0 < vol < 10
            else:
                assert price <= max(value(spot, strike, years, 0.053, 0.0, row["right"], 0.014), spot - strike) + 1e-6
    assert without > 0, "calls at or below parity are in this chain"


def test_a_whole_chain_is_solved() -> None:
    underlying, *rows = chain("TWX_2014-06-05_chain_eod.csv")
    spot, today, solved = float(underlying["close"]), date(2014, 6, 5), 0
    for row in rows:
        years = (date.fromisoformat(row["expiration_date"]) - today).days / 365
        vol = implied_volatility(float(row["close"]), spot, float(row["strike"]), years, 0.002, row["right"], 0.018)
        if vol is not None:
            solved += 1
            again = black_scholes(spot, float(row["strike"]), years, 0.002, vol, row["right"], 0.018)
            assert again == pytest.approx(float(row["close"]), abs=1e-6)
    assert solved > len(rows) * 0.8
