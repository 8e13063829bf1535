"""Attention before and after a perturbation against loops over heads and positions."""

import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, naive_attention, naive_stream, random_params, text

from jaxanatomy import tree, weights
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.data.text import load_text
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Edit, Step
from jaxanatomy.measures.readings.attention import (
    SHIFTS,
    AttentionNoise,
    attention_rows,
    attention_variants,
)
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep, SweepOptions

BATCH = text(rows=2)
PARAMS = random_params(CONFIG)
# Where a query of the first row has at least two keys: documents of 4, 6 and 5 tokens.
COUNTED_T = [t for t in range(15) if t not in (0, 4, 10)]
PLACE = {"q_proj": 0, "k_proj": 1}


def shifts(config, params, batches, settings):
    variants = attention_variants(config, settings)
    sweep = Sweep(config, variants, batches, SHIFTS, SweepOptions(widths=(3, 1)))
    sweep.place(params)
    return attention_rows(sweep.run(0), variants, text="tiny", batches=batches)


def shift(config, params, batches, *noise):
    return shifts(config, params, batches, [AttentionNoise(*noise)])


def noisy(block, component, alpha, layer, seed):
    weight = tree.get(block, component).astype(np.float64).T
    drawn = np.random.default_rng((seed, layer, PLACE[component])).standard_normal(
        weight.shape, np.float32
    )
    new = (
        weight.mean() + weight.std() * drawn
        if alpha is None
        else weight + alpha * weight.std() * drawn
    )
    return tree.replace(block, {component: new.T.astype(np.float32)})


def expected_rows(config, params, component, alpha, seed):
    """What the rows say, by (layer, spread)."""
    rows = {}
    for layer, own in enumerate(params["layers"]):
        block = noisy(own, component, alpha, layer, seed)
        clean_x = naive_stream(config, params, [Step(each) for each in range(layer)], BATCH)
        steps = [
            Step(each, Edit("n", functools.partial(_noisy_edit, component, alpha, each, seed)))
            for each in range(layer)
        ]
        moved_x = naive_stream(config, params, steps, BATCH)
        before = naive_attention(config, own, layer, clean_x, BATCH)
        for spread, x_RTD in (("local", clean_x), ("propagated", moved_x)):
            after = naive_attention(config, block, layer, x_RTD, BATCH)
            num_heads = config.layers[layer].num_heads
            variation, changed = ([[] for _ in range(num_heads)] for _ in range(2))
            for r, head, t in itertools.product(range(2), range(num_heads), COUNTED_T):
                p, q = before[r, head, t], after[r, head, t]
                variation[head].append(abs(p - q).sum() / 2)
                changed[head].append(p.argmax() != q.argmax())
            rows[layer, spread] = {
                "total_variation": np.mean(variation),
                "max_total_variation": np.max(variation),
                "argmax_changed": np.mean(changed),
                "max_head_argmax_changed": max(map(np.mean, changed)),
                "heads_total_variation": [np.mean(each) for each in variation],
                "heads_argmax_changed": [np.mean(each) for each in changed],
            }
    return rows


def _noisy_edit(component, alpha, layer, seed, own):
    return noisy(own, component, alpha, layer, seed)


@pytest.mark.parametrize("component", ["q_proj", "k_proj"])
@pytest.mark.parametrize("alpha", [0.3, None])
@pytest.mark.parametrize("config", [CONFIG, MIXED_SHAPES], ids=["uniform", "mixed"])
def test_rows_are_what_loops_give(config, component, alpha):
    params = random_params(config)
    rows = shift(config, params, [BATCH], component, alpha, 5)
    expected = expected_rows(config, params, component, alpha, 5)
    assert len(rows) == len(expected) == 2 * config.num_layers
    for row in rows:
        want = expected[row["layer"], row["spread"]]
        for name, value in want.items():
            np.testing.assert_allclose(row[name], value, rtol=0, atol=1e-5, err_msg=name)
        assert {key: value for key, value in row.items() if key not in want} == {
            "kind": "attention",
            "label": "matched_noise" if alpha is None else "perturb",
            "component": component,
            "layer": row["layer"],
            "alpha": alpha,
            "seed": 5,
            "spread": row["spread"],
            "tokens": 30,
            "queries": 2 * len(COUNTED_T),
            "text": "tiny",
        }
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("component", ["q_proj", "k_proj"])
def test_no_noise_moves_exactly_nothing(component):
    for row in shift(CONFIG, PARAMS, [BATCH], component, 0.0, 1):
        assert (row["total_variation"], row["max_total_variation"], row["argmax_changed"]) == (
            0.0,
            0.0,
            0.0,
        )


