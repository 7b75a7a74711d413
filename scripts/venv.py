"""Make ``.venv`` from ``requirements.lock``: whole or not at all, and in no time when it is there.

Run by ``scripts/venv``, which finds a Python for it; standard library only. ``.venv/stamp`` is written last and holds
what the environment was made from. Without a stamp (an interrupted set-up) the environment is made anew; with another
one (the lock has changed) it is brought up to date in place; with the right one nothing happens.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMP = VENV / "stamp"
LOCK = ROOT / "requirements.lock"
MADE_FROM = (LOCK, ROOT / "pyproject.toml", Path(__file__))

# What uv must be told because it does not read pip's configuration: pip's option, uv's variable, what joins values.
UV_VARIABLE = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
}
# Options of pip that change how it talks or where it caches, not what it installs.
OF_NO_CONSEQUENCE = {
    "break-system-packages", "cache-dir", "disable-pip-version-check", "no-cache-dir", "no-color", "no-input",
    "no-python-version-warning", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv",
    "resume-retries", "retries", "root-user-action", "user", "verbose",
}


def wanted() -> str:
    """Return the stamp of an environment made from the files as they are now, by this Python, in this place."""
    sha = hashlib.sha256()
    for file in MADE_FROM:
        sha.update(file.read_bytes())
    # The place counts: scripts in .venv/bin name it in their first line.
    return f"{sha.hexdigest()} {platform.python_version()} {VENV}\n"


def stamp() -> str:
    """Return what the environment was made from, or nothing if it is not whole."""
    try:
        # The Python it was made by may have been removed since: a link into nowhere.
        return STAMP.read_text() if os.access(PYTHON, os.X_OK) else ""
    except OSError:
        return ""


def run(*command: str | Path, env: dict[str, str]) -> None:
    """Run a command; its output is the user's progress report, without uv's list of every package."""
    words = [str(part) for part in command]
    with subprocess.Popen(words, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if not line.startswith((" + ", " - ", " ~ ")):
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)


def environment() -> dict[str, str]:
    """Return the user's variables without those that would send packages elsewhere."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return env | {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def uv_variables(pip_config: str) -> dict[str, str] | None:
    """Translate ``pip config list`` into uv's variables; None if it says something that uv could not be told."""
    options: dict[str, str] = {}
    for line in sorted(pip_config.splitlines(), key=lambda line: line.startswith(":env:")):  # variables win
        match = re.fullmatch(r"(:env:|global|install)\.([a-z-]+)=(.+)", line)
        if match:
            options[match[2]] = str(ast.literal_eval(match[3]))
    variables: dict[str, str] = {}
    for option, value in options.items():
        if option in UV_VARIABLE:
            name, joint = UV_VARIABLE[option]
            variables[name] = joint.join(value.split())
        elif option not in OF_NO_CONSEQUENCE:
            return None
    # Any file must have the hash that the lock names, so it does not matter which index gives it.
    return variables | {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def requirement(name: str) -> str:
    """Return one package's lines of the lock: version and hashes."""
    match = re.search(rf"^{name}==(?:.*\\\n)*.*", LOCK.read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{LOCK.name} has no {name}: run `make lock`")
    return match[0] + "\n"


def pip_for_venv() -> list[str | Path]:
    """Return the pip that fills the environment: its own, or, without ensurepip, that of the Python around it."""
    if importlib.util.find_spec("ensurepip"):
        return [PYTHON, "-I", "-m", "pip"]
    return [sys.executable, "-I", "-m", "pip", "--python", PYTHON]


def install(env: dict[str, str]) -> None:
    """Install the lock, then the project itself, editable; with uv, which loads in parallel, else with pip."""
    pip = pip_for_venv()
    config = subprocess.run([*map(str, pip), "config", "list"], cwd=ROOT, env=env, capture_output=True, text=True)
    variables = uv_variables(config.stdout) if config.returncode == 0 else None
    project = ("--no-build-isolation", "--no-deps", "--editable", ".")
    if variables is not None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                only_uv = Path(folder) / "uv.txt"
                only_uv.write_text(requirement("uv"))
                run(*pip, "install", "--quiet", "--require-hashes", "--no-deps", "--requirement", only_uv, env=env)
            told = variables | env  # what the user tells uv himself wins
            if not os.access(Path.home(), os.W_OK):  # a container's nameless user
                told.setdefault("UV_NO_CACHE", "1")
            uv = (UV, "pip", "install", "--python", PYTHON)
            run(*uv, "--require-hashes", "--requirement", LOCK, env=told)
            run(*uv, "--quiet", *project, env=told)
            return
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"uv did not manage ({error}): with pip, which takes longer", flush=True)
    run(*pip, "install", "--require-hashes", "--requirement", LOCK, env=env)
    run(*pip, "install", "--quiet", *project, env=env)


def make() -> None:
    """Make the environment or bring it up to date; the stamp comes last."""
    env = environment()
    begun = time.monotonic()
    made_by = stamp().split(" ")
    if len(made_by) == 3 and made_by[1:] == wanted().split(" ")[1:]:
        print("Bringing .venv up to date with requirements.lock", flush=True)
        STAMP.unlink()
    else:
        print(f"Making .venv with Python {platform.python_version()} ({sys.executable})", flush=True)
        if VENV.is_symlink() or (VENV.exists() and not VENV.is_dir()):
            raise SystemExit(f"{VENV} is not a directory: remove it, it is this script's to make")
        STAMP.unlink(missing_ok=True)
        if VENV.exists():
            shutil.rmtree(VENV)
        # Without ensurepip (Debian without python3-venv) venv alone works, and pip comes from the Python around it.
        bare = () if importlib.util.find_spec("ensurepip") else ("--without-pip",)
        run(sys.executable, "-I", "-m", "venv", *bare, VENV, env=env)
    install(env)
    STAMP.write_text(wanted())
    print(f".venv is ready ({time.monotonic() - begun:.0f} s)", flush=True)


def main() -> int:
    """Make what is missing; ``--current`` only answers whether anything is."""
    if stamp() == wanted():
        return 0
    if "--current" in sys.argv:
        return 1
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two makes at once: the second finds the work done
        if stamp() != wanted():
            make()
        return 0
    except subprocess.CalledProcessError as error:
        print(f".venv could not be made: `{' '.join(error.cmd)}` ended with {error.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; the next run begins .venv anew", file=sys.stderr)
        return 130
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
