"""The grow_checkpoint experiment from the command line, on a model of three layers."""

import dataclasses
import json

import numpy as np
import pytest
import run_files

from jaxanatomy import api, tree, weights
from jaxanatomy.data.text import load_text
from jaxanatomy.model import parameter_count
from jaxanatomy.records import read_run
from jaxanatomy.weights.export import as_dtype
from jaxanatomy.weights.tensors import parse_dtype


def flags(tiny, workdir, **fields):
    fields = {"operator": "lidas", "block": 1, "num_layers": 5, "null_draws": 2} | fields
    return [
        "grow_checkpoint",
        f"--config.model={tiny.model}",
        f"--workdir={workdir}",
        f"--config.texts={tiny.jsonl}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


@pytest.fixture(scope="module")
def done(tiny, command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("grown") / "run"
    found = command(*flags(tiny, workdir))
    assert (found.status, found.err) == (0, "")
    return workdir, found.out


def test_rows_hold_every_map_and_every_draw(tiny, done):
    record = read_run(done[0])
    rows = {row["variant"]: row for row in record.rows}
    assert set(rows) == {
        "baseline",
        "grow/midas",
        "grow/lidas",
        "grow/stack_top",
        "grow/stack_last",
        "grow/insert_zero",
        "random_layers/0",
        "random_layers/1",
        "random_place/0",
        "random_place/1",
    }
    assert rows["grow/insert_zero"]["nll"] == rows["baseline"]["nll"]
    assert rows["grow/insert_zero"]["ci95"] == [0.0, 0.0]
    for row in rows.values():
        assert {"hash", "operator", "draw", "layers", "ppl", "unit_nll", "text"} <= row.keys()
    before = api.sweep(weights.load(tiny.model), [], load_text(tiny.jsonl))[0]
    assert rows["baseline"]["ppl"] == pytest.approx(before["ppl"], rel=1e-5)


def test_the_folder_is_the_model_of_the_map(tiny, done):
    workdir, out = done
    summary = run_files.read_summary(workdir)
    rows = {row["variant"]: row for row in read_run(workdir).rows}
    assert summary["sources"] == [0, 1, 1, 1, 2]
    assert (summary["inserted"], summary["zeroed"]) == ([2, 3], [])
    original, written = weights.load(tiny.model), weights.load(f"file:{workdir / 'model'}")
    assert summary["sha256"] == written.sha256
    assert (written.config.num_layers, written.config.layers[0]) == (5, original.config.layers[0])
    assert summary["parameters_after"] == parameter_count(written.config)
    for layer, source in enumerate(summary["sources"]):
        for name in tree.MATRICES + tree.NORMS:
            found = tree.get(written.params["layers"][layer], name)
            np.testing.assert_array_equal(found, tree.get(original.params["layers"][source], name))
    assert summary["ppl_after"] == pytest.approx(rows["grow/lidas"]["ppl"], rel=1e-5)
    assert summary["ppl_before"] == pytest.approx(rows["baseline"]["ppl"], rel=1e-5)
    assert summary["largest_change_of_a_logit"] > 1e-2
    assert f"{summary['ppl_after']:,.2f}" in out
    (line,) = [line for line in out.splitlines() if "the folder" in line]
    assert line.split()[0] == "lidas"
    assert max(map(len, out.splitlines()[1:10])) <= 100


def test_the_summary_compares_with_operators_and_nulls(tiny, done):
    summary = run_files.read_summary(done[0])
    found = summary["texts"][tiny.jsonl]
    rows = {row["variant"]: row for row in read_run(done[0]).rows}
    assert found["baseline_ppl"] == rows["baseline"]["ppl"]
    assert set(found["operators"]) == {"midas", "lidas", "stack_top", "stack_last", "insert_zero"}
    zero = found["operators"]["insert_zero"]
    assert (zero["ppl"], zero["degradation_percent"]) == (rows["baseline"]["ppl"], 0.0)
    lidas = rows["grow/lidas"]
    difference = (lidas["nll"] - rows["grow/stack_top"]["nll"]) / lidas["tokens"]
    assert found["operators"]["stack_top"]["difference"][0] == pytest.approx(difference, abs=1e-6)
    assert found["operators"]["lidas"]["difference"] == [0.0, 0.0, 0.0]
    null = found["nulls"]["random_layers"]
    assert null["ppl"] == [rows[f"random_layers/{draw}"]["ppl"] for draw in range(2)]
    assert null["draws"] == 2 >= null["better"] + null["worse"]
    assert found["nulls"]["random_order"]["draws"] == 0  # copies of one layer have one order


def test_the_report_has_a_figure_beside_its_nulls(done):
    workdir, _ = done
    page = (workdir / "report.html").read_text()
    assert "Growth of a trained model" in page
    assert "random_layers" in page
    assert len(list((workdir / "figures").glob("*.png"))) == 1


def test_a_second_run_measures_nothing_and_keeps_the_folder(tiny, command, done):
    workdir, _ = done
    files = {path: path.read_bytes() for path in workdir.glob("**/*") if path.is_file()}
    assert command(*flags(tiny, workdir)).status == 0
    assert {path: path.read_bytes() for path in files} == files
    other = command(*flags(tiny, workdir, num_layers=4))
    assert other.status == 2
    assert "config.num_layers is 5, now it is 4" in other.err


def test_other_settings_of_the_model_go_along(command, copy_model, tiny, tmp_path):
    model = copy_model(tmp_path / "model")
    others = {
        "generation_config.json": '{"eos_token_id": [1, 2], "temperature": 0.6}',
        "tokenizer_config.json": '{"eos_token": "a", "chat_template": "{{ messages }}"}',
        "LICENSE": "Apache-2.0",
    }
    for name, text in others.items():
        (model / name).write_text(text)
    fields = json.loads((model / "config.json").read_text()) | {"eos_token_id": [1, 2]}
    (model / "config.json").write_text(json.dumps(fields))
    run = flags(tiny, tmp_path / "run", null_draws=1)
    assert command(*run, f"--config.model=file:{model}").status == 0
    grown = tmp_path / "run" / "model"
    assert {name: (grown / name).read_text() for name in others} == others
    changes = {"num_hidden_layers": 5, "dtype": "float32"}
    assert json.loads((grown / "config.json").read_text()) == fields | changes


def test_zero_insertion_is_written_as_the_same_function(tiny, command, tmp_path):
    done = command(*flags(tiny, tmp_path / "run", operator="insert_zero", dtype="bfloat16"))
    assert (done.status, done.err) == (0, "")
    summary = run_files.read_summary(tmp_path / "run")
    assert summary["zeroed"] == [2, 3]
    folder, text = f"file:{tmp_path / 'run' / 'model'}", load_text(tiny.jsonl)
    leaves = tree.to_leaves(weights.load(folder, "bfloat16").params)
    assert all(str(leaf.dtype) == "bfloat16" for leaf in leaves.values())
    written, original = weights.load(folder), weights.load(tiny.model)
    silent = [not tree.get(block, "o_proj").any() for block in written.params["layers"]]
    assert silent == [False, False, True, True, False]
    original = as_dtype(as_dtype(original, parse_dtype("bfloat16")), parse_dtype("float32"))
    losses = [api.sweep(model, [], text)[0]["nll"] for model in (original, written)]
    assert losses[0] == losses[1]


def test_a_dry_run_writes_nothing_and_says_why_an_operator_is_left_out(tiny, command, tmp_path):
    done = command(*flags(tiny, tmp_path / "run", block=2), "--dry_run")
    assert (done.status, done.err) == (0, "")
    assert "lidas: 3 to 5 layers\n" in done.out
    assert "layers: [0, 1, 2, 1, 2]\n" in done.out
    assert "without midas: midas cuts a model into blocks" in done.out
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_operators_and_nulls(command):
    done = command("grow_checkpoint", "--list")
    assert done.status == 0
    for name in ("midas", "lidas", "stack_top", "stack_last", "insert_zero", "random_layers"):
        assert f"\n  {name} " in done.out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"operator": "midsa"}, "unknown growth operator 'midsa'; did you mean 'midas'"),
        ({"block": 2, "num_layers": 6}, "from 3 layers in steps of 2 a model grows to 5, 7, ..."),
        ({"operator": "midas", "block": 2}, "divides its layers; got 2 and 3 layers"),
        ({"num_layers": 3}, "got a target of 3; take 4"),
        ({"block": 0}, "block size of at least 1"),
        (
            {"block": 4, "num_layers": 7},
            "lidas copies 4 layers and needs as many; got a model of 3",
        ),
        ({"null_draws": 0}, "null_draws must be a whole number, 1 or above; got 0"),
        ({"dtype": "float8"}, "float8"),
        ({"texts": ""}, "texts must name at least one text"),
        ({"texts": "sentences,sentences"}, "each of texts may come once; repeated: sentences"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(fields, said, tiny, command, tmp_path):
    done = command(*flags(tiny, tmp_path / "run", **fields))
    assert done.status == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()


def test_a_model_with_ln_scaling_is_folded_first(tiny, command, tmp_path):
    model = weights.load(tiny.model)
    scaled = dataclasses.replace(model, config=dataclasses.replace(model.config, ln_scaling=True))
    saved = weights.save_orbax(scaled, tmp_path / "saved")
    run = [*flags(tiny, tmp_path / "run"), f"--config.model=orbax:{saved}"]
    done = command(*run)
    assert done.status == 2
    assert "into the norms first: write the model with experiments.export" in done.err
