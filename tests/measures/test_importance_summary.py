"""The summary of importance rows against literals."""

import json
import math

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.importance import categorise
from jaxanatomy.measures.importance_summary import compare_controls, first_token_shares, summarise

# Perplexities of the default model's neighbour means of layers 1 to 28, measured
# independently in float64, and AH Table 1 (percent, layers 0 to 29).
BASELINE_PPL = 26.534441
MEASURED_PPL = [
    1550.49, 106.866, 40.0699, 40.3089, 31.9531, 33.6975, 32.4030, 71.8815, 40.2371, 2222.02,
    9092.55, 31.1181, 34.0512, 28.5909, 34.1445, 29.4925, 27.5252, 31.6438, 29.4609, 37.6382,
    43.7070, 38.4021, 47.5858, 59.5120, 32.0766, 36.7661, 42.5652, 50.5871,
]  # fmt: skip
TABLE_1 = [
    0.0, 2737.1, 186.0, 13.4, 22.7, 8.3, 9.4, 20.3, 2395.6, 378.1, 9870.7, 63419.2, 6.3, 24.4,
    5.0, 11.1, 20.3, -0.6, 16.9, 2.6, 25.9, 23.5, 27.8, 66.6, 115.2, 23.2, 19.4, 134.8, 211.5, 0.0,
]  # fmt: skip


def row(intervention, layer, ppl, positions="all", **fields):
    degradation = None if ppl is None else 100 * (ppl / BASELINE_PPL - 1)
    return {
        "variant": "baseline" if layer is None else f"{intervention}/layer@{positions}/{layer}",
        "intervention": intervention,
        "scope": None if layer is None else "layer",
        "positions": None if layer is None else positions,
        "layer": layer,
        "nll": None if ppl is None else 101 * math.log(ppl),
        "tokens": 101,
        "ppl": ppl,
        "degradation_percent": degradation,
        "category": None if layer is None else categorise(degradation),
        "anti_layer": False,
        "boundary": layer in (0, 29),
        "text": "sentences",
    } | fields


BASELINE = row("none", None, BASELINE_PPL)
MAP = [row("neighbour_mean", layer, ppl) for layer, ppl in enumerate(MEASURED_PPL, start=1)]


def test_summary_of_the_measured_map():
    boundary = [row("neighbour_mean", 29, 90.0), row("neighbour_mean", 0, 5000.0)]
    summary = summarise([BASELINE, *MAP, *boundary], TABLE_1)
    assert (summary["text"], summary["baseline_ppl"]) == ("sentences", BASELINE_PPL)
    assert summary["variants"] == 31
    # Critical is a perplexity of 53.07 and more, redundant below 29.19, important from 34.49.
    assert summary["categories"] == {"redundant": 2, "minor": 10, "important": 10, "critical": 6}
    assert [r["layer"] for r in summary["most_important"]] == [11, 10, 1, 2, 8]
    assert [r["layer"] for r in summary["least_important"]] == [17, 14, 19, 16, 12]
    assert [r["layer"] for r in summary["boundary"]] == [0, 29]
    assert summary["rank_correlation"]["value"] == pytest.approx(0.891, abs=5e-4)
    low, high = summary["rank_correlation"]["ci95"]
    assert 0.6 < low < 0.891 < high < 1
    json.dumps(summary, allow_nan=False)


def test_parts_that_were_not_run_are_empty():
    summary = summarise([BASELINE])
    assert summary["rank_correlation"] is None
    assert summary["controls"] == {}
    assert summary["most_important"] == summary["anti_layers"] == summary["boundary"] == []
    assert summary["first_token"] == {"neighbour_mean": [], "zero": []}


