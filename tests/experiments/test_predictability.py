"""The predictability experiment from the command line, on a tiny model of six layers."""

import re

import bad_models
import numpy as np
import pytest
import run_files
from naive import block_of

from jaxanatomy import tree, weights
from jaxanatomy.config import LayerShape
from jaxanatomy.forensics.prediction import READINGS, ridge_weights
from jaxanatomy.interventions.function_test import prediction_sets
from jaxanatomy.measures.predictability import component_rows
from jaxanatomy.weights import tensors

LAYERS = 6
FIELDS = {
    "hash",
    "model",
    "variant",
    "reading",
    "strategy",
    "set",
    "layers",
    "draw",
    "nll",
    "tokens",
    "ppl",
    "degradation_percent",
    "ci95",
    "unit_nll",
    "unit_tokens",
    "text",
    "kl",
    "kl_ci95",
    "unit_kl",
    "ppl_without_first",
    "degradation_percent_without_first",
}
WEIGHT_FIELDS = {
    "hash",
    "component",
    "reading",
    "target",
    "r2",
    "cosine",
    "null_r2",
    "null_low",
    "null_high",
    "null_cosine",
    "z",
    "shuffled_r2",
    "shuffled_low",
    "shuffled_high",
}


def deepen(arrays, layers=LAYERS, linear=False):
    """More layers: noisy copies of the three, or the first two continued in a line."""
    rng = np.random.default_rng(0)
    for name in [name for name in arrays if name.startswith("model.layers.0.")]:
        first, second = (arrays[name.replace(".0.", f".{layer}.")] for layer in (0, 1))
        for layer in range(2 if linear else 3, layers):
            own = arrays[name.replace(".0.", f".{layer % 3}.")]
            new = (
                first + layer * (second - first)
                if linear
                else own + 0.1 * rng.normal(size=own.shape)
            )
            arrays[name.replace(".0.", f".{layer}.")] = new.astype(np.float32)


def make_deep(place_model, folder, layers=LAYERS, **kwargs):
    place_model(folder)
    bad_models.change_config(folder, num_hidden_layers=layers)
    bad_models.change_tensors(folder, lambda arrays: deepen(arrays, layers, **kwargs))
    return f"file:{folder}"


@pytest.fixture(scope="module")
def deep(tmp_path_factory, copy_model):
    return make_deep(copy_model, tmp_path_factory.mktemp("deep") / "model")


def flags(model, tiny, workdir, *more):
    return [
        "predictability",
        f"--config.model={model}",
        f"--config.texts={tiny.jsonl},{tiny.txt}",
        "--config.null_draws=5",
        "--config.samples=200",
        "--config.set_sizes=2,4,9",
        f"--workdir={workdir}",
        *more,
    ]


def rows_of(workdir):
    return run_files.read_rows(workdir)


