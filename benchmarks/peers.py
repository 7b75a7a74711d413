"""The engines of the benchmark, and an environment of its own for each peer.

The peers' versions are pinned; numpy and pandas are the ones of ``.venv``, so that nobody runs on another numpy. The
environments live in ``benchmarks/.peers`` and are used again while their requirements stay the same.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".peers"
OLDEST = (3, 12)  # nautilus_trader's


class Engine(NamedTuple):
    """One engine: its name in the table, its runner, what it needs installed (Northstar: nothing more)."""

    name: str
    runner: str
    requirements: tuple[str, ...] = ()


NUMPY, PANDAS = (f"{name}=={version(name)}" for name in ("numpy", "pandas"))

NORTHSTAR = Engine("northstar", "run_northstar.py")
ALL_PEERS = (
    Engine("backtesting.py 0.6.6", "run_backtesting.py", ("backtesting==0.6.6", NUMPY, PANDAS)),
    Engine("backtrader 1.9.78.123", "run_backtrader.py", ("backtrader==1.9.78.123", NUMPY)),
    Engine("nautilus_trader 1.231.0", "run_nautilus_1.py", ("nautilus_trader==1.231.0", NUMPY, PANDAS)),
    Engine("nautilus_trader 2.0.0rc6", "run_nautilus_2.py", ("nautilus_trader==2.0.0rc6", NUMPY)),
)


class PeerError(Exception):
    """A peer that cannot be installed: an error, not a gap in the table."""


def install(engine: Engine) -> Path:
    """Return the Python of this engine's environment, made if need be.

    Raises
    ------
    PeerError
        If it cannot be installed; a benchmark without a peer is no benchmark.
    """
    if not engine.requirements:
        return Path(sys.executable)
    home = PEERS / engine.runner.removesuffix(".py").removeprefix("run_")
    python, stamp = home / "bin" / "python", home / "stamp"
    wanted = "\n".join((sys.version, *engine.requirements))
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"Installing {engine.name}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    try:
        _run([sys.executable, "-m", "venv", "--without-pip", home], dict(os.environ))
        _fill(python, engine.requirements)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise PeerError(f"{engine.name} cannot be installed: {' '.join(said.split()[-60:])}") from None
    stamp.write_text(wanted)
    return python


def _fill(python: Path, requirements: tuple[str, ...]) -> None:
    """Install as ``scripts/venv.py`` does: with uv, told what pip is configured with, or with pip."""
    setup = runpy.run_path(str(HERE.parent / "scripts" / "venv.py"))
    env = setup["environment"]()
    pip = (sys.executable, "-I", "-m", "pip")
    config = subprocess.run([*pip, "config", "list"], env=env, capture_output=True, text=True, check=False)
    told = setup["uv_variables"](config.stdout)
    if told is not None and setup["UV"].exists():
        try:
            _run([setup["UV"], "pip", "install", "--python", python, *requirements], told | env)
            return
        except subprocess.CalledProcessError as error:
            print(f"uv did not manage, with pip: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
    _run([*pip, "--python", python, "install", "--quiet", *requirements], env)


def _run(command: list[object], env: dict[str, str]) -> None:
    subprocess.run([str(word) for word in command], env=env, check=True, capture_output=True, text=True)
