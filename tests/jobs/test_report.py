"""The tear sheet: one file, offline, figures drawn, inputs hidden, provenance at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from northstar_core.jobs.report import export_html
from northstar_core.model.errors import NotebookError
from tests.jobs.notebooks import PARAMETERS, RUN, STRATEGY, code, document, markdown

FIGURE = {
    "data": [{"type": "scatter", "x": [1, 2, 3], "y": [100.0, 101.5, 99.25], "name": "equity"}],
    "layout": {"title": {"text": "Equity </script><b>"}, "height": 300},
}


def shown(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": {}}


def executed(path: Path, *, outcome: str = "completed", error: str | None = None, plot: bool = True) -> Path:
    run, report, research = code(RUN, "run"), code("figure.show()", "report"), code("research_only = 1")
    run["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["['SPY'] \x1b[31m42\x1b[0m <loss>\n"]}]
    table = "<table class='dataframe'><tr><td>Sharpe</td></tr></table>"
    report["outputs"] = [shown({"text/html": table, "text/plain": "Sharpe"}), shown({"image/png": "iVBORw0KGgo=\n"})]
    if plot:
        report["outputs"].append(shown({"application/vnd.plotly.v1+json": FIGURE, "text/html": "<i>never</i>"}))
    injected = code("fast = 12", "injected-parameters")
    kept = document(
        markdown("# Mean & reversion\n\nBuys *weakness*. ![x](https://example.com/x.png)"),
        code(PARAMETERS, "parameters"), injected, code(STRATEGY, "strategy"),
        markdown("## Scratch"), research, markdown("## Result"), run, report,
    )  # fmt: skip
    kept["metadata"]["northstar"] = {
        "outcome": outcome, "error": error, "parameters": {"fast": 12}, "code_sha256": "ab" * 32,
        "git": {"commit": "c0ffee", "dirty": False}, "packages": {"numpy": "2.0"},
        "started": "2024-01-02T14:30:00+00:00",
    }  # fmt: skip
    path.write_text(json.dumps(kept), encoding="utf-8")
    return path


class Page(HTMLParser):
    """What a browser would load, and the text a reader would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag != "a":
            self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text += data


@pytest.fixture
def html(tmp_path: Path) -> str:
    return export_html(executed(tmp_path / "mean.ipynb"), tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_page_is_complete_in_itself_and_forbids_every_request(html: str) -> None:
    page = Page(html)
    outside = [url for url in page.loads if not url.startswith(("data:", "#"))]
    assert outside == ["https://example.com/x.png"], "only what the author wrote himself, which the policy blocks"
    assert "default-src 'none'" in html
    assert "@import" not in html.split("<body>")[0]
    assert "url(" not in html.split("<body>")[0]


def test_page_holds_plotly_once_and_each_figure_as_data(html: str) -> None:
    page = Page(html)
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1
    figures = [json.loads(script) for script in page.scripts if script.startswith('{"data"')]
    assert figures == [FIGURE]
    assert "never" not in page.text


def test_inputs_are_hidden_and_the_strategy_is_folded_away(html: str) -> None:
    page = Page(html)
    assert "figure.show" not in html
    assert "total = fast" not in html
    assert "research_only" not in html
    assert "Scratch" not in page.text
    assert "class Cross" in page.text
    assert html.index("<details>") < html.index("Cross") < html.index("</details>")


def test_page_shows_prose_parameters_outputs_and_provenance(html: str) -> None:
    page = Page(html)
    assert "<h1>Mean &amp; reversion</h1>" in html
    assert html.count("Mean &amp; reversion") == 2, "in the title and the heading, not again in the text"
    assert "<em>weakness</em>" in html
    assert "12 (default 10)" in page.text
    assert "['SPY'] 42 <loss>" in page.text
    assert "Sharpe" in page.text
    assert "c0ffee" in page.text
    assert "ab" * 32 in page.text
    assert page.text.index("Provenance") > page.text.index("Result")
    assert 'role="alert"' not in html


def test_page_without_figures_carries_no_script(tmp_path: Path) -> None:
    out = export_html(executed(tmp_path / "mean.ipynb", plot=False), tmp_path / "report.html")
    assert "<script" not in out.read_text(encoding="utf-8")
    assert out.stat().st_size < 60_000


def test_page_of_a_failed_run_says_so_first(tmp_path: Path) -> None:
    path = executed(
        tmp_path / "mean.ipynb", outcome="failed", error="mean.ipynb: cell 8 [run], line 1: ValueError: <x>"
    )
    html = export_html(path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.index("cell 8 [run], line 1: ValueError: &lt;x&gt;") < html.index("Parameters</h2>")


def test_report_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(NotebookError, match=r"report\.html: the report cannot be written"):
        export_html(executed(tmp_path / "mean.ipynb"), tmp_path / "report.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mean.ipynb", "report.html"]


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_figure_is_really_drawn_in_a_browser(tmp_path: Path) -> None:
    out = export_html(executed(tmp_path / "mean.ipynb"), tmp_path / "report.html")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=10000", "--dump-dom", out.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    assert 'class="main-svg"' in dom
    assert "Equity" in dom.split('class="main-svg"', 1)[1]
