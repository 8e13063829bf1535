"""Readings that cannot be had are refused in one line."""

import numpy as np
import pytest
from naive import CONFIG, random_params, text

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import (
    Positions,
    Variant,
    after,
    baseline,
    baseline_steps,
)
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import (
    Beside,
    Measured,
    Parametric,
    Reading,
    Reduction,
    Sweep,
    SweepOptions,
    mean,
)

BASE = baseline_steps(CONFIG.num_layers)


def same(streams, context):
    return streams[0]


def norms(streams, context):
    return abs(streams[0]).sum(axis=-1)


def distance(streams, context):
    return abs(streams[0] - streams[1]).sum(axis=-1)


def run(readings):
    batches = [text(rows=2, seed=1)]
    sweep = Sweep(CONFIG, [baseline(5)], batches, readings, SweepOptions(widths=(1,)))
    sweep.place(random_params(CONFIG))
    return sweep.run(0)


def two(streams, context):
    return {"a": streams[0], "b": norms(streams, context)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reading(same, "block"), "unknown point 'block'; did you mean 'block_in'"),
        (lambda: Reading(same, ("end", "mlp_out")), "takes 'end' alone, or points inside"),
        (lambda: Reading(same, ()), "takes 'end' alone, or points inside"),
        (lambda: Reading(Parametric(same, np.ones((5, 3)))), "reads inside layers; got 'end'"),
        (lambda: Reading("nll"), "a measure must be a function; got str"),
        (lambda: Reading(same, "mlp_out", "median"), "unknown reduction 'median'; did you mean"),
        (lambda: Reduction("mean", per="row"), "unknown group of a reduction 'row'; known: text"),
        (lambda: mean("firsts"), "unknown positions 'firsts'; did you mean 'first'"),
        (lambda: mean(3), "where must be a name or Positions; got 3"),
        (lambda: Reading(same, layers=3), "layers are chosen inside layers"),
        (lambda: Beside(same, at="start"), "unknown place to read beside 'start'"),
        (lambda: Reading(same, "mlp_out", layers="x"), "layers must be whole numbers or ranges"),
    ],
)
def test_what_is_no_reading_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(same, "mlp_out", layers="3-9"), "layers of this model are 0 to 4; got 5"),
        (Reading(norms, reduction=mean(after(5))), r"'r': no token .* 'after_5'; .* has 6 tokens"),
        (
            Reading(norms, reduction=mean(Positions("none", lambda text: text.position_RT < 0))),
            "no token of the text is at positions 'none'",
        ),
        (
            Reading(lambda s, c: s[0][:, 0], "mlp_out"),
            r"'r' must return \[C\], \[C, 24, ...\] .* or \[C, 2, 16, ...\] .*; got \[C, 16, 16\]",
        ),
        (Reading(lambda s, c: s[0].sum(axis=(1, 2, 3)), reduction=mean("first")), "one number for"),
        (Reading(Parametric(same, np.ones((4, 3))), "mlp_out"), r"layers, 5; got the shape \[4, 3"),
        (Reading(Parametric(same, 1.0), "mlp_out"), r"layers, 5; got the shape \[\]"),
        (Reading(two, "mlp_out"), "gives a, b; choose one with part='a'"),
        (Reading(two, "mlp_out", part="c"), "unknown part 'c'"),
        (Reading(same, "mlp_out", part="a"), "its measure gives one array; leave part out"),
        (Reading(same, "mlp_out", axes=("x", "y")), "names 2 axes .*; its measure has 1"),
        (
            Reading(Beside(distance, steps=BASE[:2]), "mlp_out", layers=[1, 3]),
            "must apply each of them once; got layer 3 0 times",
        ),
        ("nll", "reading 'r' must be a Reading or a measure; got str"),
    ],
)
def test_readings_that_do_not_fit_are_refused(reading, message):
    with pytest.raises(InputError, match=message):
        run({"r": reading})


def test_positions_without_a_prediction_and_layers_that_nothing_applies_are_refused():
    # The last token of the longest document predicts nothing.
    with pytest.raises(InputError, match="no prediction of the text is at positions 'after_4'"):
        run({"r": Reading(nll, reduction=mean(after(4)))})
    sweep = Sweep(
        CONFIG,
        [Variant("v", BASE[:2])],
        [text()],
        {"r": Reading(same, "mlp_out", layers=3), "nll": Reading(nll)},
    )
    sweep.place(random_params(CONFIG))
    with pytest.raises(InputError, match="'r' reads layers that no variant applies"):
        sweep.run(0)


def test_chunks_of_which_one_applies_no_layer_that_is_read_are_joined():
    variants = [Variant("exit", BASE[:2]), Variant("whole", BASE)]
    readings = {"r": Reading(same, "mlp_out", layers=3)}
    sweep = Sweep(CONFIG, variants, [text()], readings, SweepOptions(chunk_size=1, widths=(1,)))
    sweep.place(random_params(CONFIG))
    joined = Measured.joined([sweep.run(chunk)["r"] for chunk in (0, 1)])
    assert joined.values.shape == (2, 1, 15, CONFIG.hidden_size)
    assert np.isnan(joined["exit"]).all()
    assert np.isfinite(joined["whole"]).all()


def test_nothing_to_read_is_refused():
    with pytest.raises(InputError, match="at least one reading; got none"):
        run({})
