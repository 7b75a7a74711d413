"""``northstar``: the commands, and how they refuse: one clear line on stderr, a non-zero exit, no traceback."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

import click

from northstar_core.model.errors import NorthstarError


class Lazy(click.Group):
    """A group whose commands live in files of their own, imported when used: ``northstar --help`` stays quick."""

    _homes: ClassVar = {
        "audit": ("northstar_core.cli.audit", "audit"),
        "backtest": ("northstar_core.cli.backtest", "backtest"),
        "bars": ("northstar_core.cli.order", "bars"),
        "data": ("northstar_core.cli.data", "data"),
        "demo": ("northstar_core.cli.demo", "demo"),
        "down": ("northstar_core.cli.desk", "down"),
        "fills": ("northstar_core.cli.order", "fills"),
        "init": ("northstar_core.cli.init", "init"),
        "limits": ("northstar_core.cli.limits", "limits"),
        "logs": ("northstar_core.cli.desk", "logs"),
        "order": ("northstar_core.cli.order", "order"),
        "positions": ("northstar_core.cli.order", "positions"),
        "preflight": ("northstar_core.cli.preflight", "preflight"),
        "replay": ("northstar_core.cli.replay", "replay"),
        "run": ("northstar_core.cli.run", "run"),
        "runs": ("northstar_core.cli.runs", "runs"),
        "schedule": ("northstar_core.cli.schedule", "schedule"),
        "status": ("northstar_core.cli.desk", "status"),
        "twins": ("northstar_core.cli.twins", "twins"),
        "up": ("northstar_core.cli.desk", "up"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, by name."""
        return sorted(self._homes)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        from importlib import import_module

        home = self._homes.get(name)
        if home is None:
            return None
        command: click.Command = getattr(import_module(home[0]), home[1])
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="northstar-core", prog_name="northstar")
def northstar() -> None:
    """Strategies are notebooks: backtest them, and find out why they did what they did."""


def main() -> None:
    """Run the command line."""
    try:
        northstar(standalone_mode=False)
    except click.exceptions.Abort:
        _fail("interrupted", 130)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "northstar"
        message = error.format_message().rstrip(".").replace("\n", " ")
        _fail(f"{message[:1].lower()}{message[1:]}; {command} --help tells more", error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except NorthstarError as error:
        _fail(str(error), getattr(error, "exit_code", 2))


def _fail(message: str, code: int) -> None:
    click.echo(f"northstar: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
