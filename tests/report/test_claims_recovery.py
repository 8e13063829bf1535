"""Claims about recovery, from literal curves: each verdict, and rows that are missing."""

import math

import numpy as np
import pytest
from report.claim_rows import SMOLLM2

from jaxanatomy.measures.recovery import evaluation_fields
from jaxanatomy.records import RunRecord
from jaxanatomy.report import claims
from jaxanatomy.report.claims.claim import FAILS, HOLDS, UNDECIDED, Evidence

BASE, STEPS = 20.0, 200
TABLE5 = (0, 1, 3, 5, 8, 10, 11, 14, 17, 23, 24, 27, 29)
# Documents differ by this much around a mean loss, in nats; NOISY: intervals are wide.
QUIET, NOISY = (-0.01, 0.01, -0.02, 0.02, 0.0, 0.0), (-2.0, 2.0, -1.0, 1.0, 0.5, -0.5)


def loss_fields(times, spread=(0.0,) * 6):
    """A perplexity of so many times the undamaged one on six documents; None: not finite."""
    mean = math.nan if times is None else math.log(BASE * times)
    nll_P = np.repeat([mean + off for off in spread], 10)
    return evaluation_fields(nll_P, np.repeat(np.arange(6), 10))


def curve(layer, *times, seed=0, spread=QUIET, at=None, text="sentences", train="paragraphs"):
    """Points from step 0 to the last; seed None: without noise."""
    at = at or {1: (0,), 2: (0, STEPS), 4: (0, 10, 100, STEPS)}[len(times)]
    labels = {"layer": layer, "seed": seed, "noise": seed is not None}
    return [
        {
            "hash": f"{layer} {seed} {step}",
            **labels,
            "train_text": train,
            "text": text,
            "step": step,
        }
        | loss_fields(value, spread)
        for step, value in zip(at, times, strict=True)
    ]


def importance(degradation):
    return [
        {
            **{"hash": f"map {layer}", "variant": f"neighbour_mean/layer/{layer}"},
            **{"intervention": "neighbour_mean", "layer": layer, "degradation_percent": value},
        }
        for layer, value in degradation.items()
    ]


def finding(claim, *parts, steps=STEPS, summary=None, papers_model=True, baseline=True):
    (chosen,) = (each for each in claims.CLAIMS if each.id == claim)
    rows = [row for part in parts for row in part]
    if baseline:
        rows.append({"hash": "baseline", "variant": "baseline", **loss_fields(1.0)})
    architecture = SMOLLM2 if papers_model else {"layers": [{}] * 4}
    provenance = {"model": "file:x", "architecture": architecture}
    record = RunRecord("run", rows, {"steps": steps}, provenance, summary or {"done": 1})
    return chosen.finding(Evidence({"recovery": record}))


def all_layers(times):
    """Curves of the 30 layers; `times` tells the points from the layer."""
    return [curve(layer, *times(layer)) for layer in range(30)]


@pytest.mark.parametrize(
    ("slow", "verdict"),
    [
        (curve(1, 9, 8, 7, 3), HOLDS),
        (curve(1, 9, 8, 7, 3, spread=NOISY), UNDECIDED),
        (curve(1, 9, 1, 1, 1), FAILS),
        (curve(1, 9, 1.05, 1.06, 1.0), FAILS),
        ((), UNDECIDED),
    ],
)
def test_layers_differ_in_how_fast_they_recover(slow, verdict):
    found = finding("recovery_differs", slow, curve(0, 3, 1, 1, 1), curve(0, 1, 0.9, seed=None))
    assert found.verdict == verdict
    if verdict == HOLDS:
        assert "L0 60.0 with noise, lowest 20.0 at step 10 of 200 to L1 180.0" in found.measured
        assert "never at 1.1×: L1" in found.measured
        assert "trained without noise: L0 18.0" in found.null


def test_layers_that_all_never_recover_do_not_recover_alike():
    both = curve(0, 3, 2, 2, 2), curve(1, 3, 2, 2, 2)
    assert finding("recovery_differs", *both).verdict == UNDECIDED


@pytest.mark.parametrize(("sign", "verdict"), [(1, HOLDS), (-1, FAILS), (0, UNDECIDED)])
def test_recovery_follows_importance(sign, verdict):
    at = (0, *range(10, 201, 10))
    curves = [
        curve(layer, *(1.0 if step >= 10 * layer else 3.0 for step in at), at=at)
        for layer in range(1, 20)
    ]
    order = (7, 19, 1, 13, 4, 16, 10, 2, 18, 6, 12, 8, 14, 3, 17, 9, 11, 5, 15)
    known = importance({i: sign * i if sign else order[i - 1] for i in range(1, 20)})
    found = finding("recovery_follows_importance", known, *curves, papers_model=False)
    assert found.verdict == verdict
    expected = {1: "1.00 [0.99, 1.00]", -1: "−1.00 [−1.00, −0.99]"}.get(sign, "over 19 layers")
    assert expected in found.measured
    assert "0 for unrelated rankings" in found.null


