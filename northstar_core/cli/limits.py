"""``northstar limits``: the limit set a backtest runs under."""

from __future__ import annotations

from decimal import Decimal
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
    from northstar_core.research.limits import default_limits, parse_limits

    money = Decimal(cash)
    if file is None:
        found = default_limits(money, daily=daily)
    else:
        try:
            found = parse_limits(file.read_text(), money, where=str(file))
        except OSError as error:
            raise SettingsError(f"{file}: {error.strerror}") from None
    if as_json:
        show.as_json({"name": found.name, "limits": [dict(zip(("scope", "limit", "value"), row, strict=True)) for row in found.rows()]})
    else:
        show.table(f"limit set {found.name}", ["scope", "limit", "value"], [list(row) for row in found.rows()], right={"value"})
