"""Parameters: known, typed, in range, no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from northstar_core.jobs.parameters import check_parameters
from northstar_core.model.errors import ParameterError
from tests.jobs.notebooks import PARAMETERS, STRATEGY, cross


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return cross(tmp_path / "a.ipynb")


def refusal(notebook: Path, **given: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        check_parameters(notebook, given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_text_from_a_command_line_takes_the_type_of_its_target(notebook: Path) -> None:
    given = {"fast": "12", "symbols": '["SPY", "ON"]', "cash": "1000.10", "ratio": "2", "flag": "true"}
    assert check_parameters(notebook, given) == {
        "fast": 12,
        "symbols": ["SPY", "ON"],
        "cash": "1000.10",
        "ratio": 2.0,
        "flag": True,
    }


@pytest.mark.parametrize("text", ["ON", "NO", "10:30", "007", "7", "true", "null", "1e3", "[1]"])
def test_text_parameter_stays_the_text_that_was_typed(notebook: Path, text: str) -> None:
    assert check_parameters(notebook, {"label": text}) == {"label": text}


def test_quoted_text_loses_its_json_quotes(notebook: Path) -> None:
    assert check_parameters(notebook, {"label": '"ON"'}) == {"label": "ON"}


def test_python_values_pass_as_they_are(notebook: Path) -> None:
    assert check_parameters(notebook, {"fast": 12, "symbols": ["QQQ"]}) == {"fast": 12, "symbols": ["QQQ"]}


def test_amount_keeps_every_digit_of_its_text(notebook: Path) -> None:
    text = "12345678901234567890.123456789"
    assert check_parameters(notebook, {"cash": text}) == {"cash": text}
    assert check_parameters(notebook, {"cash": 1000}) == {"cash": "1000"}


def test_unknown_name_is_refused_with_the_nearest_known_one(notebook: Path) -> None:
    assert "did you mean fast?" in refusal(notebook, fas="1")
    assert "it has symbols, fast" in refusal(notebook, zzzzz="1")


def test_name_that_only_the_strategy_has_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = cross(tmp_path / "a.ipynb", parameters='symbols = ["SPY"]\n')
    assert "add it there" in refusal(path, fast="12")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"fast": "1"}, "parameter fast = '1': expected `int` >= 2"),
        ({"fast": "401"}, "expected `int` <= 400"),
        ({"fast": "ten"}, "expected `int`, got `str`"),
        ({"fast": "1.5"}, "expected `int`, got `float`"),
        ({"fast": True}, "expected `int`, got `bool`"),
        ({"symbols": "SPY"}, "give a JSON list"),
        ({"symbols": "[1]"}, "expected `str`, got `int`"),
        ({"cash": "much"}, "parameter cash"),
        ({"flag": "perhaps"}, "expected `bool`"),
        ({"ratio": "x"}, "expected `float`"),
    ],
)
def test_wrong_type_or_range_is_refused_by_name(notebook: Path, given: dict[str, Any], why: str) -> None:
    assert why in refusal(notebook, **given)


def test_default_out_of_range_is_refused_together_with_what_is_given(tmp_path: Path) -> None:
    path = cross(tmp_path / "a.ipynb", parameters=PARAMETERS.replace("slow = 30", "slow = 3000"))
    assert "parameter slow = 3000: expected `int` <= 400" in refusal(path, fast="12")


def test_values_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    rule = """
        def __post_init__(self):
            if self.fast >= self.slow:
                raise ValueError('fast must be below slow')
    """
    source = STRATEGY.replace("\n    def on_bar", rule + "\n    def on_bar")
    assert "fast must be below slow" in refusal(cross(tmp_path / "a.ipynb", strategy=source), fast="30")


@pytest.mark.parametrize(
    "name", ["password", "api_key", "apiKey", "APCA_API_SECRET_KEY", "token", "db_dsn", "auth_token", "polygonApiKey"]
)
def test_parameter_with_the_name_of_a_secret_is_refused(notebook: Path, name: str) -> None:
    message = refusal(notebook, **{name: "hunter2hunter2"})
    assert "its name says it is a secret" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "value",
    [
        "AKIA" + "IOSFODNN7EXAMPLE",
        "PK" + "A1B2C3D4E5F6G7H8I9",
        "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "dBjftJeZ4CVP-mB92K27uhbUJU1p1r",
        "Bearer " + "abcdefghijklmnop123456",
        "postgres://trader:" + "hunter22@db/market",
        "p0Qz8vXr2LmN5sTw" + "Y7bKc3Jd6HfGa9Ue1",
        "9f86d081884c7d659a2feaa0c55ad015" + "a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_value_that_looks_like_a_key_is_refused_without_being_repeated(notebook: Path, value: str) -> None:
    message = refusal(notebook, label=value)
    assert "looks like a key or token" in message
    assert value not in message


@pytest.mark.parametrize(
    "value",
    ["SPY230901C00430000", "2023-09-01T09:30:00-04:00", "momentum with volatility targeting, monthly", "close-5m",
     "data/us_stocks_sip/minute_aggs_v1/2023/09/2023-09-01.csv.gz", "my_favourite_strategy_label_2024", "PKG", "1min"],
)  # fmt: skip
def test_ordinary_values_are_no_secrets(notebook: Path, value: str) -> None:
    assert check_parameters(notebook, {"label": value}) == {"label": value}
