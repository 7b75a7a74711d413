"""Make a recorded run again: the strategy from the notebook that was kept, the same data, the same wiring."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from northstar_core.client.run import load_tape
from northstar_core.jobs.notebook import Notebook, load_strategy
from northstar_core.model.errors import NorthstarError, SettingsError
from northstar_core.model.events import RunStarted
from northstar_core.model.tape import Tape
from northstar_core.model.world import SessionBegan
from northstar_core.research.backtest import Backtest
from northstar_core.research.plugins import load_rules, plugin
from northstar_core.research.spec import SPEC_FILE, RunSpec, read_spec
from northstar_core.strategy.base import Strategy


class Recorded:
    """A recorded run as its folder keeps it.

    Raises
    ------
    SettingsError
        If the folder or what is in it is gone, or the data are no longer what was read.
    """

    def __init__(self, folder: Path, started: RunStarted) -> None:
        if not (folder / SPEC_FILE).exists():
            raise SettingsError(
                f"{folder}: the run's folder is gone, so it cannot be made again; its log is still whole"
            )
        self.folder = folder
        self.started = started
        self.spec: RunSpec = read_spec(folder / SPEC_FILE)
        self._tape: Tape | None = None

    @property
    def tape(self) -> Tape:
        """The market data it ran over, read again and recognised by their digests."""
        if self._tape is None:
            tape = load_tape(self.spec, self.strategies())
            have = {(s.name, s.sha256) for s in tape.sources}
            for source in self.started.data:
                if (source.name, source.sha256) not in have:
                    raise SettingsError(
                        f"data {source.name}: no longer what the run read (sha256 {source.sha256[:16]}…); "
                        "restore the file"
                    )
            self._tape = tape
        return self._tape

    def strategies(self) -> list[Strategy]:
        """New strategy objects with the parameters of the run."""
        kept = next((path for path in sorted(self.folder.glob("*.ipynb"))), None)
        if kept is None:
            raise SettingsError(f"{self.folder}: the executed notebook is gone, so the run cannot be made again")
        kind = load_strategy(Notebook.read(kept))
        given: Mapping[str, dict[str, Any]] = self.started.strategies
        return [kind(**params) for params in given.values()]

    def again(self) -> Backtest:
        """Return the run, ready to be run again."""
        spec = self.spec
        return Backtest(
            self.strategies(), self.tape, cash=spec.cash, limits=spec.limit_set(daily=self.tape.daily),
            model=spec.broker.model(), simulator=plugin("broker", spec.simulator) if spec.simulator else None,
            rules=load_rules(spec.rules), code=spec.code,
        )  # fmt: skip


class DeskCode:
    """The strategies of a folder's notebooks, as a desk's replay wants them: by the author's name, with the parameters of then.

    ``changed`` tells, by author's name, the hash of the strategy cell that ran and of the one that was replayed, where they differ.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changed: dict[str, tuple[str, str]] = {}
        self._found: dict[str, tuple[type[Strategy], str]] = {}

    def make(self, began: SessionBegan) -> Strategy:
        """Return the strategy of a session.

        Raises
        ------
        SettingsError
            If no notebook of the folder has a strategy of this name.
        """
        if began.author not in self._found:
            self._look(began)
        kind, sha256 = self._found[began.author]
        then = began.code.get("strategy", "")
        if then and then != sha256:
            self.changed[began.author] = (then, sha256)
        return kind(**began.params)

    def _look(self, began: SessionBegan) -> None:
        for path in sorted(self.folder.glob("*.ipynb")):
            notebook = Notebook.read(path)
            kind = load_strategy(notebook)
            with suppress(NorthstarError):  # parameters that are another strategy's
                if kind(**began.params).strategy_id == began.author:
                    self._found[began.author] = (kind, notebook.strategy_sha256)
                    return
        raise SettingsError(f"{self.folder}: no notebook has strategy {began.author}; give its folder with --notebooks")