@pytest.mark.parametrize(
    ("seeds", "verdict"),
    [
        ([curve(14, 0.8), curve(17, 0.9), curve(17, 0.9, seed=1)], HOLDS),
        ([curve(14, 0.8), curve(17, 0.9), curve(17, 1.1, seed=1)], FAILS),
        ([curve(14, 0.8), curve(17, 0.9, spread=NOISY)], UNDECIDED),
        ([curve(14, 0.8)], UNDECIDED),
        ([curve(14, 1.1)], FAILS),
        ([], UNDECIDED),
    ],
)
def test_noise_improves_anti_layers(seeds, verdict):
    found = finding("noise_improves_anti_layers", *seeds, curve(3, 0.5), curve(3, 2, seed=1))
    assert found.verdict == verdict
    if len(seeds) == 3:
        assert "L14 16.0; L17 18.0" in found.measured
        assert found.null.endswith("1 of 2")
    if len(seeds) == 1:
        assert "L17 was not measured" in found.reason


@pytest.mark.parametrize(
    ("end", "control", "verdict"), [(0.8, 0.9, HOLDS), (0.8, 0.7, FAILS), (0.8, None, UNDECIDED)]
)
def test_the_same_training_without_noise_decides_whether_noise_helped(end, control, verdict):
    rows = [curve(layer, 2, 1, 1, end) for layer in (14, 17)]
    if control:
        rows += [curve(layer, 1, control, seed=None) for layer in (14, 17)]
    found = finding("noise_and_training_improve_anti_layers", *rows)
    assert found.verdict == verdict
    if control == 0.7:
        assert "L14 +0.134 [+0.134, +0.134]" in found.measured
        assert "trained without noise: L14 14.0, L17 14.0" in found.null


@pytest.mark.parametrize(
    ("claim", "layer", "limit"),
    [
        ("layer_3_never_converges", 3, 1.1),
        ("layer_11_unrecoverable", 11, 2),
        ("layer_29_unrecoverable", 29, 2),
    ],
)
def test_layers_that_never_recover(claim, layer, limit):
    def verdict(*times, steps=STEPS, **more):
        rows = curve(layer, *times, **more), curve(8, 9, 9, 9, 9), curve(layer, 1, 0.5, seed=None)
        return finding(claim, *rows, steps=steps)

    above, below = 1.1 * limit, 0.9 * limit
    found = verdict(99, 9, above, 2 * above)
    assert found.verdict == HOLDS
    assert f"L{layer} 1,980.0 with noise, lowest {20 * above:.1f} at step 100" in found.measured
    assert f"L{layer} 10.0; of 1 other layers above {limit:g}×: L8" in found.null
    assert verdict(99, 9, below, above).verdict == FAILS
    assert verdict(99, 9, above, above, spread=NOISY).verdict == UNDECIDED
    short = verdict(99, above, steps=60, at=(0, 60))
    assert (short.verdict, short.reason) == (UNDECIDED, "trained for 60 steps only")
    assert verdict(99, below, steps=60, at=(0, 60)).verdict == FAILS
    assert finding(claim, curve(8, 9, 9, 9, 9)).reason.startswith("not measured")


def test_curves_that_diverged_or_go_on_are_no_evidence():
    stopped = curve(11, 99, 9, None, at=(0, 10, 20))
    stopped[-1]["reason"] = "diverged"
    assert "lacks the rows" in finding("layer_11_unrecoverable", stopped).reason
    going_on = curve(11, 99, 9, at=(0, 190))
    assert "lacks the rows" in finding("layer_11_unrecoverable", going_on).reason
    assert "lacks the rows" in finding("layer_11_unrecoverable", going_on, baseline=False).reason


@pytest.mark.parametrize(
    ("times", "verdict"), [((1.4, 1.2), HOLDS), ((1.4, 1.6), FAILS), ((1.4,), UNDECIDED)]
)
def test_critical_output_layers_recover_instantly(times, verdict):
    rows = [curve(layer, *pair) for layer, pair in zip((23, 24), zip(times), strict=False)]
    found = finding("critical_output_instant", *rows, curve(3, 1.4), curve(3, 3, seed=1))
    assert found.verdict == verdict
    assert found.null == "other layers: 1, not within 1 of 2"


