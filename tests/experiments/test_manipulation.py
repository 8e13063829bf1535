"""The manipulation experiment on a small deep model: files, rows, resume, bad input."""

import re
import types

import numpy as np
import pytest
import run_files
from naive import naive_nll, random_params

import configs.manipulation
import experiments.manipulation
from jaxanatomy import weights
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions.grid import manipulation_grid, table4_variants
from jaxanatomy.interventions.sets import named_sets
from jaxanatomy.measures.manipulation import map_degradation
from jaxanatomy.study import Study, StudySettings, tokenise

DEEP = ModelConfig.uniform(
    num_layers=7,
    num_heads=2,
    num_kv_heads=1,
    ffn_width=24,
    vocab_size=97,
    hidden_size=16,
    head_dim=8,
    context_length=128,
)
FAST = (
    "--config.perturbation.alphas=0.01,0.1",
    "--config.perturbation.seeds=0,1",
    "--config.attention.alphas=0.01",
    "--config.attention.seeds=0",
    "--config.calibration.documents=2",
    "--config.alphas=0,0.5,0.9,1.1",
    "--config.ranks=full,half,3",
    "--config.sweep.chunk_size=100",
)


@pytest.fixture(scope="module")
def deep(tiny, tmp_path_factory):
    """A model of seven layers with the tiny model's tokenizer and texts."""
    folder = tmp_path_factory.mktemp("deep") / "model"
    tokenizer = weights.load(tiny.model).tokenizer
    weights.export_hf(weights.Checkpoint(DEEP, random_params(DEEP), tokenizer, "", ""), folder)
    return types.SimpleNamespace(model=f"file:{folder}", jsonl=tiny.jsonl, txt=tiny.txt)


def flags(deep, workdir):
    texts = f"--config.texts={deep.jsonl},{deep.txt}"
    return ["manipulation", f"--config.model={deep.model}", texts, f"--workdir={workdir}", *FAST]


