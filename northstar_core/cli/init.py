"""``northstar init``: a commented configuration to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from northstar_core.cli import show
from northstar_core.model.errors import SettingsError


def home_of(home: Path | None) -> Path:
    """Return the home a command was given, else the default one."""
    from northstar_core.store.postgres import default_home

    return (home if home is not None else default_home()).expanduser().absolute()


def home_option(command: click.decorators.FC) -> click.decorators.FC:
    """The option that names Northstar's folder."""
    text = "Northstar's folder; default: NORTHSTAR_HOME, else .northstar."
    return click.option("--home", type=click.Path(path_type=Path), help=text)(command)


def json_option(command: click.decorators.FC) -> click.decorators.FC:
    """The option of every command that prints for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


@click.command()
@home_option
@json_option
def init(home: Path | None, as_json: bool) -> None:
    """Write a commented northstar.toml, which starts as it is. An existing one is left alone."""
    from northstar_core.cli.first_config import TEXT
    from northstar_core.gateway.files import private_folder
    from northstar_core.gateway.settings import default_config, load_settings

    folder = home_of(home)
    file = default_config(folder)
    private_folder(folder)
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(TEXT)
    except FileExistsError:
        raise SettingsError(f"{file}: is there already; edit it, or move it away first") from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be written: {error.strerror}") from None
    settings = load_settings(file, folder)
    if as_json:
        show.as_json({"config": str(file), "home": str(folder), "accounts": list(settings.accounts)})
        return
    click.echo(f"wrote {file}: {', '.join(settings.accounts)}, no feed yet; read it, then: northstar up")
