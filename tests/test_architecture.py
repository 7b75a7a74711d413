"""The map of the house as a test: who may import whom, and what a pure room may not touch.

Each rule is a function from a module's name and source to the places that break it, so that the rules themselves are
tested on small sources below; at the end they are held against the whole tree.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "northstar_core"

# What each room may import of ours, beside itself: a room, or one module of it.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "model": (),
    "strategy": ("model",),
    "engine": ("model",),
    "sim": ("model",),
    "data": ("model",),
    "brokers": ("model",),
    "brokers.paper": ("model", "sim"),
    "store": ("model",),
    "twins": ("model", "sim"),
    "research": ("model", "strategy", "engine", "sim"),
    "gateway": ("model", "engine", "sim", "data", "brokers", "store"),
    "client": ("model", "strategy", "engine", "sim", "research", "data.calendar", "data.history", "data.synthetic", "store.reader"),
    "audit": ("model", "store"),
    "jobs": (
        "model", "strategy", "engine", "sim", "research", "data", "store", "client", "audit", "gateway.settings", "gateway.clock",
    ),
}
# The command line starts everything; the package's own sign offers what is behind it.
MAY_IMPORT_ANYTHING = ("cli", "__init__", "__main__")

PURE = ("model", "strategy", "engine", "sim")
# What a decision may be made with: no clock, no I/O, no randomness, no threads, no log.
PURE_IMPORTS = {
    "__future__", "abc", "array", "bisect", "collections", "copy", "dataclasses", "datetime", "decimal",
    "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "itertools", "math", "numbers", "operator", "re",
    "statistics", "string", "struct", "tomllib", "types", "typing", "typing_extensions", "msgspec", "numpy", "zlib",
}  # fmt: skip
# A strategy's author gets his history as a DataFrame; imported when he asks for one.
PURE_IMPORTS_IN_FUNCTIONS = {"pandas"}
IMPURE_NAMES = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}
IMPURE_NAMES |= {"id", "hash"}  # differ from process to process
CLOCKS = {"now", "utcnow", "today"}
CLOCKED = {"date", "datetime", "Timestamp", "dt", "pd"}
MODE_NAME = re.compile(r"(is_?)?(live|paper|shadow|backtest|backtesting)(_mode)?|(run_?|trading_?)?mode", re.IGNORECASE)
MODE_CLASS = re.compile(r"(Run|Trading|Execution)?(Mode|Environment)")
SQL = re.compile(
    r"\b(select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|merge\s+into\s|truncate\s+\w|grant\s.+\sto\s"
    r"|(create|alter|drop)\s+(unlogged\s+)?(table|database|role|user|schema|index|view|extension|function|trigger|sequence)\s)",
    re.IGNORECASE | re.DOTALL,
)
LONGEST_FILE = 500  # lines; every admired project's ugliest point is its one giant file

Rule = Callable[[str, ast.Module], Iterator[str]]


def room(module: str) -> str:
    """Return the room of a dotted module name: ``northstar_core.engine.risk`` is in ``engine``."""
    return [*module.split("."), ""][1]


def own_imports(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, what is imported below the package), however it is written."""
    package = module.split(".")  # of a module; its relative imports count from here
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level], node.module or ""] if node.level else [node.module or ""]
            names = [".".join(filter(None, [*base, alias.name])) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield node.lineno, name.removeprefix(PACKAGE).removeprefix(".")


def imports_only_what_it_may(module: str, tree: ast.Module) -> Iterator[str]:
    """Hold a room's imports of other rooms against the table."""
    inside = module.removeprefix(PACKAGE).removeprefix(".")
    home = room(module)
    if home in MAY_IMPORT_ANYTHING:
        return
    if home not in MAY_IMPORT:
        yield f"1: no such room on the map: {home}"
        return
    allowed = (home, *MAY_IMPORT.get(inside, MAY_IMPORT[home]))
    for line, name in own_imports(module, tree):
        if not any(name == may or name.startswith(may + ".") for may in allowed):
            yield f"{line}: {home} may not import {name or PACKAGE}"


def pure_rooms_touch_nothing(module: str, tree: ast.Module) -> Iterator[str]:
    """In a pure room: no import but of the arithmetic kind, no I/O call, no clock, no randomness."""
    if room(module) not in PURE:
        return
    later = {child for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    later |= {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top = name.split(".")[0]
            fine = top in PURE_IMPORTS or top == PACKAGE or (top in PURE_IMPORTS_IN_FUNCTIONS and node in later)
            if not fine or name.startswith("numpy.random"):
                yield f"{node.lineno}: a pure room may not import {name}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_NAMES:
            yield f"{node.lineno}: a pure room may not call {node.func.id}()"
        elif isinstance(node, ast.Attribute):
            base = ast.unparse(node.value).split(".")
            if node.attr in CLOCKS and base[-1] in CLOCKED:
                yield f"{node.lineno}: a pure room reads no clock: {ast.unparse(node)}"
            elif node.attr == "random" and base[-1] in ("np", "numpy"):
                yield f"{node.lineno}: a pure room has no randomness: {ast.unparse(node)}"


def mode_is_wiring(module: str, tree: ast.Module) -> Iterator[str]:
    """No enum of modes, and no branch on one: what differs between backtest and live is what is plugged in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and MODE_CLASS.fullmatch(node.name):
            yield f"{node.lineno}: mode is wiring, not a class: {node.name}"
        tests = [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)) else []
        tests += [node.subject] if isinstance(node, ast.Match) else []
        for test in tests:
            for part in ast.walk(test):
                name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""
                if MODE_NAME.fullmatch(name):
                    yield f"{node.lineno}: mode is wiring, not a condition: {ast.unparse(test)}"


def sign_only(module: str, tree: ast.Module) -> Iterator[str]:
    """A room's ``__init__.py`` says what the room is for, and nothing else."""
    if not module.endswith(".__init__") or room(module) == "__init__":
        return
    if ast.get_docstring(tree) is None:
        yield "1: a room's sign is missing: one docstring"
    for node in tree.body[1:]:
        yield f"{node.lineno}: a room's __init__.py holds its sign alone"


def sql_lives_in_its_file(module: str, tree: ast.Module) -> Iterator[str]:
    """No SQL between the lines of Python; all of it is in ``store/queries.sql``."""
    documentation = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            if SQL.search(node.value + " "):
                yield f"{node.lineno}: SQL belongs into store/queries.sql: {node.value.strip()[:60]}"


def no_sleeping(module: str, tree: ast.Module) -> Iterator[str]:
    """A test waits for what it needs, never for time to pass; ``asyncio.sleep(0)`` only gives way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            if any(alias.name == "sleep" for alias in node.names):
                yield f"{node.lineno}: import {node.module}, so that its sleep can be seen"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep", "anyio.sleep"):
            if [ast.unparse(arg) for arg in node.args] != ["0"]:
                yield f"{node.lineno}: a test does not sleep: {ast.unparse(node)}"


def breaches(rule: Rule, module: str, source: str) -> list[str]:
    """Return where one source breaks one rule."""
    return list(rule(module, ast.parse(source)))


def sources(*folders: str) -> Iterator[tuple[str, Path]]:
    """Yield (dotted name, file) of every Python file below these folders."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if not any(part.startswith(".") for part in file.relative_to(ROOT).parts):
                yield ".".join(file.relative_to(ROOT).with_suffix("").parts), file


# ── the tree ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rule", "folder"),
    [
        (imports_only_what_it_may, PACKAGE),
        (pure_rooms_touch_nothing, PACKAGE),
        (mode_is_wiring, PACKAGE),
        (sign_only, PACKAGE),
        (sql_lives_in_its_file, PACKAGE),
        (no_sleeping, "tests"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_tree_keeps_the_rule(rule: Rule, folder: str) -> None:
    files = list(sources(folder))
    assert files
    found = [f"{file.relative_to(ROOT)}:{b}" for name, file in files for b in breaches(rule, name, file.read_text())]
    assert not found, "\n" + "\n".join(found)


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    files = sources(PACKAGE, "tests", "benchmarks", "scripts", "migrations")
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for _, file in files}
    assert not {name: length for name, length in lengths.items() if length >= LONGEST_FILE}


def test_pure_rooms_load_without_any_heavy_library() -> None:
    names = [name.removesuffix(".__init__") for name, _ in sources(*(f"{PACKAGE}/{r}" for r in PURE))]
    heavy = ["pandas", "pyarrow", "plotly", "asyncpg", "papermill", "sqlalchemy", "IPython"]
    ask = f"print([name for name in {heavy} if name in sys.modules])"
    code = "\n".join(["import sys", *(f"import {name}" for name in names), ask])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# ── the rules themselves ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("northstar_core.model.order", "from northstar_core.engine.risk import check"),
        ("northstar_core.engine.risk", "import northstar_core.strategy.host"),
        ("northstar_core.engine.risk", "from ..strategy import host"),
        ("northstar_core.engine.risk", "from northstar_core import strategy"),
        ("northstar_core.engine.risk", "def late():\n    from northstar_core.sim import broker"),
        ("northstar_core.engine.risk", "import importlib\nimportlib.import_module('northstar_core.sim.broker')"),
        ("northstar_core.engine.risk", "import northstar_core"),
        ("northstar_core.research.backtest", "from northstar_core.store.events import Writer"),
        ("northstar_core.audit.verify", "from northstar_core.engine.portfolio import Portfolio"),
        ("northstar_core.client.views", "from northstar_core.store.events import Writer"),
        ("northstar_core.client.views", "from northstar_core.brokers.alpaca import broker as alpaca"),
        ("northstar_core.brokers.alpaca.broker", "from northstar_core.sim.broker import SimBroker"),
        ("northstar_core.gateway.pump", "from northstar_core.research import metrics"),
        ("northstar_core.cellar.wine", "x = 1"),
    ],
)
def test_an_import_against_the_map_is_found(module: str, source: str) -> None:
    assert len(breaches(imports_only_what_it_may, module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("northstar_core.engine.risk", "from northstar_core.model.order import Side"),
        ("northstar_core.engine.risk", "from northstar_core.engine import oms"),
        ("northstar_core.engine.risk", "from . import oms\nfrom ..model import order\nimport decimal"),
        ("northstar_core.brokers.paper", "from northstar_core.sim.broker import SimBroker"),
        ("northstar_core.client.views", "from northstar_core.store.reader import Reader"),
        ("northstar_core.client.views", "from northstar_core.data import history"),
        ("northstar_core.cli", "from northstar_core.gateway import pump"),
    ],
)
def test_an_import_on_the_map_is_fine(module: str, source: str) -> None:
    assert breaches(imports_only_what_it_may, module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import asyncio",
        "import random",
        "import os.path",
        "import uuid",
        "from logging import getLogger",
        "import threading",
        "import socket",
        "from pathlib import Path",
        "import pandas as pd",
        "from numpy import random",
        "from numpy.random import default_rng",
        "import numpy as np\nx = np.random.default_rng()",
        "x = open('file')",
        "print('hello')",
        "import datetime\nx = datetime.datetime.now()",
        "from datetime import date\nclock = date.today",
        "key = hash('text')",
        "eval('1')",
    ],
)
def test_a_pure_room_that_touches_the_world_is_found(source: str) -> None:
    assert len(breaches(pure_rooms_touch_nothing, "northstar_core.sim.broker", source)) == 1
    assert breaches(pure_rooms_touch_nothing, "northstar_core.store.events", source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import math, numpy as np, msgspec\nnp.sum([1])",
        "from decimal import Decimal\nfrom northstar_core.model import order",
        "def frame():\n    import pandas as pd\n    return pd.DataFrame()",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas as pd",
        "x = context.now\nportfolio.open('paper-1')",
    ],
)
def test_a_pure_room_may_calculate(source: str) -> None:
    assert breaches(pure_rooms_touch_nothing, "northstar_core.strategy.context", source) == []


