"""The page of the predictability experiment, from rows whose figures are known."""

import math
from pathlib import Path

import numpy as np
import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.measures.predictability import summarise, weight_rows
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report import html, terminal, views
from jaxanatomy.report import predictability as page

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
        "reading": "function",
        "strategy": strategy,
        "set": name,
        "layers": layers,
        "variant": f"{strategy}/{name}",
        "text": text,
        "nll": 10 * UNITS * nll if finite else None,
        "tokens": 10 * UNITS,
        "ppl": ppl,
        "degradation_percent": change,
        "ci95": change and [0.8 * change, 1.3 * change],
        "unit_nll": units,
        "unit_tokens": UNITS * [10],
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
            rows.append(function_row("predicted", f"{layer}", [layer], 3 + layer / 4, text))
            rows.append(function_row("zero", f"{layer}", [layer], 3.5, text))
            for loss in (3.98, 4.0, 4.02):
                rows.append(function_row("predicted_noise", f"{layer}", [layer], loss, text))
        rows.append(function_row("predicted", "even_2", [3, 6], math.nan, text))
        rows.append(function_row("zero", "even_2", [3, 6], 5.0, text))
    return rows


def make_record(rows, model="file:x"):
    provenance = {"model": model, "architecture": SMOLLM2.to_dict(), "experiment": "predictability"}
    return RunRecord(Path("run"), rows, {"model": model}, provenance, {"done": True})


@pytest.fixture(scope="module")
def record(rows):
    return make_record(rows)


def words_of(record):
    return [text for each in html.fill(page.PAGE, record) for text in each.text]


def test_every_figure_and_table_is_there_and_draws(record):
    filled = html.fill(page.PAGE, record)
    content = [part for each in filled for part in each.content]
    pictures = [part for part in content if isinstance(part, html.Picture)]
    names = ["r2_readings", "r2_targets", "function_layers"]
    assert [picture.name for picture in pictures] == names
    assert [part.view.name for part in content if isinstance(part, html.Grid)] == [
        "r2",
        "function",
        "function",
    ]
    assert "<svg" in html.render(page.PAGE, filled, record)


def test_the_papers_table_stands_beside_its_own_model_only(rows):
    own = page.means(make_record(rows))
    assert {row["component"] for row in own if "paper" in row} == set(COMPONENTS)
    assert not any("paper" in row for row in page.means(make_record(rows, "random:file:x")))


def test_the_function_test_counts_whole_intervals(record):
    (words,) = (text for text in words_of(record) if "on sentences" in text)
    # Layer l loses 3 + l / 4 nats predicted and 3.5 deleted, with the same spread over units.
    deleting, noise, *_ = words.split(". ")
    assert deleting.endswith("on sentences: of 6 intervals 5 lie above 0 and 0 below")
    assert noise.endswith("on sentences: of 6 intervals 3 lie above 0 and 2 below")


def test_perplexities_and_differences_have_their_intervals(record):
    rows = {(row["panel"], row["set"]): row for row in page.differences(record)}
    row = rows["sentences", "even_2"]
    change = math.exp(2) - 1
    ends = [math.exp(3) * (1 + factor * change) for factor in (0.8, 1.3)]
    assert row["zero"].value == pytest.approx(math.exp(5))
    assert row["zero"].ends == pytest.approx(ends)
    assert row["predicted"] is None
    assert "less_noise" not in row
    summary = summarise(record.rows)["function"]["paragraphs"]["sets"]["4"]
    row = rows["paragraphs", "4"]
    assert row["less_zero"] == Estimate(summary["difference"], *summary["ci95"])
    assert row["less_noise"] == Estimate(summary["noise_difference"], *summary["noise_ci95"])
    columns = {column.head: column.text(row) for column in page.DIFFERENCES.cells}
    assert columns["predicted (95 %)"].startswith(f"{math.exp(4):.2f} [")
    assert columns["less deleted (95 %)"].startswith("+0.500 [")


def test_single_layers_are_drawn_where_they_lie(record):
    view = next(v for v in page.PAGE.sections[1].views if v.name == "function_layers")
    ax = views.draw(view, view.rows(record))[0]
    line = next(each for each in ax.lines if len(each.get_xdata()) == 6)
    assert list(line.get_xdata()) == list(range(2, 8))
    np.testing.assert_allclose(line.get_ydata(), np.exp(3 + np.arange(2, 8) / 4))


def test_a_component_that_does_not_vary_is_said():
    rows = weight_rows("q_proj", np.ones((6, 50)), null_draws=2, seed=0)
    record = make_record(rows)
    (column,) = (c for c in page.PAGE.sections[0].views[1].cells if c.field == "r2")
    texts = {row["reading"]: column.text(row) for row in page.means(record)}
    assert texts["extrapolate"] == "not finite"
    assert html.render(page.PAGE, html.fill(page.PAGE, record), record)


def test_the_terminal_has_both_tables(record):
    text = terminal.printed(page.PAGE, record)
    assert text.startswith("R2 of each reading") or text.isascii()
    assert "q_proj" in text
    assert "even_2" in text
