"""Tuned lenses: the loss against plain softmax, steps against plain gradients, a known optimum."""

import signal
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, naive_trace, random_params, text

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import pack_windows
from jaxanatomy.data.windows import Window
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import baseline, baseline_steps
from jaxanatomy.measures.readings.lens import METRICS, TunedLens, lens_readings
from jaxanatomy.sweep import Sweep
from jaxanatomy.train.optimiser import Optimiser, make
from jaxanatomy.train.tuned_lens import LensSettings, _each_lens, example, step_flops, train

SCRIPT = Path(__file__).parent / "lens_script.py"
L, D = CONFIG.num_layers, CONFIG.hidden_size
PARAMS = random_params(CONFIG)
BATCHES = [text(rows=2, seed=seed, start=6 * seed) for seed in range(3)]
SETTINGS = LensSettings(Optimiser(learning_rate=0.01), positions=10, steps=11)
# The gradient itself, without momentum, decay or clipping.
PLAIN = Optimiser("sgd", learning_rate=0.5, beta1=0.0, weight_decay=0.0, clip_norm=1e9)


def start(folder, settings=SETTINGS, weights="a" * 64, **more):
    arguments = CONFIG, lambda: PARAMS, BATCHES, settings, folder, weights
    return train(*arguments, **{"checkpoint_every": 4, **more})


def plain_kl(h_PD, clean_PD, unembedding_VD):
    log_q, log_p = (jax.nn.log_softmax(h @ unembedding_VD.T, axis=-1) for h in (h_PD, clean_PD))
    return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)


@pytest.mark.parametrize("chunk", [7, 101, 1000])
def test_the_kl_and_its_gradient_are_those_of_whole_distributions(chunk):
    rng = np.random.default_rng(0)
    h_PD, clean_PD = rng.standard_normal((2, 6, D)).astype(np.float32)
    unembedding_VD = rng.standard_normal((101, D)).astype(np.float32)
    target_P = rng.integers(0, 101, 6)
    clean = model.reference(clean_PD, unembedding_VD, target_P, chunk=chunk)
    weight_P = jnp.arange(1.0, 7.0)

    def weighed(h_PD):
        kl_P = model.kl_to(h_PD, clean, unembedding_VD, target_P, jnp.float32, chunk)
        return (weight_P * kl_P).sum(), kl_P

    (_, kl_P), gradient_PD = jax.value_and_grad(weighed, has_aux=True)(h_PD)
    expected = jax.grad(lambda h: (weight_P * plain_kl(h, clean_PD, unembedding_VD)).sum())(h_PD)
    np.testing.assert_allclose(kl_P, plain_kl(h_PD, clean_PD, unembedding_VD), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient_PD, expected, rtol=1e-4, atol=1e-5)


def plain_loss(lens, streams):
    """The mean KL of each lens but the last one on the streams after each layer, [P, D]."""
    unembedding_VD, final = tree.unembedding(PARAMS), model.final_norm(CONFIG, PARAMS, streams[-1])
    through = [
        x_PD + x_PD @ lens.kernel[layer] + lens.bias[layer][None]
        for layer, x_PD in enumerate(streams[:-1])
    ]
    norms = [model.final_norm(CONFIG, PARAMS, x_PD) for x_PD in through]
    return jnp.stack([plain_kl(h_PD, final, unembedding_VD).mean() for h_PD in norms])


def test_steps_follow_the_gradient_of_a_plain_loop(tmp_path):
    settings = LensSettings(PLAIN, positions=9, steps=3)
    found, losses = start(tmp_path, settings)
    lens = TunedLens(jnp.zeros((L - 1, D, D)), jnp.zeros((L - 1, D)))
    gradient_of = jax.jit(jax.grad(lambda lens, streams: plain_loss(lens, streams).sum()))
    for step in range(3):
        made = example(BATCHES, settings, step)
        (batch,) = [b for b in BATCHES if np.array_equal(b.token_RT, made.token_RT)]
        trace = naive_trace(CONFIG, PARAMS, baseline_steps(L), batch)
        after = [np.asarray(points["block_out"]).reshape(-1, D) for _, points in trace]
        streams = [x_XD[made.predict_Q] for x_XD in after]
        assert losses[step] == pytest.approx(float(plain_loss(lens, streams).mean()), rel=1e-5)
        gradient, rate = gradient_of(lens, streams), 0.5 * (1 - step / 3)
        steps = [rate * leaf for leaf in gradient]
        lens = TunedLens(*(leaf - own for leaf, own in zip(lens, steps, strict=True)))
    for leaf, expected in zip(found, lens, strict=True):
        np.testing.assert_allclose(leaf[:-1], expected, rtol=1e-4, atol=1e-6)
        assert not leaf[-1].any()


