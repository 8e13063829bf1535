"""How arms compute on the page of depth growth: of runs that read their models, and of others."""

import dataclasses

import pytest
import run_files
from report.depth_growth_rows import ARMS, curve_rows, final_rows, with_readings

from jaxanatomy.measures.arms.depth_growth import summarise
from jaxanatomy.records import RunRecord
from jaxanatomy.report import depth_growth as page
from jaxanatomy.report import html, model_readings, write_report
from jaxanatomy.report.depth_growth import read_on

READ = [
    "The middle block applied again",
    "Which layers a trained model needs",
    "How deep trained models compute",
]


def titles(record):
    return [each.section.title for each in html.fill(page.PAGE, record)]


def test_models_that_were_read_have_their_sections_and_others_are_named():
    rows = [*curve_rows(), *final_rows()]
    old = RunRecord.of_rows(rows)
    assert not {*READ} & {*titles(old)}
    said = f"Not read at their end, so that edits and depth lack them: {', '.join(ARMS)}."
    assert model_readings.unread(old).startswith(said)
    record = RunRecord.of_rows(map(with_readings, rows))
    record = dataclasses.replace(record, config={"depth_sequences": 16})
    assert [title for title in titles(record) if title in READ] == READ
    assert model_readings.unread(record) == ""
    assert "on 16 rows of held-out text" in read_on(record)
    rises = {
        (row["arm"], row["layer"]): row["rise"].value
        for row in model_readings.rows.edits(record)
        if row["edit"] == "cut"
    }
    assert rises["midas", 3] == pytest.approx(0.25)
    assert rises["baseline", 3] == pytest.approx(0.125)
    exits = [row for row in model_readings.rows.exits(record) if row["arm"] == "midas"]
    assert [row["overlap"].value for row in exits] == pytest.approx([0.75] * 5)
    half = [row if row.get("arm") == "midas" else with_readings(row) for row in rows]
    assert "lack them: midas." in model_readings.unread(RunRecord.of_rows(half))
    summary = summarise(record.rows)
    assert len(summary["arms"]["midas"]["edits"]) == 6 + 5 + 5 + 3 + 3
    assert {row["reading"] for row in summary["depth"]} > {"depth score", "overlap of late exits"}
    assert summarise(rows)["depth"] == []


@pytest.mark.slow
def test_the_figures_of_models_that_were_read_are_drawn(tmp_path):
    rows = [with_readings(row) for row in (*curve_rows(), *final_rows())]
    run_files.write_rows(tmp_path, rows)
    run_files.write_config(tmp_path, {}, {"experiment": "depth_growth"})
    run_files.write_summary(tmp_path, summarise(rows))
    assert "How deep trained models compute" in write_report(tmp_path).read_text()
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    names = ("loops", "edits", "exits", "depth_differences", "depth_profile", "block_similarity")
    assert drawn >= {*names, "effects_later", "effects_later_local", "effects_attention"}
