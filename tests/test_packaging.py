"""pyproject.toml, requirements.lock and environment.yml say the same; nothing is installed that is not locked."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
SETUP: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "venv.py"))


def locked() -> dict[str, list[Requirement]]:
    """Return the lock's pins by canonical name; a package may have several, by Python version."""
    pins: dict[str, list[Requirement]] = {}
    for line in re.findall(r"^([A-Za-z0-9].*?) ?\\$", LOCK, re.MULTILINE):
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


DECLARED = [Requirement(line) for line in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"])]


@pytest.mark.parametrize("declared", DECLARED, ids=lambda requirement: requirement.name)
def test_what_pyproject_asks_for_is_locked_at_a_version_that_satisfies_it(declared: Requirement) -> None:
    pins = locked().get(canonicalize_name(declared.name), [])
    assert pins, f"{declared.name} is not in requirements.lock: run `make lock`"
    for pin in pins:
        assert declared.specifier.contains(version(pin)), f"{pin.name} is locked at {version(pin)}: run `make lock`"


def test_every_locked_file_has_a_hash_and_no_place_to_come_from() -> None:
    entries = [entry for entry in re.split(r"\n(?=[A-Za-z0-9])", LOCK) if not entry.startswith("#")]
    assert len(entries) > len(DECLARED)
    assert not [entry.splitlines()[0] for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)]
    assert "://" not in LOCK and "--index" not in LOCK and "--find-links" not in LOCK


@pytest.mark.parametrize("python", ["3.11.0", "3.12.1", "3.13.0", "3.14.0"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_the_lock_is_one_set_for_every_python_and_system(python: str, system: str) -> None:
    place = {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "sys_platform": system,
        "platform_python_implementation": "CPython",
    }
    for name, pins in locked().items():
        chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(place)]
        assert len(chosen) <= 1, f"{name} has two versions on Python {python}, {system}"
    for declared in DECLARED:
        pins = locked()[canonicalize_name(declared.name)]
        chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(place)]
        assert len(chosen) == 1, f"{declared.name} is missing on Python {python}, {system}"


def test_conda_installs_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(str(line) for line in environment["dependencies"] if str(line).startswith("python="))
    supported = Requirement("python" + PROJECT["project"]["requires-python"]).specifier
    assert supported.contains(python.removeprefix("python="))
    (from_pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    assert from_pip == ["--requirement requirements.lock"]
    # Whatever else conda brings is Python itself and tools, never a second version of something that is locked.
    others = {re.split(r"[=<>]", line)[0] for line in environment["dependencies"] if isinstance(line, str)}
    assert others == {"python", "pip", "make"}


def test_this_environment_is_what_the_lock_says() -> None:
    installed = {canonicalize_name(dist.name): dist.version for dist in distributions() if dist.name}
    wrong = {}
    for name, pins in locked().items():
        for pin in pins:
            if (pin.marker is None or pin.marker.evaluate()) and installed.get(name) != version(pin):
                wrong[name] = (installed.get(name), version(pin))
    assert not wrong, "installed, locked"


def test_no_registry_is_named_in_a_tracked_file() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    host = re.compile("py" + r"pi\.org|python" + r"hosted\.org|index-url *= *http", re.IGNORECASE)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert not [file for file in files if file.is_file() and host.search(file.read_text(errors="replace"))]


def test_uv_is_told_what_pip_is_configured_with() -> None:
    config = """
global.cert='/etc/certs.pem'
global.extra-index-url='file:///a/simple file:///b/simple'
global.index-url='https://one.example/simple'
install.find-links='/wheels\\n/more'
:env:.index-url='https://two.example/simple'
:env:.disable-pip-version-check='1'
freeze.exclude='x'
"""
    assert SETUP["uv_variables"](config) == {
        "SSL_CERT_FILE": "/etc/certs.pem",
        "UV_DEFAULT_INDEX": "https://two.example/simple",
        "UV_INDEX": "file:///a/simple file:///b/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_pip_installs_where_uv_could_not_be_told() -> None:
    assert SETUP["uv_variables"]("global.no-index='true'") is None
    assert SETUP["uv_variables"]("") == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_the_installer_itself_is_installed_by_hash() -> None:
    lines = SETUP["requirement"]("uv").splitlines()
    assert lines[0].startswith("uv==") and len(lines) > 1
    assert all("--hash=sha256:" in line for line in lines[1:]) and not lines[-1].endswith("\\")


def test_a_current_environment_is_recognised_and_another_is_not(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "scripts").mkdir(parents=True)
    for name in ("scripts/venv.py", "requirements.lock", "pyproject.toml"):
        (copy / name).write_bytes((ROOT / name).read_bytes())

    def current() -> int:
        command = [sys.executable, "-I", "-S", "scripts/venv.py", "--current"]
        return subprocess.run(command, cwd=copy, check=False).returncode

    assert current() == 1
    here = runpy.run_path(str(copy / "scripts" / "venv.py"))
    here["PYTHON"].parent.mkdir(parents=True)
    here["STAMP"].write_text(here["wanted"]())
    assert current() == 1, "a stamp without a Python"
    here["PYTHON"].symlink_to(sys.executable)
    assert current() == 0
    (copy / "requirements.lock").write_text(LOCK + "\n")
    assert current() == 1, "the lock has changed"
