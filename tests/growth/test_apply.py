"""Growth of parameters and moments against literal lists, unsharded and sharded."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from naive import CONFIG, MIXED_SHAPES, random_params

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape
from jaxanatomy.errors import InputError
from jaxanatomy.growth.apply import grow, grown_config
from jaxanatomy.growth.maps import GrowthMap, growth_map

FOUR = CONFIG.with_layers(CONFIG.layers[:4])
OTHER = CONFIG.with_layers(
    LayerShape(4, 2, 24, tree.MATRICES, qk_norm=True, window=window)
    for window in (None, 3, 5, None)
)
LIDAS = growth_map("lidas", 4, 2)  # 0 1 2 1 2 3
SOURCES = (0, 1, 2, 1, 2, 3)
ZERO = growth_map("insert_zero", 4, 2)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 9)), jnp.int32)


def stacked(params):
    return tree.with_layers(params, tree.stack(params["layers"]))


def trained_state(optimiser, params, steps=2):
    """A state whose moments differ in every layer."""

    @jax.jit
    def run(params):
        state = optimiser.init(params)
        for step in range(steps):
            gradient = jax.tree.map(lambda leaf, step=step: 0.1 * leaf + step, params)
            _, state = optimiser.update(gradient, state, params)
        return state

    return run(params)


def blocks_of(params):
    layers = params["layers"]
    return layers if tree.get(layers[0], "attention_norm").ndim == 1 else tree.unstack(layers)


def assert_layers(found, source, sources, scales=None):
    """Each layer of `found` is that of `source`, times its number."""
    found, source = blocks_of(found), blocks_of(source)
    assert len(found) == len(sources)
    for at, origin in enumerate(sources):
        scale = 1.0 if scales is None else scales[at]
        for name, array in tree.components(source[origin]).items():
            expected = np.asarray(array) * np.float32(scale)
            np.testing.assert_array_equal(tree.get(found[at], name), expected)


@pytest.mark.parametrize("form", [lambda params: params, stacked])
@pytest.mark.parametrize("jit", [False, True])
def test_layers_are_those_of_the_map_and_the_ends_stay(form, jit):
    params = form(random_params(FOUR))
    function = functools.partial(grow, LIDAS)
    grown, state = (jax.jit(function) if jit else function)(params)
    assert state is None
    assert_layers(grown, params, SOURCES)
    for name in ("embed", "final_norm"):
        jax.tree.map(np.testing.assert_array_equal, grown[name], params[name])
    assert jax.tree.structure(grown["layers"][0]) == jax.tree.structure(params["layers"][0])
    assert len(grown["layers"]) == (1 if form is stacked else 6)


@pytest.mark.parametrize("sources", [SOURCES, (0, 0, 0)])
def test_layers_that_are_to_be_apart_are_stacks_of_one(sources):
    depth = max(sources) + 1
    params = random_params(FOUR.with_layers(FOUR.layers[:depth]))
    params = tree.with_layers(params, tree.stack_each(params["layers"]))
    state = trained_state(optax.adam(0.1), params)
    growth = GrowthMap(sources)
    grown, moments = grow(growth, params, state, scan_layers=False)
    for found, source in ((grown, params), (moments[0].mu, state[0].mu)):
        assert_layers(found, source, sources)
        counts = [tree.get(stack, "q_proj").shape[0] for stack in found["layers"]]
        assert counts == [1] * len(sources)


def test_layers_on_the_host_are_shared_not_copied():
    params = random_params(FOUR)
    grown, _ = grow(LIDAS, params)
    assert grown["layers"][3] is not params["layers"][1]
    assert tree.get(grown["layers"][3], "q_proj") is tree.get(params["layers"][1], "q_proj")
    silent, _ = grow(ZERO, params)
    assert isinstance(tree.get(silent["layers"][3], "o_proj"), np.ndarray)
    assert tree.get(params["layers"][1], "o_proj").any()


def test_the_map_of_nothing_gives_the_same_tree():
    params = random_params(FOUR)
    state = trained_state(optax.adam(0.1), params)
    found = grow(GrowthMap((0, 1, 2, 3)), params, state)
    jax.tree.map(np.testing.assert_array_equal, found, (params, state))


def test_a_grown_model_computes_its_layers_in_order():
    params = random_params(FOUR)
    config = grown_config(FOUR, LIDAS)
    assert (config.num_layers, config.hidden_size) == (6, FOUR.hidden_size)
    found = model.forward(config, stacked(grow(LIDAS, params)[0]), TOKENS)
    literal = tree.with_layers(params, [params["layers"][source] for source in SOURCES])
    np.testing.assert_array_equal(found, model.forward(config, literal, TOKENS))


@pytest.mark.parametrize("form", [lambda params: params, stacked])
def test_layers_of_several_shapes_grow_with_their_shapes(form):
    params = form(random_params(MIXED_SHAPES))
    grown, _ = grow(LIDAS, params)
    config = grown_config(MIXED_SHAPES, LIDAS)
    assert config.layers == tuple(MIXED_SHAPES.layers[source] for source in SOURCES)
    assert_layers(grown, params, SOURCES)
    assert model.forward(config, grown, TOKENS).shape == (2, 9, CONFIG.vocab_size)


OPTIMISERS = {
    "adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)),
    "injected": optax.inject_hyperparams(optax.adamw)(learning_rate=1e-2),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "amsgrad-like": optax.chain(optax.scale_by_adam(), optax.trace(0.5)),
}


@pytest.mark.parametrize("form", [lambda params: params, stacked])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_moment_is_copied_and_every_count_kept(name, form):
    params = form(random_params(FOUR))
    optimiser = OPTIMISERS[name]
    state = trained_state(optimiser, params)
    grown, found = grow(LIDAS, params, state)
    assert jax.tree.structure(found) == jax.tree.structure(optimiser.init(grown))
    seen = 0
    is_moments = lambda node: isinstance(node, dict) and "layers" in node  # noqa: E731
    pairs = zip(
        jax.tree.leaves(found, is_leaf=is_moments),
        jax.tree.leaves(state, is_leaf=is_moments),
        strict=True,
    )
    for new, old in pairs:
        if is_moments(old):
            seen += 1
            assert_layers(new, old, SOURCES)
            np.testing.assert_array_equal(new["embed"]["embedding"], old["embed"]["embedding"])
        else:
            np.testing.assert_array_equal(new, old)
    assert seen == {"adamw": 2, "injected": 2, "momentum": 1, "amsgrad-like": 3}[name]


def test_an_optimiser_of_the_ends_alone_keeps_its_moments():
    """Masks and labels may name a whole branch; the layers have moments in one part only."""
    params = stacked(random_params(FOUR))
    labels = {name: "layers" if name == "layers" else "ends" for name in params}
    optimiser = optax.multi_transform(
        {"layers": optax.scale_by_adam(), "ends": optax.trace(0.5)}, labels
    )
    state = trained_state(optimiser, params)
    grown, found = grow(LIDAS, params, state)
    assert jax.tree.structure(found) == jax.tree.structure(optimiser.init(grown))
    ends, layers = (found.inner_states[name].inner_state for name in ("ends", "layers"))
    old = state.inner_states["ends"].inner_state.trace
    np.testing.assert_array_equal(ends.trace["embed"]["embedding"], old["embed"]["embedding"])
    old = state.inner_states["layers"].inner_state.mu
    assert_layers(layers.mu, old, SOURCES)


@pytest.mark.parametrize("form", [lambda params: params, stacked])
def test_zero_takes_the_moments_of_new_layers_alone(form):
    params = form(random_params(FOUR))
    state = trained_state(optax.scale_by_adam(), params)
    _, found = grow(LIDAS, params, state, moments="zero")
    for new, old in ((found.mu, state.mu), (found.nu, state.nu)):
        assert_layers(new, old, SOURCES, scales=(1, 1, 1, 0, 0, 1))
    assert int(found.count) == 2


@pytest.mark.parametrize("form", [lambda params: params, stacked])
def test_rescale_divides_by_the_number_of_copies_and_its_square(form):
    params = form(random_params(FOUR))
    state = trained_state(optax.scale_by_adam(), params)
    growth = growth_map("lidas", 4, 2, 8)
    assert growth.sources == (0, 1, 2, 1, 2, 1, 2, 3)
    _, found = grow(growth, params, state, moments="rescale")
    third = np.array([1, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1])
    assert_layers(found.mu, state.mu, growth.sources, scales=third)
    ninth = np.array([1, 1 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9, 1])
    assert_layers(found.nu, state.nu, growth.sources, scales=ninth)


def test_a_layer_keeps_its_moments_beside_a_copy_that_writes_nothing():
    params = stacked(random_params(FOUR))
    state = trained_state(optax.scale_by_adam(), params)
    kept, found = (grow(ZERO, params, state, moments=each)[1] for each in ("copy", "rescale"))
    jax.tree.map(np.testing.assert_array_equal, found, kept)


def test_masked_moments_grow_where_they_are():
    params = stacked(random_params(FOUR))
    norms = {"attention_norm": True, "attention": False, "mlp_norm": True, "mlp": False}
    mask = {"embed": False, "layers": (norms,), "final_norm": False}
    optimiser = optax.masked(optax.scale_by_adam(), mask)
    state = trained_state(optimiser, params)
    grown, found = grow(LIDAS, params, state)
    assert jax.tree.structure(found) == jax.tree.structure(optimiser.init(grown))
    old, new = state.inner_state.mu["layers"][0], found.inner_state.mu["layers"][0]
    expected = old["mlp_norm"]["scale"][np.array(SOURCES)]
    np.testing.assert_array_equal(new["mlp_norm"]["scale"], expected)


@pytest.mark.parametrize("form", [lambda params: params, stacked])
@pytest.mark.parametrize("moments", ["copy", "rescale", "zero"])
def test_zero_insertion_silences_new_layers_and_their_moments(form, moments):
    params = form(random_params(FOUR))
    state = trained_state(optax.scale_by_adam(), params)
    grown, found = grow(ZERO, params, state, moments)
    assert ZERO.zeroed == (3, 4)
    for block, old, mu in zip(
        blocks_of(grown),
        [blocks_of(params)[source] for source in SOURCES],
        blocks_of(found.mu),
        strict=True,
    ):
        silent = not np.asarray(tree.get(block, "o_proj")).any()
        for name in tree.MATRICES + tree.NORMS:
            if silent and name in ("o_proj", "down_proj"):
                assert not np.asarray(tree.get(block, name)).any()
                assert not np.asarray(tree.get(mu, name)).any()
            else:
                np.testing.assert_array_equal(tree.get(block, name), tree.get(old, name))
    silent = [not np.asarray(tree.get(block, "down_proj")).any() for block in blocks_of(grown)]
    assert silent == [False, False, False, True, True, False]


def change_of_logits(params, growth):
    grown, _ = grow(growth, params)
    before = model.forward(FOUR, params, TOKENS)
    return abs(model.forward(grown_config(FOUR, growth), grown, TOKENS) - before).max()


@pytest.mark.parametrize("form", [lambda params: params, stacked])
def test_zero_insertion_preserves_the_function_exactly_and_the_others_do_not(form):
    params = form(random_params(FOUR))
    for target in (6, 8, 12):
        growth = growth_map("insert_zero", 4, 2, target)
        assert change_of_logits(params, growth) == 0.0
    for operator in ("midas", "lidas", "stack_top", "stack_last"):
        growth = growth_map(operator, 4, 2)
        assert change_of_logits(params, growth) > 1e-2


@pytest.mark.parametrize("form", [lambda params: params, stacked])
def test_blocks_with_biases_norms_and_windows_grow_whole(form):
    """Of a silent layer the biases of what writes are zero too; their moments likewise."""
    params = form(random_params(OTHER))
    state = trained_state(optax.scale_by_adam(), params)
    grown, found = grow(ZERO, params, state)
    config = grown_config(OTHER, ZERO)
    assert [shape.window for shape in config.layers] == [None, 3, 5, 3, 5, None]
    after = model.forward(config, grown, TOKENS)
    # Windows cut the stacks elsewhere: another program, which rounds otherwise.
    np.testing.assert_allclose(after, model.forward(OTHER, params, TOKENS), rtol=0, atol=1e-5)
    for name in ("mu", "nu"):
        moments, source = getattr(found, name), getattr(state, name)
        assert jax.tree.structure(moments) == jax.tree.structure(grown)
        for at, origin in enumerate(ZERO.sources):
            new = tree.components(blocks_of(moments)[at])
            for component, array in tree.components(blocks_of(source)[origin]).items():
                writes = component.split(".")[0] in ("o_proj", "down_proj")
                expected = np.zeros_like(array) if writes and at in ZERO.zeroed else array
                np.testing.assert_array_equal(new[component], expected)
    copied, _ = grow(LIDAS, params)
    assert_layers(copied, params, SOURCES)


def test_a_silent_layer_learns_to_speak():
    params, _ = grow(ZERO, stacked(random_params(FOUR)))
    config = grown_config(FOUR, ZERO)
    gradient = jax.grad(lambda params: model.forward(config, params, TOKENS)[..., 3].sum())(params)
    for name in ("o_proj", "down_proj"):
        assert (np.abs(tree.get(gradient["layers"][0], name)[3:5]).max((1, 2)) > 0).all()


def test_replicas_grow_under_vmap():
    two = [stacked(random_params(FOUR, seed)) for seed in (0, 1)]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *two)
    state = jax.vmap(optax.scale_by_adam().init)(both)
    grown, found = jax.vmap(lambda *args: grow(ZERO, *args, moments="zero"))(both, state)
    for at, params in enumerate(two):
        one = jax.tree.map(lambda leaf, at=at: leaf[at], grown)
        jax.tree.map(np.testing.assert_array_equal, one, grow(ZERO, params)[0])
    assert tree.get(found.mu["layers"][0], "q_proj").shape == (2, 6, 16, 16)


def test_dtypes_are_kept():
    params = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.bfloat16), stacked(random_params(FOUR))
    )
    state = trained_state(optax.scale_by_adam(mu_dtype=jnp.float32), params)
    grown, found = grow(ZERO, params, state, moments="rescale")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(grown)} == {"bfloat16"}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(found.mu)} == {"float32"}


def test_sharded_arrays_grow_to_the_same_values_and_stay_sharded(run_python):
    script = Path(__file__).with_name("sharded_script.py")
    assert run_python(script, devices=8).split() == ["grown", "on", "8", "devices"]


def test_bad_input_is_refused_in_one_line():
    params = stacked(random_params(FOUR))
    state = optax.scale_by_adam().init(params)
    factored = optax.scale_by_factored_rms(min_dim_size_to_factor=2).init(params)
    odd = optax.ema(0.9).init(params)
    cases = {
        "takes a model of 4 layers to 6; got one of 6": lambda: grow(LIDAS, grow(LIDAS, params)[0]),
        "takes a model of 4 layers to 6; got one of 5": lambda: grown_config(CONFIG, LIDAS),
        "unknown policy for moments 'copies'; did you mean 'copy'": lambda: grow(
            LIDAS, params, state, "copies"
        ),
        "must have the shapes of the parameters": lambda: grow(LIDAS, params, factored),
        "knows the moments mu, trace, nu of optax; got 'ema'": lambda: grow(
            LIDAS, params, odd, "rescale"
        ),
    }
    for said, call in cases.items():
        with pytest.raises(InputError) as error:
            call()
        assert said in str(error.value)
        assert "\n" not in str(error.value)
