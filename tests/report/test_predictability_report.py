"""The section of the predictability experiment, from rows whose figures are known."""

import math
from pathlib import Path

import numpy as np
import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.measures.predictability import summarise, weight_rows
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.document import Picture, Table
from jaxanatomy.report.predictability import figures
from jaxanatomy.report.predictability.report import predictability_report, summary_table

SMOLLM2 = ModelConfig.uniform(
    30, 9, 3, 1536, vocab_size=49152, hidden_size=576, head_dim=64, rope_theta=100_000.0
)
COMPONENTS = ("q_proj", "gate_proj", "down_proj")
UNITS = 6


def function_row(strategy, name, layers, nll, text):
    finite = math.isfinite(nll)
    ppl = math.exp(nll) if finite else None
    change = 100 * (ppl / math.exp(3) - 1) if finite else None
    units = [10 * (nll + 0.1 * unit) if finite else None for unit in range(UNITS)]
    return {
        **{"reading": "function", "strategy": strategy, "set": name, "layers": layers},
        **{"variant": f"{strategy}/{name}", "text": text, "ppl": ppl},
        **{"degradation_percent": change, "ci95": change and [0.8 * change, 1.3 * change]},
        **{"unit_nll": units, "unit_tokens": UNITS * [10]},
    }


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    rows = []
    for component in COMPONENTS:
        values = rng.normal(0, 0.1, (8, 200))
        if component == "gate_proj":
            values += rng.normal(size=200)  # shared by all layers
        rows += weight_rows(component, values, null_draws=4, seed=0)
    for text in ("sentences", "paragraphs"):
        rows.append(function_row("none", None, [], 3.0, text))
        for layer in range(2, 8):
            rows.append(function_row("predicted", f"layer_{layer}", [layer], 3 + layer / 4, text))
            rows.append(function_row("zero", f"layer_{layer}", [layer], 3.5, text))
            noised = function_row("predicted_noise", f"layer_{layer}", [layer], 4.0, text)
            rows.append(noised)
        rows.append(function_row("predicted", "even_2", [3, 6], math.nan, text))
        rows.append(function_row("zero", "even_2", [3, 6], 5.0, text))
    return rows


def make_record(rows, model="file:x", summary=True):
    return RunRecord(
        folder=Path("run"),
        rows=rows,
        config={"model": model},
        provenance={"model": model, "architecture": SMOLLM2.to_dict()},
        summary=summarise(rows, samples=50, seed=0) if summary else {},
    )


def parts_of(report, kind):
    return {
        part.name if kind is Picture else part.caption: part
        for section in report.sections
        for part in section.content
        if isinstance(part, kind)
    }


def test_every_figure_and_table_is_there_and_draws(rows):
    report = predictability_report(make_record(rows))
    assert report.title == "file:x"
    assert [section.title for section in report.sections] == [
        "Do weights foretell weights",
        "Do predicted weights work",
    ]
    pictures = parts_of(report, Picture)
    names = ["r2_readings", "r2_targets", "function_sentences", "function_paragraphs"]
    assert list(pictures) == names
    for picture in pictures.values():
        assert style.to_png(picture.figure, dpi=40).startswith(b"\x89PNG")
        assert len(picture.alt) > 40
    assert len(parts_of(report, Table)) == 4


def test_sentences_count_what_lies_outside_the_noise(rows):
    text = " ".join(predictability_report(make_record(rows)).sections[0].text)
    means = figures.mean_rows(rows)
    gain = means["gate_proj", "in_sample"]
    gain = gain["r2"] - gain["null_r2"]
    (sentence,) = (part for part in text.split(". ") if part.startswith("in_sample"))
    assert "above it in gate_proj" in sentence
    assert f"largest gain over noise {gain:.3f}" in sentence


def test_the_papers_table_stands_beside_its_own_model_only(rows):
    for model, shown in (("file:x", True), ("random:file:x", False)):
        report = predictability_report(make_record(rows, model))
        header = next(iter(parts_of(report, Table).values())).header
        assert ("AH Table 2, average" in header) == shown
        assert ("26.22" in " ".join(report.sections[1].text)) == shown
        legend = parts_of(report, Picture)["r2_readings"].figure.legends[0]
        labels = [text.get_text() for text in legend.get_texts()]
        assert ("paper (AH Table 2, average)" in labels) == shown


def test_the_mean_table_holds_the_rows(rows):
    means = figures.mean_rows(rows)
    table = next(iter(parts_of(predictability_report(make_record(rows)), Table).values()))
    for line in table.rows:
        assert len(line) == len(table.header)
        for cell, reading in zip(line[1:7], figures.READING_TITLES, strict=True):
            assert cell.value == means[line[0].text, reading]["r2"]
    gate = next(line for line in table.rows if line[0].text == "gate_proj")
    assert gate[-1].value == 0.909


