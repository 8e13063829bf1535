"""Surgery looked at whole: simultaneous intervals, the best of each length, what is counted."""

import math

import numpy as np
import pytest

from jaxanatomy.measures.statistics.estimates import ratio_intervals, simultaneous_intervals
from jaxanatomy.measures.surgery import looked_at, summarise

TOKENS = (9, 12, 7, 10, 11, 8, 9, 14, 10, 10)
BASE = np.random.default_rng(0).normal(30.0, 2.0, len(TOKENS))


def make_row(op, start, size, shift, seed, spread=0.02, text="letters"):
    """A variant whose loss is `shift` nats a token above the baseline's, more or less."""
    tokens = np.array(TOKENS)
    generator = np.random.default_rng(seed)
    own = BASE + (shift + generator.normal(0, spread, len(tokens))) * tokens
    kl = abs(shift) * generator.exponential(size=len(tokens)) * tokens
    return {
        "variant": f"{op}/span/{start}-{start + size - 1}" if size else "baseline",
        "op": op,
        "size": size,
        "start": start,
        "nll": own.sum(),
        "tokens": int(tokens.sum()),
        "ppl": math.exp(own.sum() / tokens.sum()),
        "unit_nll": own.tolist(),
        "unit_kl": kl.tolist(),
        "unit_tokens": list(TOKENS),
        "text": text,
    }


BASELINE = make_row("none", None, 0, 0.0, 0, 0.0)
CUTS = [
    make_row("cut", 0, 1, 3.0, 1),
    make_row("cut", 1, 1, -0.3, 2),  # better
    make_row("cut", 2, 1, 0.001, 3, spread=0.5),  # lost in noise
    make_row("cut", 0, 2, 4.0, 4),
    make_row("cut", 1, 2, 0.4, 5),
    make_row("cut", 2, 2, 0.401, 6, spread=0.1),  # as good as the best, for all one can tell
]
REPEATS = [make_row("repeat", 0, 1, 0.2, 7)]


def test_intervals_are_those_of_all_variants_of_the_operation_at_once():
    found = looked_at(CUTS, BASELINE)
    sums_VU = np.array([row["unit_nll"] for row in CUTS]) - np.array(BASELINE["unit_nll"])
    expected = simultaneous_intervals(sums_VU, np.array(TOKENS))
    alone = ratio_intervals(sums_VU, np.array(TOKENS))
    for row, (value, low, high), (_, own_low, own_high) in zip(found, expected, alone, strict=True):
        percent = [100 * math.expm1(each) for each in (value, low, high)]
        change = row["change"]
        assert [change.value, change.low, change.high] == pytest.approx(percent)
        assert row["told_apart"] == (low > 0 or high < 0)
        assert low < own_low < own_high < high
    assert [row["told_apart"] for row in found] == [True, True, False, True, True, True]
    kl_VU = np.array([row["unit_kl"] for row in CUTS])
    expected = simultaneous_intervals(kl_VU, np.array(TOKENS))
    assert (expected[:, 1] < 0).any()
    expected[:, 1] = np.maximum(expected[:, 1], 0)
    kls = [[row["kl"].value, row["kl"].low, row["kl"].high] for row in found]
    np.testing.assert_allclose(kls, expected)


def test_what_is_not_finite_has_no_interval_and_takes_none_from_the_others():
    lost = CUTS[0] | {"nll": None, "ppl": None, "unit_nll": [None] * 10, "unit_kl": [None] * 10}
    found = looked_at([lost, *CUTS[1:]], BASELINE)
    assert math.isnan(found[0]["change"].value)
    assert math.isnan(found[0]["kl"].value)
    assert not found[0]["told_apart"]
    assert [row["change"] for row in found[1:]] == [
        row["change"] for row in looked_at(CUTS[1:], BASELINE)
    ]
    summary = summarise([BASELINE, lost], {"letters": 10})["texts"]["letters"]["operations"]["cut"]
    assert (summary["worse"], summary["better"], summary["best"]) == (0, 0, [])


def test_the_summary_counts_and_picks_for_each_text_and_operation():
    other = [row | {"text": "other"} for row in (BASELINE, CUTS[0])]
    texts = summarise([*REPEATS, BASELINE, *CUTS, *other], {"letters": 3, "other": 10})["texts"]
    assert list(texts) == ["letters", "other"]
    letters = texts["letters"]
    assert letters["baseline_ppl"] == BASELINE["ppl"]
    assert [letters[name] for name in ("tokens", "documents", "units")] == [100, 3, 10]
    cuts, repeats = letters["operations"]["cut"], letters["operations"]["repeat"]
    assert [cuts[name] for name in ("variants", "worse", "better", "below")] == [
        6,
        4,
        1,
        sum(row["nll"] < BASELINE["nll"] for row in CUTS),
    ]
    assert [row["variant"] for row in cuts["best"]] == ["cut/span/1-1", "cut/span/1-2"]
    assert [row["may_be_best"] for row in cuts["best"]] == [[1, 2], [1, 2]]
    band = looked_at(CUTS, BASELINE)[4]["change"]
    assert cuts["best"][1]["degradation_percent"] == band.value
    assert cuts["best"][1]["ci95"] == [band.low, band.high]
    assert "may_be_best" not in repeats["best"][0]
    assert texts["other"]["operations"].keys() == {"cut"}


def test_the_order_in_which_rows_were_measured_changes_nothing():
    rows = [BASELINE, *(make_row("cut", start, 1, 0.1, start) for start in range(12)), *REPEATS]
    expected = summarise(rows, {"letters": 10})
    for seed in range(8):
        mixed = [rows[at] for at in np.random.default_rng(seed).permutation(len(rows))]
        assert summarise(mixed, {"letters": 10}) == expected
        assert list(summarise(mixed, {"letters": 10})["texts"]["letters"]["operations"]) == [
            "cut",
            "repeat",
        ]


def test_one_unit_gives_values_without_intervals():
    one = {"unit_nll": [30.0], "unit_kl": [0.0], "unit_tokens": [10]}
    (found,) = looked_at([CUTS[0] | one | {"unit_nll": [40.0], "unit_kl": [5.0]}], BASELINE | one)
    assert found["change"].value == pytest.approx(100 * math.expm1(1.0))
    assert found["change"].ends is None
    assert (found["kl"].value, found["kl"].ends) == (0.5, None)
    assert not found["told_apart"]
