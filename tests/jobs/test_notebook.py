"""Cells by tag, hashes, the strategy class."""

from __future__ import annotations

import inspect
import json
import traceback
from pathlib import Path

import pytest

from northstar_core.jobs.notebook import Notebook, load_strategy, parameters
from northstar_core.model.errors import NotebookError
from tests.jobs.notebooks import PARAMETERS, STRATEGY, code, cross, document, markdown, read, write


def refusal(path: Path) -> str:
    with pytest.raises(NotebookError) as caught:
        load_strategy(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cells_are_found_by_tag_and_untagged_code_is_research(tmp_path: Path) -> None:
    notebook = Notebook.read(cross(tmp_path / "a.ipynb"))
    assert [cell.role for cell in notebook.cells] == [None, "parameters", "strategy", None, "run"]
    assert notebook.only("run").number == 5
    assert notebook.only("run").name == "cell 5 [run]"


def test_strategy_class_is_loaded_without_running_any_other_cell(tmp_path: Path) -> None:
    strategy = load_strategy(cross(tmp_path / "a.ipynb"))
    assert strategy.__name__ == "Cross"
    assert strategy(symbols=["SPY"], fast=3).params.fast == 3


def test_traceback_from_a_loaded_strategy_names_notebook_cell_and_source_line(tmp_path: Path) -> None:
    strategy = load_strategy(cross(tmp_path / "mean.ipynb"))
    with pytest.raises(ZeroDivisionError) as caught:
        strategy(symbols=["SPY"]).on_bar(None, None)  # type: ignore[arg-type]
    text = "".join(traceback.format_exception(caught.value))
    assert "mean.ipynb cell 3 [strategy]" in text
    assert "return 1 / 0" in text
    assert "return 1 / 0" in inspect.getsource(strategy)


def test_loading_the_same_text_twice_gives_the_same_class_and_a_changed_text_another(tmp_path: Path) -> None:
    first = load_strategy(cross(tmp_path / "a.ipynb"))
    assert load_strategy(cross(tmp_path / "a.ipynb")) is first
    assert load_strategy(cross(tmp_path / "a.ipynb", strategy=STRATEGY + "\n")) is not first


def test_notebook_without_a_strategy_cell_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", markdown("nothing"), code("1", "run"))
    assert "no cell tagged 'strategy'" in refusal(path)


def test_notebook_with_two_strategy_cells_is_refused_with_both_places(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code(STRATEGY, "strategy"), code(STRATEGY, "strategy"))
    assert "cells 1 and 2 are all tagged 'strategy'" in refusal(path)


@pytest.mark.parametrize("line", ["%matplotlib inline", "!ls", "files = !ls", "x = %time 1", "Strategy?", "%%time"])
def test_magics_in_a_strategy_cell_are_refused_with_the_line(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.ipynb", code("import math\n" + line, "strategy"))
    message = refusal(path)
    assert "cell 1 [strategy], line 2" in message
    assert "magic or shell line" in message


def test_percent_signs_inside_text_and_arithmetic_are_no_magics(tmp_path: Path) -> None:
    source = STRATEGY + '\nTEXT = """\n%d percent\n!important\n"""\nREST = (7\n% 4)\n'
    assert load_strategy(cross(tmp_path / "a.ipynb", strategy=source)).__name__ == "Cross"


def test_get_ipython_in_a_strategy_cell_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code("get_ipython().system('ls')", "strategy"))
    assert "get_ipython()" in refusal(path)


def test_syntax_error_in_a_strategy_cell_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code("import math\nclass A(:\n", "strategy"))
    assert "cell 1 [strategy], line 2" in refusal(path)


def test_strategy_cell_that_raises_names_the_line_and_the_exception(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code("import math\nmath.sqrt(-1)", "strategy"))
    assert "cell 1 [strategy], line 2: ValueError" in refusal(path)


def test_strategy_cell_that_exits_is_refused_and_does_not_end_the_process(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code("raise SystemExit(3)", "strategy"))
    assert "SystemExit" in refusal(path)


def test_strategy_cell_without_a_strategy_class_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code("class Cross:\n    pass", "strategy"))
    assert "defines no subclass" in refusal(path)


def test_two_strategies_in_one_cell_are_refused_by_name(tmp_path: Path) -> None:
    source = STRATEGY + "\nclass Other(Strategy):\n    pass\n"
    assert "Cross and Other" in refusal(cross(tmp_path / "a.ipynb", strategy=source))