def test_readings_mark_weights_noise_and_paper(rows):
    means = figures.mean_rows(rows)
    panels = figures.readings(rows, {"q_proj": [0.824, 0.989]})
    for ax, reading in zip(panels, figures.READING_TITLES, strict=True):
        points = {
            (line.get_marker(), round(float(line.get_xdata()[0]), 2)): float(line.get_ydata()[0])
            for line in ax.lines
            if line.get_marker() in ("o", "D")
        }
        expected = {("o", float(x)): means[c, reading]["r2"] for x, c in enumerate(COMPONENTS)}
        assert points == {**expected, ("D", -0.34): 0.824}
        for component, band in zip(COMPONENTS, ax.patches, strict=True):
            row = means[component, reading]
            assert band.get_y() == row["null_low"]
            assert band.get_y() + band.get_height() == pytest.approx(row["null_high"])


def test_targets_show_every_target_with_its_noise(rows):
    panels = figures.targets(rows)
    assert [ax.get_title(loc="left") for ax in panels[:3]] == list(COMPONENTS)
    found = [list(line.get_ydata()) for line in panels[0].lines if len(line.get_xdata()) == 6]
    for reading in ("extrapolate", "in_sample", "target_included", "sorted"):
        own = [
            row
            for row in rows
            if (row.get("component"), row["reading"]) == ("q_proj", reading)
            and row["target"] is not None
        ]
        assert [row["r2"] for row in own] in found
        assert [row["null_r2"] for row in own] in found


def test_the_function_test_marks_its_strategies_and_what_is_not_finite(rows):
    single, several = figures.function_test(rows, "sentences")
    points = {
        (line.get_marker(), round(float(line.get_xdata()[0]))): float(line.get_ydata()[0])
        for line in single.lines
        if line.get_marker() in ("o", "s", "^")
    }
    for layer in range(2, 8):
        assert points["o", layer] == pytest.approx(math.exp(3 + layer / 4))
        assert points["s", layer] == pytest.approx(math.exp(3.5))
        assert points["^", layer] == pytest.approx(math.exp(4))
    assert single.get_yscale() == "log"
    marks = [line.get_marker() for line in several.lines]
    assert marks.count("x") == 1
    assert marks.count("s") == 1


def test_the_function_tables_compare_and_count(rows):
    report = predictability_report(make_record(rows))
    table = next(t for c, t in parts_of(report, Table).items() if c.startswith("paragraphs"))
    lines = {line[0].text: [cell.text for cell in line[1:]] for line in table.rows}
    assert lines["layer_6"][0] == "6"
    assert lines["layer_6"][3] == "+1.000 (+1.000 to +1.000)"
    assert lines["layer_6"][5] == "+0.500 (+0.500 to +0.500)"
    assert lines["even_2"][4:] == ["not measured"] * 2
    assert lines["even_2"][1] == "not finite"
    assert lines["even_2"][3] == "not finite"
    text = " ".join(report.sections[1].text)
    assert "On paragraphs, of 6 single layers predicting is worse than deleting in 5" in text
    assert "of 6 single layers of paragraphs predicting is worse in 3 and better in 2" in text


def test_halves_of_a_run_give_halves_of_the_report(rows):
    weights = [row for row in rows if row["reading"] != "function"]
    report = predictability_report(make_record(weights))
    assert [section.title for section in report.sections] == ["Do weights foretell weights"]
    function = [row for row in rows if row["reading"] == "function"][:3]
    report = predictability_report(make_record(function, summary=False))
    assert [section.title for section in report.sections] == ["Do predicted weights work"]
    style.to_png(report.sections[0].content[0].figure, dpi=40)


def test_rows_of_other_experiments_are_not_its_own(rows):
    others = [{"hash": "1", "strategy": "zero", "set": "paper"}, {"hash": "2", "metric": "cosine"}]
    assert predictability_report(make_record(others, summary=False)) is None


def test_the_terminal_table_holds_the_summary(rows):
    summary = summarise(rows, samples=50, seed=0)
    text = summary_table(summary)
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    row = summary["weights"]["gate_proj"]["in_sample"]
    line = next(line for line in text.splitlines() if line.startswith("gate_proj"))
    assert line.split()[2] == f"{row['r2']:.3f}/{row['null_r2']:.3f}"
    assert "  even_2            not finite        148.41" in text
    assert "sentences: baseline perplexity 20.09" in text
