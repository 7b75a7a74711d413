"""``northstar data``: generate a market, look at data, keep them as Parquet."""

from __future__ import annotations

from pathlib import Path

import click

from northstar_core.cli import show


@click.group()
def data() -> None:
    """Market data: generate, inspect, import."""


@data.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--symbols", default="ALFA,BETA,GAMA", show_default=True)
@click.option("--days", default=20, show_default=True, type=click.IntRange(1, 5000))
@click.option("--start", default="2024-01-02", show_default=True, help="First day.")
@click.option("--seed", default=7, show_default=True)
@click.option("--options/--no-options", default=True, show_default=True, help="An option chain on the first symbol.")
def synth(out: Path, symbols: str, days: int, start: str, seed: int, options: bool) -> None:
    """Generate a synthetic market: minute bars, quotes and an option chain, the same for the same seed."""
    from northstar_core.data import synthetic

    names = tuple(part.strip().upper() for part in symbols.split(",") if part.strip())
    paths = synthetic.synth(
        out, symbols=names, days=days, start=start, seed=seed, options_on="first" if options else None
    )
    click.echo(f"{len(paths)} files in {out}: synthetic data, seed {seed}")


@data.command("import")
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the Parquet files.")
@click.option("--hours", type=click.Choice(["regular", "extended", "all"]), default="all", show_default=True)
@click.option("--calendar", default="XNYS", show_default=True)
@click.option("--tz", help="Time zone of naive times.")
@click.option("--symbol", help="Symbol of files that do not name one.")
def import_(paths: tuple[str, ...], out: Path, hours: str, calendar: str, tz: str | None, symbol: str | None) -> None:
    """Check files of any supported layout and keep them as Parquet in the normalised schema."""
    from northstar_core.data import history

    source = paths[0] if len(paths) == 1 else list(paths)
    tape = history.read(source, session=hours, calendar=calendar, tz=tz, symbol=symbol)  # type: ignore[arg-type]
    written = history.write_parquet(tape, out)
    click.echo(f"{tape.rows:,} rows of {', '.join(tape.symbols[:8])} in {len(written)} files in {out}")


@data.command("show")
@click.argument("paths", nargs=-1, required=True)
@click.option("--hours", type=click.Choice(["regular", "extended", "all"]), default="all", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_(paths: tuple[str, ...], hours: str, as_json: bool) -> None:
    """Say what files hold: kinds, rows, symbols, span, sessions."""
    from datetime import UTC, datetime

    from northstar_core.data import history

    tape = history.read(paths[0] if len(paths) == 1 else list(paths), session=hours)  # type: ignore[arg-type]
    rows = []
    for name in ("bars", "quotes", "trades"):
        found = getattr(tape, name)
        if found is not None and len(found):
            first, last = (
                datetime.fromtimestamp(int(ts) // 10**9, UTC).isoformat(sep=" ") for ts in (found.ts[0], found.ts[-1])
            )
            rows.append([name, f"{len(found):,}", f"{len(found.symbols)}", first, last])
    if as_json:
        show.as_json({
            "symbols": tape.symbols, "sessions": len(tape.sessions), "daily": tape.daily,
            "tables": [dict(zip(("kind", "rows", "symbols", "first", "last"), row, strict=True)) for row in rows],
            "sources": [
                {"source": s.name, "layout": s.layout, "sha256": s.sha256, "rows": s.rows} for s in tape.sources
            ],
        })  # fmt: skip
        return
    show.table(
        f"{', '.join(s.name for s in tape.sources[:4])} · {len(tape.sessions)} sessions",
        ["kind", "rows", "symbols", "first (UTC)", "last (UTC)"], rows, right={"rows", "symbols"},
    )  # fmt: skip
