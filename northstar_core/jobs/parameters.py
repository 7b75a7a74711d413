"""Parameters given to a notebook: known, typed, in range and no secret, before anything runs.

Given values come as text from a command line or as Python values from a program. Text is JSON where the target takes it
so, else itself, and the target decides: for a text parameter ``ON``, ``NO``, ``10:30``, ``007`` and ``true`` stay the
text they are.

The result holds plain values (numbers, text, lists, dicts) because papermill writes them into a cell as literals; a
``Decimal`` travels as its text and becomes a ``Decimal`` again in the strategy's ``Params``.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from northstar_core.jobs.notebook import Notebook, load_strategy, parameters
from northstar_core.jobs.redaction import is_secret_name, looks_secret
from northstar_core.model.errors import ParameterError
from northstar_core.strategy.base import checked_params, out_of_range

if TYPE_CHECKING:
    from northstar_core.strategy.base import Params, Strategy


def check_parameters(
    notebook: Notebook | Path | str, given: Mapping[str, Any], *, strategy: type[Strategy] | None = None
) -> dict[str, Any]:
    """Return the given parameters as the plain, typed values to inject.

    Parameters
    ----------
    given
        Name to value; a ``str`` is taken as text from a command line. Only names in the notebook's ``parameters`` cell
        are known.
    strategy
        The notebook's strategy class, if the caller has loaded it; else the ``strategy`` cell is loaded here.

    Returns
    -------
    The given names only, in the order given. Names that the strategy's ``Params`` has are of its types and in its
    ranges; others have the type of their default in the ``parameters`` cell.

    Raises
    ------
    ParameterError
        Naming the parameter, what is wrong with it and what would be right. Also if defaults and given values together
        are refused by ``Params``.
    NotebookError
        If the notebook has no usable ``parameters`` or ``strategy`` cell.
    """
    if not isinstance(notebook, Notebook):
        notebook = Notebook.read(notebook)
    defaults = parameters(notebook)
    params: type[Params] = (strategy or load_strategy(notebook)).Params
    # Resolves annotations written as text too, which ``from __future__ import annotations`` makes of all.
    fields = {
        name: hint
        for name, hint in typing.get_type_hints(params, include_extras=True).items()
        if name in params.__struct_fields__
    }
    checked: dict[str, Any] = {}
    for name, value in given.items():
        refuse_secret(name, value)
        if name not in defaults:
            raise ParameterError(_unknown(notebook, name, list(defaults), params if name in fields else None))
        target = fields[name] if name in fields else _type_of(defaults[name])
        checked[name] = _plain(_converted(name, value, target))
    _check_together(params, fields, defaults | checked)
    return checked


def refuse_secret(name: str, value: Any) -> None:
    """Refuse a parameter whose name or value looks like a secret: parameters are written into kept notebooks.

    Raises
    ------
    ParameterError
        Naming the parameter, never its value.
    """
    advice = "parameters are kept in the executed notebook; a notebook never needs a credential"
    if is_secret_name(name):
        raise ParameterError(f"parameter {name}: its name says it is a secret; {advice}")
    texts = (
        [value]
        if isinstance(value, str)
        else [json.dumps(value, default=str)]
        if isinstance(value, list | tuple | dict)
        else []
    )
    if any(looks_secret(text) for text in texts):
        raise ParameterError(f"parameter {name}: its value looks like a key or token; {advice}")


def _unknown(notebook: Notebook, name: str, known: list[str], params: type[Params] | None) -> str:
    if params is not None:
        return (
            f"parameter {name}: {params.__qualname__} has it but the parameters cell of {notebook.path} does not; "
            "add it there with a default and pass it in the run cell"
        )
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) if known else 'none'}"
    return f"parameter {name}: {notebook.path} has no such parameter; {hint}"


def _type_of(default: Any) -> Any:
    match default:
        case None:
            return Any
        case list() | tuple():
            items = {type(item) for item in default}
            return list[_type_of(default[0])] if len(items) == 1 else list  # type: ignore[misc]  # a type made at run time
        case dict():
            return dict[str, Any]
        case _:
            return type(default)


def _converted(name: str, value: Any, target: Any) -> Any:
    candidates = [value]
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except ValueError:
            pass
        else:
            # An amount is exact only as the text it was given as; all other text may be JSON first.
            candidates = [value, parsed] if _takes(target, Decimal) else [parsed, value]
    errors: list[msgspec.ValidationError] = []
    for candidate in candidates:
        try:
            converted = msgspec.convert(candidate, target, strict=True)
            refusal = out_of_range(target, converted)
            if refusal:
                raise ParameterError(f"parameter {name} = {_shown(value)}: {refusal}")
            return converted
        except msgspec.ValidationError as error:
            errors.append(error)
    # What the value means as text says little about a number out of its range: the first error does.
    raise ParameterError(f"parameter {name} = {_shown(value)}: {_reason(errors[0], target, value)}")


def _reason(error: msgspec.ValidationError, target: Any, value: Any) -> str:
    reason = str(error)
    reason = reason[0].lower() + reason[1:]
    if _takes_list(target) and isinstance(value, str):
        reason += """; give a JSON list, for example '["SPY", "QQQ"]'"""
    return reason


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _parts(target: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type: ``Annotated`` and unions taken apart."""
    origin = typing.get_origin(target)
    if origin is typing.Annotated:
        return _parts(typing.get_args(target)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(part for one in typing.get_args(target) for part in _parts(one))
    return (target,)


def _takes(target: Any, kind: type) -> bool:
    return kind in _parts(target)


def _takes_list(target: Any) -> bool:
    return any((typing.get_origin(part) or part) in (list, tuple, set, frozenset) for part in _parts(target))


def _plain(value: Any) -> Any:
    plain = msgspec.to_builtins(value, str_keys=True)
    return _lists(plain)


def _lists(value: Any) -> Any:
    """Return the value with lists for tuples and sets, which papermill cannot write as literals."""
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_lists(item) for item in value)
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return value


def _check_together(params: type[Params], fields: dict[str, Any], values: dict[str, Any]) -> None:
    """Let ``Params`` judge the whole, where the notebook's names cover what it requires."""
    required = {field.name for field in msgspec.structs.fields(params) if field.required}
    known = {name: value for name, value in values.items() if name in fields}
    if not required <= known.keys():
        return  # the run cell gives the rest, so the strategy itself will judge
    checked_params(params, known)
