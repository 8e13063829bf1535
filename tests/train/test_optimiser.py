"""The optimiser: decay and rates by pattern against literal factors, other directions of optax."""

import growing_run
import jax
import jax.numpy as jnp
import naive
import numpy as np
import optax
import pytest

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.train.loss import split
from jaxanatomy.train.optimiser import (
    COLUMNS,
    DIRECTIONS,
    Optimiser,
    make,
    parameter_names,
    with_layer_factors,
)

CONFIG = ModelConfig.uniform(3, 2, 1, 8, vocab_size=9, hidden_size=8, head_dim=4)
MATRIX = "layers/1/attention/q_proj/kernel"


def whole(stack=tree.stack):
    params = jax.tree.map(lambda leaf: leaf / 10, naive.random_params(CONFIG))
    return tree.with_layers(params, stack(params["layers"]))


def by_name(params):
    """Leaves as arrays by name, each layer's apart."""
    leaves = {}
    for at, block in enumerate(tree.unstack(params["layers"])):
        leaves |= {f"layers/{at}/{path}": leaf for path, leaf in tree.to_leaves(block).items()}
    ends = {name: part for name, part in params.items() if name != "layers"}
    return leaves | tree.to_leaves(ends)


def updates(settings, params, gradient=None):
    optimiser = make(settings, params)
    gradient = jax.tree.map(np.zeros_like, params) if gradient is None else gradient

    @jax.jit
    def first(gradient, params):
        return optimiser.update(gradient, optimiser.init(params), params)[0]

    return first(gradient, params)


@pytest.mark.parametrize("stack", [tree.stack, tree.stack_each])
def test_decay_is_multiplied_by_the_first_pattern_that_fits(stack):
    params = whole(stack)
    patterns = (("layers/1/.*q_proj.*", 0.0), (r"layers/[12]/.*", 3.0), ("embed/.*", 0.5))
    settings = Optimiser(weight_decay=0.1, decay_factors=patterns)
    found, own = by_name(updates(settings, params)), by_name(params)
    assert set(parameter_names(params)) == set(own)
    for name, leaf in own.items():
        factor = 3.0 if name.startswith(("layers/1", "layers/2")) else 1.0
        factor = {MATRIX: 0.0, "embed/embedding": 0.5}.get(name, factor)
        np.testing.assert_allclose(found[name], 0.1 * factor * leaf, rtol=1e-6, err_msg=name)


def test_norms_biases_and_embeddings_are_not_decayed_if_asked():
    params = whole()
    settings = Optimiser(weight_decay=0.1, decay_norms_and_embeddings=False)
    for name, found in by_name(updates(settings, params)).items():
        assert np.any(found) == name.endswith("kernel"), name
    with_bias = {"attention": {"q_proj": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}}
    found = updates(settings, with_bias)["attention"]["q_proj"]
    assert np.any(found["kernel"])
    assert not np.any(found["bias"])
    # A pattern of one's own comes first.
    more = Optimiser(
        weight_decay=0.1, decay_norms_and_embeddings=False, decay_factors=("embed/.*=2",)
    )
    embedding = by_name(updates(more, params))["embed/embedding"]
    np.testing.assert_allclose(embedding, 0.2 * params["embed"]["embedding"], rtol=1e-6)


def test_rates_are_multiplied_decay_and_all_also_of_a_part_that_trains():
    params = whole(tree.stack_each)
    gradient = jax.tree.map(lambda leaf: 1e-3 * jnp.cos(leaf), params)
    plain = by_name(updates(Optimiser(), params, gradient))
    settings = Optimiser(rate_factors=(("layers/2/.*", 0.25),))
    for name, found in by_name(updates(settings, params, gradient)).items():
        factor = 0.25 if name.startswith("layers/2/") else 1.0
        np.testing.assert_allclose(found, factor * plain[name], rtol=1e-6)
    trained, _ = split(params, [False, True, True], False)
    own, _ = split(gradient, [False, True, True], False)
    optimiser = make(settings, params)
    found, _ = optimiser.update(own, optimiser.init(trained), trained)
    scale = tree.get(found["layers"][2], "q_proj") / tree.get(found["layers"][1], "q_proj")
    np.testing.assert_allclose(np.abs(scale), 0.25, rtol=1e-2)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_directions_are_those_of_optax(name):
    params, rate = {"a": jnp.array([1.0, -2.0, 0.5])}, 0.1
    options = {} if name == "sgd" else {"b1": 0.9, "b2": 0.999, "weight_decay": 0.01}
    theirs = {
        "adamw": lambda: optax.adamw(rate, **options),
        "nadamw": lambda: optax.nadamw(rate, **options),
        "radam": lambda: optax.chain(
            optax.scale_by_radam(), optax.add_decayed_weights(0.01), optax.scale(-rate)
        ),
        "lion": lambda: optax.lion(rate, **options),
        "sgd": lambda: optax.chain(optax.add_decayed_weights(0.0), optax.sgd(rate, 0.9)),
    }[name]()
    ours = make(Optimiser(name, weight_decay=0.0 if name == "sgd" else 0.01), params)
    states, own, other = (ours.init(params), theirs.init(params)), params, params
    for step in range(4):
        gradient = {"a": 0.1 * jnp.cos(jnp.arange(3.0) + step)}
        update, mine = ours.update(gradient, states[0], own)
        own = jax.tree.map(lambda leaf, change: leaf - rate * change, own, update)
        change, its = theirs.update(gradient, states[1], other)
        other, states = optax.apply_updates(other, change), (mine, its)
    np.testing.assert_allclose(own["a"], other["a"], rtol=1e-5)


