"""The audit: a row for each claim, runs that do not belong together, arithmetic on figures."""

import importlib
import pkgutil

import pytest

import jaxanatomy.claims
from jaxanatomy.claims import figures_ah, figures_lr
from jaxanatomy.claims.audit import CLAIMS, audit, error_of, summarise
from jaxanatomy.claims.core import FAILS, HOLDS, UNMEASURED, VERDICTS
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.claims.figures_ah import implied_baselines
from jaxanatomy.growth.depth_arms import DepthArmSettings
from jaxanatomy.growth.smollm import LENGTH, MODELS
from jaxanatomy.measures.flops import beside_the_paper, cost_rows
from jaxanatomy.papers import KEYS, paper_table
from jaxanatomy.records import RunRecord

PRINTED = paper_table("dg_table7")["models"]


def record(rows=(), folder="run", experiment="importance", **provenance):
    made = {"model": "m", "experiment": experiment} | provenance
    return RunRecord(folder, list(rows), {}, made, {"done": True})


def finding(id, rows=()):
    (claim,) = (each for each in CLAIMS if each.id == id)
    records = {name: record(rows, experiment=name) for name in claim.needs}
    return claim.finding(Evidence(records), 0.05)


def test_every_claim_has_a_row_also_without_any_run():
    rows = audit([])
    assert [row["claim"] for row in rows] == [claim.id for claim in CLAIMS]
    assert len({row["claim"] for row in rows}) == len({row["hash"] for row in rows}) == len(rows)
    assert {row["verdict"] for row in rows if row["needs"]} == {UNMEASURED}
    assert all(row["rule"] and row["reason"] and row["paper"] for row in rows)
    assert all(row["source"].split()[0] in KEYS for row in rows)


def test_no_table_of_claims_is_left_out():
    names = [module.name for module in pkgutil.iter_modules(jaxanatomy.claims.__path__)]
    modules = [importlib.import_module(f"jaxanatomy.claims.{name}") for name in names]
    listed = {claim.id for module in modules for claim in getattr(module, "CLAIMS", ())}
    assert listed == {claim.id for claim in CLAIMS}


def test_the_claims_on_one_run_share_their_error():
    for name in ("importance", "recovery", "depth_growth"):
        own = [claim for claim in CLAIMS if claim.is_measured and name in claim.needs]
        assert sum(map(error_of, own)) == pytest.approx(0.05)


def test_a_row_changes_its_hash_with_its_evidence():
    def hash_of(rows):
        return audit([Evidence({"importance": record(rows)})], CLAIMS[:1])[0]["hash"]

    one, two = [{"hash": "a"}], [{"hash": "a"}, {"hash": "b"}]
    assert hash_of(one) == hash_of(one) != hash_of(two)


def test_counts_of_verdicts_are_apart():
    rows = [
        {"verdict": HOLDS, "about": "model"},
        {"verdict": UNMEASURED, "about": "model"},
        {"verdict": FAILS, "about": "figures"},
    ]
    run = record([{"hash": "a"}], "f", code_version="1+x")
    evidence = Evidence({"importance": run}, [run])
    assert summarise([evidence], rows) == {
        "verdicts": {
            "model": dict(zip(VERDICTS, (1, 0, 0, 1), strict=True)),
            "figures": dict(zip(VERDICTS, (0, 1, 0, 0), strict=True)),
        },
        "papers_model": False,
        "runs": [
            {
                "experiment": "importance",
                "model": "m",
                "folder": "f",
                "rows": 1,
                "finished": True,
                "code_version": "1+x",
            }
        ],
    }


FIGURES = {
    "one_baseline": ("does not hold", "scale_0.7 18.08"),
    "gentle_scaling_stated_twice": ("does not hold", "Table 4: +19.0 %"),
    "recovery_thresholds": ("does not hold", "with 22.60: L0, L3, L5, L27, with 18.08: none"),
    "noise_improves": ("does not hold", "L14 19.4, L17 18.5"),
    "categories_follow_thresholds": ("does not hold", "L3 +13.4 % is minor"),
    "distribution": ("does not hold", "9 redundant, 11 minor, 1 important, 9 critical"),
    "thirty_layers_ablated": ("does not hold", "28 layers"),
    "range_printed": ("does not hold", "63419.2 / 0.6 = 1.1e+05"),
    "layer_11_over_layer_17": ("does not hold", "1.1e+05"),
    "anti_layer_sign": ("does not hold", "L14 +5.0 %, L17 −0.6 %"),
    "layer_23_critical": ("does not hold", "L23 +66.6 %"),
    "nine_layers_at_once": ("does not hold", "a factor of 16"),
    "function_test_percentages": ("holds", "+16.0 %, +442,378 %"),
    "budget_total": ("cannot tell", "low ends 2,560, midpoints 2,895, high ends 3,230"),
    "budget_saved": ("holds", "54.0 %"),
    "growth_gains": ("holds", "4.72 times, 12.8 % faster"),
    "half_budget": ("does not hold", "416 steps are 63 %"),
    "core_epochs": ("does not hold", "the phases named add up to 85; by Table 7's layers to 45"),
    "steps_of_an_epoch": ("does not hold", "growth 6.4 steps an epoch (103 epochs), uniform 59.6"),
    "table1_growth_beats_baseline": ("does not hold", "midas 28.18, baseline 30.06"),
    "table1_ln_scaling_trails": ("does not hold", "lidas 31.2, ln_scaling 31.38"),
    "table8_growth_helps_ln_scaling": ("does not hold", "ln_scaling_lidas 43.32, ln_scaling 44.38"),
    "flattening_factors": ("holds", "L3 3.52, L4 6.59, L5 11.44"),
    "saturated_counts_add_up": ("does not hold", "14 lost, 9 gained: 18 before, 13 after"),
    "saturated_share_is_possible": ("does not hold", "609 of 3,504 are 17.4 %"),
    "ten_times_the_baseline": ("holds", "9.3 times"),
    "norms_of_a_pathological_run": ("does not hold", "7 to 28 times"),
    "change_of_registers": ("does not hold", "5e-05"),
}


