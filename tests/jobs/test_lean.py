"""Imports that are put off, in a process of their own."""

from __future__ import annotations

import subprocess
import sys


def python(source: str) -> str:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_slow_grammar_is_loaded_only_when_it_is_asked_and_then_answers_truly() -> None:
    said = python(
        "import sys\n"
        "from northstar_core.jobs.lean import defer_slow_imports\n"
        "defer_slow_imports()\n"
        "import nbformat, jsonschema\n"
        "print('lark.lark' in sys.modules and 'rfc3987_syntax.syntax_helpers' in sys.modules)\n"
        "draft = jsonschema.Draft202012Validator\n"
        "check = draft({'format': 'iri'}, format_checker=draft.FORMAT_CHECKER)\n"
        "print(check.is_valid('https://example.com/a'), check.is_valid('ht tp://x'))\n"
        "import rfc3987_syntax\n"
        "print(rfc3987_syntax.is_valid_syntax('iri', 'https://example.com'))\n"
    )
    assert said.split() == ["False", "True", "False", "True"]


def test_papermill_is_imported_without_arrow_and_arrow_works_afterwards() -> None:
    said = python(
        "import sys\n"
        "from northstar_core.jobs.lean import defer_slow_imports, without_hadoop\n"
        "defer_slow_imports()\n"
        "with without_hadoop():\n"
        "    import papermill.execute\n"
        "print('pyarrow.lib' in sys.modules)\n"
        "import pyarrow.fs\n"
        "print(pyarrow.fs.LocalFileSystem().type_name)\n"
    )
    assert said.split() == ["False", "local"]


def test_the_loader_and_the_engine_import_nothing_heavy() -> None:
    said = python(
        "import sys\n"
        "import northstar_core.jobs.engine, northstar_core.jobs.report\n"
        "print(sorted(set(sys.modules) & {'numpy', 'pandas', 'pyarrow', 'plotly', 'nbformat', 'papermill', 'zmq'}))\n"
    )
    assert said == "[]"
