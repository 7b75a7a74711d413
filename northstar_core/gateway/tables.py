"""A configuration's tables as typed structs: every key known, every value of its type, or one line that says where not."""

from __future__ import annotations

import types
from collections.abc import Iterable
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from northstar_core.model.errors import SettingsError


def read(kind: Any, value: Any, where: str) -> Any:
    """Return a TOML value (read with ``parse_float=Decimal``) as ``kind``: a struct, dict, tuple, Literal, enum or plain type.

    Nothing is converted that could be meant otherwise: no text to number, no number to text, no 1 to true.

    Raises
    ------
    SettingsError
        If it is none; ``where`` (file, then key) leads the line.
    """
    origin = get_origin(kind)
    if kind is Any:
        return plain(value, where)
    if origin in (Union, types.UnionType):
        return read(next(part for part in get_args(kind) if part is not type(None)), value, where)
    if origin is Literal:
        return one_of(value, get_args(kind), where)
    if origin is dict:
        return {name: read(get_args(kind)[1], entry, f"{where}.{name}") for name, entry in _table(value, where).items()}
    if origin is tuple:
        if not isinstance(value, list):
            raise SettingsError(f"{where}: is a list: write [...], not {shown(value)}")
        return tuple(read(get_args(kind)[0], entry, f"{where}[{i}]") for i, entry in enumerate(value, 1))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(one_of(value, [member.value for member in kind], where))
    return _scalar(kind, value, where)


def one_of(value: Any, allowed: Iterable[Any], where: str) -> Any:
    """Return a value that is among the allowed ones, or refuse it and name them."""
    have = [str(entry) for entry in allowed]
    if not isinstance(value, str) or value not in have:
        near = get_close_matches(str(value), have, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"{where}: {shown(value)} is none of {', '.join(have) or '(there are none)'}{hint}")
    return value


def plain(value: Any, where: str) -> Any:
    """Return a value of a free table: text, whole numbers, true and false, lists and tables of them; others as float.

    Dates and times are refused: whoever reads the option wants text.
    """
    if isinstance(value, dict):
        return {name: plain(entry, f"{where}.{name}") for name, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry, f"{where}[{i}]") for i, entry in enumerate(value, 1)]
    if isinstance(value, Decimal):
        return float(_finite(value, where))
    if not isinstance(value, (str, int)):
        raise SettingsError(f"{where}: give text, a number, true or false; a date goes in quotes")
    return value


def shown(value: Any) -> str:
    """Return a value as an error may show it: short, on one line."""
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: is a table: write [{where.rpartition(': ')[2]}], then its keys one a line")
    return value


@lru_cache(maxsize=64)
def _hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return get_type_hints(kind)


def _struct(kind: type[msgspec.Struct], value: Any, where: str) -> Any:
    table = _table(value, where)
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind) if not f.name.startswith("_")}
    inner = f"{where}." if ": " in where else f"{where}: "
    for name in table:
        if name not in fields:
            near = get_close_matches(name, fields, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{inner}{name}: no such key; allowed are {', '.join(fields)}{hint}")
    missing = [name for name, field in fields.items() if field.required and name not in table]
    if missing:
        raise SettingsError(f"{inner}{missing[0]}: is missing; it has no default")
    hints = _hints(kind)
    return kind(
        **{fields[name].name: read(hints[fields[name].name], entry, inner + name) for name, entry in table.items()}
    )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is str and isinstance(value, str):
        if not value.isprintable():
            raise SettingsError(f"{where}: has characters that cannot be printed")
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if not isinstance(value, bool):
        if kind is int and isinstance(value, int):
            return value
        if kind in (Decimal, float) and isinstance(value, (int, Decimal)):
            return kind(_finite(Decimal(value), where))
    wanted = {str: 'text in "quotes"', bool: "true or false", int: "a whole number"}.get(
        kind, "a number without quotes"
    )
    raise SettingsError(f"{where}: give {wanted}, not {shown(value)}")


def _finite(value: Decimal, where: str) -> Decimal:
    if not value.is_finite():
        raise SettingsError(f"{where}: {value} is no amount")
    return value
