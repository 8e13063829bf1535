"""Claims about what growth costs and how it starts, and about the paper's own tables."""

import pytest
from report.claim_rows import finding, row

from jaxanatomy.growth.depth_arms import DepthArmSettings
from jaxanatomy.growth.smollm import LENGTH, MODELS
from jaxanatomy.measures.flops import beside_the_paper, cost_rows
from jaxanatomy.papers import paper_table
from jaxanatomy.records import RunRecord
from jaxanatomy.report import claims
from jaxanatomy.report.claims.claim import FAILS, HOLDS, UNDECIDED, Evidence

PRINTED = paper_table("dg_table7")["models"]


def cost(models=tuple(MODELS), steps=200_000):
    """The rows of a flops run; with other steps the paper's figures stand beside all the same."""
    rows = []
    for name in models:
        model = MODELS[name]
        settings = DepthArmSettings(steps=steps, block=4, rows=model.rows, length=LENGTH)
        for each in cost_rows(model.config, settings):
            made = beside_the_paper(each, PRINTED[name])
            rows.append({"hash": f"{len(rows)}", "model": name, **made})
    return rows


def test_the_papers_figures_are_reproduced():
    found = finding("table7_petaflops", cost())
    assert found.verdict == HOLDS
    assert "360M baseline 613,527.488 (+4.9e−10)" in found.measured
    assert "1.7B grown 3,736,573.983 (−9.2e−06)" in found.measured
    assert found.null == "with steps rounded down all within 1e−09"
    found = finding("table7_ratio", cost())
    assert found.verdict == HOLDS
    assert found.measured == "360M 1.2885, 1.7B 1.2881"
    assert found.null.startswith("1 without growth; saved: 360M 22.4 %")


def test_the_table_was_made_with_steps_rounded_down():
    found = finding("table7_largest_remainder", cost())
    assert found.verdict == FAILS
    assert found.measured == "PFLOP less the table's: 360M −3.463, 1.7B −34.199"
    assert found.null.endswith("360M +0.000, 1.7B −0.000")


@pytest.mark.parametrize("changed", [1e-4, -1e-4])
def test_other_figures_fail(changed):
    rows = cost()
    for each in rows:
        if each["model"] == "smollm_360m" and each["arm"] == "grown":
            each["deviation"] += changed
            each["ratio"] *= 1 - 10 * changed
    assert finding("table7_petaflops", rows).verdict == FAILS
    assert finding("table7_ratio", rows).verdict == FAILS


def test_steps_by_largest_remainder_would_have_held():
    rows = cost()
    for each in rows:
        if each["rounding"] == "largest_remainder" and each["paper_petaflops"]:
            each["petaflops"] = each["paper_petaflops"] + 0.0004
    assert finding("table7_largest_remainder", rows).verdict == HOLDS
    rows[1]["petaflops"] += 0.0002
    assert finding("table7_largest_remainder", rows).verdict == FAILS


@pytest.mark.parametrize("claim", ["table7_petaflops", "table7_ratio", "table7_largest_remainder"])
def test_one_of_two_models_and_models_of_ones_own_never_decide(claim):
    found = finding(claim, cost(["smollm_1p7b"]))
    assert found.verdict == UNDECIDED
    assert "360M grown" in found.reason
    assert found.reason.endswith("not measured")
    own = [each | {"paper_petaflops": None, "deviation": None} for each in cost()]
    assert finding(claim, own).reason == "not measured: the flops run lacks the rows"


def grown(operator, low, value, high, draw=None, layers=(1,), **more):
    labels = {"operator": operator, "draw": draw, "layers": list(layers)}
    return row(low, value, high, **labels, **more)


@pytest.mark.parametrize(
    ("midas", "verdict"),
    [((90.0, 100.0, 110.0), HOLDS), ((20.0, 30.0, 40.0), FAILS), ((50.0, 60.0, 70.0), UNDECIDED)],
)
def test_lidas_starts_better_if_midas_loses_more(midas, verdict):
    rows = [
        grown("lidas", 50.0, 60.0, 70.0, layers=(1, 2)),
        grown("midas", *midas, layers=(2, 3)),
        grown("random_place", 190.0, 200.0, 210.0, draw=0),
        grown("random_place", 5.0, 10.0, 15.0, draw=1),
        grown("random_layers", 190.0, 200.0, 210.0, draw=0),
    ]
    found = finding("lidas_starts_better", rows)
    assert found.verdict == verdict
    assert found.measured.startswith("lidas +60.0 % [+50.0, +70.0], midas ")
    assert found.null == "lidas better than 1 of 2 draws of blocks copied elsewhere"
    assert found.text == "sentences"


def test_maps_that_are_alike_or_absent_cannot_tell():
    alike = [grown("lidas", 1.0, 2.0, 3.0), grown("midas", 90.0, 100.0, 110.0)]
    found = finding("lidas_starts_better", alike)
    assert (found.verdict, found.reason) == (UNDECIDED, "both insert the same layers")
    found = finding("lidas_starts_better", alike[:1])
    assert found.reason == "not measured: the grow_checkpoint run lacks the rows"


@pytest.mark.parametrize(
    ("claim", "measured", "reason"),
    [
        (
            "table1_growth_beats_baseline",
            "360M primitives: midas 28.18, baseline 30.06",
            "1 of 16 figures do not",
        ),
        (
            "table1_ln_scaling_trails",
            "360M primitives: midas 28.18, ln_scaling 31.38; "
            "360M primitives_math: midas 35.14, ln_scaling 41.26; "
            "360M primitives: lidas 31.2, ln_scaling 31.38; "
            "1.7B primitives: midas 40.88, ln_scaling 44.38",
            "4 of 16 figures do not",
        ),
        (
            "table8_growth_helps_ln_scaling",
            "1.7B primitives: ln_scaling_lidas 43.32, ln_scaling 44.38",
            "1 of 11 figures do not",
        ),
    ],
)
def test_the_papers_tables_contradict_its_text(claim, measured, reason):
    (chosen,) = (each for each in claims.CLAIMS if each.id == claim)
    found = chosen.finding(Evidence({}))
    assert (found.verdict, found.measured, found.reason) == (FAILS, measured, reason)


def test_the_runs_are_known_by_their_rows():
    for rows, name in ((cost(), "flops"), ([grown("lidas", 1, 2, 3)], "grow_checkpoint")):
        assert claims.experiment_of(RunRecord("run", rows, {}, {}, {})) == name