def test_all_arithmetic_on_the_papers_figures_is_here():
    claims = (claim for claim in CLAIMS if not claim.is_measured)
    assert set(FIGURES) == {claim.id for claim in claims if not claim.needs}


@pytest.mark.parametrize("claim", FIGURES)
def test_the_papers_figures_decide(claim):
    verdict, words = FIGURES[claim]
    found = finding(claim)
    assert found.verdict == verdict
    assert words in found.measured


def test_all_rows_of_table_4_but_one_imply_the_second_baseline():
    implied = implied_baselines()
    assert implied.pop("scale_0.9") == pytest.approx(22.647, abs=1e-3)
    assert all(value == pytest.approx(18.076, abs=2e-3) for value in implied.values())


CONSISTENT = {
    "one_baseline": (figures_ah, "_PERCENT4", {"scale_0.7": 100 * (928.22 / 22.6 - 1)}),
    "categories_follow_thresholds": (figures_ah, "_TABLE1", {"categories": {"minor": [3]}}),
    "range_printed": (figures_ah, "_TABLE1", {"range_factor": 1e5}),
    "layer_11_over_layer_17": (figures_ah, "_TABLE1", {"layer_11_over_layer_17": 3e5}),
    "anti_layer_sign": (figures_ah, "_TABLE1", {"anti_layers": [17]}),
    "half_budget": (figures_ah, "_CLAIMS8", {"growth_50_budget_percent": 63}),
    "steps_of_an_epoch": (figures_ah, "_CLAIMS8", {"uniform_epochs": 103}),
    "saturated_counts_add_up": (
        figures_lr,
        "_SECTION5",
        {"saturated": {"3": [14, 0], "6": [0, 13]}},
    ),
    "saturated_share_is_possible": (
        figures_lr,
        "_SECTION6",
        {"uniform": {"L10": {"saturated": 350, "neurons": 3504}}},
    ),
    "norms_of_a_pathological_run": (figures_lr, "_SECTION8", {"times_peers": [25, 100]}),
    "change_of_registers": (figures_lr, "_SECTION9", {"rms_change": 5e-5}),
}


@pytest.mark.parametrize("claim", CONSISTENT)
def test_figures_that_agree_hold(claim, monkeypatch):
    module, name, values = CONSISTENT[claim]
    table = values if name == "_PERCENT4" else getattr(module, name) | values
    monkeypatch.setattr(module, name, table)
    assert finding(claim).verdict == "holds"


def cost(models=tuple(MODELS), steps=200_000):
    """The rows of a flops run; with other steps the paper's figures stand beside all the same."""
    rows = []
    for name in models:
        model = MODELS[name]
        settings = DepthArmSettings(
            steps=steps, block=4, batch_size=model.batch_size, seq_len=LENGTH
        )
        for each in cost_rows(model.config, settings):
            made = beside_the_paper(each, PRINTED[name])
            rows.append({"hash": f"{len(rows)}", "model": name, **made})
    return rows


def test_the_papers_figures_are_reproduced():
    found = finding("table7_petaflops", cost())
    assert found.verdict == HOLDS
    assert "360M baseline 613,527.488 (+4.9e−10)" in found.measured
    assert "1.7B grown 3,736,573.983 (−9.2e−06)" in found.measured
    assert found.reason == "with steps rounded down all within 1e−09"
    found = finding("table7_ratio", cost())
    assert found.verdict == HOLDS
    assert found.measured == "360M grown 1.2885, 1.7B grown 1.2881"
    assert found.reason.startswith("saved: 22.4 %")


def test_the_table_was_made_with_steps_rounded_down():
    found = finding("table7_largest_remainder", cost())
    assert found.verdict == FAILS
    assert found.measured == "PFLOP less the table's: 360M grown −3.463, 1.7B grown −34.199"
    assert found.reason.endswith("360M grown +0.000, 1.7B grown +0.000")


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
    assert finding(claim, cost(["smollm_1p7b"])).verdict == UNMEASURED
    own = [each | {"paper_petaflops": None, "deviation": None} for each in cost()]
    assert finding(claim, own).reason == "the run lacks the rows"


@pytest.mark.parametrize("architecture", [None, {"layers": [{}] * 30}])
@pytest.mark.parametrize("id", sorted(claim.id for claim in CLAIMS if claim.needs))
def test_a_run_that_has_just_begun_decides_nothing(id, architecture):
    begun = [{"hash": "h", "variant": "baseline", "nll": 1.0, "text": "t"}]
    (claim,) = (each for each in CLAIMS if each.id == id)
    records = {
        name: record(begun, experiment=name, architecture=architecture) for name in claim.needs
    }
    assert claim.finding(Evidence(records), 0.05).verdict == UNMEASURED