@pytest.fixture(scope="module")
def finished(deep, tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "manipulation"
    done = command(*flags(deep, workdir))
    assert (done.status, done.err) == (0, "")
    return types.SimpleNamespace(workdir=workdir, out=done.out, rows=rows_of(workdir))


def rows_of(workdir):
    return run_files.read_rows(workdir)


def sweep_rows(rows, text):
    return {row["variant"]: row for row in rows if "kind" not in row and row["text"] == text}


def test_the_grid_is_measured_on_the_first_text_and_the_main_sets_on_the_other(finished, deep):
    degradation = map_degradation(finished.rows, deep.jsonl, 7)
    settings = {"alphas": (0.0, 0.5, 0.9, 1.1), "ranks": ("full", "half", 3)}
    grid = {variant.name for variant in manipulation_grid(DEEP, degradation, **settings)}
    main = {variant.name for variant in table4_variants(DEEP, degradation, **settings)}
    means = {f"neighbour_mean/set/{layer}" for layer in range(1, 6)}
    noise = {name for name in sweep_rows(finished.rows, deep.jsonl) if name.startswith("perturb")}
    assert set(sweep_rows(finished.rows, deep.txt)) == main | means | {"baseline"}
    assert set(sweep_rows(finished.rows, deep.jsonl)) == grid | means | noise | {"baseline"}
    # Two alphas, two seeds: sets of 1, 2, 4 and 7 layers, and each of seven layers alone.
    assert len(noise) == 2 * 2 * (4 + 7)


def test_rows_are_those_of_a_naive_forward(finished, deep):
    model = weights.load(deep.model)
    degradation = map_degradation(finished.rows, deep.jsonl, 7)
    (batch,) = tokenise(model, load_text(deep.jsonl))
    rows = sweep_rows(finished.rows, deep.jsonl)
    settings = {"alphas": (0.0, 0.5, 0.9, 1.1), "ranks": ("full", "half", 3)}
    variants = manipulation_grid(DEEP, degradation, **settings)
    for variant in variants[::5]:
        expected = naive_nll(DEEP, model.params, variant.steps, batch).sum(dtype=np.float64)
        row = rows[variant.name]
        assert row["nll"] == pytest.approx(expected, rel=1e-5)
        assert {name: row[name] for name in variant.labels} == variant.labels


def test_the_sets_are_chosen_by_the_map_of_the_first_text(finished, deep):
    rows = sweep_rows(finished.rows, deep.jsonl)
    ranked = sorted(range(1, 6), key=lambda layer: rows[f"neighbour_mean/set/{layer}"]["nll"])
    summary = run_files.read_summary(finished.workdir)
    assert summary["sets"]["least_2"] == sorted(ranked[:2])
    assert rows["zero/set/least_2"]["layers"] == sorted(ranked[:2])
    degradation = map_degradation(finished.rows, deep.jsonl, 7)
    assert degradation == {
        layer: rows[f"neighbour_mean/set/{layer}"]["degradation_percent"] for layer in range(1, 6)
    }
    chosen = named_sets(DEEP.num_layers, degradation)
    assert summary["sets"] == {name: list(each.layers) for name, each in chosen.items()}


def test_every_improvement_stands_beside_a_temperature(finished, deep):
    summary = run_files.read_summary(finished.workdir)
    better = {
        (text, row["variant"])
        for text in (deep.jsonl, deep.txt)
        for row in sweep_rows(finished.rows, text).values()
        if row["strategy"] not in ("none", "perturb") and row["degradation_percent"] < -0.01
    }
    assert better
    found = {(entry["text"], entry["variant"]): entry for entry in summary["calibration"]}
    assert found.keys() == better
    for (text, name), entry in found.items():
        expected = sweep_rows(finished.rows, text)[name]["degradation_percent"]
        assert entry["degradation_percent"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
        assert entry["fit_text"] != text


def test_noise_has_digests(finished):
    summary = run_files.read_summary(finished.workdir)
    assert set(summary["compounding"]) == {"0.01", "0.1"}
    assert set(summary["compounding"]["0.1"]["by_count"]) == {"1", "2", "4", "7"}
    for component in ("q_proj", "k_proj"):
        digest = summary["attention"][component]
        assert set(digest) == {"0.01", "matched_noise"}
        own = [
            row["total_variation"]
            for row in finished.rows
            if row.get("kind") == "attention"
            and (row["component"], row["alpha"], row["spread"]) == (component, 0.01, "local")
        ]
        assert digest["0.01"]["total_variation"] == pytest.approx(np.mean(own))
        assert digest["0.01"]["total_variation"] < digest["matched_noise"]["total_variation"]


def test_attention_is_read_on_the_whole_of_a_long_text(deep, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text(
        "\n".join(f"Line {number} of a text of several batches." for number in range(70))
    )
    config = configs.manipulation.get_config()
    config.model, config.texts = deep.model, (f"{path}#lines",)
    config.attention.alphas, config.attention.seeds = (0.5,), (0,)
    study, rows = Study(weights.open_model(deep.model), [], StudySettings("manipulation")), []
    study.add(experiments.manipulation._attention_parts(config, study))
    study.measure(types.SimpleNamespace(done=lambda _: False, append=rows.extend))
    batches = study.batches(load_text(config.texts[0]))
    assert len(batches) > 1
    assert len({row["hash"] for row in rows}) == len(rows) == 2 * 2 * 2 * 7
    assert {row["tokens"] for row in rows} == {len(path.read_text()) - 69}


def test_a_second_run_reads_no_weights_and_gives_the_same_rows(
    finished, deep, command, monkeypatch
):
    def fail(*args, **kwargs):
        raise AssertionError("weights were read")

    monkeypatch.setattr("jaxanatomy.weights.tensors.read_params", fail)
    before = (finished.workdir / "rows.jsonl").read_bytes()
    assert command(*flags(deep, finished.workdir)).status == 0
    assert (finished.workdir / "rows.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_stopped_run_goes_on_to_the_same_rows(finished, deep, command, tmp_path, share):
    lines = (finished.workdir / "rows.jsonl").read_bytes().splitlines(keepends=True)
    kept = int(share * len(lines))
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
    (tmp_path / "config.json").write_bytes((finished.workdir / "config.json").read_bytes())
    assert command(*flags(deep, tmp_path)).status == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == b"".join(lines)
    assert (tmp_path / "summary.json").read_bytes() == (
        finished.workdir / "summary.json"
    ).read_bytes()


PROCESS = """
import os, sys
from jaxanatomy import cli
place = {
    "coordinator_address": "COORDINATOR",
    "num_processes": "PROCESS_COUNT",
    "process_id": "PROCESS_INDEX",
}
place = [f"--config.distributed.{field}={os.environ[name]}" for field, name in place.items()]
sys.exit(cli.main([*sys.argv[1:], *place]))
"""


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(finished, deep, run_python, tmp_path):
    folder = tmp_path / "two"
    printed = run_python(PROCESS, *flags(deep, folder), devices=1, processes=2, timeout=400)
    assert [f"report: {folder}" in text for text in printed] == [True, False]
    rows, expected = rows_of(folder), rows_of(finished.workdir)
    assert not list(folder.glob("rows.*.jsonl"))
    order, expected_order = ([row["hash"] for row in found] for found in (rows, expected))
    assert order != expected_order, "the second process did nothing"
    assert sorted(order) == sorted(expected_order)
    by_hash = {row["hash"]: row for row in rows}
    for row in expected:
        assert_same(by_hash[row["hash"]], row)
    summary, whole = (run_files.read_summary(run) for run in (folder, finished.workdir))
    assert_same(summary, whole)


def assert_same(found, expected):
    """Equal to 1e-5 in every number, and to the letter in everything else."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_same(*pair)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    else:
        assert found == expected


@pytest.mark.slow
def test_sets_and_strategies_of_ones_own(deep, command, tmp_path):
    done = command(
        *flags(deep, tmp_path / "run"),
        "--config.sets=1,3,least_2",
        "--config.strategies=clone,scale_0.8",
        "--config.attention.alphas=[]",
    )
    assert (done.status, done.err) == (0, "")
    names = set(sweep_rows(rows_of(tmp_path / "run"), deep.txt))
    own = {name for name in names if not name.startswith(("neighbour_mean", "baseline"))}
    sets, strategies = ("1,3", "least_2"), ("clone", "scale_0.8")
    assert own == {f"{strategy}/set/{name}" for strategy in strategies for name in sets}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("sets=1,9", r"layers of this model are 0 to 6; got 9"),
        ("sets=1,1", r"each of layers may come once; repeated: 1"),
        ("sets=paper", r"a model of 30 layers; this one has 7"),
        ("sets=mesured", r"unknown layer set 'mesured'; did you mean 'measured'"),
        ("strategies=clon", r"unknown intervention 'clon'; did you mean 'clone'"),
        ("strategies=clone,clone", r"strategies may come once; repeated: clone"),
        ("alphas=nan", r"alphas. expects finite numbers; got .nan."),
        ("strategies=scale_inf", r"alpha must be a finite number"),
        ("ranks=9", r"rank.*got 9"),
        ("grid=all", r"unknown grid 'all'"),
        ("calibration.temperatures=0.5,2", r"temperatures must be at least 4"),
        ("attention.alphas=-1", r"attention.alphas must be numbers of 0 or above"),
        ("attention.seeds=0,0", r"each once; got \(0, 0\)"),
        (
            "calibration.documents=0",
            r"documents must be a whole number, 1 or above; got 0",
        ),
        ("texts=", r"texts must name at least one text"),
    ],
)
def test_bad_input_is_refused_in_a_line(deep, command, tmp_path, flag, message):
    done = command(*flags(deep, tmp_path / "run"), f"--config.{flag}")
    assert (done.status, done.out) == (2, "")
    assert re.search(message, done.err), done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()


def test_a_shallow_model_is_refused(tiny, deep, command, tmp_path):
    done = command(*flags(deep, tmp_path / "run"), f"--config.model={tiny.model}")
    assert done.status == 2
    assert "need a model of 4 layers or more; got 3" in done.err


def test_the_dry_run_says_what_it_would_cost(deep, command, tmp_path):
    done = command(*flags(deep, tmp_path / "run"), "--dry_run")
    assert (done.status, done.err) == (0, "")
    assert "First the neighbour means" in done.out
    assert re.search(r"^  clone/set +\S+( \S+){4} and 1 more$", done.out, re.MULTILINE)
    assert re.search(r"^  baseline$", done.out, re.MULTILINE)
    assert not (tmp_path / "run").exists()
