"""What recovery curves come to, in literal figures."""

import math

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.recovery import (
    check_thresholds,
    curves,
    evaluation_fields,
    final_row,
    gaps_to_control,
    recovery_against_importance,
    steps_to,
    steps_to_control,
)
from jaxanatomy.measures.statistics.estimates import spearman

DOCUMENT_P = np.repeat(np.arange(6), 4)


def point(step, ppl, layer=3, seed=3, **more):
    """A row at which every token has the loss log(ppl)."""
    nll_P = np.full(24, math.nan if ppl is None else math.log(ppl))
    fields = evaluation_fields(nll_P, DOCUMENT_P)
    labels = {"layer": layer, "seed": seed, "noise": seed is not None, "step": step}
    return labels | {"train_text": "a", "text": "b"} | fields | more


def test_steps_to_is_the_first_evaluated_step_at_or_below():
    curve = [point(0, 50.0), point(10, 20.0), point(20, 31.0), point(30, 14.9), point(40, None)]
    curve[1]["ppl"] = 20.0  # exactly twice the baseline
    expected = {"4": 10, "2": 10, "1.5": 30, "1.1": None}
    assert steps_to(curve, 10.0, (4, 2, 1.5, 1.1)) == expected
    assert steps_to(curve, 10.0, (6,)) == {"6": 0}


def test_steps_to_the_control_count_what_training_alone_does_not_do():
    """Perplexities that the undamaged model never had, and a control that falls as well."""
    curve = [point(0, 50.0), point(10, 12.0), point(20, 9.0), point(30, 6.0), point(40, None)]
    control = [point(step, ppl, seed=None) for step, ppl in ((0, 10.0), (10, 7.0), (20, 5.5))]
    control += [point(30, None, seed=None), point(40, 5.0, seed=None)]
    found = steps_to_control(curve, control, (4, 2, 1.5, 1.1))
    assert found == {"4": 10, "2": 10, "1.5": None, "1.1": None}
    assert steps_to(curve, 10.0, (2, 1.1)) == {"2": 10, "1.1": 20}  # as the paper counts
    assert steps_to_control(curve, None, (2,)) is None


def test_gaps_are_over_seeds_and_documents_at_the_last_step_that_all_have():
    def row(step, own, **labels):
        """Losses by document; six documents of four tokens."""
        made = point(step, 1.0, **labels)
        return made | {"unit_nll": (4 * np.broadcast_to(own, 6)).tolist()}

    rows = [row(step, 2.0, seed=None) for step in (0, 10)]
    rows += [
        row(step, 2.0 + gap, seed=seed) for step in (0, 10) for seed, gap in ((3, 0.1), (4, 0.3))
    ]
    rows += [row(0, 9.0, seed=5)]  # measured, not trained
    rows += [row(20, 2.5, seed=3)]  # the others have not come as far
    (found,) = (gaps_to_control(rows)[3],)
    t = 12.706205  # of one degree of freedom
    assert found["ci95"] == pytest.approx([0.2 - t * 0.1, 0.2 + t * 0.1])
    del found["ci95"]
    assert found == pytest.approx({"seeds": 2, "step": 10, "mean": 0.2, "low": 0.1, "high": 0.3})
    one = gaps_to_control([each for each in rows if each["seed"] != 4])[3]
    assert (one["mean"], one["ci95"]) == (pytest.approx(0.1), None)
    assert gaps_to_control([each for each in rows if each["seed"] is not None]) == {}
    # Seeds alike, documents not: the interval is that over documents.
    own = 2.0 + np.array([0, 0, 0, 0.6, 0.6, 0.6])
    rows = [row(step, 2.0, seed=None) for step in (0, 10)]
    rows += [row(step, own, seed=seed) for step in (0, 10) for seed in (3, 4)]
    half = 2.570582 * np.std(own, ddof=1) / np.sqrt(6)
    assert gaps_to_control(rows)[3]["ci95"] == pytest.approx([0.3 - half, 0.3 + half])


@pytest.mark.parametrize(
    "bad", [(), (1.1, 1.5), (2, 2), (2, 1), (math.inf, 2), (2, 0.5), (math.nan,)]
)
def test_thresholds_descend_and_lie_above_one(bad):
    with pytest.raises(InputError, match="thresholds must be multiples of the baseline"):
        check_thresholds(bad)
    assert check_thresholds((2, 1.5)) == (2.0, 1.5)


