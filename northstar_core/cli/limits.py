"""``northstar limits``: the limit set a backtest runs under."""

from __future__ import annotations

from pathlib import Path

import click

from northstar_core.cli import show
from northstar_core.model.errors import SettingsError


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--cash", default="100000", show_default=True, help="Opening cash that percentages are of.")
@click.option("--daily", is_flag=True, help="The default set for daily bars.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def limits(file: Path | None, cash: str, daily: bool, as_json: bool) -> None:
    """Print the limits in a FILE, or the set a backtest uses by default."""
    from northstar_core.model.limit_sets import default_limits, parse_limits

    money = show.number("--cash", cash, "an amount of dollars above zero")
    if money <= 0:
        raise SettingsError(f"--cash {cash}: must be above zero")
    found = (
        default_limits(money, daily=daily)
        if file is None
        else parse_limits(show.text_of("file", file), money, where=str(file))
    )
    if as_json:
        show.as_json(
            {
                "name": found.name,
                "limits": [dict(zip(("scope", "limit", "value"), row, strict=True)) for row in found.rows()],
            }
        )
    else:
        show.table(
            f"limit set {found.name}", ["scope", "limit", "value"], [list(row) for row in found.rows()], right={"value"}
        )
