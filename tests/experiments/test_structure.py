"""The structure experiment from the command line: the contract of a run, end to end."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import run_files

import jaxanatomy as ja
from jaxanatomy import tree, weights
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.forensics.blocks import FFN, FFN_PARTS, SCORES
from jaxanatomy.forensics.structure import METRICS, NULLS
from jaxanatomy.records import read_arrays
from jaxanatomy.weights.random_init import random_params

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {
    "hash",
    "component",
    "layer",
    "metric",
    "value",
    "null",
    "null_value",
    "null_low",
    "null_high",
    "z",
}
ARRAYS = ("cosine", "pca", "pca_gaussian")
SAMPLES = "--config.null_draws=200"


def checkpoint(widths=(24,) * 6, scales=(1.0, 3.0, 1.0, 0.5, 2.0, 1.0), seed=3):
    """A model whose layers differ in scale, and in width if they are to."""
    shapes = tuple(LayerShape(4, 2, width) for width in widths)
    config = ModelConfig(vocab_size=40, hidden_size=16, head_dim=4, layers=shapes)
    leaves = tree.to_leaves(random_params(config, np.float32, seed))
    for leaf in leaves:
        found = re.match(r"layers/(\d+)/(mlp|attention)/", leaf)
        if found:
            leaves[leaf] = leaves[leaf] * np.float32(scales[int(found[1])])
    return weights.Checkpoint(config, tree.from_leaves(leaves), None, "made", "0" * 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The id of a model of six layers, without a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "six"
    weights.export_hf(checkpoint(), folder)
    return f"file:{folder}"


def flags(model, workdir, *more):
    return ["structure", f"--config.model={model}", f"--workdir={workdir}", SAMPLES, *more]


def rows_of(workdir):
    return run_files.read_rows(workdir)


def arrays_of(workdir):
    return read_arrays(workdir / "arrays.npz")


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "structure"
    done = command(*flags(model, workdir))
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Drawing takes most of the time, and `finished`, which is made before, has the figures."""
    monkeypatch.setattr("jaxanatomy.report.html.fill", lambda page, *records: [])


def test_the_files_of_the_contract_are_there(finished):
    workdir, out = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.json",
        "rows.jsonl",
        "summary.json",
        "arrays.npz",
        "figures",
        "report.html",
    }
    assert f"report: {workdir / 'report.html'}" in out
    assert [line.split()[0] for line in out.splitlines()[2:9]] == list(tree.MATRICES)


def test_rows_have_the_fields_of_the_design(finished):
    rows = rows_of(finished[0])
    more = {"block", "p"}
    for row in rows:
        expected = FIELDS | more if row["component"] == FFN else FIELDS
        assert set(row) - {"reason"} == expected
        assert ("reason" in row) == (row["value"] is None)
    assert len({row["hash"] for row in rows}) == len(rows)
    # 5 deltas of lag 1 and 4 of lag 2 with their means and all nulls; cosine; PCA.
    # Blocks of 1 and 2: similarity beside two nulls, symmetry beside three; one periodicity.
    of_blocks = 2 * (2 + 3) + 3
    assert len(rows) == 7 * ((4 + 1) * 5 + (3 + 1) * 5 + 4 + 3 * 3) + of_blocks
    assert {row["metric"] for row in rows} == {*METRICS, *SCORES}
    assert {row["null"] for row in rows} == set(NULLS)
    drawn = [row for row in rows if row["null"] in ("gaussian", "shuffled_layers")]
    assert all(row["null_low"] <= row["null_value"] <= row["null_high"] for row in drawn)
    single = [row for row in rows if row not in drawn]
    assert {(row["null_low"], row["null_high"], row["z"]) for row in single} == {(None,) * 3}


def literal(model, component):
    layers = weights.load(model).params["layers"]
    return np.stack([tree.get(block, component).astype(np.float64).ravel() for block in layers])


