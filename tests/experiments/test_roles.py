"""The roles experiment from the command line: the contract of a run, end to end."""

import dataclasses
import re
import shutil
import types

import growing_run
import numpy as np
import orbax.checkpoint as ocp
import pytest
import run_files

import jaxanatomy as ja
from jaxanatomy import tree, weights
from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics.layer_features import LAYER_FEATURES, MATRIX_FEATURES, NORM_FEATURES
from jaxanatomy.forensics.momentum import MOMENTUM_FEATURES
from jaxanatomy.forensics.roles import ROLES, ROUTED, ROUTING
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures.readings.probe import PROBE_FEATURES
from jaxanatomy.records import read_arrays, read_run
from jaxanatomy.report import html
from jaxanatomy.report import roles as page
from jaxanatomy.train.role_moments import optimiser_step
from jaxanatomy.weights import orbax_io
from jaxanatomy.weights.random_init import random_params

CONFIG = ModelConfig.uniform(5, 4, 2, 24, vocab_size=97, hidden_size=16)
LAYERS = CONFIG.num_layers
EACH = 7 * len(MATRIX_FEATURES) + 2 * len(NORM_FEATURES) + len(LAYER_FEATURES) + 1
DRAWS, MOMENTUM = "--config.draws=50", "--config.momentum=3"


