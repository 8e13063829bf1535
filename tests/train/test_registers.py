"""Registers in training: literal batches, rows that stay to the bit, rows that are followed."""

import functools

import growing_run
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.registers import KINDS, Registers, prepend
from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.evaluation import HeldOut, score
from jaxanatomy.train.loss import Batch, LanguageModelLoss
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.registers import (
    FrozenRowsLoss,
    RegisterStream,
    following,
    with_registers,
)

WORDS, POOL, R = growing_run.VOCABULARY, 6, 2
CONFIG = ModelConfig.uniform(
    2, 2, 1, 32, vocab_size=WORDS + POOL, hidden_size=16, head_dim=8, tie_embeddings=False
)
IDS = np.arange(WORDS, WORDS + POOL)


def registers(kind):
    return Registers(kind, R, WORDS, POOL)


def test_registers_stand_before_a_row_and_nothing_is_predicted_there():
    batch = Batch(np.array([[5, 6]]), np.array([[6, 7]]), np.array([[1.0, 0.5]], np.float32))
    found = prepend(batch, np.array([[8, 9]], np.int32))
    assert found.token_BT.tolist() == [[8, 9, 5, 6]]
    assert found.target_BT[:, 2:].tolist() == [[6, 7]]
    assert found.weight_BT.tolist() == [[0, 0, 1.0, 0.5]]
    assert found.position_BT is found.segment_BT is None
    with pytest.raises(ValueError, match="rows of several"):
        prepend(batch._replace(segment_BT=np.zeros((1, 2))), np.array([[8, 9]]))


def test_only_random_registers_change_and_equal_numbers_draw_the_same():
    for kind in KINDS:
        own = registers(kind)
        first, again, other = (own.draw(5, *numbers) for numbers in ((1, 2), (1, 2), (1, 3)))
        assert first.shape == (5, R)
        np.testing.assert_array_equal(first, again)
        if kind != "registers_random":
            np.testing.assert_array_equal(first, np.tile([WORDS, WORDS + 1], (5, 1)))
            np.testing.assert_array_equal(first, other)
            continue
        assert not np.array_equal(first, other)
        assert len({tuple(row) for row in first}) > 1
        drawn = own.draw(3000, 0)
        assert (drawn[:, 0] != drawn[:, 1]).all()
        np.testing.assert_allclose(np.bincount(drawn[:, 0] - WORDS) / 3000, 1 / POOL, atol=0.03)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "register_learned"}, "registers_learned"),
        ({"count": 0}, "registers.count"),
        ({"pool": 2}, "pool must be above registers.count"),
    ],
)
def test_registers_that_cannot_be_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Registers(**{"kind": "registers_random", "count": 2, "first": 9, "pool": 3} | fields)


def test_a_stream_goes_on_where_it_stood():
    def stream():
        return RegisterStream(growing_run.Counting(3), registers("registers_random"), seed=3)

    whole, begun, resumed = stream(), stream(), stream()
    batches = [whole.next() for _ in range(4)]
    assert not np.array_equal(batches[0].token_BT[:, :R], batches[1].token_BT[:, :R])
    plain = growing_run.Counting(3)
    for batch in batches:
        np.testing.assert_array_equal(batch.token_BT[:, R:], plain.next().token_BT)
    begun.next(), begun.next()
    resumed.restore(begun.state())
    for expected in batches[2:]:
        np.testing.assert_array_equal(resumed.next().token_BT, expected.token_BT)


def train(kind, folder, steps=6, callbacks=()):
    """Parameters at the end and before the first step."""
    own = registers(kind)
    stages = (Stage(CONFIG, steps),)
    objective = LanguageModelLoss
    if own.are_frozen:
        objective = functools.partial(FrozenRowsLoss, first_frozen=own.first)
    trainer = growing_run.make(
        stages=stages,
        optimiser=Optimiser(weight_decay=0.1, decay_norms_and_embeddings=False),
        seeds=(0, 1),
        streams=[RegisterStream(growing_run.Counting(seed), own, seed) for seed in (0, 1)],
        objective=objective,
    )
    before = []
    first = Every(steps, lambda state: before.append(copied(state.params)), at_ends=True)
    params = trainer.train(folder, [first, *callbacks])
    return copied(params), before[0]


