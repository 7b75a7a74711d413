"""A strategy notebook: its cells by tag, its hashes, its strategy class.

A cell's tag says its role: ``parameters`` (typed literals), ``strategy`` (imports and one class), ``run``, ``report``,
``on-stop``. Untagged code is research: it runs in JupyterLab and nowhere else.

Three hashes, all sha256 in hex:

``file_sha256``
    Every byte of the file.
``code_sha256``
    What runs headlessly: tag and source of each cell with a role, in order. Outputs, execution counts, metadata,
    Markdown, research cells and the line-end convention do not count; any other character of a cell with a role does,
    comments included. An executed notebook has the code hash of its original, because papermill's injected cell has no
    role.
``strategy_sha256``
    The ``strategy`` cell's source alone: what sweeps load and what a passport is bound to.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from northstar_core.model.errors import NotebookError

if TYPE_CHECKING:
    from northstar_core.strategy.base import Strategy

ROLES = ("parameters", "strategy", "run", "report", "on-stop")
INJECTED = "injected-parameters"  #: papermill's tag for the cell it adds


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as it stands in the file; ``number`` counts all cells from 1, as a reader would."""

    number: int
    kind: str  #: code, markdown or raw
    tags: tuple[str, ...]
    source: str

    @property
    def role(self) -> str | None:
        """The tag that says what the cell is for; None for research, prose and papermill's own cell."""
        return next((tag for tag in self.tags if tag in ROLES), None) if self.kind == "code" else None

    @property
    def name(self) -> str:
        return cell_name(self.number, self.tags)


def cell_name(number: int, tags: tuple[str, ...] | list[str]) -> str:
    """Return how messages name a cell: ``cell 5 [run]``."""
    tag = next((tag for tag in tags if tag in ROLES or tag == INJECTED), None)
    return f"cell {number} [{tag}]" if tag else f"cell {number}"


@dataclass(frozen=True)
class Notebook:
    """A notebook file as read at one moment; never written back."""

    path: Path
    raw: bytes
    cells: tuple[Cell, ...]

    @classmethod
    def read(cls, path: Path | str) -> Notebook:
        """Read a notebook (format 4).

        Raises
        ------
        NotebookError
            If the file is missing, is no notebook of format 4, is not Python, or gives a cell two roles.
        """
        path = Path(path)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise NotebookError(f"{path}: cannot be read ({error.strerror}); give the path of an .ipynb file") from None
        try:
            document = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotebookError(f"{path}: is not a notebook ({error}); open and save it in JupyterLab") from None
        if (
            not isinstance(document, dict)
            or not isinstance(document.get("cells"), list)
            or document.get("nbformat") != 4
        ):
            raise NotebookError(f"{path}: is not a notebook of format 4; open and save it in JupyterLab")
        metadata = document.get("metadata") or {}
        language = (metadata.get("kernelspec") or {}).get("language") or (metadata.get("language_info") or {}).get(
            "name"
        )
        if language not in (None, "python"):
            raise NotebookError(f"{path}: is written in {language}; strategies are Python notebooks")
        return cls(path, raw, tuple(_cells(path, document["cells"])))

    def tagged(self, tag: str) -> tuple[Cell, ...]:
        """Return the code cells with this role or tag, in order."""
        return tuple(cell for cell in self.cells if cell.kind == "code" and tag in cell.tags)

    def only(self, role: str) -> Cell:
        """Return the one cell with this role.

        Raises
        ------
        NotebookError
            If there is none, or more than one.
        """
        found = self.tagged(role)
        if not found:
            raise NotebookError(
                f"{self.path}: has no cell tagged '{role}'; tag it in JupyterLab (gear icon, Cell Tags)"
            )
        if len(found) > 1:
            numbers = " and ".join(str(cell.number) for cell in found)
            raise NotebookError(f"{self.path}: cells {numbers} are all tagged '{role}'; leave the tag on one of them")
        return found[0]

    @cached_property
    def file_sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @cached_property
    def code_sha256(self) -> str:
        digest = hashlib.sha256()
        for cell in self.cells:
            if cell.role:
                # Lengths first, so that no text can move over a border between two cells.
                source = cell.source.encode()
                digest.update(b"%s %d\n%s" % (cell.role.encode(), len(source), source))
        return digest.hexdigest()

    @cached_property
    def strategy_sha256(self) -> str:
        return hashlib.sha256(self.only("strategy").source.encode()).hexdigest()


def code_hashes(notebook: Notebook | Path | str) -> dict[str, str]:
    """Return the sha256 of each cell with a role, by the cell's name: what has to be equal where the same notebook ran.

    papermill's own cell is not counted, so an executed notebook has the names and hashes of its original.
    """
    if not isinstance(notebook, Notebook):
        notebook = Notebook.read(notebook)
    found, injected = {}, 0
    for cell in notebook.cells:
        injected += INJECTED in cell.tags
        if cell.role:
            found[cell_name(cell.number - injected, cell.tags)] = hashlib.sha256(cell.source.encode()).hexdigest()
    return found


def _cells(path: Path, cells: list[Any]) -> Iterator[Cell]:
    for number, cell in enumerate(cells, 1):
        try:
            source, metadata = cell["source"], cell.get("metadata") or {}
            text = source if isinstance(source, str) else "".join(source)
            tags = tuple(str(tag) for tag in metadata.get("tags") or ())
            kind = str(cell["cell_type"])
        except (AttributeError, KeyError, TypeError):
            raise NotebookError(
                f"{path}: cell {number} is malformed; open and save the notebook in JupyterLab"
            ) from None
        roles = [tag for tag in tags if tag in ROLES]
        if kind == "code" and len(roles) > 1:
            raise NotebookError(f"{path}: cell {number} is tagged {' and '.join(roles)}; a cell has one role")
        yield Cell(number, kind, tags, text.replace("\r\n", "\n").replace("\r", "\n"))