def test_equal_settings_are_one_object_also_for_models_of_other_depths():
    assert make(Optimiser(), whole()) is make(Optimiser(beta1=0.9), {})
    assert make(Optimiser(), {}) is not make(Optimiser(beta2=0.95), {})
    factors = Optimiser(rate_factors=(("layers/0/.*", 2.0),))
    assert make(factors, whole()) is make(factors, whole())
    assert make(factors, whole()) is not make(factors, whole(tree.stack_each))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "adam"}, "unknown optimiser 'adam'; did you mean"),
        ({"decay_factors": (("layers/9/.*", 0.0),)}, "'layers/9/.*' fits none; names are like"),
        ({"rate_factors": (("layers/[", 1.0),)}, "must hold regular expressions; 'layers/['"),
        ({"rate_factors": (("embed/.*", -1.0),)}, "rate_factors of 'embed/.*' must be finite"),
        ({"decay_factors": ("embed/.*",)}, "must be PATTERN=FACTOR; got 'embed/.*'"),
        ({"decay_factors": (0.5,)}, "must be PATTERN=FACTOR; got 0.5"),
        ({"decay_factors": ((1, 2),)}, "must be PATTERN=FACTOR; got (1, 2)"),
        ({"rate_factors": ((),)}, "must be PATTERN=FACTOR; got ()"),
        ({"rate_factors": (("embed/.*", None),)}, "must be PATTERN=FACTOR; got ('embed/.*', None)"),
        ({"rate_factors": "embed/.*=2"}, "must hold items PATTERN=FACTOR; got 'embed/.*=2'"),
        ({"rate_factors": None}, "must hold items PATTERN=FACTOR; got None"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, words):
    with pytest.raises(InputError) as refused:
        make(Optimiser(**fields), whole())
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pattern_may_be_for_layers_that_a_later_stage_has():
    """And one that no stage has is refused before anything is trained."""
    settings = Optimiser(rate_factors=(("layers/3/.*", 0.0),))
    setup = growing_run.make(optimiser=settings)._setup
    for stage in setup.stages:
        setup.transformation(stage)
    with pytest.raises(InputError, match=r"'layers/4/\.\*' fits none"):
        growing_run.make(optimiser=Optimiser(rate_factors=(("layers/4/.*", 0.0),)))


@pytest.mark.parametrize("stack", [tree.stack, tree.stack_each])
def test_layers_learn_and_decay_by_the_factors_in_the_state_and_nothing_else_does(stack):
    params = whole(stack)
    gradient = jax.tree.map(lambda leaf: 1e-3 * jnp.cos(leaf), params)
    settings = Optimiser(weight_decay=0.1, decay_factors=(("layers/2/.*", 0.5),))
    plain = by_name(updates(settings, params, gradient))
    undecayed = by_name(updates(Optimiser(weight_decay=0.0), params, gradient))
    optimiser = make(settings, params, layer_factors=4)
    rng = np.random.default_rng(0)
    # Of four layers one is not there yet.
    rate_NC, decay_NC = rng.uniform(0.1, 9.0, (2, 4, len(COLUMNS))).astype(np.float32)
    start = optimiser.init(params)
    state = with_layer_factors(start, layer_rates=rate_NC, layer_decays=decay_NC)
    update, after = optimiser.update(gradient, state, params)
    np.testing.assert_array_equal(optax.tree.get(after, "layer_rates"), rate_NC)
    np.testing.assert_array_equal(optax.tree.get(after, "layer_decays"), decay_NC)
    untouched, _ = optimiser.update(gradient, start, params)
    for name, found in by_name(update).items():
        rate = decay = 1.0
        if name.startswith("layers/"):
            layer = int(name.split("/")[1])
            column = COLUMNS.index(next((each for each in COLUMNS if each in name), "other"))
            rate, decay = rate_NC[layer, column], decay_NC[layer, column]
        expected = rate * (undecayed[name] + decay * (plain[name] - undecayed[name]))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(by_name(untouched)[name], plain[name], rtol=1e-6)


def test_no_rate_factor_meets_the_epsilon_of_adam():
    """LR section 7: a scale before Adam does nothing until epsilon drowns the gradient."""
    params = whole()
    gradient = jax.tree.map(lambda leaf: 1e-9 * jnp.cos(leaf), params)
    optimiser = make(Optimiser(weight_decay=0.0), params, layer_factors=3)
    start = optimiser.init(params)
    plain, _ = optimiser.update(gradient, start, params)
    slow = with_layer_factors(start, layer_rates=np.full((3, len(COLUMNS)), 1e-3))
    for name, found in by_name(optimiser.update(gradient, slow, params)[0]).items():
        factor = 1e-3 if name.startswith("layers/") else 1.0
        np.testing.assert_allclose(found, factor * by_name(plain)[name], rtol=1e-5, err_msg=name)
