"""The small commands: help, limits, data, and how a wrong command is answered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import Ran

Northstar = Callable[..., Ran]


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from northstar_core.cli.main import main; sys.argv = ['northstar', '--help']\n"
        "main(); print([m for m in ('numpy', 'pandas', 'pyarrow', 'papermill', 'asyncpg', 'rich') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("audit", "backtest", "data", "demo", "limits", "replay", "runs"):
        assert f"\n  {command} " in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["backtest"], "missing argument 'NOTEBOOK'"),
        (["backtest", "--nonsense"], "no such option"),
        (["backtest", "x.ipynb", "--hours", "some"], "'some' is not one of"),
        (["audit", "nonsense"], "no such command 'nonsense'"),
        (["runs", "-n", "many"], "'many' is not a valid integer"),
        (["audit", "why-not", "cross", "SPY", "noon"], "time 'noon': give ISO 8601"),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(northstar: Northstar, arguments: list[str], says: str) -> None:
    ran = northstar(*arguments)
    assert says in ran.complaint
    assert ran.code == 2


def test_limits_prints_the_default_set_and_a_files(northstar: Northstar, tmp_path: Path) -> None:
    assert "research-default" in northstar("limits").out
    default = northstar("limits", "--json", "--cash", "50000").json
    values = {(row["scope"], row["limit"]): row["value"] for row in default["limits"]}
    assert values["strategy", "max_notional"] == "100000"
    file = tmp_path / "careful.toml"
    file.write_text('name = "careful"\n[strategy]\nmax_order_value = "25%"\n[account]\nleverage = 1\n')
    careful = northstar("limits", file, "--json", "--cash", "50000").json
    values = {(row["scope"], row["limit"]): row["value"] for row in careful["limits"]}
    assert careful["name"] == "careful"
    assert values["strategy", "max_order_value"] in ("12500", "12500.00")
    assert values["strategy", "max_notional"] == "not set"


def test_a_market_is_generated_imported_and_shown(northstar: Northstar, tmp_path: Path) -> None:
    made = northstar("data", "synth", "--out", tmp_path / "made", "--days", "2", "--symbols", "one,two", "--no-options")
    assert made.code == 0 and "synthetic data" in made.out
    shown = northstar("data", "show", tmp_path / "made", "--json").json
    assert shown["symbols"] == ["ONE", "TWO"] and shown["sessions"] == 2
    kept = northstar("data", "import", tmp_path / "made", "--out", tmp_path / "kept")
    assert kept.code == 0
    again = northstar("data", "show", tmp_path / "kept", "--json").json
    assert again["tables"] == shown["tables"]
    assert "sessions" in northstar("data", "show", tmp_path / "kept").out
