"""Attention before and after a perturbation against loops over heads and positions."""

import dataclasses
import functools
import itertools
import json

import jax
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, naive_stream, random_params, text

from jaxanatomy import model, tree, weights
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.data.text import load_text
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Edit, Step
from jaxanatomy.measures.attention import AttentionNoise, attention_run, attention_shifts
from jaxanatomy.study import tokenise

BATCH = text(rows=2)
PARAMS = random_params(CONFIG)
# Where a query of the first row has at least two keys: documents of 4, 6 and 5 tokens.
COUNTED_T = [t for t in range(15) if t not in (0, 4, 10)]
PLACE = {"q_proj": 0, "k_proj": 1}


def shift(config, params, batches, *noise):
    (rows,) = attention_shifts(config, params, batches, [AttentionNoise(*noise)])
    return rows


def rotated(x_d, position):
    half = len(x_d) // 2
    turned = (x_d[:half] + 1j * x_d[half:]) * np.exp(
        1j * position * 10_000.0 ** (-np.arange(half) / half)
    )
    return np.concatenate([turned.real, turned.imag])


def naive_attention(config, layer, block, x_RTD):
    """Distributions by (row, head, query), each a list over the keys of its document."""
    w = {name: array.astype(np.float64) for name, array in tree.components(block).items()}
    shape, d = config.layers[layer], config.head_dim
    found = {}
    for r, x_TD in enumerate(np.asarray(x_RTD, np.float64)):
        norm = np.sqrt((x_TD**2).mean(axis=1, keepdims=True) + config.norm_epsilon)
        h_TD = x_TD / norm * w["attention_norm"]
        for head in range(shape.num_heads):
            group = head // (shape.num_heads // shape.num_kv_heads)
            q = h_TD @ w["q_proj"][:, head * d : (head + 1) * d]
            k = h_TD @ w["k_proj"][:, group * d : (group + 1) * d]
            for t in COUNTED_T:
                keys = [s for s in range(t + 1) if BATCH.segment_RT[r, s] == BATCH.segment_RT[r, t]]
                query = rotated(q[t], BATCH.position_RT[r, t])
                score = np.array(
                    [query @ rotated(k[s], BATCH.position_RT[r, s]) / np.sqrt(d) for s in keys]
                )
                weight = np.exp(score - score.max())
                found[r, head, t] = weight / weight.sum()
    return found


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
        before = naive_attention(config, layer, own, clean_x)
        for spread, x_RTD in (("local", clean_x), ("propagated", moved_x)):
            after = naive_attention(config, layer, block, x_RTD)
            num_heads = config.layers[layer].num_heads
            variation, changed = ([[] for _ in range(num_heads)] for _ in range(2))
            for (r, head, t), p in before.items():
                variation[head].append(abs(p - after[r, head, t]).sum() / 2)
                changed[head].append(p.argmax() != after[r, head, t].argmax())
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
    rows = list(itertools.chain(*attention_shifts(CONFIG, PARAMS, [BATCH], settings)))
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
    assert [
        row for row in rows if (row["component"], row["alpha"], row["seed"]) == ("k_proj", 0.1, 1)
    ] == alone


def test_attention_is_distributions_over_the_past_of_a_document():
    run = attention_run(CONFIG, PARAMS, BATCH)
    allowed_RTS = np.asarray(model.attention_bias(BATCH.segment_RT)) == 0
    assert run.counted_RT.sum() == 2 * len(COUNTED_T)
    for attention_RHTS in run.attention:
        assert attention_RHTS.shape == (2, CONFIG.max_heads, 16, 16)
        np.testing.assert_allclose(attention_RHTS.sum(axis=-1), 1, atol=1e-6)
        np.testing.assert_array_equal((np.asarray(attention_RHTS) > 0).any(axis=1), allowed_RTS)


def test_layers_of_one_shape_are_traced_once(count_traces):
    config = CONFIG.with_layers(CONFIG.layers)
    batch = text(documents=2)
    with count_traces() as traces:
        shift(config, PARAMS, [batch, batch], "q_proj", 0.1, 0)
    assert (traces["_attend"], traces["_advance"], traces["_compare"]) == (1, 1, 1)


def test_the_plain_forward_sows_nothing():
    x_RTD = model.embed(PARAMS, BATCH.token_RT)
    run = attention_run(CONFIG, PARAMS, BATCH)
    apply = functools.partial(
        model.block(CONFIG, 0).apply, {"params": PARAMS["layers"][0]}, x_RTD, run.tables
    )
    y_RTD, _ = apply(run.bias_RTS)
    assert y_RTD.shape == x_RTD.shape

    def divisions(**kwargs):
        return str(jax.make_jaxpr(functools.partial(apply, **kwargs))(run.bias_RTS)).count(" div ")

    assert divisions(mutable=["attention"]) == divisions() + 1


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
    with pytest.raises(InputError, match="documents of at least two tokens"):
        shift(CONFIG, PARAMS, [batch_of_single_tokens()], "q_proj", 0.1, 0)


@pytest.mark.parametrize("alpha", [0.3, None])
def test_rows_speak_for_all_batches_of_a_text(alpha):
    """Two rows in one batch, or in two batches of which one has padding only, are one text."""
    parts = [
        TextBatch(**{
            name: array[row : row + 1] if name.endswith("_RT") else array
            for name, array in vars(BATCH).items()
        })
        for row in (0, 1)
    ]  # fmt: skip
    padding = dataclasses.replace(parts[0], segment_RT=np.full_like(parts[0].segment_RT, -1))
    whole = shift(CONFIG, PARAMS, [BATCH], "k_proj", alpha, 3)
    first = shift(CONFIG, PARAMS, parts[:1], "k_proj", alpha, 3)
    counted = []
    settings = [AttentionNoise("k_proj", alpha, seed) for seed in (3, 4)]
    several, other = attention_shifts(
        CONFIG, PARAMS, [parts[0], padding, parts[1]], settings, counted.append
    )
    assert counted == [1] * 6
    assert {row["seed"] for row in other} == {4}
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
        settings = [AttentionNoise(component, alpha, 0) for alpha in (0.0, 0.01, None)]
        nothing, little, noise = attention_shifts(
            checkpoint.config, checkpoint.params, batches, settings
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