def test_each_lens_is_clipped_by_its_own_gradient():
    settings = Optimiser(clip_norm=0.1, weight_decay=0.3)
    rng = np.random.default_rng(1)
    lens, gradient = (
        TunedLens(*(rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4, 4), (3, 4))))
        for _ in range(2)
    )
    gradient = jax.tree.map(
        lambda leaf: leaf * np.array([1e-3, 1, 1e3], np.float32).reshape(3, *[1] * (leaf.ndim - 1)),
        gradient,
    )
    together = _each_lens(settings)
    found, _ = together.update(gradient, together.init(lens), lens)
    for layer in range(3):
        own, own_gradient = (TunedLens(*(leaf[layer] for leaf in x)) for x in (lens, gradient))
        alone = make(settings, own)
        expected, _ = alone.update(own_gradient, alone.init(own), own)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[layer], other, rtol=1e-5)


def test_every_position_is_learnt_from_before_any_comes_again():
    settings = LensSettings(SETTINGS.optimiser, positions=8, steps=9)
    counts = {index: [] for index in range(3)}
    for step in range(9):
        made = example(BATCHES, settings, step)
        assert made.weight_Q.tolist() == [1] * 8
        (index,) = [i for i, b in enumerate(BATCHES) if np.array_equal(b.token_RT, made.token_RT)]
        counts[index].append(made.predict_Q.tolist())
    for index, chosen in counts.items():
        assert len(chosen) == 3, "each pass reads each batch once"
        seen = [place for own in chosen for place in own]
        assert sorted(seen) == sorted(BATCHES[index].predict_P.tolist()), "24 positions, 3 times 8"


def test_padding_weighs_nothing():
    short = BATCHES[0].__class__(
        **{**vars(BATCHES[0]), "document_P": np.where(np.arange(24) < 5, 0, -1).astype(np.int32)}
    )
    made = example([short], SETTINGS, 0)
    assert made.weight_Q.tolist() == [1] * 5 + [0] * 5
    assert set(made.predict_Q[:5].tolist()) == set(short.predict_P[:5].tolist())


def affine_model():
    """Two layers, of which the first writes nothing and the second an affine map of its input.

    The streams that come in have entries of 1 and -1, so that their norm divides by the same
    number everywhere, and a token that attends to itself alone has its own value.
    """
    config = ModelConfig.uniform(2, 2, 1, 4, vocab_size=24, hidden_size=8, head_dim=4)
    params = random_params(config, seed=5)
    rng = np.random.default_rng(7)
    params["embed"]["embedding"] = rng.choice([-1.0, 1.0], (24, 8)).astype(np.float32)
    silent = {
        name: np.zeros_like(tree.get(params["layers"][0], name)) for name in ("o_proj", "down_proj")
    }
    first = tree.replace(params["layers"][0], silent)
    second = tree.replace(params["layers"][1], {"down_proj": silent["down_proj"]})
    params["layers"] = (first, second)
    scale_D = np.asarray(tree.get(second, "attention_norm")) / np.sqrt(1 + config.norm_epsilon)
    value_DE, output_ED = (np.asarray(tree.get(second, name)) for name in ("v_proj", "o_proj"))
    map_DD = scale_D[:, None] * (np.concatenate([value_DE] * 2, axis=1) @ output_ED)
    return config, params, map_DD.astype(np.float32)


