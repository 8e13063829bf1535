"""The report of one or several runs: one self-contained HTML page, and its figures as files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.experiment import experiment_of
from jaxanatomy.progress import announced
from jaxanatomy.records import RunRecord, as_written_now, read_run
from jaxanatomy.report import html, views
from jaxanatomy.report.sections import Page
from jaxanatomy.report.terminal import printed
from jaxanatomy.runs import Run
from jaxanatomy.storage import replacing


def write_report(*workdirs: str | os.PathLike, to: str | os.PathLike | None = None) -> Path:
    """Writes `figures/*.png` and `report.html`, each whole or not at all.

    Works on unfinished runs, too; the page then says so. The same files give the same page.

    Args:
      workdirs: Folders of runs; several of one experiment (two models, two texts) share a page,
        on which panels, tables and sentences name the run that they are of.
      to: The folder to write to; by default that of the only run.

    Returns:
      The path of the page.

    Raises:
      InputError: There is no run in a folder, one of its files is corrupt, it names no
        experiment that there is, or runs are of several experiments.
    """
    if to is None and len(workdirs) != 1:
        raise InputError(
            f"expected a folder for the page of several runs; got {len(workdirs)} runs and no "
            "folder; name it: --workdir=DIR"
        )
    with announced("drawing the report"):
        records = [read_run(folder) for folder in workdirs]
        page, folder = _page_of(records), Path(to or workdirs[0])
        with as_written_now(records):
            filled = html.fill(page, *records)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for picture in (part for each in filled for part in each.content):
            if isinstance(picture, html.Picture):
                with replacing(folder / "figures" / f"{picture.name}.png") as path:
                    path.write_bytes(views.to_png(picture.figure))
                # It is laid out: half of what the same figure on the page would take.
                picture.figure.set_layout_engine(None)
        with replacing(folder / "report.html") as path:
            path.write_text(html.render(page, filled, *records), encoding="utf-8")
    return folder / "report.html"


def conclude(run: Run, summary: Mapping[str, Any]) -> None:
    """What an experiment does at its end: writes summary and page, prints tables and its place."""
    run.write_summary(summary)
    path = write_report(run.folder)
    record = read_run(run.folder)
    print("\n".join(filter(None, [printed(experiment_of(record).page, record), f"report: {path}"])))


def _page_of(records: Sequence[RunRecord]) -> Page:
    """The page of the experiment that all runs are of."""
    found = {experiment_of(record).name: record for record in records}
    if len(found) > 1:
        words = ", ".join(f"{name} ({record.folder})" for name, record in found.items())
        raise InputError(f"expected runs of one experiment; got {words}; make a page of each")
    return experiment_of(records[0]).page