def test_rows_and_arrays_are_those_of_the_literal_weights(finished, model):
    rows, arrays = rows_of(finished[0]), arrays_of(finished[0])
    sizes = {"block_similarity_1", "block_similarity_2"}
    assert set(arrays) - sizes == {f"{kind}_{name}" for kind in ARRAYS for name in tree.MATRICES}
    ffn_LN = np.concatenate([literal(model, name) for name in FFN_PARTS], axis=1)
    pair_LN = np.concatenate([ffn_LN[:-1], ffn_LN[1:]], axis=1)
    pair_LN /= np.linalg.norm(pair_LN, axis=1, keepdims=True)
    np.testing.assert_allclose(arrays["block_similarity_2"], pair_LN @ pair_LN.T, atol=1e-9)
    for name in tree.MATRICES:
        x_LN, other_LN = literal(model, name), literal(f"random:{model}", name)
        deltas, others = np.diff(x_LN, axis=0), np.diff(other_LN, axis=0)
        for row in (row for row in rows if row["component"] == name):
            if row["metric"] == "delta_correlation" and row["layer"] is not None:
                at = slice(row["layer"], row["layer"] + 2)
                assert row["value"] == pytest.approx(np.corrcoef(deltas[at])[0, 1], abs=1e-9)
                if row["null"] == "random_init":
                    expected = np.corrcoef(others[at])[0, 1]
                    assert row["null_value"] == pytest.approx(expected, abs=1e-9)
        unit = x_LN / np.linalg.norm(x_LN, axis=1, keepdims=True)
        np.testing.assert_allclose(arrays[f"cosine_{name}"], unit @ unit.T, atol=1e-9)
        singular = np.linalg.svd(x_LN - x_LN.mean(0), compute_uv=False) ** 2
        np.testing.assert_allclose(arrays[f"pca_{name}"], singular / singular.sum(), atol=1e-9)
        assert arrays[f"pca_gaussian_{name}"].sum() == pytest.approx(1)


def test_a_notebook_gives_the_rows_of_the_run(finished, model):
    beside = weights.load(f"random:{model}")
    rows = ja.structure(weights.load(model), initial=beside, samples=200)
    run = [{name: row[name] for name in row if name != "hash"} for row in rows_of(finished[0])]
    assert rows == run


def test_the_summary_has_every_metric_of_every_component_beside_its_nulls(finished):
    summary = run_files.read_summary(finished[0])
    assert list(summary["components"]) == [*tree.MATRICES, FFN]
    rows = [row for row in rows_of(finished[0]) if row["layer"] is None]
    for row in rows:
        name = row["metric"] + (f"_{row['block']}" if "block" in row else "")
        found = summary["components"][row["component"]][name]
        assert found["value"] == row["value"]
        beside = found["nulls"][row["null"]]
        assert beside == {
            "value": row["null_value"],
            "low": row["null_low"],
            "high": row["null_high"],
            "z": row["z"],
        }
    assert set(summary) == {"components", "outside_gaussian", "repeats_every"}


def test_a_second_run_reads_no_weights_and_changes_nothing(
    finished, model, command, monkeypatch, tmp_path
):
    before = {name: (finished[0] / name).read_bytes() for name in ("rows.jsonl", "arrays.npz")}
    monkeypatch.setattr("jaxanatomy.weights.Source.load", None)
    assert command(*flags(model, finished[0])).status == 0
    assert {name: (finished[0] / name).read_bytes() for name in before} == before


def test_lost_arrays_are_made_again(finished, model, command):
    before = arrays_of(finished[0])
    rows = (finished[0] / "rows.jsonl").read_bytes()
    (finished[0] / "arrays.npz").unlink()
    assert command(*flags(model, finished[0])).status == 0
    after = arrays_of(finished[0])
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert (finished[0] / "rows.jsonl").read_bytes() == rows


def test_some_components_give_the_same_rows_as_all(finished, model, command, tmp_path):
    workdir = tmp_path / "some"
    done = command(*flags(model, workdir, "--config.components=v_proj,q_proj"))
    assert (done.status, done.err) == (0, "")
    named = [row for row in rows_of(finished[0]) if row["component"] in ("q_proj", "v_proj")]
    assert sorted(rows_of(workdir), key=str) == sorted(named, key=str)


def test_what_decides_a_row_decides_its_hash(finished, model, command, tmp_path):
    hashes = [{row["hash"] for row in rows_of(finished[0])}]
    for index, change in enumerate(("--config.null_draws=201", "--config.seed=1")):
        workdir = tmp_path / str(index)
        assert command(*flags(model, workdir, "--config.components=q_proj", change)).status == 0
        hashes.append({row["hash"] for row in rows_of(workdir)})
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(hashes, 2))


def test_a_random_model_has_no_random_model_beside_it(model, command, tmp_path):
    done = command(*flags(f"random:{model}", tmp_path / "run", "--config.components=k_proj"))
    assert (done.status, done.err) == (0, "")
    assert {row["null"] for row in rows_of(tmp_path / "run")} == set(NULLS) - {"random_init"}


