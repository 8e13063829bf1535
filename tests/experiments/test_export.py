"""The export experiment from the command line: what is written computes what was asked for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import run_files

import jaxanatomy
from jaxanatomy import tree, weights
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions.changes import combined_steps
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.model import parameter_count
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep

ROOT = Path(__file__).resolve().parents[2]
SEVERAL = ("scale_0.9/layer/0", "zero/head_3/1", "zero/mlp/1", "copy_previous/layer/2")
CASES = {
    "several": (SEVERAL, ()),
    "host": (("matched_noise/layer/1", "aligned_mean/mlp/0"), ()),
    "order": (("neighbour_mean/attention/1",), (1, 0, 0, 2)),
}


def flags(tiny, workdir, variants=(), layers=(), text=None):
    return [
        "export",
        f"--config.model={tiny.model}",
        f"--workdir={workdir}",
        f"--config.variants={','.join(variants)}",
        f"--config.layers={','.join(map(str, layers))}",
        f"--config.text={tiny.jsonl if text is None else text}",
    ]


def summary_of(workdir):
    return run_files.read_summary(workdir)


def swept(tiny, variants, layers):
    """Losses of the unedited model and of the variant, from the sweep."""
    model = weights.load(tiny.model)
    steps = combined_steps(model.config, variants, layers or None)
    (batch,) = tokenise(model, load_text(tiny.jsonl))
    every = [Variant("variant", steps), Variant("before", combined_steps(model.config, []))]
    sweep = Sweep(model.config, every, [batch], {"nll": nll})
    sweep.place(model.params)
    readings = sweep.run(0)
    return [np.asarray(readings["nll"][name], np.float64) for name in ("before", "variant")]


@pytest.mark.parametrize("case", CASES)
def test_the_written_model_has_the_perplexity_of_the_sweep(case, tiny, command, tmp_path):
    variants, layers = CASES[case]
    done = command(*flags(tiny, tmp_path / "run", variants, layers))
    assert (done.status, done.err) == (0, "")
    before, after = swept(tiny, variants, layers)
    summary = summary_of(tmp_path / "run")
    assert summary["tokens"] == len(before)
    assert summary["ppl_before"] == pytest.approx(np.exp(before.mean()), rel=1e-5)
    assert summary["ppl_after"] == pytest.approx(np.exp(after.mean()), rel=1e-5)
    change = 100 * (np.exp(after.mean() - before.mean()) - 1)
    assert summary["degradation_percent"] == pytest.approx(change, abs=1e-2)
    assert abs(change) > 0.1
    assert f"perplexity on {tiny.jsonl}: {summary['ppl_after']:.4f}" in done.out


@pytest.mark.parametrize(
    ("layers", "expected"), [("0-2", [0, 1, 2]), ("2,0-1", [2, 0, 1]), ("0,1-2,1", [0, 1, 2, 1])]
)
def test_layers_are_given_as_ranges(layers, expected, tiny, command, tmp_path):
    run = flags(tiny, tmp_path / "run", text="")
    done = command(*run, f"--config.layers={layers}")
    assert (done.status, done.err) == (0, "")
    assert summary_of(tmp_path / "run")["layers"] == expected


def test_the_record_says_what_was_changed(tiny, command, tmp_path):
    command(*flags(tiny, tmp_path / "run", ("zero/layer/1", "zero/head_0/2"), text=""))
    folder = tmp_path / "run" / "model"
    summary = summary_of(tmp_path / "run")
    config = weights.open_model(tiny.model).config
    per_layer = 2 * 36 * 36 + 2 * 36 * 12 + 3 * 36 * 24 + 2 * 36
    assert parameter_count(config) == 97 * 36 + 36 + 3 * per_layer
    assert summary == {
        "variants": ["zero/layer/1", "zero/head_0/2"],
        "layers": [0, 2],
        "layers_before": 3,
        "layers_after": 2,
        "parameters_before": parameter_count(config),
        "parameters_after": parameter_count(config) - per_layer,
        "folder": "model",
        "dtype": "float32",
        "bytes": (folder / "model.safetensors").stat().st_size,
        "sha256": weights.load(f"file:{folder}").sha256,
    }
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}  # as the source has them
    made = json.loads((tmp_path / "run" / "config.json").read_text())
    assert made["provenance"]["weights_sha256"] == weights.load(tiny.model).sha256
    assert made["config"]["variants"] == ["zero/layer/1", "zero/head_0/2"]


def test_nothing_changed_gives_the_same_tensors_and_any_dtype(tiny, command, tmp_path):
    original = tree.to_leaves(weights.load(tiny.model).params)
    for dtype in ("float32", "bfloat16"):
        done = command(*flags(tiny, tmp_path / dtype, text=""), f"--config.dtype={dtype}")
        assert (done.status, done.err) == (0, "")
        written = weights.load(f"file:{tmp_path / dtype / 'model'}", dtype)
        for leaf, array in tree.to_leaves(written.params).items():
            np.testing.assert_array_equal(array, original[leaf].astype(array.dtype))
    assert (
        summary_of(tmp_path / "bfloat16")["bytes"] < 0.6 * summary_of(tmp_path / "float32")["bytes"]
    )


def test_what_is_written_can_be_changed_again(tiny, command, tmp_path):
    command(*flags(tiny, tmp_path / "once", ("zero/head_2/1",), text=""))
    model = weights.load(f"file:{tmp_path / 'once' / 'model'}")
    assert not tree.get(model.params["layers"][1], "o_proj")[12:18].any()
    again = ["export", f"--config.model=file:{tmp_path / 'once' / 'model'}"]
    again += [f"--workdir={tmp_path / 'twice'}", "--config.variants=zero/layer/0"]
    assert command(*again, f"--config.text={tiny.jsonl}").status == 0
    both = summary_of(tmp_path / "twice")["ppl_after"]
    expected = swept(tiny, ("zero/head_2/1", "zero/layer/0"), ())[1]
    assert both == pytest.approx(np.exp(expected.mean()), rel=1e-5)


def test_a_second_run_keeps_the_folder_and_another_config_is_refused(tiny, command, tmp_path):
    run = flags(tiny, tmp_path / "run", ("zero/layer/1",), text="")
    assert command(*run).status == 0
    files = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "run").glob("model/*")}
    summary = (tmp_path / "run" / "summary.json").read_bytes()
    assert command(*run).status == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == files
    assert (tmp_path / "run" / "summary.json").read_bytes() == summary
    done = command(*flags(tiny, tmp_path / "run", ("zero/layer/2",), text=""))
    assert done.status == 2
    assert "config.variants is ['zero/layer/1'], now it is ['zero/layer/2']" in done.err


def test_a_run_that_was_killed_while_writing_starts_afresh(tiny, command, tmp_path):
    run = flags(tiny, tmp_path / "run", ("zero/layer/1",), text="")
    assert command(*run).status == 0
    (tmp_path / "run" / "summary.json").unlink()
    stale = tmp_path / "run" / ".model.part-0123abcd"
    (tmp_path / "run" / "model").rename(stale)  # as a kill leaves it
    assert command(*run).status == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert not stale.exists()


def test_a_dry_run_writes_nothing_and_says_the_size(tiny, command, tmp_path):
    done = command(*flags(tiny, tmp_path / "run", ("zero/layer/1",)), "--dry_run")
    assert (done.status, done.err) == (0, "")
    assert "changes: zero/layer/1\n" in done.out
    assert "layers: [0, 2] of 3\n" in done.out
    assert "MiB of float32\n" in done.out
    assert list(tmp_path.iterdir()) == []


def test_the_list_says_how_changes_are_written(command):
    done = command("export", "--list")
    assert done.status == 0
    for name in (
        "zero/layer/14",
        "repeat/span/9-15",
        "copy_next",
        "head_I",
        "bfloat16",
        "file:PATH",
    ):
        assert f"\n  {name}" in done.out


def test_the_module_runs_by_itself(tiny, tmp_path):
    command = [sys.executable, "-m", "experiments.export", "--config=configs/export.py"]
    arguments = flags(tiny, tmp_path / "run", ("zero/layer/2",), text="")[1:]
    done = subprocess.run(command + arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    complaints = re.sub(r"(?m)^\d\d:\d\d:\d\d .*\n", "", done.stderr)
    assert (done.returncode, complaints) == (0, "")
    assert f"from_pretrained('{tmp_path / 'run' / 'model'}')" in done.stdout
    assert jaxanatomy.load(f"file:{tmp_path / 'run' / 'model'}").config.num_layers == 2


@pytest.mark.parametrize("other", ["importance", "grow_checkpoint", "growth_tiny"])
def test_a_config_of_another_experiment_is_known_as_such(other, tiny, command, tmp_path):
    done = command(*flags(tiny, tmp_path / "run"), f"--config=configs/{other}.py")
    owner = "depth_growth" if other == "growth_tiny" else other
    assert done.status == 2
    assert f"{other}.py is a config of {owner}, not of export; run {owner} with it" in done.err
    assert "--config=configs/export.py" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.variants=zero/14", "a variant is written INTERVENTION/SCOPE"),
        ("--config.variants=zero/mlp/3", "layers of this model are 0 to 2; got 3"),
        ("--config.variants=zero/mlp@first/1", "at positions 'first' only"),
        ("--config.variants=zero/layer/0,zero/layer/1,zero/layer/2", "at least one layer"),
        ("--config.layers=0,3", "layers of this model are 0 to 2; got 3"),
        ("--config.variants=zero/head_99/1", "query heads of this model are 0 to 5; got 'head_99'"),
        ("--config.layers=0-3", "layers of this model are 0 to 2; got 3"),
        ("--config.layers=2-0", "from the lower to the higher number; got '2-0'; write 0-2"),
        ("--config.layers=0-", "layers must be whole numbers or ranges of them"),
        ("--config.dtype=float46", "unknown dtype 'float46'; did you mean"),
        ("--config.text=nothing.txt", "there is no text file 'nothing.txt'"),
        ("--config.variants=scale_100000/layer/1", "finite as float16; NaN or Inf in layers/1"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_model(tiny, command, tmp_path, flag, message):
    extra = ["--config.dtype=float16"] if "float16" in message else []
    done = command(*flags(tiny, tmp_path / "run", text=""), flag, *extra)
    assert done.status == 2, done
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.name not in ("run", ".lock")]