def test_more_noise_moves_more_and_local_leaves_the_first_layer_as_propagated():
    settings = [
        AttentionNoise(component, alpha, seed)
        for component in ("q_proj", "k_proj")
        for alpha in (0.01, 0.1, None)
        for seed in (0, 1)
    ]
    rows = shifts(CONFIG, PARAMS, [BATCH], settings)
    assert len(rows) == 2 * 3 * 2 * 2 * CONFIG.num_layers
    means = [
        np.mean([row["total_variation"] for row in rows if row["alpha"] == alpha])
        for alpha in (0.01, 0.1, None)
    ]
    assert 0 < 5 * means[0] < means[1] < means[2]
    first = [row for row in rows if row["layer"] == 0]
    for local, propagated in zip(first[::2], first[1::2], strict=True):
        assert local | {"spread": ""} == propagated | {"spread": ""}
    alone = shift(CONFIG, PARAMS, [BATCH], "k_proj", 0.1, 1)
    setting = ("k_proj", 0.1, 1)
    found = [row for row in rows if (row["component"], row["alpha"], row["seed"]) == setting]
    for row, expected in zip(found, alone, strict=True):
        assert (row["layer"], row["spread"]) == (expected["layer"], expected["spread"])
        assert row["total_variation"] == pytest.approx(expected["total_variation"], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("v_proj", 0.1, 0), "unknown component 'v_proj'; did you mean"),
        (("q_proj", -0.1, 0), r"seed of 0 or above; got -0.1 and 0"),
        (("q_proj", float("nan"), 0), "seed of 0 or above; got nan and 0"),
        (("q_proj", 0.1, -1), r"seed of 0 or above; got 0.1 and -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        AttentionNoise(*arguments)


def batch_of_single_tokens():
    return dataclasses.replace(BATCH, position_RT=0 * BATCH.position_RT)


def test_a_text_of_single_tokens_is_refused():
    with pytest.raises(InputError, match="no token of the text is at positions 'others'"):
        shift(CONFIG, PARAMS, [batch_of_single_tokens()], "q_proj", 0.1, 0)


def only_row(batch, row):
    """One row of a batch as a batch."""
    T = batch.token_RT.shape[1]
    own_P = batch.predict_P // T == row
    arrays = {
        name: array[row : row + 1] if name.endswith("_RT") else array[own_P]
        for name, array in vars(batch).items()
        if array is not None
    }
    return TextBatch(**arrays | {"predict_P": arrays["predict_P"] - row * T})


@pytest.mark.parametrize("alpha", [0.3, None])
def test_rows_speak_for_all_batches_of_a_text(alpha):
    """Two rows in one batch, or in two batches of which one has padding only, are one text."""
    parts = [only_row(BATCH, row) for row in (0, 1)]
    nothing = np.full_like(parts[0].segment_RT, -1)
    padding = dataclasses.replace(
        parts[0], segment_RT=nothing, document_P=np.full_like(parts[0].document_P, -1)
    )
    whole = shift(CONFIG, PARAMS, [BATCH], "k_proj", alpha, 3)
    first = shift(CONFIG, PARAMS, parts[:1], "k_proj", alpha, 3)
    several = shift(CONFIG, PARAMS, [parts[0], padding, parts[1]], "k_proj", alpha, 3)
    for row, expected, alone in zip(several, whole, first, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, float | list):
                np.testing.assert_allclose(row[name], value, rtol=0, atol=1e-6, err_msg=name)
            else:
                assert row[name] == value, name
        assert abs(row["total_variation"] - alone["total_variation"]) > 1e-4


@pytest.mark.real
@pytest.mark.slow
def test_one_percent_moves_little_of_the_default_models_attention():
    """Not the claim's verdict but the scale: between exactly nothing and nothing but noise."""
    checkpoint = weights.load(weights.DEFAULT_MODEL)
    batches = tokenise(checkpoint, load_text("sentences"))
    for component in ("q_proj", "k_proj"):
        nothing, little, noise = (
            shift(checkpoint.config, checkpoint.params, batches, component, alpha, 0)
            for alpha in (0.0, 0.01, None)
        )
        assert len(nothing) == 2 * 30
        assert max(row["max_total_variation"] for row in nothing) == 0
        assert 0 < max(row["max_total_variation"] for row in little) < 0.1
        assert 0 < np.mean([row["argmax_changed"] for row in little]) < 0.01
        assert np.mean([row["argmax_changed"] for row in noise]) > 0.6


def test_layers_with_ln_scaling_are_read_as_they_act():
    scaled = dataclasses.replace(CONFIG, ln_scaling=True)
    setting = ("q_proj", 0.5, 0)
    found = shift(scaled, PARAMS, [BATCH], *setting)
    assert found == shift(*tree.fold_norms(scaled, PARAMS), [BATCH], *setting)
    assert found != shift(CONFIG, PARAMS, [BATCH], *setting)