def test_equal_layers_are_null_with_a_reason(command, tmp_path):
    made = checkpoint()
    layers = list(made.params["layers"])
    layers[3] = layers[2]
    params = tree.with_layers(made.params, layers)
    folder = tmp_path / "model"
    weights.export_hf(weights.Checkpoint(made.config, params, None, "made", "0" * 64), folder)
    done = command(*flags(f"file:{folder}", tmp_path / "run", "--config.components=q_proj"))
    assert (done.status, done.err) == (0, "")
    rows = [row for row in rows_of(tmp_path / "run") if row["metric"] == "delta_correlation"]
    undefined = {row["layer"] for row in rows if row["value"] is None}
    assert undefined == {1, 2}
    assert all(("reason" in row) == (row["layer"] in undefined) for row in rows)


def test_a_dry_run_and_the_list_say_what_there_is(model, command, tmp_path):
    done = command("structure", f"--config.model={model}", "--dry_run")
    assert (done.status, done.err) == (0, "")
    assert "6 layers" in done.out
    assert "gate_proj  16 x 24 in each layer, 58 rows" in done.out
    assert "ffn        blocks of 1, 2 layers, 13 rows" in done.out
    listed = command("structure", "--list")
    assert listed.status == 0
    for name in (*METRICS, *SCORES, *NULLS, *tree.MATRICES):
        assert name in listed.out


class TestBadInput:
    def refused(self, command, workdir, *argv):
        done = command("structure", f"--workdir={workdir}", SAMPLES, *argv)
        assert (done.status, done.out) == (2, ""), done.err
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
        assert not workdir.exists()
        return done.err

    @pytest.mark.parametrize(
        ("flag", "words"),
        [
            ("--config.components=gate", "unknown component 'gate'; did you mean 'gate_proj'"),
            ("--config.components=q_proj,q_proj", "each matrix once; got q_proj twice; drop one"),
            ("--config.blocks=4", "two blocks must fit into the 6 layers; got blocks of 4"),
            ("--config.blocks=2,2", "blocks must name at least one, each once"),
            ("--config.null_draws=1", "null_draws must be a whole number, 2 or above; got 1"),
            ("--config.null_draws=many", "expects an integer; got 'many'"),
            ("--config.seed=-1", "seed must be a whole number, 0 or above; got -1"),
            ("--config.sead=1", "unknown config field 'sead'; close: seed"),
            ("--config.model=file:/nowhere", "existing path"),
        ],
    )
    def test_a_setting(self, flag, words, command, tmp_path, model):
        given = [] if "model" in flag else [f"--config.model={model}"]
        assert words in self.refused(command, tmp_path / "run", *given, flag)

    def test_blocks_without_the_whole_ffn(self, command, tmp_path, model):
        named = (f"--config.model={model}", "--config.components=up_proj", "--config.blocks=2")
        error = self.refused(command, tmp_path / "run", *named)
        assert "gate_proj, up_proj, down_proj; got components up_proj; name those too" in error

    def test_three_layers(self, command, tmp_path, tiny):
        error = self.refused(command, tmp_path / "run", f"--config.model={tiny.model}")
        assert "at least 4 layers; this model has 3" in error

    def test_widths_that_differ_and_the_way_out_that_is_offered(self, command, tmp_path):
        made = checkpoint((24, 24, 16, 24, 24, 16))
        weights.save_orbax(made, tmp_path / "mixed")
        flag = f"--config.model=orbax:{tmp_path / 'mixed'}"
        error = self.refused(command, tmp_path / "run", flag)
        assert "gate_proj in all layers; got (16, 24) in layers 0, 1, 3, 4; (16, 16)" in error
        (offer,) = re.findall(r"--config\.components=\S+", error)
        done = command("structure", f"--workdir={tmp_path / 'run'}", SAMPLES, flag, offer)
        assert (done.status, done.err) == (0, "")


def test_a_killed_run_goes_on_to_the_same_rows(model, tmp_path, command):
    """Killed when the rows of one component are there, and again when those of four are."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ["--config.null_draws=20000"]  # time to be killed in
    assert command(*flags(model, whole, *more)).status == 0
    total = (whole / "rows.jsonl").read_bytes().count(b"\n")
    each = total // 7

    def lines():
        path = broken / "rows.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    for enough in (each, 4 * each):
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.structure", *flags(model, broken, *more)[1:]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        end = time.monotonic() + 120
        while lines() < enough:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert enough <= lines() < total
    assert command(*flags(model, broken, *more)).status == 0
    for name in ("rows.jsonl", "arrays.npz", "summary.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
