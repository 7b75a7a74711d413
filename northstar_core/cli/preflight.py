"""``northstar preflight``: GO or NO-GO, with reasons."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from northstar_core.cli import show
from northstar_core.cli.init import home_option, json_option
from northstar_core.cli.order import ask


@click.command()
@click.option("--account", default="", help="Only what this account depends on.")
@home_option
@json_option
def preflight(account: str, home: Path | None, as_json: bool) -> None:
    """Look at everything that has to be right before a session. Exit status: 0 GO, 1 NO-GO, 2 could not look."""
    import msgspec

    from northstar_core.gateway.preflight import Verdict

    verdict = msgspec.convert(ask(home, "preflight", account=account), Verdict)
    reasons = verdict.reasons(account)
    go = not reasons
    if as_json:
        show.as_json({"go": go, "reasons": list(reasons), **msgspec.to_builtins(verdict)})
    else:
        show.table(
            "preflight", ["of", "check", "", "what was found"],
            [[check.scope, check.name, "ok" if check.passed else "NO", check.text] for check in verdict.checks],
        )  # fmt: skip
        click.echo("GO" if go else f"NO-GO: {len(reasons)} of {len(verdict.checks)} checks did not pass")
    sys.exit(0 if go else 1)
