"""Configurations for tests: one that holds together, as text and as the tables it is made of."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from northstar_core.cli.first_config import TEXT
from northstar_core.gateway.settings import Settings, load_settings

#: the shipped file with every setting that waits behind a # in force
FULL = "\n".join(
    line[1:] if line.startswith("#") and line[1:2] not in ("", " ", "#") else line for line in TEXT.split("\n")
)


def tables(text: str = FULL) -> dict[str, Any]:
    """The tables of a configuration."""
    return tomllib.loads(text, parse_float=Decimal)


def toml(data: dict[str, Any]) -> str:
    """Tables as TOML text: inline values, tables by dotted header."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in data.items() if not isinstance(value, dict)]
    for name, table in data.items():
        if isinstance(table, dict):
            lines += _table((name,), table)
    return "\n".join(lines) + "\n"


def _table(path: tuple[str, ...], table: dict[str, Any]) -> list[str]:
    lines = [f"[{'.'.join(_key(part) for part in path)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _table((*path, key), value)
    return lines


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, Decimal):
        return f"{value:f}" if "." in f"{value:f}" else f"{value:f}.0"
    return str(value)


def _key(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def load(folder: Path, text: str) -> Settings:
    """Write a configuration and load it."""
    file = folder / "northstar.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, folder)
