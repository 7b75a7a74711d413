"""One HTML file from an executed notebook: a tear sheet that opens offline, years later, on any machine.

nbconvert renders it with a template of our own (``templates/tearsheet.html.j2``). Inputs are hidden, the strategy's
code is folded away, figures are drawn from their plotly JSON by one inlined copy of plotly.js, and the page's content
security policy forbids every request. nbconvert's own template shows no plotly figure at all and asks CDNs for scripts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from northstar_core.jobs.files import write_atomically
from northstar_core.jobs.lean import defer_slow_imports
from northstar_core.jobs.notebook import INJECTED, ROLES, Notebook, parameters
from northstar_core.model.errors import NotebookError

if TYPE_CHECKING:
    from nbconvert.exporters.templateexporter import TemplateExporter

PLOTLY = "application/vnd.plotly.v1+json"
_ORDER = (
    *(
        "outcome",
        "error",
        "notebook",
        "started",
        "ended",
        "seconds",
        "git",
        "code_sha256",
        "strategy_sha256",
        "file_sha256",
    ),
    *("data", "version", "python", "platform", "packages"),
)
_PLOTLY_MARK = "/* plotly.js */"

_ANSI_STYLE = (
    "\n".join(
        f".ansi-{name}-fg, .ansi-{name}-intense-fg {{ color: {colour}; }}"
        for name, colour in {
            "black": "#3e424d",
            "red": "#a4161a",
            "green": "#1b6e3c",
            "yellow": "#8a6100",
            "blue": "#14548f",
            "magenta": "#7b2d8b",
            "cyan": "#0b6b75",
        }.items()
    )
    + "\n.ansi-bold { font-weight: 600; }"
)


@dataclass
class Part:
    """One cell as the page shows it."""

    kind: str  #: prose, parameters, strategy or outputs
    number: int
    text: str = ""
    pairs: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


@dataclass
class Sheet:
    """What the template draws."""

    title: str
    byline: str
    outcome: str
    problem: str | None
    parts: list[Part]
    provenance: list[tuple[str, str]]
    has_plots: bool
    code_style: str
    ansi_style: str = _ANSI_STYLE
    plotly_mark: str = _PLOTLY_MARK


def export_html(executed_notebook: Path, out: Path) -> Path:
    """Write an executed notebook as one self-contained HTML file, about 5 MB with figures; return ``out``.

    Shown: prose (unless it introduces a research cell), parameters with their values, outputs, a failure if there was
    one, and the provenance that the run left in the notebook. The file is whole or absent.

    Raises
    ------
    NotebookError
        If the notebook cannot be read or the file cannot be written.
    """
    notebook = Notebook.read(executed_notebook)
    document = json.loads(notebook.raw)
    sheet = _sheet(notebook, document)
    html = _render(document, sheet)
    if sheet.has_plots:
        script = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
        html = html.replace(_PLOTLY_MARK, script.replace("</script", "<\\/script"), 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(out, html.encode("utf-8", "replace"))
    except OSError as error:
        raise NotebookError(f"{out}: the report cannot be written ({error.strerror})") from None
    return out


def _render(document: dict[str, Any], sheet: Sheet) -> str:
    defer_slow_imports()
    from nbformat import from_dict

    html, _ = _exporter().from_notebook_node(from_dict(document), resources={"northstar": sheet})
    return str(html)


def _exporter() -> TemplateExporter:
    from nbconvert.exporters.templateexporter import TemplateExporter
    from nbconvert.filters import Highlight2HTML

    template = resources.files("northstar_core.jobs").joinpath("templates", "tearsheet.html.j2")
    exporter = TemplateExporter(
        raw_template="{% set sheet = resources.northstar %}" + template.read_text(encoding="utf-8")
    )
    exporter.file_extension = ".html"
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="python"))
    exporter.register_filter("script_json", _script_json)
    exporter.register_filter("joined", _joined)
    exporter.register_filter("joined_lines", "\n".join)
    return exporter


def _sheet(notebook: Notebook, document: dict[str, Any]) -> Sheet:
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]  # has no types

    facts = document.get("metadata", {}).get("northstar", {})
    given = facts.get("parameters") or {}
    parts = _parts(notebook, document["cells"], given)
    title = notebook.path.stem.replace("_", " ")
    if parts and parts[0].kind == "prose" and parts[0].text.startswith("# "):
        # The notebook's own title heads the page instead of standing in it.
        heading, _, parts[0].text = parts[0].text.partition("\n")
        title = heading[2:].strip()
    outcome = str(facts.get("outcome", "unknown"))
    executed = str(facts.get("started", ""))[:19].replace("T", " ")
    return Sheet(
        title=title,
        byline=" · ".join(filter(None, [notebook.path.name, executed and f"executed {executed} UTC", outcome])),
        outcome=outcome,
        problem=None
        if outcome == "completed"
        else facts.get("error") or "This notebook has no record of a completed run.",
        parts=parts,
        provenance=_flat({name: facts[name] for name in sorted(facts, key=_place) if name != "parameters"}),
        has_plots=any(PLOTLY in output.get("data", {}) for part in parts for output in part.outputs),
        code_style=HtmlFormatter(style="default").get_style_defs(".code .highlight"),
    )


def _parts(notebook: Notebook, cells: list[dict[str, Any]], given: dict[str, Any]) -> list[Part]:
    parts: list[Part] = []
    for index, (cell, raw) in enumerate(zip(notebook.cells, cells, strict=True)):
        if cell.kind == "markdown":
            following = next((c for c in notebook.cells[index:] if c.kind == "code"), None)
            introduces_research = following is not None and not _is_shown(following, cells[following.number - 1])
            if not parts or not introduces_research:
                parts.append(Part("prose", cell.number, text=cell.source))
        elif cell.kind == "code" and _is_shown(cell, raw):
            part = Part("outputs", cell.number, outputs=raw.get("outputs", []))
            if cell.role == "parameters":
                defaults = parameters(notebook)
                part.kind = "parameters"
                part.pairs = [(name, _with_default(given.get(name, value), value)) for name, value in defaults.items()]
            elif cell.role == "strategy":
                part.kind, part.text = "strategy", cell.source
            parts.append(part)
    return parts


def _is_shown(cell: Any, raw: dict[str, Any]) -> bool:
    """Whether the cell has a role or was executed on request; research that did not run is not part of the evidence."""
    return any(tag in ROLES or tag == INJECTED for tag in cell.tags) or bool(raw.get("outputs"))


def _flat(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested facts as rows: ``git commit``, ``packages numpy``, …"""
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        label = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            rows += _flat(value, label)
        elif value is not None:
            rows.append((label, _shown(value)))
    return rows


def _place(name: str) -> int:
    """Return where a fact stands in the table: how it ended, what ran, on what, with what; anything else last."""
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _with_default(value: Any, default: Any) -> str:
    return _shown(value) if value == default else f"{_shown(value)} (default {_shown(default)})"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
