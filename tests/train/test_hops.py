"""The objective of K questions, its data and its scores."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import Automaton, KHop
from jaxanatomy.errors import InputError
from jaxanatomy.growth.maps import GrowthMap
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.hops import HopLoss, HopScorer, NumberStream, Sequences, batch_of_numbers
from jaxanatomy.train.loss import merge, nothing_frozen, split
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup, TrainOptions
from jaxanatomy.train.trainer import Trainer

TASK = KHop(alphabet=3, seq_len=10, hops=4)
CONFIG = ModelConfig.uniform(
    2, 2, 2, 24, vocab_size=13, hidden_size=16, context_length=16, tie_embeddings=False
)
PARAMS = naive.random_params(CONFIG)
PARAMS = tree.with_layers(PARAMS, tree.stack(PARAMS["layers"]))
LOSS = HopLoss(TASK, CONFIG)


def batch(step=0, seed=5, rows=6):
    stream = NumberStream(seed, rows)
    stream.restore({"step": step})
    return batch_of_numbers(TASK, stream.next())


def by_hand(params, found):
    """Cross-entropies and hits, position by position, from the logits of a plain forward."""
    logits_BTV = np.asarray(naive.forward(CONFIG, params, found.token_BT), np.float64)
    nll, right, answered = (np.zeros(TASK.hops) for _ in range(3))
    for (b, t, k), label in np.ndenumerate(np.asarray(found.label_BTK)):
        if label < 0:
            continue
        slice_Q = logits_BTV[b, t, 3 * k : 3 * k + 3]
        nll[k] += np.log(np.exp(slice_Q).sum()) - slice_Q[label]
        right[k] += slice_Q.argmax() == label
        answered[k] += 1
    return nll, right, answered


def test_loss_is_the_mean_over_questions_of_means_over_positions():
    found = batch()
    nll_K, _, answered_K = by_hand(PARAMS, found)
    value = jax.jit(LOSS)(PARAMS, nothing_frozen(PARAMS), found)
    np.testing.assert_allclose(value, (nll_K / answered_K).mean(), rtol=1e-5)
    assert answered_K.min() > 0
    assert len(set(answered_K)) > 1  # another weighting would give another loss


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_scores_are_of_each_sequence_and_question(seeds):
    run, scorer = setup(seeds), HopScorer(TASK, sequences=12, batch_size=6, seed=9)
    other = jax.tree.map(lambda leaf: 2 * leaf, PARAMS)
    models = (PARAMS, other)[: len(seeds)]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    rows = scorer(run, run.stages[-1], both if len(seeds) > 1 else PARAMS)
    assert list(rows) == ["hop_1", "hop_2", "hop_3", "hop_4"]
    sequences = [
        jax.tree.map(lambda leaf, at=at: leaf[at : at + 1], batch_of_numbers(TASK, numbers))
        for numbers in scorer.numbers()
        for at in range(6)
    ]
    for at, own in enumerate(models):
        nll_NK, right_NK, answered_NK = (
            np.stack(part) for part in zip(*(by_hand(own, one) for one in sequences), strict=True)
        )
        for hop, found in enumerate(rows.values()):
            np.testing.assert_allclose(found.nll[at], nll_NK[:, hop], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(found.right[at], right_NK[:, hop])
            np.testing.assert_array_equal(found.tokens, answered_NK[:, hop])
            assert found.share == 1 / 4


def test_processes_score_the_rows_of_one():
    scorer = HopScorer(TASK, sequences=12, batch_size=6)
    halves = zip(*(scorer.numbers(process, 2) for process in (0, 1)), strict=True)
    np.testing.assert_array_equal(
        np.concatenate(scorer.numbers()), np.concatenate([np.concatenate(each) for each in halves])
    )


def test_rows_that_no_question_reads_have_no_gradient():
    trained, frozen = split(PARAMS, [True], True)
    gradient = jax.jit(jax.grad(LOSS))(trained, frozen, batch())
    unembedding = np.asarray(tree.unembedding(merge(gradient, frozen)))
    assert not unembedding[12:].any()
    assert all(row.any() for row in unembedding[:12])


def test_a_sequence_depends_on_its_seed_step_and_row_alone():
    whole = batch(step=3, rows=6)
    part = batch_of_numbers(TASK, NumberStream(5, 2, first_row=4).next())
    later = NumberStream(5, 2, first_row=4)
    later.restore({"step": 3})
    np.testing.assert_array_equal(batch_of_numbers(TASK, later.next()).token_BT, whole.token_BT[4:])
    assert (part.token_BT != whole.token_BT[4:]).any()
    assert (batch(step=3, seed=6).token_BT != whole.token_BT).any()


def setup(seeds, **changes):
    wide = dataclasses.replace(CONFIG, layers=CONFIG.layers[:1])
    stages = (Stage(wide, 30), Stage(CONFIG, 30, GrowthMap((0, 0))))
    fields = {"objective": functools.partial(HopLoss, TASK), "seeds": seeds}
    fields["make_batch"] = Sequences(TASK)
    fields["options"] = TrainOptions(steps_per_call=10, checkpoint_every=20)
    schedule = WarmupStableDecay(0.02, warmup=0.1, cooldown=0.2)
    return Setup(stages, Optimiser(), schedule, **fields | changes)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_trainer_learns_it_across_growth(tmp_path, seeds):
    run = setup(seeds)
    params = Trainer(run, [NumberStream(seed, 16) for seed in seeds]).train(tmp_path)
    scorer = HopScorer(TASK, sequences=64, batch_size=64, seed=99)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(seeds)), PARAMS)
    begun = many if len(seeds) > 1 else PARAMS
    before, after = (
        np.array([row.mean() for row in scorer(run, run.stages[-1], each).values()])
        for each in (begun, params)
    )
    assert (after.mean(0) < 0.8 * before.mean(0)).all()


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (KHop(hops=5, alphabet=3), {}, "5 questions with 3 symbols must have 15 rows or more; got"),
        (Automaton(alphabet=13, hops=1, seq_len=9), {}, "must have 14 rows or more; got vocab"),
        (KHop(hops=4, alphabet=3, seq_len=17), {}, "sequences of 17 tokens must fit the context"),
    ],
)
def test_an_output_that_is_too_small_is_refused(task, changes, message):
    with pytest.raises(InputError, match=message):
        HopLoss(task, dataclasses.replace(CONFIG, **changes))
