"""How commands show things: one console for people, plain JSON for programs, a progress bar where it takes long."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from northstar_core.model.errors import SettingsError

if TYPE_CHECKING:
    from northstar_core.jobs.cells import Progress


def number(option: str, text: str, wanted: str) -> Decimal:
    """Return the number an option was given.

    Raises
    ------
    SettingsError
        If it is none, or not finite.
    """
    try:
        found = Decimal(text)
    except ArithmeticError:
        found = Decimal("nan")
    if not found.is_finite():
        raise SettingsError(f"{option} {text!r}: give {wanted}")
    return found


def text_of(option: str, path: Path) -> str:
    """Return the text of the file an option names.

    Raises
    ------
    SettingsError
        If it cannot be read or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{option} {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{option} {path}: is no text") from None


def as_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(value, indent=1, default=str))


def table(title: str, columns: list[str], rows: list[list[str]], *, right: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Print a table for people; columns named in ``right`` hold numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, markup=False).print(shown)


def listing(what: str, columns: list[str], rows: list[list[str]], *, right: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Print a table of what there is, or that there is none."""
    if rows:
        table(what, columns, rows, right=right)
    else:
        click.echo(f"no {what}")


@contextmanager
def progress_bar(label: str, *, shown: bool = True) -> Iterator[Callable[[Progress], None] | None]:
    """Show how far a notebook's run is, on stderr; yields what to call with each step, or None if not shown."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(label, total=None, unit="")

        def step(progress: Any) -> None:
            unit = progress.unit or "cells"
            done, total = (progress.done, progress.total) if progress.total else (progress.cell - 1, progress.cells)
            bars.update(task, description=f"{label} {progress.name}", completed=done, total=total, unit=unit)

        yield step


def money(text: str | None) -> str:
    """Return a decimal string with thousands separators and cents."""
    return "-" if text is None else f"{Decimal(text):,.2f}"


def ratio(value: float | None) -> str:
    """Return a ratio with two decimals."""
    return "-" if value is None or value != value else f"{value:.2f}"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage."""
    return "-" if value is None or value != value else f"{value:.2%}"
