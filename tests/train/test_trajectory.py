"""Steps of a run read one by one, as features and roles or as models; and as it trains."""

import dataclasses
import logging
import shutil
import types
import weakref

import growing_run
import jax
import numpy as np
import optax
import pytest
from growing_run import OPTIONS, watching

from jaxanatomy import model, tree
from jaxanatomy.data.facts import word_tokenizer
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.roles import defined
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures import roles
from jaxanatomy.train import layer_roles, snapshots
from jaxanatomy.train import trajectory as module
from jaxanatomy.train.callbacks import Every, Response
from jaxanatomy.train.layer_roles import RoleWatch
from jaxanatomy.train.setup import Setup
from jaxanatomy.train.trajectory import trajectory
from jaxanatomy.weights import open_model, training_steps

SEEDS = (0, 3)
STAGES = (Stage(growing_run.config(2), 1), dataclasses.replace(growing_run.STAGES[1], steps=5))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of checkpoints at steps 1, 2, 4 and 6, what stood there, and looks on the way."""
    folder, seen, looks = tmp_path_factory.mktemp("run"), {}, {}

    def note(state):
        own = state.setup.model_of((state.params, state.moments), 1)
        params = jax.tree.map(np.array, own[0])
        seen[state.step] = params, jax.tree.map(np.array, optax.tree.get(own[1], "mu"))

    def look(state, at, found):
        looks[state.at, state.step, state.setup.seeds[at]] = found

    options = dataclasses.replace(OPTIONS, max_to_keep=9)
    watch = RoleWatch(2, look)
    trainer = growing_run.make(SEEDS, options, stages=STAGES)
    trainer.train(folder, [Every(1, note), *watch.callbacks(), *watching()])
    assert list(watch.places(STAGES)) == [(1, 1), (1, 2), (1, 4), (1, 6)]
    return types.SimpleNamespace(folder=folder, seen=seen, looks=looks)


@pytest.fixture
def copy(run, tmp_path):
    """The folder, to be damaged."""
    return shutil.copytree(run.folder, tmp_path / "copy")


def test_every_step_of_four_layers_has_the_features_of_its_weights_and_moments(run, caplog):
    steps = list(trajectory(run.folder, seed=3))
    (told,) = (each for each in caplog.messages if "skipped" in each)
    assert "step 1 is skipped: roles need at least 4 layers" in told
    assert [{row["step"] for row in rows} for rows in steps] == [{2}, {4}, {6}]
    for rows in steps:
        params, moments = run.seen[rows[0]["step"]]
        weight, mu = (
            np.asarray(tree.get(tree.unstack(each["layers"])[3], "down_proj"), float)
            for each in (params, moments)
        )
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


def test_a_look_in_training_is_that_at_the_checkpoint(run):
    """Of a model of two layers there is none."""
    assert run.looks.keys() == {(1, step, seed) for step in (1, 2, 4, 6) for seed in SEEDS}
    for seed in SEEDS:
        for rows in trajectory(run.folder, seed):
            look = run.looks[1, rows[0]["step"], seed]
            own = [row for row in rows if row["kind"] == "role"]
            assert look["roles"] == [row["role"] for row in own]
            assert look["margins"] == [row["margin"] for row in own]
            known = defined(roles.features(rows, None))
            assert look["features"] == {name: list(each) for name, each in known.items()}
            assert "down_proj.momentum_cosine" in look["features"]


def test_half_written_and_damaged_steps_are_skipped_with_a_message(copy, tmp_path, caplog):
    (copy / "7.orbax-checkpoint-tmp-1").mkdir()
    shutil.rmtree(copy / "4" / "params")
    for path in (copy / "6" / "moments").rglob("*"):
        path.write_bytes(b"") if path.is_file() else None
    with caplog.at_level(logging.WARNING, "jaxanatomy"):
        assert [rows[0]["step"] for rows in trajectory(copy, 0)] == [2]
    told = "\n".join(caplog.messages)
    assert "step 4 is skipped" in told
    assert "step 6 is skipped" in told
    assert "half-written" in told
    with pytest.raises(InputError, match=r"of 4 layers or more; .* has none; give RUN/checkpoints"):
        list(trajectory(tmp_path / "nothing"))


def test_a_model_that_is_not_finite_has_no_roles_and_the_other_seed_has(tmp_path, caplog):
    """Its weights are lost in the last step before a look, of which its loss tells at the next."""
    looks = {}

    def lose(state):
        if state.step != 4:
            return None
        path = "layers/0/attention/q_proj/kernel"
        leaves = tree.to_leaves(state.params)
        lost = leaves | {path: leaves[path].at[1, 2].set(np.inf)}
        return Response(params=tree.from_leaves(lost))

    def look(state, at, found):
        looks[state.step, state.setup.seeds[at]] = found

    stages = (Stage(growing_run.config(4), 4),)
    callbacks = [Every(4, lose), *RoleWatch(4, look).callbacks(), *watching()]
    growing_run.make(SEEDS, stages=stages).train(tmp_path, callbacks)
    assert looks[4, 3] == {"roles": [], "margins": [], "features": {}}
    assert [len(looks[step, 0]["roles"]) for step in (0, 4)] == [4, 4]
    assert [rows[0]["step"] for rows in trajectory(tmp_path, 3)] == [2]
    assert [rows[0]["step"] for rows in trajectory(tmp_path, 0)] == [2, 4]
    (told,) = (each for each in caplog.messages if "skipped" in each)
    assert told == "step 4 is skipped: NaN or Inf in layers/0/attention/q_proj/kernel"


def test_one_checkpoint_is_in_memory_at_a_time(copy, monkeypatch):
    shutil.rmtree(copy / "1")  # pytest keeps why it is skipped, and the traceback what was read
    for step in range(10, 20):
        shutil.copytree(copy / "6", copy / str(step))
    read, alive = module.read_snapshot, []

    def counting(*arguments):
        assert not any(each() is not None for each in alive)
        snapshot = read(*arguments)
        arrays = jax.tree.leaves((snapshot.params, snapshot.moments))
        alive[:] = [weakref.ref(each) for each in (snapshot, *arrays)]
        return snapshot

    monkeypatch.setattr(module, "read_snapshot", counting)
    assert sum(1 for _ in trajectory(copy, 0)) == 13
    assert len(alive) > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_of_a_run_is_a_model(run, seed, caplog):
    """Bit for bit what stood there, whole seeds and growth apart; the latest step by default."""
    source = open_model(f"orbax:{run.folder}@4/{seed}")
    assert (source.config, source.tokenizer) == (growing_run.config(4), None)
    loaded = source.load()
    assert caplog.records == []  # Orbax need not name what else stands there
    if seed == 3:
        params = run.seen[4][0]
        expected = tree.to_leaves(tree.with_layers(params, tree.unstack(params["layers"])))
        found = tree.to_leaves(loaded.params)
        assert found.keys() == expected.keys()
        for leaf, array in found.items():
            np.testing.assert_array_equal(array, expected[leaf], err_msg=leaf)
    others = [open_model(f"orbax:{run.folder}@{where}") for where in ("4/0", "4/3", "6/3")]
    assert len({each.read_sha256() for each in others}) == 3
    assert loaded.sha256 == others[SEEDS.index(seed)].read_sha256()
    assert open_model(f"orbax:{run.folder}@1/{seed}").config == growing_run.config(2)


def test_a_run_of_one_seed_needs_no_name_and_has_its_tokenizer(tmp_path, caplog):
    words = word_tokenizer(("one two", "two three"), growing_run.VOCABULARY)
    training_steps.save_tokenizer(words, tmp_path)
    last = growing_run.make((5,), stages=STAGES[:1]).train(tmp_path, watching())
    kept = open_model(f"orbax:{tmp_path}").load()
    np.testing.assert_array_equal(kept.params["embed"]["embedding"], last["embed"]["embedding"])
    assert kept.tokenizer.encode("two one") == words.encode("two one")
    assert open_model(f"orbax:{tmp_path}@1/5").read_sha256() == kept.sha256
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace("three", "seven", 1))
    (tmp_path / "7.orbax-checkpoint-tmp-1").mkdir()
    damaged = open_model(f"orbax:{tmp_path}").load()
    with pytest.raises(InputError, match="it is damaged"):
        damaged.require_tokenizer()
    assert "7.orbax-checkpoint-tmp-1 is skipped: it is half-written" in caplog.text


def test_what_is_no_model_of_a_run_is_refused_with_the_remedy(run, copy, tmp_path):
    with pytest.raises(InputError, match=r"seeds 0, 3 at step 6; got no seed; .*run\d+@6/0"):
        open_model(f"orbax:{run.folder}")
    with pytest.raises(InputError, match="got seed 2; name one of them"):
        open_model(f"orbax:{run.folder}@4/2")
    with pytest.raises(InputError, match="got no seed"):
        list(trajectory(copy))
    with pytest.raises(
        InputError, match="complete checkpoint of step 3; it has those of 1, 2, 4, 6"
    ):
        open_model(f"orbax:{copy}@3/0")
    tuning = growing_run.make((1, 1), stages=STAGES[:1], learning_rates=(0.01, 0.02))
    tuning.train(tmp_path / "tuning", watching())
    with pytest.raises(InputError, match="each seed once; it has 1, 1, at several learning rates"):
        open_model(f"orbax:{tmp_path / 'tuning'}@1/1")
    for path in (copy / "6" / "params").glob("ocdbt.process_0/d/*"):
        path.write_bytes(path.read_bytes()[::-1])
    source = open_model(f"orbax:{copy}@6/0")
    with pytest.raises(InputError, match="name another step"):
        source.load()


@pytest.mark.parametrize(("share", "warned"), [(0.0, True), (1e9, False)])
def test_a_look_that_takes_long_beside_training_is_told(monkeypatch, caplog, share, warned):
    monkeypatch.setattr(layer_roles, "SHARE", share)
    config = growing_run.config(4)
    params = jax.tree.map(np.asarray, model.init(config, jax.random.key(0)))
    state = types.SimpleNamespace(
        step=8,
        stage=Stage(config, 9),
        params=tree.with_layers(params, tree.stack(params["layers"], np)),
        moments=(),
        setup=Setup((Stage(config, 9),), growing_run.ADAMW, growing_run.SCHEDULE),
    )
    (every,) = RoleWatch(4, lambda *found: None).callbacks()
    for _ in range(3):
        every.call(state)
    assert sum("raise roles_every" in each for each in caplog.messages) == warned


@pytest.mark.parametrize("where", [".mu", "embedding"])
def test_arrays_that_are_not_those_that_were_saved_are_refused(
    monkeypatch, tmp_path, caplog, where
):
    sums = snapshots.array_checksums
    with monkeypatch.context() as patch:
        patch.setattr(
            snapshots,
            "array_checksums",
            lambda tree: {path: each + (where in path) for path, each in sums(tree).items()},
        )
        growing_run.make((5,), stages=STAGES[:1]).train(tmp_path, watching())
    with pytest.raises(InputError, match="has none"):
        list(trajectory(tmp_path))
    if where == ".mu":
        assert "the values of the optimiser's state are not those that were saved" in caplog.text
        assert open_model(f"orbax:{tmp_path}").load().config.num_layers == 2
    else:
        assert "embedding'] are not those that were saved" in caplog.text
        with pytest.raises(
            InputError, match=r"are not those that were saved; .* name another step"
        ):
            open_model(f"orbax:{tmp_path}").load()
