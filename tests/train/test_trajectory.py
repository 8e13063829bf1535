"""Checkpoints of a run read one by one: features, momentum, roles; half-written steps skipped."""

import dataclasses
import logging
import shutil

import growing_run
import numpy as np
import optax
import pytest
from growing_run import OPTIONS, watching

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.trajectory import settled, trajectory
from jaxanatomy.weights import open_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of checkpoints at steps 2, 4 and 5, and what stood there."""
    folder, seen = tmp_path_factory.mktemp("run"), {}

    def note(state):
        own = [state.setup.model_of(each, 1) for each in (state.params, state.moments)]
        block = tree.unstack(own[0]["layers"])[3]
        mu = tree.unstack(optax.tree.get(own[1], "mu")["layers"])[3]
        seen[state.step] = [np.array(tree.get(each, "down_proj"), float) for each in (block, mu)]

    options = dataclasses.replace(OPTIONS, max_to_keep=9)
    trainer = growing_run.make((0, 3), options, stages=[Stage(growing_run.config(4), 5)])
    trainer.train(folder, [Every(1, note), *watching()])
    return folder, seen


def test_every_step_has_the_features_of_its_weights_and_moments(run):
    folder, seen = run
    steps = [rows for rows in trajectory(folder, seed=1)]
    assert [{row["step"] for row in rows} for rows in steps] == [{2}, {4}, {5}]
    for rows in steps:
        weight, mu = seen[rows[0]["step"]]
        found = {
            row["metric"]: row["value"]
            for row in rows
            if (row["kind"], row["layer"], row.get("component")) == ("feature", 3, "down_proj")
        }
        assert found["frobenius_norm"] == pytest.approx(np.linalg.norm(weight), rel=1e-6)
        cosine = -(weight * mu).sum() / np.linalg.norm(weight) / np.linalg.norm(mu)
        assert found["momentum_cosine"] == pytest.approx(cosine, rel=1e-5)
        assert 0 <= found["stuck_share"] <= 1
        assert [row["layer"] for row in rows if row["kind"] == "role"] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="seed must be below 2"):
        list(trajectory(folder, seed=2))


def test_half_written_and_damaged_steps_are_skipped_with_a_message(run, tmp_path, caplog):
    folder = shutil.copytree(run[0], tmp_path / "copy")
    (folder / "6.orbax-checkpoint-tmp-1").mkdir()
    shutil.rmtree(folder / "4" / "params")
    with caplog.at_level(logging.WARNING, "jaxanatomy"):
        assert [rows[0]["step"] for rows in trajectory(folder)] == [2, 5]
    told = "\n".join(caplog.messages)
    assert "step 4 is skipped" in told
    assert "half-written" in told
    with pytest.raises(InputError, match="has no whole one"):
        list(trajectory(tmp_path / "nothing"))


def test_roles_settle_where_they_change_for_the_last_time():
    changing = {0: "aaaa", 1: "abbb", 2: "abab", 3: "aaab"}
    rows = [
        {"kind": "role", "step": 10 * at, "layer": layer, "role": role}
        for layer, course in changing.items()
        for at, role in enumerate(course)
    ]
    assert settled(rows) == {0: 0, 1: 10, 2: 30, 3: 30}


def test_a_step_of_a_run_is_no_model(run):
    with pytest.raises(InputError, match=r"it has the steps of a training run.*ja\.trajectory"):
        open_model(f"orbax:{run[0]}@2")