def test_a_layer_that_writes_an_affine_map_has_a_lens_that_recovers_it(tmp_path):
    config, params, map_DD = affine_model()
    pairs = [np.array([token, (token + 1) % 24]) for token in range(24)]
    windows = [Window(index, token, 1, True) for index, token in enumerate(pairs)]
    batches = pack_windows(windows, row_length=2)
    settings = LensSettings(
        Optimiser(learning_rate=0.03, weight_decay=0.0), positions=24, steps=400
    )
    lens, losses = train(config, lambda: params, batches, settings, tmp_path, "a", 1000)
    assert losses[0] > 0.1
    known = TunedLens(np.stack([map_DD, 0 * map_DD]), np.zeros((2, 8), np.float32))
    readings = {"known": lens_readings(known)["kl"], "found": lens_readings(lens)["kl"]}
    sweep = Sweep(config, [baseline(2)], batches, readings)
    sweep.place(params)
    measured = sweep.run(0)
    assert measured["known"]["baseline"][0].max() < 1e-6
    assert measured["found"]["baseline"][0].mean() < 1e-4 * losses[0]


def test_the_identity_is_the_logit_lens_to_the_bit():
    identity = TunedLens(np.zeros((L, D, D), np.float32), np.zeros((L, D), np.float32))
    readings = {f"logit_{name}": each for name, each in lens_readings().items()}
    readings |= {f"tuned_{name}": each for name, each in lens_readings(identity).items()}
    sweep = Sweep(CONFIG, [baseline(L)], BATCHES, readings)
    sweep.place(PARAMS)
    measured = sweep.run(0)
    for name in METRICS:
        logit, tuned = (measured[f"{own}_{name}"].values for own in ("logit", "tuned"))
        np.testing.assert_array_equal(tuned, logit)


class StoppedError(Exception):
    pass


def interrupt_at(step, how):
    done = types.SimpleNamespace(steps=0)

    def progress(steps):
        done.steps += steps
        if done.steps >= step:
            how()

    return progress


def stop():
    raise StoppedError


def same(one, other):
    return one[1] == other[1] and all(map(np.array_equal, one[0], other[0]))


@pytest.mark.parametrize("step", [3, 8, 9])
def test_a_run_that_was_stopped_goes_on_to_the_same_lens(tmp_path, step):
    whole = start(tmp_path / "whole")
    with pytest.raises(StoppedError):
        start(tmp_path / "other", progress=interrupt_at(step, stop))
    done = []
    assert same(start(tmp_path / "other", progress=done.append), whole)
    assert done[0] == {3: 0, 8: 4, 9: 8}[step], "steps of the checkpoint"
    assert sum(done) == SETTINGS.steps


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_lens(tmp_path, run_python):
    killed = run_python(SCRIPT, tmp_path / "killed", devices=1, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "4").exists()
    assert same(start(tmp_path / "killed"), start(tmp_path / "whole"))


def test_what_cannot_be_trained_is_refused(tmp_path):
    start(tmp_path)
    with pytest.raises(
        InputError, match="weights aaaaaaaaaaaa; got weights bbbbbbbbbbbb; train one"
    ):
        start(tmp_path, weights="b" * 64)
    wild = LensSettings(Optimiser(learning_rate=1e38), positions=10, steps=11)
    with pytest.raises(InputError, match=r"must be finite; .* lower optimiser\.learning_rate"):
        start(tmp_path / "wild", wild)
    shallow = CONFIG.with_layers(CONFIG.layers[:1])
    with pytest.raises(InputError, match="at least 2 layers; got 1"):
        train(shallow, lambda: PARAMS, BATCHES, SETTINGS, tmp_path / "shallow", "a")
    for field in ("positions", "steps"):
        with pytest.raises(InputError, match=f"{field} must be"):
            LensSettings(Optimiser(), **{field: 0})


def test_flops_are_those_of_the_matrix_products():
    shapes = [(16, 16), (16, 8), (16, 8), (16, 16), (16, 24), (16, 24), (24, 16)]
    frozen = 2 * 32 * L * sum(rows * columns for rows, columns in shapes)
    head = 10 * 2 * 2 * 16 * 101 * L  # scores and their way back of the model and of each lens
    maps = 10 * 3 * 2 * 16 * 16 * (L - 1)  # forward, to the stream and to the kernel
    assert step_flops(CONFIG, BATCHES[0], SETTINGS) == frozen + head + maps