@pytest.fixture(autouse=True)
def version(fixed_version):
    """The code of this project may change between two commands of a test."""


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A model of five layers, of which the third has giant neurons; and a later step of it."""
    folder = tmp_path_factory.mktemp("models")
    params = random_params(CONFIG, np.float32, seed=3)
    gate = params["layers"][2]["mlp"]["gate_proj"]["kernel"]
    gate[:, :3] *= 20
    tokenizer = weights.open_model(tiny.model).tokenizer
    model = weights.Checkpoint(CONFIG, params, tokenizer, "made", "0" * 64)
    leaves = tree.to_leaves(params)
    path = "layers/4/attention/o_proj/kernel"
    later = tree.from_leaves(leaves | {path: leaves[path] * np.float32(1.5)})
    weights.export_hf(model, folder / "model")
    weights.export_hf(dataclasses.replace(model, params=later), folder / "later")
    return types.SimpleNamespace(
        folder=folder,
        checkpoint=model,
        model=f"file:{folder / 'model'}",
        later=f"file:{folder / 'later'}",
    )


@pytest.fixture(scope="module")
def start(made, tiny, command):
    def start(workdir, *more):
        given = (f"--config.model={made.model}", f"--config.text={tiny.jsonl}", DRAWS)
        return command("roles", *given, f"--workdir={workdir}", *more)

    return start


@pytest.fixture(scope="module")
def finished(start, made, tmp_path_factory, fixed_version):
    workdir = tmp_path_factory.mktemp("runs") / "roles"
    done = start(workdir, f"--config.others={made.later}", MOMENTUM)
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_the_files_of_the_contract_and_the_rows_of_every_feature(finished, made):
    workdir, _ = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    files = {"config.json", "rows.jsonl", "summary.json", "arrays.npz", "figures", "report.html"}
    assert names == files
    rows = run_files.read_rows(workdir)
    assert len({row["hash"] for row in rows}) == len(rows)
    models = (made.model, made.later, f"random:{made.model}")
    assert {row["model"] for row in rows} == set(models)
    for model in models:
        own = [row for row in rows if row["model"] == model]
        features = [row for row in own if row["kind"] == "feature"]
        assert len(features) == LAYERS * (EACH + len(PROBE_FEATURES) + 7 * len(MOMENTUM_FEATURES))
        assert sum(row["kind"] == "role" for row in own) == LAYERS
    changes = [row for row in rows if row["kind"] == "change"]
    assert {row["model"] for row in changes} == {made.later}
    assert len(changes) == LAYERS * 9 * 2
    for row in changes:
        moved = (row["layer"], row["component"]) == (4, "o_proj")
        expected = 0.5 * moved if row["metric"] == "relative_change" else 1.0
        assert row["value"] == pytest.approx(expected, abs=1e-7)
    assert read_arrays(workdir / "arrays.npz").keys() == {
        "coupling",
        "coupling_other_0",
        "coupling_untrained",
    }


def test_the_planted_specialist_is_found_and_the_summary_says_what_moved(finished, made):
    summary = read_run(finished[0]).summary
    own, later = summary["models"][made.model], summary["models"][made.later]
    assert own["roles"][2] == "specialist"
    assert own["highest_cv"]["layer"] == 2
    assert sum(own["counts"].values()) == LAYERS
    assert later["largest_change"] == {
        "layer": 4,
        "component": "o_proj",
        "value": pytest.approx(0.5, abs=1e-6),
    }
    assert later["moved"] == [
        layer for layer in range(LAYERS) if own["roles"][layer] != later["roles"][layer]
    ]
    assert len(summary["null"]["roles"]) == LAYERS
    rows = [row for row in read_run(finished[0]).rows if row["kind"] == "role"]
    score = {(row["model"], row["layer"]): np.array([row[role] for role in ROLES]) for row in rows}
    for other, found in ((made.later, later), (f"random:{made.model}", summary["null"])):
        apart = [score[made.model, layer] - score[other, layer] for layer in range(LAYERS)]
        assert found["role_distance"] == pytest.approx(np.sqrt(np.square(apart).mean()), rel=1e-12)
    assert 0 < later["role_distance"] < summary["null"]["role_distance"]
    assert 0 < own["stability"] <= 1


def test_roles_are_those_of_the_rows_of_features(finished, made):
    """Every score, from the values in the rows, a z-score and a sigmoid at a time."""
    rows = [row for row in run_files.read_rows(finished[0]) if row["model"] == made.model]
    value = {
        (f"{row['component']}.{row['metric']}".lstrip("."), row["layer"]): row["value"]
        for row in rows
        if row["kind"] == "feature"
    }
    for row in (row for row in rows if row["kind"] == "role"):
        scores = {}
        for role, routed in ROUTING.items():
            z = []
            for name, sign in routed.items():
                own = [value.get((name, layer)) for layer in range(LAYERS)]
                if None not in own:
                    spread = np.std(own)
                    z.append(sign * (own[row["layer"]] - np.mean(own)) / spread if spread else 0.0)
            scores[role] = 1 / (1 + np.exp(-np.mean(z)))
            assert row[role] == pytest.approx(scores[role], abs=1e-9)
        first, second = sorted(scores, key=scores.get)[:-3:-1]
        wins = scores[first] - scores[second] > 0.05
        assert row["role"] == (first if wins else "tie")
        assert row["margin"] == pytest.approx(scores[first] - scores[second], abs=1e-9)
        assert set(row["without"]) <= set(ROUTED)


def test_momentum_is_that_of_the_same_text_and_counts(finished, made, tiny):
    text = ja.text(tiny.jsonl)
    expected = ja.momentum(ja.load(made.later), text, updates=3, packing={"token_budget": 2048})
    found = [
        row
        for row in run_files.read_rows(finished[0])
        if row["model"] == made.later and row.get("metric") in MOMENTUM_FEATURES
    ]
    assert [(row["layer"], row["component"], row["metric"], row["value"]) for row in found] == [
        (row["layer"], row["component"], row["metric"], pytest.approx(row["value"], rel=1e-6))
        for row in expected
    ]
    assert {row["text"] for row in found} == {text.name}
    shown = {row["feature"] for row in page.evidence(read_run(finished[0]))}
    assert {"down_proj.momentum_cosine", "down_proj.stuck_share"} <= shown


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Steps 2 and 4 of a run of two seeds, each with the optimiser's state."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = dataclasses.replace(growing_run.OPTIONS, max_to_keep=9)
    stages = (Stage(growing_run.config(4), 4),)
    growing_run.make((0, 3), options, stages=stages).train(folder, growing_run.watching())
    return folder


def test_momentum_of_a_step_of_a_run_is_that_of_its_own_optimiser(trained, command, tmp_path):
    """And so are its roles, with no text: those that `ja.trajectory` gives."""
    ids = {step: f"orbax:{trained}@{step}/3" for step in (4, 2)}
    flags = (f"--config.model={ids[4]}", f"--config.others={ids[2]}", "--config.text=", DRAWS)
    done = command("roles", *flags, f"--workdir={tmp_path / 'run'}")
    assert (done.status, done.err) == (0, "")
    record = read_run(tmp_path / "run")
    names = ("layer", "component", "metric", "value", "role", "margin")
    expected = {row["step"]: [] for row in ja.trajectory(trained, seed=3)}
    for row in ja.trajectory(trained, seed=3):
        if row["kind"] == "role" or row["metric"] in MOMENTUM_FEATURES:
            expected[row["step"]].append([row.get(name) for name in names])
    for step, model in ids.items():
        found = [
            [row.get(name) for name in names]
            for row in record.rows
            if row["model"] == model
            and (row["kind"] == "role" or row.get("metric") in MOMENTUM_FEATURES)
        ]
        assert found == expected[step]
        assert len(found) == 4 * (7 * len(MOMENTUM_FEATURES) + 1)
    # The untrained model has no optimiser: its roles hang on other features.
    null = [row for row in record.rows if row["model"] == f"random:{ids[4]}"]
    assert not {row.get("metric") for row in null} & {*MOMENTUM_FEATURES}
    assert record.summary["null"]["role_distance"] is None
    assert record.summary["models"][ids[2]]["role_distance"] > 0


def test_only_steps_of_a_run_have_an_optimisers_state(trained, steps, made):
    assert optimiser_step(f"orbax:{trained}") == (trained, 4, None)
    assert optimiser_step(f"orbax:{trained}@2/3") == (trained, 2, 3)
    for model in (f"orbax:{steps}@10", made.model, f"random:orbax:{trained}@2/3"):
        assert optimiser_step(model) is None


def test_the_page_has_roles_beside_those_of_the_untrained_model(finished, made):
    record = read_run(finished[0])
    words = " ".join(text for each in html.fill(page.PAGE, record) for text in each.text)
    assert re.search(r"Those of \d of 5 layers change when some single feature is left out", words)
    assert "The untrained model, whose layers differ by chance alone" in words
    assert "The role of each layer, and what it hangs on" in finished[1]
    assert len(page.strip(record)) == 3 * LAYERS
    moved, untrained = page.moved(record)
    assert (moved["largest_component"], moved["largest_layer"]) == ("o_proj", 4)
    distances = [record.summary["models"][made.later], record.summary["null"]]
    assert [moved["distance"], untrained["distance"]] == [own["role_distance"] for own in distances]
    shown = {row["feature"] for row in page.evidence(record)}
    assert shown <= set(ROUTED)
    assert {*PROBE_FEATURES} & {*ROUTED} <= shown
    wide = next(row for row in page.curves(record) if (row["model"], row["layer"]) == ("model", 2))
    assert {"co_magnitude_cv", "sink_mass", "gate_proj.spectral_norm_to_peers"} <= wide.keys()
    fit = {
        row["metric"]: row["value"]
        for row in record.rows
        if (row["model"], row["layer"], row.get("component")) == (made.model, 2, "down_proj")
    }
    tail = wide["down_proj.alpha"]
    assert tail.value == fit["alpha"]
    assert tail.high - tail.value == pytest.approx(
        1.96 * (fit["alpha"] - 1) / fit["alpha_tail"] ** 0.5
    )


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_rows(finished, start, made, tmp_path):
    workdir = tmp_path / "stopped"
    shutil.copytree(finished[0], workdir)
    lines = (workdir / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (workdir / "rows.jsonl").write_bytes(b"".join(lines[:130]) + lines[130][:20])
    (workdir / "arrays.npz").unlink()
    done = start(workdir, f"--config.others={made.later}", MOMENTUM)
    assert (done.status, done.err) == (0, "")
    again = {row["hash"]: row for row in run_files.read_rows(workdir)}
    assert again == {row["hash"]: row for row in run_files.read_rows(finished[0])}
    arrays = [read_arrays(folder / "arrays.npz") for folder in (workdir, finished[0])]
    for name, array in arrays[1].items():
        np.testing.assert_array_equal(arrays[0][name], array)


def test_weights_alone_need_no_tokenizer(made, command, tmp_path):
    bare = dataclasses.replace(made.checkpoint, tokenizer=None)
    weights.export_hf(bare, tmp_path / "bare")
    flags = (
        f"--config.model=file:{tmp_path / 'bare'}",
        "--config.text=",
        "--config.untrained=False",
    )
    done = command("roles", *flags, DRAWS, f"--workdir={tmp_path / 'run'}")
    assert (done.status, done.err) == (0, "")
    record = read_run(tmp_path / "run")
    assert len(record.rows) == LAYERS * (EACH + 1)
    assert record.summary["null"] is None
    assert {row["stability"] for row in record.rows if row["kind"] == "role"} == {None}
    assert not {row.get("metric") for row in record.rows} & {*MOMENTUM_FEATURES}
    words = " ".join(text for each in html.fill(page.PAGE, record) for text in each.text)
    assert "No text was read" in words


@pytest.fixture(scope="module")
def steps(made, tmp_path_factory):
    """A run of three steps; of a fourth one only the folder is there."""
    folder = tmp_path_factory.mktemp("steps") / "run"
    with ocp.CheckpointManager(folder) as manager:
        for step in (10, 20, 30):
            params = random_params(CONFIG, np.float32, seed=step)
            own = dataclasses.replace(made.checkpoint, params=params)
            items = ocp.args.Composite(
                meta=ocp.args.JsonSave(orbax_io.meta(own)), params=ocp.args.PyTreeSave(params)
            )
            manager.save(step, args=items)
        manager.wait_until_finished()
    shutil.copytree(folder / "30", folder / "40.orbax-checkpoint-tmp-123")
    return folder


@pytest.mark.slow
def test_steps_of_a_run_beside_each_other(steps, command, tmp_path):
    others = ",".join(f"orbax:{steps}@{step}" for step in (20, 30))
    flags = (f"--config.model=orbax:{steps}@10", f"--config.others={others}", "--config.text=")
    done = command("roles", *flags, DRAWS, f"--workdir={tmp_path / 'run'}")
    assert (done.status, done.err) == (0, "")
    record = read_run(tmp_path / "run")
    assert [*record.summary["models"]] == [f"orbax:{steps}@{step}" for step in (10, 20, 30)]
    changes = [row["value"] for row in record.rows if row.get("metric") == "relative_change"]
    # The weights are independent: the distance is the root of 2, of norms it is 0.
    assert np.median([each for each in changes if each]) == pytest.approx(2**0.5, rel=0.1)
    assert weights.open_model(f"orbax:{steps}").read_sha256() == (
        weights.open_model(f"orbax:{steps}@30").read_sha256()
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.draws=0",), "draws must be a whole number, 1 or above"),
        (("--config.seed=-1",), "seed must be a whole number, 0 or above"),
        (("--config.momentum=-1",), "momentum must be a whole number, 0 or above"),
        (("--config.text=", MOMENTUM), "momentum=3 needs gradients of a text; got text=''; name"),
        (("--config.model={tiny}",), "roles need at least 4 layers to compare; this model has 3"),
        (("--config.others={tiny}",), r"must have one architecture; .*they differ in .*layers"),
        (("--config.others={wide}",), r"layers: 4 heads.*FFN width 24 against 4 .*FFN width 32\)"),
        (("--config.others={model}",), "each of model and others may come once"),
        (("--config.others={copy}",), "each of the weights that are compared may come once"),
        (("--config.others=orbax:{steps}@40",), "step 40; it has those of 10, 20, 30; name one"),
        (("--config.model={broken}",), "NaN or Inf as float32 in model.layers.3.mlp.up_proj"),
    ],
)
def test_bad_input_is_refused_in_a_line(start, made, tiny, steps, tmp_path, flags, message):
    shutil.copytree(made.folder / "model", tmp_path / "copy")
    params = random_params(CONFIG, np.float32)
    params["layers"][3]["mlp"]["up_proj"]["kernel"][0, 0] = np.nan
    broken = dataclasses.replace(made.checkpoint, params=params)
    weights.export_hf(broken, tmp_path / "broken") if "{broken}" in flags[0] else None
    wider = CONFIG.with_layers([dataclasses.replace(each, ffn_width=32) for each in CONFIG.layers])
    wide = dataclasses.replace(
        made.checkpoint, config=wider, params=random_params(wider, np.float32)
    )
    weights.export_hf(wide, tmp_path / "wide") if "{wide}" in flags[0] else None
    names = {name: f"file:{tmp_path / name}" for name in ("copy", "broken", "wide")}
    names |= {"tiny": tiny.model, "model": made.model, "steps": steps}
    done = start(tmp_path / "run", *(flag.format(**names) for flag in flags))
    assert done.status == 2
    assert re.search(message, done.err), done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "summary.json").exists()


def test_dry_run_and_list(start, command, tmp_path):
    done = start(tmp_path / "dry", "--dry_run")
    assert done.status == 0
    assert "5 layers, one by one" in done.out
    assert not (tmp_path / "dry").exists()
    listed = command("roles", "--list").out
    for name in (*MATRIX_FEATURES, *LAYER_FEATURES, *PROBE_FEATURES, *MOMENTUM_FEATURES, *ROLES):
        assert name in listed