def test_layers_of_table_10_converge_in_ten_steps():
    def verdict(later, named=(3, 5, 6, 12, 19)):
        rows = [curve(layer, 2, 1.05, 3, 3) for layer in named[:-1]]
        found = finding("redundant_instant", *rows, curve(named[-1], 2, later, 1, 1))
        return found.verdict

    assert (verdict(1.05), verdict(1.2)) == (HOLDS, FAILS)
    assert (verdict(1.05, (3, 5)), verdict(1.2, (3, 5))) == (UNDECIDED, FAILS)


@pytest.mark.parametrize(
    ("claim", "column"), [("table5_noise_ranking", 0), ("table5_final_ranking", -1)]
)
def test_rankings_of_table_5(claim, column):
    printed = claims.recovery.paper_table("table5_recovery")["layers"]

    def rows(sign, among=TABLE5):
        values = {i: 30 * printed[str(i)][column] ** sign for i in among}
        return [curve(i, v, v, v, v) for i, v in values.items()]

    assert finding(claim, *rows(1)).verdict == HOLDS
    assert finding(claim, *rows(-1)).verdict == FAILS
    some = finding(claim, *rows(1, TABLE5[:-1]))
    assert (some.verdict, some.reason) == (UNDECIDED, "L29 was not measured")
    assert "1.00 [1.00, 1.00] over 12 layers" in some.measured
    assert finding(claim, *rows(1, TABLE5[:3])).measured == "not measured"


def test_a_budget_saves_what_the_curves_say_whatever_their_intervals_hold():
    """Layers that are within at step 0, 100 and never: R of 0, 0.5 and 1."""

    def budget(never, **more):
        ends = {True: (3, 3, 3, 3), False: (1, 1, 1, 1)}
        rows = [curve(i, *ends[i < never], **more) for i in range(1, 30)]
        return finding("budget_from_recovery", *rows, curve(0, 3, 3, 1, 1))

    saved = budget(10)  # 9 never, layer 0 at step 100
    assert saved.verdict == HOLDS
    assert saved.measured == "68 % [68, 68] of 200 steps for each of 30 layers"
    assert "46 to 57 %" in saved.null
    assert budget(20).verdict == FAILS
    assert budget(20, spread=NOISY).verdict == UNDECIDED
    few = finding("budget_from_recovery", curve(0, 1, 1, 1, 1))
    assert few.verdict == UNDECIDED
    assert "L1, L2, L3, L4, L5, L6 and 23 more were not measured" in few.reason


def test_the_budget_of_table_10_and_recovery():
    table = claims.recovery.paper_table("table10_budget")
    printed = {i: each["low"] for each in table["groups"] for i in each["layers"]}
    at = (0, *range(10, 201, 10))

    def rows(sign):
        reached = {i: 200 * (low if sign > 0 else 1 - low) for i, low in printed.items()}
        return [
            curve(i, *(1.0 if step >= reached[i] else 3.0 for step in at), at=at) for i in printed
        ]

    found = finding("budget_follows_recovery", *rows(1), importance({i: i for i in range(1, 29)}))
    assert found.verdict == HOLDS
    assert "importance, which needs no training" in found.null
    assert finding("budget_follows_recovery", *rows(-1)).verdict == FAILS
    alike = finding("budget_follows_recovery", *all_layers(lambda layer: (3, 3, 3, 3)))
    assert alike.verdict == UNDECIDED
    assert "all of 30 layers are alike" in alike.measured


def test_training_on_the_evaluation_text_shows_no_recovery():
    rows = curve(11, 99, 9, 9, 9, train="sentences")
    found = finding("layer_11_unrecoverable", rows)
    assert found.verdict == UNDECIDED
    assert "trained on documents that it is evaluated on" in found.reason
    assert "L11 1,980.0 with noise" in found.measured
    shared = {"warnings": ["3 of 10 documents are in both"]}
    shown = finding("layer_11_unrecoverable", curve(11, 99, 9, 9, 9), summary=shared)
    assert (shown.verdict, shown.reason) == (found.verdict, found.reason)
    apart = finding("layer_11_unrecoverable", curve(11, 99, 9, 9, 9), summary={"warnings": []})
    assert (apart.verdict, apart.text) == (HOLDS, "sentences")


def test_a_recovery_run_is_told_from_one_of_importance_and_another_model_from_the_papers():
    rows = [*curve(11, 99, 9, 9, 9), *importance({1: 2.0})]
    assert claims.experiment_of(RunRecord("run", rows, {}, {}, {})) == "recovery"
    other = finding("layer_11_unrecoverable", rows, papers_model=False)
    assert other.reason.startswith("another architecture")
    assert (
        finding("recovery_differs", rows, curve(3, 1, 1, 1, 1), papers_model=False).verdict == HOLDS
    )
