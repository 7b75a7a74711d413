"""What is refused before anything runs: one line that names the thing, a non-zero exit, and nothing left behind."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import HEADER, OPEN, Ran, row, rows

TIMED = "symbol,timestamp,open,high,low,close,volume"

Northstar = Callable[..., Ran]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", "fast", "abc"], "parameter fast = 'abc': expected `int`"),
        (["-p", "fast", "1"], "parameter fast = '1': expected `int` >= 2"),
        (["-p", "fsat", "3"], "has no such parameter; did you mean fast?"),
        (["-p", "symbols", "SPY"], "give a JSON list"),
        (["-p", "fast", "5", "-p", "fast", "6"], "-p fast: given twice"),
        (["-p", "api_key", "x"], "its name says it is a secret"),
        (["--cash", "0"], "cash 0: must be above zero"),
        (["--cash", "-5"], "cash -5: must be above zero"),
        (["--cash", "nan"], "--cash 'nan': give an amount of dollars"),
        (["--cash", "lots"], "--cash 'lots': give an amount of dollars"),
        (["--start", "2023-13-01"], "start '2023-13-01': no date"),
        (["--start", "2023-08-03T10:00:00"], "has no time zone"),
        (["--start", "2023-08-04", "--end", "2023-08-03"], "start 2023-08-04 is after end 2023-08-03"),
        (["--data", "nowhere.csv"], "--data nowhere.csv: there is no such file or folder"),
        (["--data", "nowhere/*.csv"], "--data nowhere/*.csv: there is no such file or folder"),
        (["--limits", "nowhere.toml"], "--limits nowhere.toml: cannot be read"),
        (["--commission", "share:x"], "'x' is not a number"),
        (["--commission", "share:nan"], "must be zero or more"),
        (["--commission", "free"], "commission 'free': choose"),
        (["--slippage", "some:1"], "slippage 'some:1': choose"),
        (["--volume-share", "nan"], "--volume-share 'nan': give a part"),
        (["--volume-share", "2"], "give a part above 0 and up to 1"),
        (["--latency-ms", "-1"], "latency -1.0 ms"),
        (["--latency-ms", "nan"], "latency nan ms"),
        (["--rule", "nowhere"], "no risk rule named 'nowhere'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_cannot_be_used_is_named_and_leaves_no_run(
    northstar: Northstar, notebook: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("NORTHSTAR_HOME", str(tmp_path / "home"))
    ran = northstar("backtest", notebook(), "--out", tmp_path / "out", *arguments)
    assert says in ran.complaint
    assert ran.code == 2
    assert not (tmp_path / "out").exists() and not (tmp_path / "home").exists()


def test_a_notebook_that_is_no_strategy_says_what_it_lacks(
    northstar: Northstar, notebook: Callable[..., Path], tmp_path: Path
) -> None:
    cases = {
        notebook(drop=["strategy"]): "has no cell tagged 'strategy'",
        notebook(cells=[("strategy", "x = 1")]): "cells 2 and 5 are all tagged 'strategy'",
        notebook(drop=["run"]): "has no cell tagged 'run'",
        notebook(strategy="x = = 1"): "cell 2 [strategy], line 1: invalid syntax",
        notebook(strategy="x = 1"): "Strategy",
        tmp_path / "nowhere.ipynb": "cannot be read",
        tmp_path: "cannot be read",
        Path(__file__): "is not a notebook",
    }
    for path, says in cases.items():
        ran = northstar("backtest", path, "--out", tmp_path / "out")
        assert says in ran.complaint and str(path) in ran.complaint
        assert ran.code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[strategy]\nmax_order_valu = 5", "[strategy] max_order_valu: no such limit; did you mean max_order_value?"),
        ("[strategy]\nmax_order_value = -5", "[strategy] max_order_value = -5: must be zero or more"),
        ("[strategy]\nmax_order_value = nan", "[strategy] max_order_value"),
        ("[strategy]\nallow_short = 1", "[strategy] allow_short = 1: give true or false"),
        ("[broker]", "unknown entry 'broker'"),
        ("[strategy", "not valid TOML"),
        ("strategy = 3", "strategy"),
        ('[strategy]\nsession = "never"', "[strategy] session = 'never'"),
        ("[strategy]\nmax_open_orders = 2.5", "[strategy] max_open_orders"),
    ],
)
def test_a_limit_that_is_none_is_named_by_file_and_field(
    northstar: Northstar, notebook: Callable[..., Path], tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(text)
    for command in (["limits", file], ["backtest", notebook(), "--out", tmp_path / "out", "--limits", file]):
        ran = northstar(*command)
        assert says in ran.complaint and str(file) in ran.complaint
        assert ran.code == 2
    assert not (tmp_path / "out").exists()


BAD = {
    "nan": (row(close="NaN"), "row 2", "close"),
    "infinite": (row(high="inf"), "row 2", "high"),
    "negative": (row(low=-1), "row 2", "low"),
    "zero": (row(open=0), "row 2", "open"),
    "high below low": (row(high=9), "row 2", "high"),
    "negative volume": (row(volume=-5), "row 2", "volume"),
    "duplicate": (row(start=OPEN), "row 2", "window_start"),
    "text": (row(close="ten"), "row 2", "close"),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_impossible_row_is_named_by_file_row_and_field(northstar: Northstar, tmp_path: Path, bad: str) -> None:
    line, *named = BAD[bad]
    file = tmp_path / "bars.csv"
    file.write_text("\n".join([HEADER, *rows(1), line]) + "\n")
    ran = northstar("data", "show", file)
    assert ran.code == 2
    for word in ("bars.csv", *named):
        assert word in ran.complaint


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "empty"),
        ("headless.csv", b"a,b\n1,2\n", "column"),
        ("rowless.csv", HEADER.encode() + b"\n", "no rows"),
        ("cut.csv.gz", gzip.compress("\n".join([HEADER, *rows()]).encode())[:-40], "gzip"),
        ("naive.csv", f"{TIMED}\nSPY,2023-08-03 09:31:00,1,1,1,1,5\n".encode(), "time zone"),
        ("back.csv", f"{TIMED}\nS,2023-08-03T13:32Z,1,1,1,1,5\nS,2023-08-03T13:31Z,1,1,1,1,5\n".encode(), "row 2"),
    ],
)
def test_a_file_that_holds_no_market_data_is_named(
    northstar: Northstar, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for ran in (
        northstar("data", "show", tmp_path / name),
        northstar("data", "import", tmp_path / name, "--out", tmp_path / "out"),
    ):
        assert ran.code == 2
        assert name in ran.complaint and says in ran.complaint
    assert not (tmp_path / "out").exists()


def test_a_home_that_cannot_be_used_is_named(
    northstar: Northstar, notebook: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("NORTHSTAR_HOME", str(file))
    for arguments in (["runs"], ["audit", "verify"], ["replay"], ["backtest", notebook()]):
        ran = northstar(*arguments)
        assert str(file) in ran.complaint
        assert ran.code == 2


def test_a_store_that_cannot_be_opened_leaves_no_run(
    northstar: Northstar, notebook: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORTHSTAR_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:9/none")
    ran = northstar("backtest", notebook(), "--out", tmp_path / "out")
    assert "127.0.0.1:9" in ran.complaint and "secret" not in ran.complaint
    assert ran.code == 2
    assert not list((tmp_path / "out").iterdir())
