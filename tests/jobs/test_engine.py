"""Headless execution in real kernels: what runs, what is kept, and how each end is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest

from northstar_core.jobs.engine import Executed, NorthstarEngine, execute, start_kernel
from northstar_core.jobs.kernel import kernel_environment
from northstar_core.jobs.notebook import Notebook
from northstar_core.model.errors import NotebookError, ParameterError, SettingsError
from tests.jobs.notebooks import code, cross, markdown, read, texts, write


def run(path: Path, tmp_path: Path, **options: Any) -> tuple[Executed, dict[str, Any]]:
    options = {"parameters": {}, "env": {}, "run_dir": tmp_path / "run"} | options
    executed = execute(path, **options)
    kept = read(executed.executed_notebook)
    nbformat.validate(nbformat.from_dict(kept))
    assert kept["metadata"]["northstar"]["outcome"] == executed.outcome
    assert kept["metadata"]["northstar"]["error"] == executed.error
    assert not list((tmp_path / "run").glob(".*")), "temporary files are left behind"
    return executed, kept


def statuses(kept: dict[str, Any]) -> list[str]:
    return [c["metadata"]["northstar"]["status"] for c in kept["cells"] if c["cell_type"] == "code"]


def test_completed_run_keeps_outputs_parameters_provenance_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORTHSTAR_DATABASE_URL", "postgresql://desk:correct-horse@db/market")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "staple-battery")
    monkeypatch.setenv("SOMETHING_ELSE", "seen")
    (tmp_path / "spec.json").write_text('{"data": {"source": "synthetic", "rows": 390}}', encoding="utf-8")
    (tmp_path / "nb").mkdir()
    source = (
        "import os\nfrom pathlib import Path\n"
        "print('sum', fast + slow, symbols)\n"
        "print(sorted(set(os.environ) & {'NORTHSTAR_DATABASE_URL', 'APCA_API_SECRET_KEY', 'SOMETHING_ELSE', 'PATH'}))\n"
        "print(Path.cwd().name, Path(os.environ['NORTHSTAR_RUN_SPEC']).exists())\n"
        "print('northstar' in get_ipython().ipython_dir)\n"
        "print('postgresql://desk:' + 'correct' + '-horse@db', 'staple' + '-battery')\n"
        "await __import__('asyncio').sleep(0)"
    )
    path = cross(tmp_path / "nb" / "a.ipynb", run=source)
    before = path.read_bytes()
    seen: list[Any] = []
    executed, kept = run(
        path,
        tmp_path,
        parameters={"fast": 12, "symbols": ["SPY", "ON"]},
        env={"NORTHSTAR_RUN_SPEC": str(tmp_path / "spec.json")},
        on_progress=seen.append,
    )

    assert executed.outcome == "completed", executed.error
    assert (executed.error, executed.exit_code) == (None, 0)
    assert path.read_bytes() == before, "the input notebook is never written"
    printed = texts(kept, "run").splitlines()
    assert printed[0] == "sum 42 ['SPY', 'ON']"
    assert printed[1] == "['PATH']", "the kernel inherits no secret and nothing unknown"
    assert printed[2:4] == ["nb True", "True"]
    assert printed[4] == "postgresql://desk:[redacted]@db [redacted]"
    assert statuses(kept) == ["completed", "completed", "completed", "skipped", "completed"]
    injected = next(c for c in kept["cells"] if "injected-parameters" in c["metadata"].get("tags", []))
    assert "fast = 12" in "".join(injected["source"])

    facts = kept["metadata"]["northstar"]
    original = Notebook.read(path)
    assert facts["code_sha256"] == original.code_sha256 == Notebook.read(executed.executed_notebook).code_sha256
    assert facts["file_sha256"] == original.file_sha256
    assert facts["parameters"] == {"fast": 12, "symbols": ["SPY", "ON"]}
    assert facts["data"] == {"source": "synthetic", "rows": 390}
    assert facts["packages"]["papermill"]
    assert facts["redacted"] >= 2
    assert [(p.cell, p.cells) for p in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen[-1].name == "cell 5 [run]"


def test_failing_cell_is_told_in_one_line_with_cell_line_and_where_it_came_from(tmp_path: Path) -> None:
    source = "before = 1\nprint('kept')\nCross(symbols=['SPY']).on_bar(None, None)"
    path = write(
        tmp_path / "a.ipynb",
        code(
            "from northstar_core.strategy.base import Strategy, Params\n"
            "class Cross(Strategy):\n    class Params(Params):\n        symbols: list\n"
            "    def on_bar(self, ctx, bar):\n        return 1 / 0",
            "strategy",
        ),
        code(source, "run"),
        code("print('never')", "report"),
    )
    executed, kept = run(path, tmp_path)
    assert (executed.outcome, executed.exit_code) == ("failed", 1)
    assert executed.error == (
        f"{path}: cell 2 [run], line 3 → cell 1 [strategy], line 6: ZeroDivisionError: division by zero"
    )
    assert texts(kept, "run") == "kept\n"
    assert kept["cells"][1]["outputs"][-1]["ename"] == "ZeroDivisionError"
    assert statuses(kept) == ["completed", "failed", "not-run"]


@pytest.mark.parametrize(
    ("source", "outcome", "why"),
    [
        ("print('kept')\nexit()", "failed", "cell 1 [run]: called exit(): a cell may not end its kernel"),
        ("print('kept')\nimport sys\nsys.exit(0)", "failed", "called sys.exit(0): a cell may not end its kernel"),
        (
            "print('kept', flush=True)\nimport os, time\ntime.sleep(0.3)\nos._exit(7)",
            "kernel-died",
            "cell 1 [run]: the kernel ended with exit code 7 (os._exit",
        ),
        (
            "print('kept', flush=True)\nimport os, time\ntime.sleep(0.3)\nos.kill(os.getpid(), 9)",
            "kernel-died",
            "cell 1 [run]: the kernel was killed by SIGKILL",
        ),
        ("print('kept')\nx = = 1", "failed", "cell 1 [run], line 2: SyntaxError"),
        ("print('kept')\ninput('name?')", "failed", "StdinNotImplementedError"),
    ],
    ids=["exit", "sys-exit", "os-exit", "killed", "syntax", "input"],
)
def test_cell_that_ends_its_kernel_or_cannot_run_is_told_as_such(
    tmp_path: Path, source: str, outcome: str, why: str
) -> None:
    path = write(tmp_path / "a.ipynb", code(source, "run"), code("print('never')", "report"))
    executed, kept = run(path, tmp_path)
    assert executed.outcome == outcome
    assert executed.error is not None
    assert why in executed.error
    assert "\n" not in executed.error
    assert executed.exit_code != 0
    assert texts(kept, "run") == ("" if "= =" in source else "kept\n")
    assert statuses(kept)[-1] == "not-run"


@pytest.mark.parametrize(
    "source",
    [
        "print('began', flush=True)\nopen(go, 'w').close()\nwhile True:\n    pass",
        "await asyncio.sleep(0)\nprint('began', flush=True)\nopen(go, 'w').close()\nwhile True:\n    pass",
        "print('began', flush=True)\nopen(go, 'w').close()\nawait asyncio.sleep(3600)",
    ],
    ids=["blocking", "blocking-in-await-cell", "awaiting"],
)
def test_interrupt_stops_the_cell_and_keeps_what_it_had_printed(tmp_path: Path, source: str) -> None:
    go = tmp_path / "go"
    path = write(tmp_path / "a.ipynb", code(f"import asyncio\ngo = {str(go)!r}\n{source}", "run"), code("1", "report"))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    wait_for(go)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == f"interrupted: {path}: cell 1 [run] was interrupted; what it had done is kept"
    kept = read(tmp_path / "run" / "a.ipynb")
    assert kept["metadata"]["northstar"]["outcome"] == "interrupted"
    assert statuses(kept) == ["interrupted", "not-run"]
    assert texts(kept, "run") == "began\n"
    raised = [o["ename"] for o in kept["cells"][0]["outputs"] if o["output_type"] == "error"]
    assert raised in (["KeyboardInterrupt"], ["CancelledError"]), "the cell ended by itself, it was not killed"


SCRIPT = """
import sys
from pathlib import Path
from northstar_core.jobs.engine import execute
done = execute(sys.argv[1], parameters={}, run_dir=Path(sys.argv[2]), env={})
print(f"{done.outcome}: {done.error}")
sys.exit(done.exit_code)
"""


def wait_for(path: Path) -> None:
    pause = threading.Event()
    for _ in range(600):
        if path.exists():
            return
        pause.wait(0.05)
    raise AssertionError(f"{path.name} did not appear in 30 s")


def test_kernel_and_its_children_go_with_a_killed_parent(tmp_path: Path) -> None:
    go = tmp_path / "go"
    new = f"{go}.new"
    source = (
        f"import os\nopen({new!r}, 'w').write(str(os.getpid()))\nos.rename({new!r}, {str(go)!r})\nwhile True:\n    pass"
    )
    path = write(tmp_path / "a.ipynb", code(source, "run"))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "run")])
    wait_for(go)
    kernel = int(go.read_text())
    process.kill()
    process.wait()
    pause = threading.Event()
    for _ in range(100):
        try:
            os.kill(kernel, 0)
        except ProcessLookupError:
            break
        if Path(f"/proc/{kernel}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        pause.wait(0.05)
    else:
        raise AssertionError("the kernel outlived its parent by five seconds")
    assert read(tmp_path / "run" / "a.ipynb")["metadata"]["northstar"]["outcome"] == "running"


def test_stop_event_from_another_thread_interrupts_and_progress_is_passed_on(tmp_path: Path) -> None:
    stop, seen = threading.Event(), []
    source = (
        f"import json, os, time\n"
        f"target = {str(tmp_path / 'run' / 'progress.json')!r}\n"
        "open(target + '.new', 'w').write(json.dumps({'done': 30, 'total': 100, 'unit': 'bars'}))\n"
        "os.replace(target + '.new', target)\n"
        "time.sleep(3600)"
    )

    def on_progress(progress: Any) -> None:
        seen.append(progress)
        if progress.done:
            stop.set()

    path = write(tmp_path / "a.ipynb", code(source, "run"))
    executed, _ = run(path, tmp_path, stop=stop, on_progress=on_progress)
    assert executed.outcome == "interrupted"
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (30, 100, "bars")


def test_very_many_lines_and_overwritten_progress_leave_a_small_notebook(tmp_path: Path) -> None:
    source = (
        "for n in range(10):\n    print(f'{n}0 %', end='\\r')\nprint('all  ')\n"
        "for n in range(60_000):\n    print('line', n, 'of very many')\n"
    )
    path = write(tmp_path / "a.ipynb", code(source, "run"), code("print('after')", "report"))
    executed, kept = run(path, tmp_path)
    assert executed.outcome == "completed", executed.error
    assert executed.executed_notebook.stat().st_size < 2_000_000
    text = texts(kept, "run")
    assert text.startswith("all  \nline 0 of very many\n")
    assert "more characters of text were not kept]" in str(kept["cells"][0]["outputs"][-1])
    assert texts(kept, "report") == "after\n"


def test_research_cells_run_only_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", markdown("# T"), code("x = 20"), code("print(x + 1)"))
    with pytest.raises(NotebookError, match="no cell tagged 'run'"):
        execute(path, parameters={}, run_dir=tmp_path / "run", env={})
    assert not (tmp_path / "run").exists()
    executed, kept = run(path, tmp_path, research=True)
    assert executed.outcome == "completed"
    assert kept["cells"][2]["outputs"][0]["text"] == ["21\n"]


def test_prewarmed_kernel_is_used_and_gone_afterwards(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code("import os\nprint(os.getpid())", "run"))
    kernel = start_kernel(path, {})
    assert kernel.folder.stat().st_mode & 0o777 == 0o700
    executed, kept = run(path, tmp_path, kernel=kernel)
    assert texts(kept, "run") == f"{kernel.process.pid}\n"
    assert not kernel.alive
    assert not kernel.folder.exists()
    assert executed.outcome == "completed"


def test_folder_of_a_kernel_whose_parent_was_killed_is_removed_by_the_next_start(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", code("1", "run"))
    source = (
        "import os, sys\nfrom northstar_core.jobs.engine import start_kernel\n"
        "print(start_kernel(sys.argv[1], {}).folder, flush=True)\nos.kill(os.getpid(), 9)"
    )
    said = subprocess.run([sys.executable, "-c", source, str(path)], capture_output=True, text=True, check=False).stdout
    abandoned = Path(said.strip())
    assert abandoned.exists()
    with start_kernel(path, {}) as first, start_kernel(path, {}):
        assert not abandoned.exists()
        assert first.folder.exists(), "a folder in use is left alone"


def test_nothing_starts_with_an_unknown_or_secret_parameter_or_on_the_input_itself(tmp_path: Path) -> None:
    path = cross(tmp_path / "a.ipynb")
    with pytest.raises(NotebookError, match="has no parameter fats"):
        execute(path, parameters={"fats": 1}, run_dir=tmp_path / "run", env={})
    with pytest.raises(ParameterError, match="says it is a secret"):
        execute(path, parameters={"api_key": "x"}, run_dir=tmp_path / "run", env={})
    with pytest.raises(NotebookError, match="would be overwritten"):
        execute(path, parameters={}, run_dir=tmp_path, env={})
    assert not (tmp_path / "run").exists()


def test_kernel_environment_refuses_what_a_cell_may_not_read() -> None:
    with pytest.raises(SettingsError, match="NORTHSTAR_DATABASE_URL"):
        kernel_environment({"NORTHSTAR_DATABASE_URL": "postgresql://x"})
    with pytest.raises(SettingsError, match="APCA_API_KEY_ID"):
        kernel_environment({"APCA_API_KEY_ID": "x"})
    inherited = {"PATH": "/bin", "PYTHONHASHSEED": "1", "PYTHONSTARTUP": "/x.py", "MY_TOKEN": "t", "OTHER": "o"}
    assert set(kernel_environment({"NORTHSTAR_RUN_SPEC": "/s"}, inherited)) == {
        "PATH",
        "PYTHONHASHSEED",
        "NORTHSTAR_RUN_SPEC",
        "PLOTLY_RENDERER",
    }


def test_papermill_itself_can_use_the_engine(tmp_path: Path) -> None:
    import papermill
    from papermill.engines import papermill_engines

    papermill_engines.register("northstar", NorthstarEngine)
    path, output = cross(tmp_path / "a.ipynb"), tmp_path / "out.ipynb"
    papermill.execute_notebook(path, output, {"fast": 3}, engine_name="northstar", progress_bar=False)
    kept = read(output)
    assert texts(kept, "run") == "['SPY'] 33\n"
    assert kept["metadata"]["northstar"]["outcome"] == "completed"
    path = cross(tmp_path / "b.ipynb", run="1 / 0")
    with pytest.raises(NotebookError, match=r"cell 5 \[run\], line 1: ZeroDivisionError"):
        papermill.execute_notebook(path, output, engine_name="northstar", progress_bar=False)
    assert read(output)["metadata"]["northstar"]["outcome"] == "failed"
