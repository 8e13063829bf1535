"""A policy at work in a small run: what it sets, what its rows say, and across a kill."""

import functools
import json

import growing_run
import jax
import numpy as np
import optax
import pytest
from growing_run import OPTIONS, config, watching

from jaxanatomy import tree
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures.arms.role_moves import PROPOSAL, STUCK
from jaxanatomy.train import proposals
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.optimiser import COLUMNS
from jaxanatomy.train.policy import Lever, PolicySettings, draw, start, update
from jaxanatomy.train.proposals import Proposer

STEPS, EVERY, SEEDS = 13, 4, (0, 3)
SETTINGS = PolicySettings(every=EVERY)
DECAY = Lever("layer_decays", tree.MATRICES, 0.01, 0.001, 0.1)
RATE = Lever("layer_rates", ("layer",), 1.0, 0.3, 3.0)


class KilledError(Exception):
    pass


def judge(state):
    """Losses that say nothing of the model."""
    return [1 / (1 + state.step), float(np.cos(state.step))]


def run(
    folder, lever=DECAY, learns=True, die_at=None, judge=judge, settings=SETTINGS, watch=watching
):
    """(rows, factors by step, parameters)."""
    rows, factors = [], {}

    def emit(state, kind, found):
        assert kind == PROPOSAL
        rows.extend((state.step, seed, each) for seed, each in zip(SEEDS, found, strict=True))

    def note(state):
        names = "layer_rates", "layer_decays"
        factors[state.step] = [np.asarray(optax.tree.get(state.moments, name)) for name in names]
        if state.step == die_at:
            raise KilledError

    proposer = Proposer(settings, lever, learns, SEEDS, judge, emit)
    callbacks = [*proposer.callbacks(), Every(1, note), *watch()]
    trainer = growing_run.make(
        seeds=SEEDS, stages=(Stage(config(4), STEPS),), layer_factors=True, options=OPTIONS
    )
    return rows, factors, trainer.train(folder, callbacks)


def expected(lever, learns):
    """Proposals [number] of coefficients, and the policy before each."""
    policies, proposals, policy = [], [], start(SETTINGS, lever, 4, len(SEEDS))
    steps = [*range(0, STEPS, EVERY), STEPS]
    losses = [np.array([1 / (1 + step), np.cos(step)]) for step in steps]
    for number in range(len(steps) - 1):
        x_MLC = draw(policy, SEEDS, number)
        policies.append(policy)
        proposals.append(x_MLC)
        if learns:
            policy = update(SETTINGS, lever, policy, x_MLC, losses[number] - losses[number + 1])
    return policies, proposals


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "whole")


def test_rows_are_those_of_the_policy_and_its_rewards(whole):
    rows, _, _ = whole
    policies, proposals = expected(DECAY, learns=True)
    assert [(step, seed) for step, seed, _ in rows] == [
        (step, seed) for step in (4, 8, 12, 13) for seed in SEEDS
    ]
    for at, (step, seed, row) in enumerate(rows):
        number, own = divmod(at, len(SEEDS))
        assert row["since"] == number * EVERY
        before, after = judge_at(row["since"]), judge_at(step)
        assert row["reward"] == pytest.approx(before[own] - after[own], rel=1e-12)
        for column, name in enumerate(DECAY.tensors):
            coefficient_MLC = DECAY.coefficient(proposals[number])
            assert row["coefficient"][name] == coefficient_MLC[own, :, column].tolist()
            mean_MLC = DECAY.coefficient(policies[number].mean_MLC)
            assert row["mean"][name] == mean_MLC[own, :, column].tolist()
        assert seed == SEEDS[own]
        json.dumps(row)


def judge_at(step):
    return 1 / (1 + step), float(np.cos(step))


@pytest.mark.parametrize("lever", [DECAY, RATE], ids=["decay", "rate"])
def test_the_factors_of_a_step_are_those_of_its_proposal(lever, whole, tmp_path):
    learns = lever is DECAY
    _, factors, _ = whole if learns else run(tmp_path, lever, learns)
    _, proposals = expected(lever, learns)
    for step in range(1, STEPS):
        ratio_MLC = lever.coefficient(proposals[step // EVERY]) / lever.begin
        rates, decays = factors[step]
        if lever is RATE:
            np.testing.assert_allclose(rates, np.repeat(ratio_MLC, len(COLUMNS), 2), rtol=1e-6)
            assert (decays == 1).all()
        else:
            np.testing.assert_allclose(decays[..., :-1], ratio_MLC, rtol=1e-6)
            assert (decays[..., -1] == 1).all()
            assert (rates == 1).all()


def test_a_random_policy_stays_as_it_begins(tmp_path):
    rows, _, _ = run(tmp_path, learns=False)
    for _, _, row in rows:
        np.testing.assert_allclose(list(row["mean"].values()), DECAY.begin)
    assert len({json.dumps(row["coefficient"]) for *_, row in rows}) == len(rows)


def test_after_a_kill_rows_and_parameters_are_the_same_to_the_bit(whole, tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, die_at=9)
    rows, _, params = run(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, whole[2])
    assert rows == [row for row in whole[0] if row[0] > 8]
    again, _, _ = run(tmp_path)  # from its end
    assert again == []


def test_a_mean_that_stays_at_its_clamp_is_told_once(tmp_path, caplog):
    narrow = Lever("layer_rates", ("layer",), 1.0, 0.999, 1.001)
    settings = PolicySettings(every=1, spread=0.5, rate=1.0, rate_scale=(0.999, 1.001))
    with caplog.at_level("WARNING"):
        rows, _, _ = run(tmp_path, narrow, settings=settings)
    told = [record.getMessage() for record in caplog.records if "at the clamp" in record.message]
    stuck = {
        (layer, seed)
        for seed in SEEDS
        for layer in range(4)
        if longest([row["at_clamp"]["layer"][layer] for _, own, row in rows if own == seed])
        >= STUCK
    }
    assert stuck
    assert 1 <= len(told) <= len(stuck)
    assert f"at the clamp for {STUCK} proposals (0.999 to 1.001)" in told[0]


def test_a_clamp_keeps_a_run_that_proposals_beyond_it_would_end(tmp_path, monkeypatch):
    """LR section 7: an unsafe clamp on rates by layer destroyed training.

    Three hundred times the rate does not end this run; where rate times decay is above 2, weights
    grow with every step. The experiment refuses such a clamp.
    """
    monkeypatch.setattr(proposals, "draw", lambda policy, *_: np.full(policy.mean_MLC.shape, 99.0))
    losses = {}
    for high in (3.0, 1e5):
        points = []
        settings = PolicySettings(every=EVERY, rate_scale=(0.3, high))
        lever = Lever("layer_rates", ("layer",), 1.0, 0.3, high)
        watch = functools.partial(watching, points.append)
        run(tmp_path / str(high), lever, settings=settings, watch=watch)
        losses[high] = [np.mean(point.eval_nll) for point in (points[0], points[-1])]
    first, narrow = losses[3.0]
    assert narrow < first - 0.05
    assert not losses[1e5][1] < first  # worse than before the first step, or not finite


def longest(flags):
    """Naive: the most in a row."""
    best = now = 0
    for flag in flags:
        now = now + 1 if flag else 0
        best = max(best, now)
    return best
