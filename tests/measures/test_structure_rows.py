"""Rows, arrays and the summary of structure readings, against literal readings."""

import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.gram import gram
from jaxanatomy.forensics.structure import BesideNull, Structure, analyse
from jaxanatomy.measures.structure import (
    component_structure,
    side_of,
    structure_arrays,
    structure_rows,
    summarise,
)

READINGS = (
    BesideNull(None, "delta_correlation", -0.6, "closed_form", -0.5, None, None, None),
    BesideNull(None, "delta_correlation", -0.6, "gaussian", -0.51, -0.55, -0.45, -3.0),
    BesideNull(0, "delta_correlation", -0.7, "gaussian", -0.5, -0.6, -0.4, -4.0),
    BesideNull(1, "delta_correlation", None, "gaussian", -0.5, -0.6, -0.4, None),
    BesideNull(None, "mean_cosine", 0.1, "closed_form", None, None, None, None),
)
STRUCTURE = Structure(READINGS, np.eye(4), np.arange(4), np.ones(4))


def test_the_draws_of_a_component_are_its_own():
    """Decided here and nowhere else, so that a run and a notebook read the same."""
    moments = gram(list(np.random.default_rng(0).normal(size=(5, 6, 4))))
    for name in ("q_proj", "down_proj"):
        found = component_structure(name, moments, samples=30, seed=4).readings
        assert found == analyse(moments, None, 30, (4, tree.MATRICES.index(name))).readings
    assert found != component_structure("q_proj", moments, samples=30, seed=4).readings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 1}, "samples must be a whole number, 2 or above; got 1; 1000 is usual"),
        ({"samples": 2.5}, "samples must be a whole number, 2 or above; got 2.5"),
        ({"seed": -1}, "seed must be a whole number, 0 or above; got -1"),
        ({"seed": None}, "seed must be a whole number, 0 or above; got None"),
    ],
)
def test_draws_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        component_structure("q_proj", gram([np.eye(4)] * 4), **settings)


def test_a_row_for_each_reading_with_a_reason_for_what_is_undefined():
    rows = structure_rows("k_proj", STRUCTURE)
    assert rows[1] == {
        "component": "k_proj",
        "layer": None,
        "metric": "delta_correlation",
        "value": -0.6,
        "null": "gaussian",
        "null_value": -0.51,
        "null_low": -0.55,
        "null_high": -0.45,
        "z": -3.0,
    }
    assert [("reason" in row) for row in rows] == [False, False, False, True, True]


def test_arrays_have_the_name_of_their_component():
    arrays = structure_arrays("k_proj", STRUCTURE)
    assert {name: array.shape for name, array in arrays.items()} == {
        "cosine_k_proj": (4, 4),
        "pca_k_proj": (4,),
        "pca_gaussian_k_proj": (4,),
    }
    assert arrays["pca_k_proj"][3] == 3
    assert arrays["pca_gaussian_k_proj"][3] == 1


def test_the_summary_is_of_the_means_over_layers():
    found = summarise([*structure_rows("k_proj", STRUCTURE), *structure_rows("q_proj", STRUCTURE)])
    delta = {
        "value": -0.6,
        "nulls": {
            "closed_form": {"value": -0.5, "low": None, "high": None, "z": None},
            "gaussian": {"value": -0.51, "low": -0.55, "high": -0.45, "z": -3.0},
        },
    }
    assert found["components"]["q_proj"]["delta_correlation"] == delta
    assert list(found["components"]["k_proj"]) == ["delta_correlation", "mean_cosine"]
    assert found["outside_gaussian"] == {"k_proj": "below", "q_proj": "below"}


@pytest.mark.parametrize(
    ("value", "side"),
    [(-0.7, "below"), (-0.6, None), (-0.5, None), (-0.4, None), (-0.3, "above"), (None, None)],
)
def test_the_side_on_which_a_value_lies_outside(value, side):
    assert side_of({"value": value, "null_low": -0.6, "null_high": -0.4}) == side


def test_without_draws_there_is_no_side():
    assert side_of({"value": -0.7, "null_low": None, "null_high": None}) is None
    assert side_of({}) is None