def test_a_base_class_in_the_cell_is_a_helper_and_not_a_second_strategy(tmp_path: Path) -> None:
    source = STRATEGY + "\nclass Final(Cross):\n    pass\n"
    assert load_strategy(cross(tmp_path / "a.ipynb", strategy=source)).__name__ == "Final"


def test_code_hash_ignores_outputs_counts_prose_research_and_line_ends(tmp_path: Path) -> None:
    path = cross(tmp_path / "a.ipynb")
    before = Notebook.read(path)
    changed = read(path)
    changed["cells"][0]["source"] = "# Another title"
    changed["cells"][3]["source"] = "1 + 1"
    changed["cells"][4] |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}]}
    changed["cells"][4]["metadata"]["collapsed"] = True
    changed["cells"][2]["source"] = STRATEGY.replace("\n", "\r\n").splitlines(keepends=True)
    changed["cells"].insert(2, {"id": "new", **code("import this")})
    path.write_text(json.dumps(changed, indent=4), encoding="utf-8")
    after = Notebook.read(path)
    assert after.code_sha256 == before.code_sha256
    assert after.strategy_sha256 == before.strategy_sha256
    assert after.file_sha256 != before.file_sha256


@pytest.mark.parametrize("index", [1, 2, 4])
def test_code_hash_changes_with_one_character_of_any_cell_with_a_role(tmp_path: Path, index: int) -> None:
    path = cross(tmp_path / "a.ipynb")
    before = Notebook.read(path).code_sha256
    changed = read(path)
    changed["cells"][index]["source"] += " "
    path.write_text(json.dumps(changed), encoding="utf-8")
    assert Notebook.read(path).code_sha256 != before


def test_code_hash_changes_when_text_moves_between_cells(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ipynb", code("a = 1\n", "strategy"), code("b = 2", "run"))
    two = write(tmp_path / "two.ipynb", code("a = 1\nb", "strategy"), code(" = 2", "run"))
    assert Notebook.read(one).code_sha256 != Notebook.read(two).code_sha256


def test_parameters_are_read_without_running_the_cell(tmp_path: Path) -> None:
    source = '"""What can be set."""\nfast: int = 10  # bars\nlevel = -0.5\nsymbols = ["SPY", "ON"]\nnothing = None\n'
    path = write(tmp_path / "a.ipynb", code(source, "parameters"))
    assert parameters(Notebook.read(path)) == {"fast": 10, "level": -0.5, "symbols": ["SPY", "ON"], "nothing": None}


def test_standard_parameters_cell_reads_as_written(tmp_path: Path) -> None:
    assert list(parameters(Notebook.read(cross(tmp_path / "a.ipynb")))) == [
        line.split(" = ")[0] for line in PARAMETERS.splitlines()
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("fast = 10\nslow = 3 * fast", "line 2: slow = 3 * fast is not a literal"),
        ("import os", "is not 'name = literal'"),
        ("fast = slow = 3", "is not 'name = literal'"),
        ("fast = int('3')", "is not a literal"),
        ("fast = 1\nfast = 2", "assigned twice"),
        ("fast = {1, 2}", "is a set"),
        ("fast = 1\n%time", "magic or shell line"),
    ],
)
def test_parameters_cell_with_anything_derived_is_refused(tmp_path: Path, source: str, why: str) -> None:
    path = write(tmp_path / "a.ipynb", code(source, "parameters"))
    with pytest.raises(NotebookError, match="cell 1 \\[parameters\\]") as caught:
        parameters(Notebook.read(path))
    assert why in str(caught.value)


def test_cell_with_two_roles_is_refused(tmp_path: Path) -> None:
    cell = code("x = 1", "run")
    cell["metadata"]["tags"].append("strategy")
    with pytest.raises(NotebookError, match="cell 1 is tagged run and strategy"):
        Notebook.read(write(tmp_path / "a.ipynb", cell))


@pytest.mark.parametrize(
    "content", [b"", b"not json", b"[]", b"\xff\xfe", b'{"nbformat": 3, "cells": []}', b'{"nbformat": 4}']
)
def test_what_is_no_notebook_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(NotebookError, match=r"a\.ipynb: is not a notebook"):
        Notebook.read(path)


def test_missing_file_and_other_languages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="cannot be read"):
        Notebook.read(tmp_path / "none.ipynb")
    other = document(code("1", "run"))
    other["metadata"]["kernelspec"]["language"] = "R"
    (tmp_path / "r.ipynb").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(NotebookError, match="written in R"):
        Notebook.read(tmp_path / "r.ipynb")