def test_anti_layers_are_those_of_the_band():
    """Layer 3 is better in every document, layer 4 by its own interval alone."""
    units = {"unit_tokens": [10] * 6, "anti_layer": True}
    base = [30.0, 31.0, 33.0, 29.0, 30.0, 32.0]
    changes = {
        1: [9.0, 7.0, 8.0, 6.0, 9.0, 8.0],
        2: [1.0, -1.0, 0.5, -0.5, 0.0, 1.0],
        3: [-5.0, -5.1, -4.9, -5.0, -5.1, -4.9],
        4: [-1.0, -0.1, -0.3, -0.4, -0.9, -1.2],
    }
    rows = [
        row("neighbour_mean", layer, 20.0)
        | units
        | {"unit_nll": [b + c for b, c in zip(base, change, strict=True)]}
        for layer, change in changes.items()
    ]
    summary = summarise([BASELINE | units | {"unit_nll": base}, *rows])
    assert summary["anti_layers"] == [3]
    found = summary["map"]
    assert (found["may_be_most_important"], found["may_be_least_important"]) == ([1], [3])
    assert found["units"] == 6
    ends = {each["layer"]: each["ci95"] for each in found["band"]}
    assert ends[4][1] > 0 > ends[3][1]
    least = found["smallest_effect"]
    assert 0 < least["nats"] < least["nats_any_layer"]
    assert least["percent"] == pytest.approx(100 * math.expm1(least["nats"]))


def test_first_token_shares_split_the_rise_of_the_nll():
    rows = [
        BASELINE,
        row("zero", 4, BASELINE_PPL * math.e**3, "first"),
        row("zero", 4, BASELINE_PPL * math.e, "others"),
        row("zero", 5, BASELINE_PPL / 2, "first"),
        row("zero", 5, BASELINE_PPL * 2, "others"),
        row("zero", 6, BASELINE_PPL / 2, "first"),
        row("zero", 6, BASELINE_PPL / 2, "others"),
        row("zero", 7, BASELINE_PPL, "first"),
    ]
    shares = first_token_shares(rows, BASELINE, "zero")
    assert [share["layer"] for share in shares] == [4, 5, 6]
    assert [share["share"] for share in shares] == [pytest.approx(0.75, abs=1e-12), 0.0, None]
    assert shares[0]["first"] == pytest.approx(100 * (math.e**3 - 1), rel=1e-12)
    assert shares[0]["others"] == pytest.approx(100 * (math.e - 1), rel=1e-12)


def test_controls_are_compared_on_inner_layers():
    rows = [
        BASELINE,
        row("neighbour_mean", 0, 30.0),
        *(row("neighbour_mean", layer, ppl) for layer, ppl in ((1, 40.0), (2, 50.0), (3, 60.0))),
        row("rescaled_mean", 0, 1e9),
        *(row("rescaled_mean", layer, ppl) for layer, ppl in ((1, 20.0), (2, 100.0), (3, 30.0))),
    ]
    assert compare_controls(rows) == {
        "rescaled_mean": {
            "layers": 3,
            "median_degradation_percent": pytest.approx(100 * (30 / BASELINE_PPL - 1), rel=1e-12),
            "median_difference": pytest.approx(-math.log(2), rel=1e-12),
            "milder": 2,
            "rank_correlation": pytest.approx(0.5, abs=1e-12),
        }
    }


def test_layers_whose_nll_is_unknown_rank_as_worst():
    lost = row("neighbour_mean", 12, None, category="critical")
    rows = [BASELINE, *(r for r in MAP if r["layer"] != 12), lost]
    summary = summarise(rows, TABLE_1)
    assert summary["most_important"][0] == {"layer": 12, "degradation_percent": None}
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("rows", "reference", "message"),
    [
        (MAP, None, "0 baselines"),
        ([BASELINE, {**MAP[0], "text": "paragraphs"}], None, "'paragraphs', 'sentences'"),
        ([BASELINE, *MAP], TABLE_1[:20], "each layer up to 28; got 20"),
    ],
)
def test_rows_that_cannot_be_summed_up_are_refused(rows, reference, message):
    with pytest.raises(InputError, match=message):
        summarise(rows, reference)
