"""Figures of rows that were put together: a panel for each model and text, nothing lost."""

import numpy as np
import pytest

import jaxanatomy as ja
from jaxanatomy.errors import InputError
from jaxanatomy.report import summary_table

LAYERS = range(4)


def importance_rows(model, text, shift=0.0):
    base = {"text": text, "model": model}
    rows = [{"variant": "baseline", "nll": 9.0, "ppl": 20.0, "degradation_percent": 0.0, **base}]
    for intervention in ("neighbour_mean", "zero"):
        for positions in ("all", "first", "others"):
            for scope in ("layer", "mlp", "head_0"):
                rows += [
                    {
                        "variant": f"{intervention}/{scope}@{positions}/{layer}",
                        **base,
                        "intervention": intervention,
                        "scope": scope,
                        "positions": positions,
                        "layer": layer,
                        "nll": 9.1,
                        "ppl": 21.0,
                        "tokens": 50,
                        "degradation_percent": 10.0 * (1 + layer) + shift,
                        "ci95": None,
                    }
                    for layer in LAYERS
                ]
    return rows


def manipulation_rows(model, text, shift=0.0):
    base = {"text": text, "model": model}
    rows = [{"variant": "baseline", "nll": 9.0, "ppl": 20.0, "degradation_percent": 0.0, **base}]
    for name in ("1,2", "least_1", "least_2", "random_1_s0", "random_2_s0"):
        for strategy, alpha in (("scale", 0.5), ("scale", 0.9), ("perturb", 0.01)):
            rows.append(
                {
                    "variant": f"{strategy}_{alpha}/{name}",
                    "strategy": strategy,
                    **base,
                    "alpha": alpha,
                    "set": name,
                    "layers": [1, 2],
                    "nll": 9.1,
                    "ppl": 22.0,
                    "degradation_percent": 10.0 + shift,
                    "ci95": None,
                }
            )
    return rows


FIGURES = {
    name: (getattr(ja.plot, name), make)
    for make, names in (
        (
            importance_rows,
            ("importance", "scopes", "heads", "controls", "control_ratios", "first_token"),
        ),
        (manipulation_rows, ("manipulation", "manipulation_layers", "manipulation_sets")),
        (manipulation_rows, ("compounding",)),
    )
    for name in names
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_panel_for_each_model_and_text(name):
    draw, make = FIGURES[name]
    parts = [("model-a", "letters"), ("model-b", "letters"), ("model-b", "numbers")]
    rows = [row for at, part in enumerate(parts) for row in make(*part, shift=at)]
    panels = draw(rows)
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in np.ravel(panels)]
    for (model, text), title in zip(parts, titles, strict=True):
        assert title.startswith(f"{model}, {text}, ")
    alone = draw(make("model-a", "letters"))
    title = alone.get_title() or alone.get_title(loc="left")
    assert title.startswith("letters, ")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_refuses_a_variant_that_comes_twice(name):
    draw, make = FIGURES[name]
    rows = make("model-a", "letters")
    with pytest.raises(InputError, match="came twice with different figures; give each model an"):
        draw(rows + make("model-a", "letters", shift=1.0))
    nameless = [
        {field: value for field, value in row.items() if field != "model"}
        for row in rows + make("", "letters", shift=1.0)
    ]
    with pytest.raises(InputError, match="came twice with different figures"):
        draw(nameless)
    draw(rows + rows)  # the same figures say nothing new


def test_pairs_and_tables_keep_models_apart():
    rows = manipulation_rows("model-a", "letters") + manipulation_rows("model-b", "letters", 5.0)
    assert len(np.ravel(ja.plot.manipulation_pairs(rows))) == 2 * 3
    table = summary_table(rows)
    assert table.count("letters") == 2
    assert "model-a, letters" in table
    assert "model-b, letters" in table
