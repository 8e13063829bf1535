"""The report of a run: one self-contained HTML page and the figures as files.

Everything comes from the files of the run. A new experiment enters its report function in
`REPORTS`.
"""

import base64
import os
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jaxanatomy.experiment import experiment_of
from jaxanatomy.progress import announced
from jaxanatomy.records import RunRecord, read_run
from jaxanatomy.report import html, views
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table
from jaxanatomy.report.style import to_png
from jaxanatomy.report.terminal import printed
from jaxanatomy.storage import replacing

# Those whose page is a `sections.Page`.
PORTED = (
    "claims",
    "depth_growth",
    "developmental",
    "flops",
    "grow_checkpoint",
    "importance",
    "manipulation",
    "predictability",
    "recovery",
    "structure",
)
REPORTS: tuple[Callable[[RunRecord], Report | None], ...] = ()


def write_report(workdir: str | os.PathLike) -> Path:
    """Writes `figures/*.png` and `report.html` of a run, each whole or not at all.

    Works on unfinished runs, too; the page then says so. The same files give the same page.

    Args:
      workdir: The folder of a run.

    Returns:
      The path of the page.

    Raises:
      InputError: There is no run in the folder, or one of its files is corrupt.
    """
    with announced("drawing the report"):
        record = read_run(workdir)
        return _write_page(record) if record.experiment in PORTED else _write_old_page(record)


def _write_old_page(record: RunRecord) -> Path:
    report = build(record)
    pictures = {
        part.name: to_png(part.figure)
        for section in report.sections
        for part in section.content
        if isinstance(part, Picture)
    }
    (record.folder / "figures").mkdir(exist_ok=True)
    for name, content in pictures.items():
        with replacing(record.folder / "figures" / f"{name}.png") as path:
            path.write_bytes(content)
    page = render(report, pictures)
    with replacing(record.folder / "report.html") as path:
        path.write_text(page, encoding="utf-8")
    return record.folder / "report.html"


def _write_page(record: RunRecord) -> Path:
    page = experiment_of(record).page
    filled = html.fill(page, record)
    pictures = [part for each in filled for part in each.content if isinstance(part, html.Picture)]
    figures = record.folder / "figures"
    figures.mkdir(exist_ok=True)
    for picture in pictures:
        with replacing(figures / f"{picture.name}.png") as path:
            path.write_bytes(views.to_png(picture.figure))
    with replacing(record.folder / "report.html") as path:
        path.write_text(html.render(page, record, filled), encoding="utf-8")
    return record.folder / "report.html"


def conclude(workdir: str | os.PathLike) -> None:
    """What an experiment does at its end: writes the page, prints its tables and its place."""
    path = write_report(workdir)
    record = read_run(workdir)
    print("\n".join(filter(None, [printed(experiment_of(record).page, record), f"report: {path}"])))


def build(record: RunRecord) -> Report:
    """The sections of a run's report, its provenance last."""
    found = (make(record) for make in REPORTS)
    report = next((each for each in found if each), None)
    if report is None:
        title = str(record.provenance.get("model") or record.folder.name)
        report = Report("Run", title, f"{len(record.rows):,} rows.", ())
    lead = report.lead
    if not record.summary:
        lead = f"This run is not finished; it has {len(record.rows):,} rows so far. {lead}"
    sections = (*report.sections, _provenance(record))
    return Report(report.kind, report.title, lead, sections)


def render(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The page as HTML.

    Args:
      report: What to show.
      pictures: PNG bytes by the pictures' names.
    """
    import jinja2

    folder = resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    template = environment.from_string(folder.joinpath("report.html").read_text("utf-8"))
    return template.render(
        report=report,
        css=folder.joinpath("report.css").read_text("utf-8"),
        images={name: base64.b64encode(png).decode() for name, png in pictures.items()},
    )


def _provenance(record: RunRecord) -> Section:
    """Where the figures come from: model, hashes, versions, device, config, summary."""
    tables = [_fields("Model, data and machine", record.provenance)]
    tables.append(_fields("Config", record.config, folded=True))
    if record.summary:
        tables.append(_fields("Summary (summary.json)", record.summary, folded=True))
    text = "Made from the files of the run: config.json, rows.jsonl and summary.json."
    return Section("Provenance", (text,), tuple(tables))


def _fields(caption: str, fields: Mapping[str, Any], folded: bool = False) -> Table:
    rows = tuple((Cell(name), Cell(text)) for name, text in _flat(fields))
    return Table(caption, ("field", "value"), rows, folded=folded)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested fields under names with dots; equal list items are counted, not repeated."""
    flat = []
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", _plain(value)))
    return flat


def _plain(value: Any) -> str:
    if isinstance(value, list):
        if len(value) > 1 and all(item == value[0] for item in value):
            return f"{len(value)} × {_plain(value[0])}"
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