def parse_cell(notebook: Notebook, cell: Cell) -> ast.Module:
    """Return a cell's syntax tree.

    Raises
    ------
    NotebookError
        If it is no plain Python: a magic, a shell line or a syntax error, with the line.
    """
    try:
        tree = ast.parse(cell.source, cell.name)
    except SyntaxError as error:
        lines = cell.source.splitlines()
        line = lines[error.lineno - 1] if error.lineno and error.lineno <= len(lines) else ""
        text = line.strip()
        where = f"{notebook.path}: {cell.name}, line {error.lineno}"
        if text.startswith(("%", "!", "?")) or text.endswith("?") or "= %" in text or "= !" in text:
            raise NotebookError(f"{where}: {text!r} is a magic or shell line; move it to an untagged cell") from None
        raise NotebookError(f"{where}: {error.msg}: {text!r}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "get_ipython":
            where = f"{notebook.path}: {cell.name}, line {node.lineno}"
            raise NotebookError(f"{where}: uses get_ipython(), which only a kernel has; move it to an untagged cell")
    return tree


def parameters(notebook: Notebook) -> dict[str, Any]:
    """Return the names and defaults of the ``parameters`` cell, read without running it.

    A notebook without that cell has no parameters.

    Raises
    ------
    NotebookError
        If two cells are tagged so, or the cell holds anything but ``name = literal`` (also annotated).
    """
    if not notebook.tagged("parameters"):
        return {}
    cell = notebook.only("parameters")
    found: dict[str, Any] = {}
    for statement in parse_cell(notebook, cell).body:
        where = f"{notebook.path}: {cell.name}, line {statement.lineno}"
        match statement:
            case ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                text = ast.unparse(statement).splitlines()[0]
                raise NotebookError(f"{where}: {text!r} is not 'name = literal'; derive values in the strategy")
        if name in found:
            raise NotebookError(f"{where}: {name} is assigned twice; keep one")
        try:
            found[name] = ast.literal_eval(value)
        except ValueError:
            raise NotebookError(
                f"{where}: {name} = {ast.unparse(value)} is not a literal; papermill can only replace literals"
            ) from None
        if not _is_plain(found[name]):
            raise NotebookError(
                f"{where}: {name} is a {type(found[name]).__name__}; use numbers, strings, lists or dicts"
            )
    return found


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def load_strategy(notebook: Notebook | Path | str) -> type[Strategy]:
    """Run a notebook's ``strategy`` cell, and no other, in a fresh module; return its strategy class.

    The module stands in ``sys.modules`` under a name made of the file's name and the cell's hash, so that type hints,
    pickling and ``inspect.getsource`` work; tracebacks name the notebook and the cell. Loading the same text again
    gives the same class.

    Raises
    ------
    NotebookError
        If there is no ``strategy`` cell or two, it is not plain Python, it raises, or it does not define exactly one
        subclass of ``Strategy`` that is no base of another.
    """
    if not isinstance(notebook, Notebook):
        notebook = Notebook.read(notebook)
    cell = notebook.only("strategy")
    tree = parse_cell(notebook, cell)
    stem = "".join(c if c.isalnum() else "_" for c in notebook.path.stem)
    name = f"northstar_notebook_{stem}_{notebook.strategy_sha256[:12]}"
    filename = f"{notebook.path} {cell.name}"
    module = sys.modules.get(name)
    if module is None:
        module = ModuleType(name, f"The strategy cell of {notebook.path.name}.")
        module.__file__ = filename
        # An entry without a modification time is never dropped by linecache.checkcache.
        linecache.cache[filename] = (len(cell.source), None, cell.source.splitlines(keepends=True), filename)
        sys.modules[name] = module
        try:
            exec(compile(tree, filename, "exec"), module.__dict__)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, KeyboardInterrupt):
                raise
            line = _last_line(error, filename)
            raise NotebookError(f"{notebook.path}: {cell.name}{line}: {type(error).__name__}: {error}") from error
    return _only_strategy(notebook, cell, module)


def _last_line(error: BaseException, filename: str) -> str:
    traceback, line = error.__traceback__, ""
    while traceback:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = f", line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line


def _only_strategy(notebook: Notebook, cell: Cell, module: ModuleType) -> type[Strategy]:
    from northstar_core.strategy.base import Strategy

    defined = [
        value
        for value in dict.fromkeys(v for v in vars(module).values() if isinstance(v, type))
        if issubclass(value, Strategy) and value.__module__ == module.__name__
    ]
    # A class that another one here builds on is a helper, not the strategy.
    leaves = [one for one in defined if not any(other is not one and issubclass(other, one) for other in defined)]
    if len(leaves) == 1:
        return leaves[0]
    where = f"{notebook.path}: {cell.name}"
    if not leaves:
        raise NotebookError(
            f"{where}: defines no subclass of northstar_core.Strategy; write 'class Name(Strategy): ...'"
        )
    names = " and ".join(one.__name__ for one in leaves)
    raise NotebookError(f"{where}: defines {names}; a notebook holds one strategy")
