"""``await northstar.run(strategy)``: the one line of a strategy notebook that runs it.

What it is connected to is decided outside. A launcher leaves a run specification (``NORTHSTAR_RUN_SPEC``); without
one, in JupyterLab, it backtests: over what ``northstar.configure`` was given in a research cell, else over the
generated demo market.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.client.evidence import Evidence
from northstar_core.client.interrupt import Interrupt
from northstar_core.client.live_view import LiveView
from northstar_core.client.session import connected, trade
from northstar_core.client.window import between
from northstar_core.model.errors import ParameterError, SettingsError
from northstar_core.model.tape import Tape
from northstar_core.research.backtest import Backtest
from northstar_core.research.plugins import load_rules, plugin
from northstar_core.research.result import Result
from northstar_core.research.spec import SPEC_VARIABLE, Broker, RunSpec, read_spec
from northstar_core.strategy.base import Strategy

_configured: dict[str, Any] = {}
_demo: dict[bool, Tape] = {}


def configure(**settings: Any) -> None:
    """Choose what ``run`` is connected to in this kernel; a launcher's choice wins over it.

    Parameters
    ----------
    data
        A path, several, a DataFrame or a ``Tape``.
    cash, start, end, hours, calendar, limits, fill_at, commission, slippage, volume_share, …
        As for ``backtest``. Called without arguments it forgets everything.
    """
    _configured.clear()
    _configured.update(settings)


async def run(strategy: Strategy | list[Strategy]) -> Result:
    """Run a strategy on whatever this kernel is connected to, and return what it left."""
    if (link := connected()) is not None:
        if isinstance(strategy, list):
            raise ParameterError("a session at the gateway is one strategy's; give one, and run another notebook for another")
        return await trade(strategy, link)
    path = os.environ.get(SPEC_VARIABLE)
    if path:
        spec, data = read_spec(Path(path)), None
    else:
        spec, data = _spec(dict(_configured))
    started = time.perf_counter()
    test = _backtest(strategy, spec, data)
    loaded = time.perf_counter() - started
    evidence = Evidence(Path(spec.run_dir), test.journal) if spec.run_dir else None
    view = LiveView.in_notebook(test) if not path else None
    try:
        with (
            Interrupt(test.strategies) as interrupt,
            closing(test.steps()) as steps,
        ):  # so a stopped run ends its journal
            for progress in steps:
                if evidence is not None:
                    evidence.keep(progress)
                if view is not None:
                    view.show(progress)
                await asyncio.sleep(0)  # widgets and a Stop button get their turn
                if interrupt.asked:
                    raise KeyboardInterrupt
    except BaseException:
        with suppress(Exception):  # what went wrong is the news; what there is of the run is kept as far as it goes
            _end(test, evidence, view, loaded)
        raise
    return _end(test, evidence, view, loaded)


def _end(test: Backtest, evidence: Evidence | None, view: LiveView | None, load_s: float) -> Result:
    """Keep what the run left, finished or not."""
    if view is not None:
        view.close()
    result = test.result()
    if evidence is not None:
        evidence.close(result, load_s=load_s)
    return result


def backtest(strategy: Strategy | list[Strategy], data: Any = None, **settings: Any) -> Result:
    """Backtest a strategy and return what it left.

    Parameters
    ----------
    strategy
        One, or several that share the account.
    data
        A path, several, a DataFrame, or a ``Tape``; by default the generated demo market.
    **settings
        ``start``, ``end``, ``hours`` ("regular", "extended", "all"), ``calendar``, ``cash``, ``limits`` (TOML text or a
        path),
        and how the broker is simulated: ``fill_at`` ("next_open", "close", "quote"), ``touch``, ``volume_share``,
        ``commission``, ``slippage``, ``entry_latency_ms``, ``response_latency_ms`` (``research.spec.Broker``).

    Raises
    ------
    ParameterError, DataError, SettingsError, StrategyError
        One line each, before anything runs where it can be known before.
    """
    spec, given = _spec({**settings, "data": data})
    return _backtest(strategy, spec, given).run()


def _backtest(strategy: Strategy | list[Strategy], spec: RunSpec, data: Any) -> Backtest:
    spec.check()
    if isinstance(data, Tape):
        tape = between(data, spec.start, spec.end, spec.calendar)
    else:
        tape = load_tape(spec, strategy, data)
    return Backtest(
        strategy, tape, cash=spec.cash, limits=spec.limit_set(daily=tape.daily), model=spec.broker.model(),
        simulator=plugin("broker", spec.simulator) if spec.simulator else None, rules=load_rules(spec.rules),
        code=spec.code,
    )  # fmt: skip


def load_tape(spec: RunSpec, strategy: Strategy | list[Strategy], data: Any = None) -> Tape:
    """Return the market data a spec names, for the symbols the strategies name; ``data`` in memory wins."""
    from northstar_core.data import history

    if data is None and not spec.data:
        if spec.calendar != "XNYS":
            raise SettingsError(
                f"calendar {spec.calendar}: the demo market trades on XNYS; give data to choose another"
            )
        market = demo_market(options=any(s.options_on or not s.symbols for s in _listed(strategy)))
        return between(market, spec.start, spec.end, spec.calendar)
    source = data if data is not None else (list(spec.data) if len(spec.data) > 1 else spec.data[0])
    strategies = _listed(strategy)
    wanted = sorted({symbol for s in strategies for symbol in s.symbols})
    everything = any(s.options_on or not s.symbols for s in strategies)  # a chain is known only once it is read
    return history.read(
        source, symbols=None if everything else wanted, start=spec.start, end=spec.end, calendar=spec.calendar,
        session=spec.hours,  # type: ignore[arg-type]
        actions=spec.actions,
    )  # fmt: skip


def _listed(strategy: Strategy | list[Strategy]) -> list[Strategy]:
    return strategy if isinstance(strategy, list) else [strategy]


def demo_market(*, options: bool = True) -> Tape:
    """Return the generated demo market: seeded, synthetic, the same on every machine; made once.

    20 sessions of minute bars and quotes of ALFA, BETA and GAMA, and a chain of options on ALFA unless left out, which
    takes most of the time.
    """
    if options not in _demo:
        from northstar_core.data.synthetic import synthesize

        _demo[options] = synthesize(options_on="first" if options else None)
    return _demo[options]


def _spec(settings: dict[str, Any]) -> tuple[RunSpec, Any]:
    """Split settings into a spec and data that are already in memory."""
    data = settings.pop("data", None)
    paths: tuple[str, ...] = ()
    if isinstance(data, str | Path):
        paths, data = (str(data),), None
    elif isinstance(data, list | tuple):
        paths, data = tuple(str(path) for path in data), None
    broker = {name: settings.pop(name) for name in Broker.__struct_fields__ if name in settings}
    limits = settings.pop("limits", None)
    if limits is not None and "\n" not in str(limits) and "=" not in str(limits):
        settings["limits_name"] = str(limits)
        try:
            limits = Path(limits).read_text()
        except OSError as error:
            raise SettingsError(f"limits {settings['limits_name']}: {error.strerror}") from None
    for name in ("start", "end"):
        if settings.get(name) is not None:
            settings[name] = str(settings[name])
    if "cash" in settings:
        settings["cash"] = Decimal(str(settings["cash"]))
    if broker.get("volume_share") is not None:
        broker["volume_share"] = Decimal(str(broker["volume_share"]))
    known = set(RunSpec.__struct_fields__)
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ParameterError(
            f"unknown setting {unknown[0]!r}; there are {', '.join(sorted(known | set(Broker.__struct_fields__)))}"
        )
    try:
        return msgspec.convert({"data": paths, "limits": limits, "broker": Broker(**broker), **settings}, RunSpec), data
    except msgspec.ValidationError as error:
        raise ParameterError(f"setting: {error}") from None
