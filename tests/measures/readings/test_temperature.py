"""Losses at several temperatures against log-softmaxes of whole logits, and their rows."""

import dataclasses
import functools
import json
import math

import jax
import numpy as np
import pytest
from naive import CONFIG, double, edited, naive_stream, random_params, replaced, text

from jaxanatomy import model
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Variant, baseline, baseline_steps
from jaxanatomy.measures.readings.temperature import MEASURE, nll_at_temperatures, temperature_rows
from jaxanatomy.sweep import Sweep, SweepOptions

TEMPERATURES = (0.5, 1.0, 1.5, 4.0)
BASE = baseline_steps(CONFIG.num_layers)
DOUBLED = Variant(
    "double/2", replaced(BASE, edited(2, double, ())), labels={"strategy": "double", "set": "a"}
)
VARIANTS = [baseline(CONFIG.num_layers), DOUBLED]
PARAMS = random_params(CONFIG)
BATCHES = [text(rows=2), text(rows=2, seed=1, start=6)]
DOCUMENTS = 6


@pytest.fixture(scope="module")
def readings():
    options = SweepOptions(widths=(2, 1))  # both variants in one call
    measures = {MEASURE: nll_at_temperatures(TEMPERATURES)}
    sweep = Sweep(CONFIG, VARIANTS, BATCHES, measures, options)
    sweep.place(PARAMS)
    return sweep.run(0)


def naive_nll(steps, batch):
    scores = model.logits(CONFIG, PARAMS, naive_stream(CONFIG, PARAMS, steps, batch))
    scores = scores.reshape(-1, CONFIG.vocab_size)[batch.predict_P]
    log_QPV = np.stack([jax.nn.log_softmax(scores / tau) for tau in TEMPERATURES])
    return -log_QPV[:, np.arange(len(batch.target_P)), batch.target_P]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_each_temperature_divides_the_scores(readings, variant):
    expected_QP = np.concatenate([naive_nll(variant.steps, batch) for batch in BATCHES], axis=1)
    nll_PQ = readings[MEASURE][variant.name]
    assert nll_PQ.shape == expected_QP.T.shape
    np.testing.assert_allclose(nll_PQ, expected_QP.T, rtol=1e-6, atol=1e-5)


def test_rows_sum_each_document_at_each_temperature(readings):
    row = temperature_rows(readings, VARIANTS, text="tiny", temperatures=list(TEMPERATURES))[1]
    sums = [[0.0] * 2 * DOCUMENTS for _ in TEMPERATURES]
    tokens = [0] * 2 * DOCUMENTS
    document_P = np.concatenate([batch.document_P for batch in BATCHES])
    for nll_Q, document in zip(readings[MEASURE]["double/2"], document_P, strict=True):
        tokens[document] += 1
        for q in range(len(TEMPERATURES)):
            sums[q][document] += float(nll_Q[q])
    np.testing.assert_allclose(row.pop("unit_nll"), sums, rtol=1e-12)
    assert row == {
        "kind": "temperature",
        "variant": "double/2",
        "strategy": "double",
        "set": "a",
        "text": "tiny",
        "temperatures": list(TEMPERATURES),
        "unit_tokens": tokens,
    }


def test_a_loss_that_is_not_finite_is_null_with_a_reason(readings):
    values = readings[MEASURE].values.copy()
    values[1, 0, 3] = math.nan
    broken = dataclasses.replace(readings[MEASURE], values=values)
    rows = functools.partial(temperature_rows, text="tiny", temperatures=TEMPERATURES)
    (row,) = rows({MEASURE: broken}, [DOUBLED])
    (other,) = rows(readings, [DOUBLED])
    assert row["reason"] == "a summed NLL is not finite"
    assert "reason" not in other
    assert [nll is None for nll in row["unit_nll"][3]] == [True] + [False] * 11
    assert row["unit_nll"][:3] == other["unit_nll"][:3]
    json.dumps(row, allow_nan=False)


def test_equal_temperatures_give_one_function():
    assert nll_at_temperatures([0.5, 1, 2, 4]) is nll_at_temperatures((0.5, 1.0, 2.0, 4.0))
    assert nll_at_temperatures([0.5, 1, 2, 4]) is not nll_at_temperatures([0.5, 1, 2, 8])
    assert nll_at_temperatures() is nll_at_temperatures()


@pytest.mark.parametrize(
    "temperatures",
    [[0.5, 1, 2], [0.5, 2, 1, 4], [0.0, 1, 2, 4], [0.5, 1, 2, math.inf], [0.5, 0.9, 2, 4]],
    ids=["few", "order", "zero", "infinite", "without 1"],
)
def test_bad_temperatures(temperatures):
    with pytest.raises(
        InputError, match=r"at least 4 positive numbers, ascending, with 1"
    ) as error:
        nll_at_temperatures(temperatures)
    assert str(temperatures) in str(error.value)


def test_rows_at_other_temperatures_than_were_read_are_refused(readings):
    with pytest.raises(InputError, match="read at 4 temperatures; got 5 for its rows"):
        temperature_rows(readings, VARIANTS, text="t", temperatures=[*TEMPERATURES, 8.0])
