"""The report of a run: one self-contained HTML page, and its figures as files."""

import os
from pathlib import Path

from jaxanatomy.experiment import experiment_of
from jaxanatomy.progress import announced
from jaxanatomy.records import read_run
from jaxanatomy.report import html, views
from jaxanatomy.report.terminal import printed
from jaxanatomy.storage import replacing


def write_report(workdir: str | os.PathLike) -> Path:
    """Writes `figures/*.png` and `report.html` of a run, each whole or not at all.

    Works on unfinished runs, too; the page then says so. The same files give the same page.

    Args:
      workdir: The folder of a run.

    Returns:
      The path of the page.

    Raises:
      InputError: There is no run in the folder, one of its files is corrupt, or it names no
        experiment that there is.
    """
    with announced("drawing the report"):
        record = read_run(workdir)
        page = experiment_of(record).page
        filled = html.fill(page, record)
        figures = record.folder / "figures"
        figures.mkdir(exist_ok=True)
        for picture in (part for each in filled for part in each.content):
            if isinstance(picture, html.Picture):
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
