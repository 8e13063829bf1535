"""The KL of a variant as fields of its row, against sums by hand."""

import json

import numpy as np
import pytest

from jaxanatomy.measures.rows import kl_fields
from jaxanatomy.measures.statistics.estimates import ratio_intervals

UNIT_P = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
KL_P = np.array([0.5, 0.25, 0.0, 1.0, 3.0, 0.125, 0.5, 0.25, 0.125], np.float32)


def test_kl_is_the_mean_over_tokens_and_its_sums_are_those_of_units():
    row = kl_fields(KL_P, UNIT_P)
    assert row["unit_kl"] == [0.75, 4.0, 1.0]
    assert row["kl"] == 5.75 / 9
    ((_, low, high),) = ratio_intervals(np.array([[0.75, 4.0, 1.0]]), np.array([3, 2, 4]))
    assert low < 0 < row["kl"] < high
    assert row["kl_ci95"] == [0.0, high]  # no KL is below 0
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_kl_that_is_not_finite_is_null(lost):
    kl_P = np.where(UNIT_P == 1, np.float32(lost), KL_P)
    assert kl_fields(kl_P, UNIT_P) == {"kl": None, "kl_ci95": None, "unit_kl": [0.75, None, 1.0]}


def test_one_unit_has_no_interval():
    assert kl_fields(KL_P, 0 * UNIT_P)["kl_ci95"] is None
