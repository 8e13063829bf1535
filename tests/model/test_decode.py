"""Generation with a cache writes what repeated whole forwards write."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, random_params

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape
from jaxanatomy.errors import InputError
from jaxanatomy.model import decode

UNTIED = dataclasses.replace(
    CONFIG, layers=(LayerShape(2, 1, 24), LayerShape(4, 2, 8)), tie_embeddings=False
)
WINDOWS = CONFIG.with_layers(
    LayerShape(4, 2, 24, ("k_proj",), qk_norm=True, window=window) for window in (None, 3, 4)
)
PROMPT_BT = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 5))
STEPS = 7
KEY = jax.random.key(1)


def without_cache(config, params, prompt_BT, steps, choose, dtype=jnp.float32):
    """One whole forward for each token; `choose` gets the last logits and the step."""
    padded_BT = np.zeros((len(prompt_BT), prompt_BT.shape[1] + steps), np.int32)
    padded_BT[:, : prompt_BT.shape[1]] = prompt_BT
    for step in range(steps):
        at = prompt_BT.shape[1] + step
        logits_BTV = model.forward(config, params, padded_BT, dtype=dtype)
        padded_BT[:, at] = choose(np.asarray(logits_BTV[:, at - 1]), step)
    return padded_BT[:, prompt_BT.shape[1] :]


def likeliest(logits_BV, step):
    return logits_BV.argmax(axis=-1)


@pytest.mark.parametrize(
    "config", [CONFIG, UNTIED, WINDOWS], ids=["uniform", "mixed and untied", "windows"]
)
def test_greedy_is_the_likeliest_token_of_repeated_forwards(config):
    params = random_params(config)
    written_BN = model.generate(config, params, PROMPT_BT, STEPS)
    expected = without_cache(config, params, PROMPT_BT, STEPS, likeliest)
    np.testing.assert_array_equal(written_BN, expected)
    assert written_BN.dtype == jnp.int32
    assert len(set(expected.ravel().tolist())) > 4  # it does not only repeat itself


def test_bfloat16_too():
    params = random_params(CONFIG)
    expected = without_cache(CONFIG, params, PROMPT_BT, STEPS, likeliest, jnp.bfloat16)
    written_BN = model.generate(CONFIG, params, PROMPT_BT, STEPS, dtype=jnp.bfloat16)
    np.testing.assert_array_equal(written_BN, expected)


def test_sampling_draws_from_the_logits_over_the_temperature():
    params = random_params(CONFIG)

    def draw(logits_BV, step):
        return jax.random.categorical(jax.random.fold_in(KEY, step), logits_BV / 1.5)

    written_BN = model.generate(CONFIG, params, PROMPT_BT, STEPS, 1.5, KEY)
    expected = without_cache(CONFIG, params, PROMPT_BT, STEPS, draw)
    np.testing.assert_array_equal(written_BN, expected)


def test_equal_keys_write_the_same_and_others_something_else():
    params = random_params(CONFIG)
    one, again, other = (
        np.asarray(model.generate(CONFIG, params, PROMPT_BT, STEPS, 1.0, jax.random.key(seed)))
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_low_temperatures_approach_greedy():
    params = random_params(CONFIG)
    greedy = model.generate(CONFIG, params, PROMPT_BT, STEPS)
    cold = model.generate(CONFIG, params, PROMPT_BT, STEPS, 1e-4, KEY)
    np.testing.assert_array_equal(cold, greedy)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_frequencies_of_draws_are_probabilities(temperature):
    params, draws = random_params(CONFIG), 4096
    prompt_BT = np.repeat(PROMPT_BT[:1], draws, axis=0)
    written_B = np.asarray(model.generate(CONFIG, params, prompt_BT, 1, temperature, KEY))[:, 0]
    last_V = model.forward(CONFIG, params, PROMPT_BT[:1])[0, -1]
    probability_V = np.asarray(jax.nn.softmax(last_V / temperature))
    frequency_V = np.bincount(written_B, minlength=CONFIG.vocab_size) / draws
    error_V = np.sqrt(probability_V * (1 - probability_V) / draws)
    assert (np.abs(frequency_V - probability_V) < 5 * error_V + 1 / draws).all()
    assert 0.02 < probability_V.max() < 0.98


def test_one_step_is_the_first_of_several():
    params = random_params(CONFIG)
    whole = model.generate(CONFIG, params, PROMPT_BT, STEPS)
    one = model.generate(CONFIG, params, PROMPT_BT, 1)
    np.testing.assert_array_equal(one, whole[:, :1])


def test_stacked_layers_write_the_same_however_they_are_stacked():
    params = random_params(CONFIG)
    expected = model.generate(CONFIG, params, PROMPT_BT, STEPS)
    layers = params["layers"]
    for stacks in (tree.stack(layers), tree.stack(layers[:2]) + tree.stack(layers[2:])):
        got = model.generate(CONFIG, tree.with_layers(params, stacks), PROMPT_BT, STEPS)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("config", [CONFIG, WINDOWS], ids=["uniform", "windows"])
def test_prompts_of_different_lengths_are_continued_as_each_by_itself(config):
    params, length_B = random_params(config), np.array([5, 2])
    padded_BT = PROMPT_BT.copy()
    padded_BT[1, :3] = config.vocab_size - 1  # not read
    written_BN = model.generate(config, params, padded_BT, STEPS, length_B=length_B)
    for row, length in enumerate(length_B):
        alone_1N = model.generate(config, params, padded_BT[row : row + 1, 5 - length :], STEPS)
        np.testing.assert_array_equal(written_BN[row], alone_1N[0])


def test_two_programs_are_traced_once_each_up_to_the_end_of_the_context(count_traces):
    params, steps = random_params(CONFIG), CONFIG.context_length - PROMPT_BT.shape[1]
    with count_traces() as traces:
        for temperature, key in ((0.0, None), (0.7, KEY), (1.3, KEY)):
            written_BN = model.generate(CONFIG, params, PROMPT_BT, steps, temperature, key)
    assert (traces["_prefill"], traces["_decode"]) == (1, 1)
    assert written_BN.shape == (2, steps)


def test_longer_prompts_and_more_steps_compile_nothing(count_traces):
    params, long_BT = random_params(CONFIG), np.tile(PROMPT_BT, (1, 3))
    model.generate(CONFIG, params, PROMPT_BT, 4)
    with count_traces() as traces:
        for length, steps in ((1, 15), (3, 9), (15, 1), (9, 7)):
            written_BN = model.generate(CONFIG, params, long_BT[:, :length], steps)
            expected = without_cache(CONFIG, params, long_BT[:, :length], steps, likeliest)
            np.testing.assert_array_equal(written_BN, expected)
    assert (traces["_prefill"], traces["_decode"]) == (0, 0)


def test_programs_do_not_grow_with_steps():
    params = random_params(CONFIG)

    def program(steps):
        jaxpr = jax.make_jaxpr(lambda p: model.generate(CONFIG, p, PROMPT_BT, steps))(params)
        return str(jaxpr).count(" = ")

    assert program(4) == program(40)


def test_cached_logits_are_those_of_the_whole_forward():
    params = random_params(CONFIG)
    token_BT = np.random.default_rng(3).integers(0, CONFIG.vocab_size, (2, 8))
    stacked = tree.with_layers(params, tree.stack(params["layers"]))
    caches = decode._empty_caches(CONFIG, stacked["layers"], 2, 8)
    run = jax.jit(decode._run, static_argnums=(0, 1))
    expected = model.forward(CONFIG, params, token_BT)
    for start, stop in ((0, 3), (3, 4), (4, 7), (7, 8)):
        logits_BV, caches = run(
            CONFIG,
            jnp.float32,
            stacked,
            token_BT[:, start:stop],
            np.zeros(2, np.int32),
            np.int32(start),
            caches,
            np.int32(stop - start - 1),
        )
        np.testing.assert_allclose(logits_BV, expected[:, stop - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PROMPT_BT[:, :0], 3), r"prompt and steps of at least 1; got 0 and 3"),
        ((PROMPT_BT, 0), r"prompt and steps of at least 1; got 5 and 0"),
        ((PROMPT_BT, 60), r"must fit the context of 64 tokens; got 5 \+ 60"),
        ((PROMPT_BT, 3, -0.5, KEY), r"temperature must be 0, or positive with a key.*=-0\.5"),
        ((PROMPT_BT, 3, 0.5), r"positive with a key.*temperature=0\.5 and key=None"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        model.generate(CONFIG, random_params(CONFIG), *arguments)