def test_evaluation_fields_are_sums_over_documents():
    nll_P = np.linspace(0, 2, 24, dtype=np.float32)
    row = evaluation_fields(nll_P, DOCUMENT_P)
    assert row["tokens"] == 24
    assert row["ppl"] == pytest.approx(math.exp(1.0), rel=1e-6)
    assert row["unit_nll"] == pytest.approx(nll_P.reshape(6, 4).sum(axis=1), rel=1e-6)
    assert "reason" not in row
    bad = evaluation_fields(np.full(24, np.nan), DOCUMENT_P)
    assert (bad["ppl"], bad["nll"], bad["reason"]) == (None, None, "the summed NLL is nan")


def test_curves_are_sorted_and_leave_out_other_rows():
    rows = [point(10, 2.0), point(0, 3.0), point(0, 2.0, seed=None), {"kind": "final", "step": 1}]
    rows.append({"variant": "baseline"})
    found = curves(rows)
    assert list(found) == [(3, None), (3, 3)]
    assert [row["step"] for row in found[3, 3]] == [0, 10]


def test_a_final_row_has_ends_minimum_and_the_gap_at_the_last_shared_step():
    curve = [point(0, 50.0), point(10, 12.0), point(20, 16.0)]
    control = [point(0, 10.0, seed=None), point(10, 9.0, seed=None), point(20, 8.0, seed=None)]
    row = final_row(curve, control, 10.0, (2, 1.1))
    assert (row["kind"], row["layer"], row["seed"], row["noise"]) == ("final", 3, 3, True)
    assert row["steps"] == 20
    assert row["noised_ppl"] == pytest.approx(50.0)
    assert row["final_ppl"] == pytest.approx(16.0)
    assert (row["best_ppl"], row["best_step"]) == (pytest.approx(12.0), 10)
    assert row["steps_to"] == {"2": 10, "1.1": None}
    assert row["steps_to_control"] == {"2": 10, "1.1": None}
    assert row["gap_to_control"] == pytest.approx(8.0)
    # Every token differs by log 2, so every document does.
    assert row["gap_to_control_nats"] == pytest.approx(math.log(2))
    assert row["gap_ci95"] == pytest.approx([math.log(2)] * 2)
    assert "reason" not in row


def test_a_diverged_curve_says_so_and_compares_where_both_are_finite():
    curve = [point(0, 50.0), point(10, 12.0), point(20, None, reason="diverged: at 17")]
    control = [point(0, 10.0, seed=None), point(10, 6.0, seed=None), point(20, 8.0, seed=None)]
    row = final_row(curve, control, 10.0, (2,))
    assert (row["reason"], row["final_ppl"], row["steps"]) == ("diverged: at 17", None, 20)
    assert row["gap_to_control"] == pytest.approx(6.0)
    alone = final_row(curve, None, 10.0, (2,))
    assert (alone["gap_to_control"], alone["gap_ci95"]) == (None, None)
    assert alone["steps_to_control"] is None
    nothing = final_row([point(0, None, reason="r")], None, 10.0, (2,))
    assert (nothing["best_ppl"], nothing["noised_ppl"], nothing["steps_to"]) == (
        None,
        None,
        {"2": None},
    )


def test_recovery_against_importance_is_the_rank_correlation_over_layers():
    importance = {0: 5.0, 1: 80.0, 2: 20.0, 3: 400.0, 4: None}
    noised = {0: 12.0, 1: 30.0, 2: 31.0, 3: 90.0, 4: 1.0, 5: 2.0}
    reached = {0: 0, 1: 50, 2: 20, 3: None, 4: 0, 5: 0}
    finals = [
        {
            "layer": layer,
            "noise": True,
            "noised_ppl": ppl,
            "gap_to_control_nats": 0.1,
            "steps_to_control": {"1.1": reached[layer]},
        }
        for layer, ppl in noised.items()
    ]
    finals.append({**finals[0], "noise": False, "noised_ppl": 1e9})
    found = recovery_against_importance(finals, importance, "1.1")
    expected = spearman([12.0, 30.0, 31.0, 90.0], [5.0, 80.0, 20.0, 400.0])
    assert found["noised"]["value"] == pytest.approx(expected) == pytest.approx(0.8)
    assert found["steps"]["value"] == pytest.approx(1.0)
    assert found["gap"]["value"] is None  # all alike
    alone = [{**each, "steps_to_control": None, "gap_to_control_nats": None} for each in finals]
    none = recovery_against_importance(alone, importance, "1.1")
    assert (none["gap"]["value"], none["steps"]["value"]) == (None, None)
    assert found["noised"]["layers"] == 4
    low, high = found["noised"]["ci95"]
    assert -1 <= low <= 0.8 <= high <= 1
    few = recovery_against_importance(finals[:2], importance, "1.1")
    assert few["noised"] == {"layers": 2, "value": None, "ci95": None}
