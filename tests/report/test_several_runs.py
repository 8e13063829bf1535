"""Several runs of one experiment on one page: panels, tables and sentences name their run."""

import re

import pytest
import run_files

from jaxanatomy import cli
from jaxanatomy.errors import InputError
from jaxanatomy.records import read_run
from jaxanatomy.report import html, views, write_report
from jaxanatomy.report import importance as page
from jaxanatomy.report.sections import Page, Section, named


@pytest.fixture
def main_map(rows):
    return [row for row in rows if row["variant"].startswith(("baseline", "neighbour_mean/layer/"))]


@pytest.fixture
def two_models(main_map, make_run, tmp_path):
    """Two runs of the map; of the second model all changes are twice as large."""
    other = [row | {"degradation_percent": 2 * row["degradation_percent"]} for row in main_map]
    return (
        make_run(main_map, model="file:one", summary={"done": True}, folder=tmp_path / "a"),
        make_run(other, model="file:two", folder=tmp_path / "b"),
    )


def test_every_row_of_both_runs_is_on_the_page_under_its_model(two_models, main_map):
    records = [read_run(folder) for folder in two_models]
    filled = html.fill(page.PAGE, *records)
    grids = {g.caption: g for each in filled for g in each.content if isinstance(g, html.Grid)}
    own = [row["degradation_percent"] for row in main_map if row["layer"] is not None]
    for model, factor in (("file:one", 1), ("file:two", 2)):
        (caption,) = (name for name in grids if name.startswith(f"{model}, sentences: each layer"))
        at = grids[caption].header.index("change (%), 95 %")
        shown = [row[at].value for row in grids[caption].rows]
        assert shown == [factor * value for value in own]
    lead = html.render(page.PAGE, filled, *records).partition('<p class="lead">')[2]
    for model in ("file:one", "file:two"):
        assert lead.partition("</p>")[0].count(f"{model}: ") == 1


def test_panels_of_both_runs_share_a_scale(two_models):
    runs = named([read_run(folder) for folder in two_models])
    rows = [row | {views.RUN: name} for name, run in runs.items() for row in page.tidy.layers(run)]
    panels = views.draw(page.IMPORTANCE, rows)
    titles = [ax.get_title(loc="left").split(", each")[0] for ax in panels]
    assert titles == ["file:one, sentences", "file:two, sentences"]
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_the_page_says_which_run_is_unfinished_and_holds_both_provenances(two_models, tmp_path):
    text = write_report(*two_models, to=tmp_path / "both").read_text()
    assert "file:two: This run is not finished" in text
    assert "file:one: This run is not finished" not in text
    assert "<h1>file:one and file:two</h1>" in text
    for model in ("one", "two"):
        assert f"file:{model}: Model, data and machine" in text
    ids = re.findall(r'id="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    assert (tmp_path / "both" / "figures" / "importance.png").exists()
    assert not (two_models[0] / "report.html").exists()


def test_two_runs_of_one_model_are_told_apart_by_their_folders(main_map, make_run, tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "y" / "other"]
    for folder in folders:
        folder.parent.mkdir(exist_ok=True)
        make_run(main_map, model="m", folder=folder)
    runs = [read_run(folder) for folder in folders]
    assert list(named(runs[1:])) == ["m (run)", "m (other)"]
    assert list(named(runs[:2])) == [str(folder) for folder in folders[:2]]
    assert list(named(runs[:1])) == [""]


def test_a_section_that_one_run_lacks_says_nothing_of_it(two_models):
    table = views.Table("t", lambda run: run.rows[: len(run.summary)], cells=())
    section = Section("Only finished", lambda run: f"{len(run.rows)} rows", "Always.", table)
    runs = [read_run(folder) for folder in two_models]
    (filled,) = html.fill(Page("kind", "lead", section), *runs)
    assert filled.text == ("file:one: 6 rows", "Always.")


def test_runs_of_several_experiments_are_refused(two_models, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    run_files.write_config(other, {}, {"experiment": "structure"})
    run_files.write_rows(other, [])
    message = "expected runs of one experiment; got importance .*, structure .*; make a page of"
    with pytest.raises(InputError, match=message):
        write_report(two_models[0], other, to=tmp_path / "both")
    assert not (tmp_path / "both").exists()
    with pytest.raises(InputError, match="got 2 runs and no folder; name it: --workdir=DIR"):
        write_report(*two_models)


def test_the_command_line_draws_the_page_of_runs_that_are_there(two_models, tmp_path, capsys):
    assert cli.main(["report", str(two_models[0])]) == 0
    assert capsys.readouterr().out.endswith(f"report: {two_models[0] / 'report.html'}\n")
    both = tmp_path / "both"
    assert cli.main(["report", *map(str, two_models), f"--workdir={both}"]) == 0
    assert (both / "report.html").exists()
    assert cli.main(["report", *map(str, two_models)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: expected a folder for the page of several runs")
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert cli.main(["report", "--help"]) == 0
    assert "jaxanatomy report RUN [RUN ...]" in capsys.readouterr().out