def copied(params):
    return np.array(params["embed"]["embedding"])


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_rows_stay_to_the_bit_and_others_move(kind, tmp_path):
    now_MVD, before_MVD = train(kind, tmp_path)
    moved_MV = np.abs(now_MVD - before_MVD).max(axis=-1)
    assert (moved_MV[:, :WORDS].max(axis=1) > 1e-3).all()
    learned = IDS[:R] if kind == "registers_learned" else []
    assert (moved_MV[:, list(learned)] > 1e-3).all()
    assert (moved_MV[:, [row for row in IDS if row not in learned]] == 0).all()


def test_a_loss_with_frozen_rows_is_the_loss_and_has_its_other_gradients():
    params = model.init(CONFIG, jax.random.key(0))
    batch = prepend(growing_run.Counting(0).next(), registers("registers_frozen").draw(8, 0))
    batch = jax.tree.map(jnp.asarray, batch)
    whole, frozen = LanguageModelLoss(CONFIG), FrozenRowsLoss(CONFIG, first_frozen=WORDS)

    def gradient(loss):
        return jax.value_and_grad(lambda own: (loss.nll(own, batch) * batch.weight_BT).sum())(
            params
        )

    (value, expected), (same, found) = gradient(whole), gradient(frozen)
    assert same == pytest.approx(float(value), rel=1e-6)
    own = expected["embed"]["embedding"]
    assert np.abs(own[WORDS : WORDS + R]).max() > 1e-3
    expected["embed"]["embedding"] = own.at[WORDS:].set(0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )


def test_rows_are_followed_from_where_they_began(tmp_path):
    points = {}
    rows = {"registers": IDS[:R].tolist(), "frequent": [1, 2]}
    follow = following(rows, lambda state, found: points.__setitem__(state.step, found), 2)
    now_MVD, before_MVD = train("registers_learned", tmp_path, 5, [follow])
    assert sorted(points) == [0, 2, 4, 5]
    assert all(own[name]["moved"] == 0 for own in points[0] for name in rows)
    rates = growing_run.SCHEDULE.rates(5)
    for at, own in enumerate(points[5]):
        change_RD = now_MVD[at, IDS[:R]] - before_MVD[at, IDS[:R]]
        moved = np.sqrt((change_RD**2).mean())
        assert own["registers"]["moved"] == pytest.approx(float(moved), rel=1e-5)
        assert own["straight"] == pytest.approx(rates.sum())
        assert own["registers"]["moved"] <= own["straight"] * 1.5
        assert own["frequent"]["moved"] != own["registers"]["moved"]
    assert points[2][0]["straight"] == pytest.approx(rates[:2].sum())


def test_held_out_rows_have_the_loss_of_a_forward_pass_after_registers():
    own = registers("registers_random")
    batch = growing_run.Counting(9).next()
    held_out = with_registers(HeldOut(1.0, [batch, batch]), own)
    first, second = held_out.batches
    assert not np.array_equal(first.token_BT[:, :R], second.token_BT[:, :R])
    params = model.init(CONFIG, jax.random.key(0))
    stacked = {**params, "layers": growing_run.tree.stack(params["layers"])}
    setup = growing_run.make(stages=(Stage(CONFIG, 1),))._setup
    found = score(setup, setup.stages[0], stacked, held_out)
    losses_BT = growing_run.token_losses(CONFIG, params, first)[:, R:, 0]
    np.testing.assert_allclose(found.nll[0][: len(losses_BT)], losses_BT.sum(axis=1), rtol=1e-5)
    assert found.tokens == [growing_run.LENGTH] * 16
