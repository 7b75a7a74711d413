"""What a notebook is and whether its parameters fit, asked of a process of its own: ``python -m northstar_core.jobs.describe``.

To know a strategy's name its cell has to be executed, and that is somebody's code: it runs where it can neither slow nor read the
process that starts runs. The question comes on standard input, the answer leaves on standard output, both JSON.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.model import errors
from northstar_core.model.errors import NorthstarError, NotebookError

PATIENCE_S = 60.0


class Question(msgspec.Struct, frozen=True):
    """A notebook, and the parameters given to it."""

    notebook: str
    given: dict[str, Any]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a notebook is."""

    strategy: str = ""
    parameters: dict[str, Any] = {}  #: those given, as plain values of their types
    notebook_sha256: str = ""
    code_cells: dict[str, str] = {}
    error: str = ""
    kind: str = ""  #: the error's class


async def describe(notebook: Path, given: Mapping[str, Any], patience_s: float = PATIENCE_S) -> Description:
    """Return what a notebook is, with its parameters checked.

    Raises
    ------
    NotebookError, ParameterError
        If it cannot be run with these parameters.
    """
    from northstar_core.jobs.kernel import import_path, kernel_environment

    environment = kernel_environment({})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "northstar_core.jobs.describe",
        cwd=notebook.parent if notebook.parent.is_dir() else None,
        env={**environment, "PYTHONPATH": import_path(environment)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    question = msgspec.json.encode(Question(str(notebook), dict(given)), enc_hook=str)
    try:
        said, cried = await asyncio.wait_for(process.communicate(question), patience_s)
    except TimeoutError:
        raise NotebookError(f"{notebook}: its strategy cell did not come to an end in {patience_s:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
    try:
        found = msgspec.json.decode(said, type=Description)
    except msgspec.MsgspecError:
        words = cried.decode(errors="replace").strip().splitlines()
        raise NotebookError(
            f"{notebook}: could not be looked at: {words[-1][:300] if words else 'no answer'}"
        ) from None
    if found.error:
        kind = getattr(errors, found.kind, NotebookError)
        raise (kind if issubclass(kind, NorthstarError) else NotebookError)(found.error)
    return found


def strategy_name(strategy: Any) -> str:
    """Return a strategy class's id: its name, or its class's in snake_case."""
    return strategy.name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", strategy.__name__).lower()


def _answer(question: Question) -> Description:
    from northstar_core.jobs.notebook import Notebook, code_hashes, load_strategy
    from northstar_core.jobs.parameters import check_parameters

    try:
        book = Notebook.read(Path(question.notebook))
        strategy = load_strategy(book)
        book.only("run")
        return Description(
            strategy=strategy_name(strategy), parameters=check_parameters(book, question.given, strategy=strategy),
            notebook_sha256=book.code_sha256, code_cells=code_hashes(book),
        )  # fmt: skip
    except NorthstarError as error:
        return Description(error=str(error), kind=type(error).__name__)


def main() -> None:
    # The notebook's folder is for what its cells import; its files must not shadow modules that we need.
    here = os.getcwd()
    if sys.path and sys.path[0] in ("", here):
        del sys.path[0]
    out = os.dup(1)
    os.dup2(2, 1)  # a cell that prints does not disturb the answer
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.path.append(here)
    os.write(out, msgspec.json.encode(_answer(question)))
    os.close(out)


if __name__ == "__main__":
    main()