@pytest.fixture(scope="module")
def finished(deep, tiny, tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "predict"
    done = command(*flags(deep, tiny, workdir))
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_rows_of_both_kinds_have_the_fields_of_the_design(finished, tiny):
    rows = rows_of(finished[0])
    assert len({row["hash"] for row in rows}) == len(rows)
    by_kind = {True: [], False: []}
    for row in rows:
        by_kind[row["reading"] == "function"].append(row)
    for row in by_kind[False]:
        means = {"best", "null_best"} if row["target"] is None else set()
        assert set(row) == WEIGHT_FIELDS | means
    keys = [(row["component"], row["reading"], row["target"]) for row in by_kind[False]]
    cells = [(name, t) for name in READINGS for t in (None, 2, 3, 4, 5)]
    assert keys == [(component, *cell) for component in tree.MATRICES for cell in cells]
    sets = {where.name: where.layers for where in prediction_sets(LAYERS, (2, 4, 9))}
    sets = {None: (), **sets}
    assert "even_4" in sets
    assert "even_9" not in sets
    expected = {(text, "none", None) for text in (tiny.jsonl, tiny.txt)} | {
        (text, strategy, name)
        for text in (tiny.jsonl, tiny.txt)
        for strategy in ("predicted", "zero", "predicted_noise")
        for name in sets
        if name
    }
    assert {(row["text"], row["strategy"], row["set"]) for row in by_kind[True]} == expected
    draws = [row["draw"] for row in by_kind[True] if row["strategy"] == "predicted_noise"]
    assert sorted(draws) == sorted([0, 1, 2, 3] * 2 * (len(sets) - 1))
    for row in by_kind[True]:
        assert set(row) == FIELDS
        assert row["layers"] == list(sets[row["set"]])
        assert row["nll"] == pytest.approx(sum(row["unit_nll"]))


def test_rows_are_those_of_the_weights(finished, deep):
    """One matrix and one target by hand: all its parameters, for the sample is larger."""
    blocks = weights.load(deep).params["layers"]
    values = np.stack([tree.get(block, "k_proj").reshape(-1) for block in blocks]).astype(float)
    rows = {
        (row["component"], row["reading"], row["target"]): row
        for row in rows_of(finished[0])
        if row["reading"] != "function"
    }
    place = np.random.default_rng([0, tree.MATRICES.index("k_proj")])
    values = values[:, place.choice(values.shape[1], 200, replace=False)]
    predicted = ridge_weights(range(4), 4, LAYERS) @ values[:4]
    error = ((values[4] - predicted) ** 2).sum() / ((values[4] - values[4].mean()) ** 2).sum()
    assert rows["k_proj", "extrapolate", 4]["r2"] == pytest.approx(1 - error)


def test_the_measure_gives_the_rows_of_the_run(finished, deep):
    blocks = weights.load(deep).params["layers"]
    run = [row for row in rows_of(finished[0]) if row["reading"] != "function"]
    for component in ("k_proj", "down_proj"):
        own = [
            {name: row[name] for name in row if name != "hash"}
            for row in run
            if row["component"] == component
        ]
        assert component_rows(blocks, component, samples=200, null_draws=5, seed=0) == own


def test_files_summary_and_table(finished, tiny):
    workdir, out = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    assert names >= {"config.json", "rows.jsonl", "summary.json", "report.html"}
    summary = run_files.read_summary(workdir)
    assert list(summary["weights"]) == list(tree.MATRICES)
    assert list(summary["function"]) == [tiny.jsonl, tiny.txt]
    found = summary["function"][tiny.jsonl]
    assert found["single_layers"]["compared"] == 4
    rows = {(r["strategy"], r["set"]): r for r in rows_of(workdir) if r.get("text") == tiny.jsonl}
    for name, each in found["sets"].items():
        predicted, deleted = rows["predicted", name], rows["zero", name]
        assert (each["predicted_ppl"], each["zero_ppl"]) == (predicted["ppl"], deleted["ppl"])
        difference = np.log(predicted["ppl"] / deleted["ppl"])
        assert each["difference"] == pytest.approx(difference, abs=1e-9)
        assert each["ci95"][0] < difference < each["ci95"][1]
    assert re.search(r"^extrapolate +k_proj +-?[\d.]+ ", out, re.MULTILINE)
    assert re.search(r"^even_4 +[\d, ]+ [\d.,]+ ", out, re.MULTILINE)
    assert f"report: {workdir / 'report.html'}" in out


@pytest.mark.parametrize("keep", [0.01, 0.68])
def test_a_run_that_was_killed_ends_with_the_same_rows(
    finished, deep, tiny, command, monkeypatch, keep
):
    """And both halves of the experiment share one copy of the weights."""
    reads, read = [], tensors.read_params
    monkeypatch.setattr(tensors, "read_params", lambda *a, **k: reads.append(1) or read(*a, **k))
    path = finished[0] / "rows.jsonl"
    before = path.read_bytes()
    path.write_bytes(before[: int(keep * len(before))])
    assert command(*flags(deep, tiny, finished[0])).status == 0
    assert path.read_bytes() == before
    assert reads == [1]


def test_a_finished_run_reads_no_weights(finished, deep, tiny, command, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("weights were read")

    monkeypatch.setattr("jaxanatomy.weights.tensors.read_params", fail)
    assert command(*flags(deep, tiny, finished[0], "--config.sweep.devices=1")).status == 0
    assert command(*flags(deep, tiny, tmp_path / "new")).status == 1  # the trap does spring


def test_a_model_whose_layers_lie_on_a_line_is_predictable(tiny, copy_model, command, tmp_path):
    """Nearly free polynomials extrapolate a line; noise of the same moments they do not."""
    model = make_deep(copy_model, tmp_path / "line", 9, linear=True)
    lists = ["--config.texts=", "--config.components=q_proj,up_proj"]
    done = command(*flags(model, tiny, tmp_path / "run", *lists))
    assert (done.status, done.err) == (0, "")
    rows = rows_of(tmp_path / "run")
    assert {row["component"] for row in rows} == {"q_proj", "up_proj"}
    last = [row for row in rows if (row["reading"], row["target"]) == ("extrapolate", 8)]
    assert len(last) == 2
    for row in last:
        assert row["r2"] > 0.9
        assert row["null_high"] < 0
    summary = run_files.read_summary(tmp_path / "run")
    assert summary["function"] == {}


def test_a_dry_run_says_what_is_measured(deep, tiny, command, tmp_path):
    done = command(*flags(deep, tiny, tmp_path / "run", "--dry_run"))
    assert (done.status, done.err) == (0, "")
    assert "200 parameters of each layer, 5 draws of each null" in done.out
    assert f"text {tiny.jsonl}: 49 variants" in done.out
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_readings(command):
    done = command("predictability", "--list")
    assert (done.status, done.err) == (0, "")
    for name in (*READINGS, "q_proj", "paragraphs"):
        assert re.search(rf"^  {name} ", done.out + " ", re.MULTILINE), name


BAD = {
    "a component twice": (["--config.components=q_proj,q_proj"], ["got q_proj twice", "drop one"]),
    "an unknown component": (
        ["--config.components=q_prj"],
        ["unknown component 'q_prj'", "did you mean 'q_proj'"],
    ),
    "one draw": (["--config.null_draws=1"], ["null_draws must be", "2 or above", "got 1"]),
    "no samples": (["--config.samples=0"], ["samples must be", "2 or above", "got 0"]),
    "an empty set": (["--config.set_sizes=2,0"], ["set_sizes", "1 or above", "got 0"]),
    "words for sizes": (["--config.set_sizes=two"], ["set_sizes", "int", "'two'"]),
    "a negative seed": (["--config.seed=-1"], ["seed must be", "0 or above", "got -1"]),
    "no such text": (["--config.texts=sentence"], ["did you mean 'sentences'"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(deep, tiny, command, tmp_path, name):
    given, words = BAD[name]
    refused(command(*flags(deep, tiny, tmp_path / "run", *given)), words, tmp_path / "run")


def test_three_layers_are_refused(tiny, command, tmp_path):
    done = command(*flags(tiny.model, tiny, tmp_path / "run"))
    refused(done, ["at least 4 layers", "this model has 3"], tmp_path / "run")


def test_layers_of_several_shapes(tiny, command, tmp_path, deep):
    """The matrices of one shape can be studied; those of several, and the function, not."""
    checkpoint = weights.load(deep)
    shapes = [LayerShape(6, 2, 24 if layer < 4 else 20) for layer in range(LAYERS)]
    config = checkpoint.config.with_layers(shapes)
    rng = np.random.default_rng(0)
    blocks = [
        block_of(config, layer, lambda shape: rng.normal(size=shape).astype(np.float32))
        for layer in range(LAYERS)
    ]
    mixed = weights.Checkpoint(
        config, tree.with_layers(checkpoint.params, blocks), checkpoint.tokenizer, "mixed", ""
    )
    model = f"orbax:{weights.save_orbax(mixed, tmp_path / 'saved')}"
    run = tmp_path / "run"
    done = command(*flags(model, tiny, run))
    words = ["need layers of one shape", "does not have", "study the weights alone with"]
    refused(done, words, run)
    offer = [word for word in done.err.split() if word.startswith("--config.")]
    done = command(*flags(model, tiny, run, offer[0]))
    refused(done, ["one shape of gate_proj", "(36, 20) in layers 4, 5", offer[1]], run)
    done = command(*flags(model, tiny, run, *offer))
    assert (done.status, done.err) == (0, "")
    found = {row["component"] for row in rows_of(run)}
    assert found == {"q_proj", "k_proj", "v_proj", "o_proj"}


def refused(done, words, workdir):
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert [word for word in words if word not in done.err] == [], done.err
    assert not (workdir / "config.json").exists()