@pytest.mark.parametrize(
    "source",
    [
        "class Mode: ...",
        "class TradingMode(StrEnum): ...",
        "if live: ...",
        "x = 1 if self.is_live else 2",
        "if config.mode == 'paper': ...",
        "match settings.trading_mode:\n    case 1: ...",
        "while not backtesting: ...",
    ],
)
def test_a_branch_on_the_mode_is_found(source: str) -> None:
    assert len(breaches(mode_is_wiring, "northstar_core.gateway.pump", source)) == 1


@pytest.mark.parametrize("source", ["if delivered: ...", "if order.alive: ...", "paper = Paper()", "if model: ..."])
def test_other_branches_are_fine(source: str) -> None:
    assert breaches(mode_is_wiring, "northstar_core.gateway.pump", source) == []


def test_more_than_a_sign_at_a_rooms_door_is_found() -> None:
    door = "northstar_core.engine.__init__"
    assert breaches(sign_only, door, '"""The engine."""') == []
    assert len(breaches(sign_only, door, '"""The engine."""\nfrom northstar_core.engine.risk import check')) == 1
    assert len(breaches(sign_only, door, "")) == 1
    assert breaches(sign_only, "northstar_core.engine.risk", "x = 1") == []
    assert breaches(sign_only, "northstar_core.__init__", "from northstar_core.model.order import Side") == []


def test_sql_in_python_is_found() -> None:
    where = "northstar_core.store.reader"
    assert len(breaches(sql_lives_in_its_file, where, "q = 'select seq from event where kind = $1'")) == 1
    assert len(breaches(sql_lives_in_its_file, where, "q = f'INSERT INTO {table} VALUES (1)'")) == 1
    assert len(breaches(sql_lives_in_its_file, where, "q = 'create table event (seq bigint)'")) == 1
    assert breaches(sql_lives_in_its_file, where, '"""Select rows from the log."""\nx = "update the books"') == []


def test_a_sleeping_test_is_found() -> None:
    assert len(breaches(no_sleeping, "tests.test_x", "import time\ntime.sleep(1)")) == 1
    assert len(breaches(no_sleeping, "tests.test_x", "import asyncio\nasyncio.sleep(0.1)")) == 1
    assert len(breaches(no_sleeping, "tests.test_x", "from time import sleep")) == 1
    assert breaches(no_sleeping, "tests.test_x", "import asyncio\nasyncio.sleep(0)") == []
