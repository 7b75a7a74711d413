"""``northstar schedule``: the notebooks that run every session, and one of them now."""

from __future__ import annotations

from pathlib import Path

import click

from northstar_core.cli import show
from northstar_core.cli.init import home_of, home_option, json_option
from northstar_core.cli.run import config_of, run_here, show_report
from northstar_core.cli.words import clock_time
from northstar_core.model.errors import SettingsError


@click.group()
def schedule() -> None:
    """Notebooks that run every session of an exchange."""


@schedule.command("list")
@home_option
@json_option
def list_jobs(home: Path | None, as_json: bool) -> None:
    """Show every job and when it is due next."""
    from northstar_core.gateway.clock import clock_of
    from northstar_core.jobs.triggers import Moment, Times

    settings = config_of(home_of(home))
    now = clock_of(settings.clock).now()
    rows = []
    for job in settings.schedule:
        due = Times(job.calendar, Moment.parse(job.start)).after(now) if job.enabled else None
        rows.append(
            {
                "name": job.name, "notebook": str(settings.notebook(job)), "account": job.account, "calendar": job.calendar,
                "start": job.start, "stop": job.stop, "restart": job.restart, "enabled": job.enabled,
                "session": None if due is None else due.label.isoformat(), "due": None if due is None else due.ts,
            }
        )  # fmt: skip
    if as_json:
        show.as_json(rows)
        return
    columns = ["job", "notebook", "account", "calendar", "start", "stop", "restart", "session", "due (UTC)"]
    show.listing(
        f"jobs in {settings.path}", columns,
        [
            [
                str(r["name"]), Path(str(r["notebook"])).name, str(r["account"]), str(r["calendar"]), str(r["start"]), str(r["stop"]),
                str(r["restart"]), str(r["session"] or "-"), clock_time(r["due"]) if r["enabled"] else "not enabled",
            ]
            for r in rows
        ],
    )  # fmt: skip


@schedule.command("run-now")
@click.argument("name")
@home_option
@json_option
def run_now(name: str, home: Path | None, as_json: bool) -> None:
    """Run a job now, whatever its times, and wait for it."""
    folder = home_of(home)
    settings = config_of(folder)
    job = next((job for job in settings.schedule if job.name == name), None)
    if job is None:
        raise SettingsError(
            f"no job {name!r}; {settings.path} has {', '.join(job.name for job in settings.schedule) or 'none'}"
        )
    report = run_here(folder, settings.notebook(job), dict(job.parameters), job.account, as_json, grace_s=job.grace_s)
    show_report(report, as_json)
