"""The depth use experiment from the command line: the contract of a run, end to end."""

import collections
import json
import re
import shutil

import numpy as np
import pytest
import run_files

from jaxanatomy.measures.readings.effects import heatmaps
from jaxanatomy.records import read_arrays, read_run
from jaxanatomy.report import depth_use as page

FLAGS = (
    "--config.boundaries=1/4,8",
    "--config.super_weights=2",
    "--config.untrained_draws=2",
)
LAYERS = 3
PAIRS = LAYERS * (LAYERS - 1) // 2


@pytest.fixture(autouse=True)
def version(fixed_version):
    """The code of this project may change between two commands of a test."""


@pytest.fixture(scope="module")
def start(tiny, command):
    def start(workdir, *more):
        given = (f"--config.model={tiny.model}", f"--config.text={tiny.jsonl}")
        return command("depth_use", *given, f"--workdir={workdir}", *more)

    return start


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory, fixed_version):
    workdir = tmp_path_factory.mktemp("runs") / "depth_use"
    done = start(workdir, *FLAGS)
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_the_files_of_the_contract_and_the_rows_of_every_pair(finished):
    workdir, _ = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    files = {"config.json", "rows.jsonl", "summary.json", "arrays.npz", "figures", "report.html"}
    assert names == files
    rows = run_files.read_rows(workdir)
    models = dict.fromkeys(row["model"] for row in rows)
    *whole, further = models
    assert further == f"{whole[1]}#1"
    own = [row for row in rows if row["model"] == further]
    counts = collections.Counter(row["kind"] for row in own)
    # Of a further draw what the depth score needs.
    assert counts == {"effect": 3 * 2 * PAIRS, "output": 3 * 2 * LAYERS, "depth_score": 48}
    assert {(row["spread"], row["when"]) for row in own if row["kind"] != "depth_score"} == {
        ("propagated", "future")
    }
    for model in whole:
        own = [row for row in rows if row["model"] == model]
        places = 1 + 2  # all tokens, two boundaries
        effects = [row for row in own if row["kind"] == "effect"]
        assert len(effects) == 2 * 3 * places * PAIRS
        assert all(row["source"] < row["target"] for row in effects)
        assert sum(row["kind"] == "output" for row in own) == 3 * places * LAYERS
        scores = [row for row in own if row["kind"] == "depth_score"]
        assert len(scores) == 3 * 2 * (2 + 6)
        counts = collections.Counter(row["kind"] for row in own)
        assert counts["contribution"] == 7 * 2 * LAYERS
        assert (counts["lens"], counts["massive"], counts["candidate"]) == (18, 9, 3)
        # The null of a removed weight are others of its size in the same model.
        assert counts["removal"] == (0 if model.startswith("random:") else 1 + 2 * 5 + 1)
        assert counts["periodicity"] == 0  # no two blocks of two fit
    assert {row["boundary"] for row in rows if row["kind"] == "output"} == {None, "1/4", "8"}
    assert len({row["hash"] for row in rows}) == len(rows)


def test_arrays_and_summary_are_those_of_the_rows(finished, tiny):
    workdir, _ = finished
    record = read_run(workdir)
    arrays = read_arrays(workdir / "arrays.npz")
    own = [row for row in record.rows if row["model"] == tiny.model]
    for key, matrices in heatmaps(own).items():
        np.testing.assert_array_equal(arrays["_".join(key)], matrices["value"])
        np.testing.assert_array_equal(arrays["_".join(key) + "_mean"], matrices["mean"])
    assert sum(name.startswith("untrained_") for name in arrays) == len(arrays) // 2
    summary = record.summary["models"][tiny.model]
    (score,) = [
        row
        for row in own
        if (row["kind"], row.get("part"), row.get("effect"), row.get("over"))
        == ("depth_score", "layer", "output", "mean")
    ]
    assert score["value"] in [each["value"] for each in summary["depth_score"]]
    assert 0 <= score["ci95"][0] < score["value"] < score["ci95"][1] <= LAYERS


def test_silencing_a_layer_for_the_next_one_is_the_same_passed_on_or_not(finished):
    """What follows at once sees the stream without the source either way."""
    rows = run_files.read_rows(finished[0])
    found = {}
    for row in rows:
        if (
            row["kind"] == "effect"
            and row["part"] == "layer"
            and row["target"] == row["source"] + 1
        ):
            if row["model"].endswith("#1"):
                continue  # propagated alone
            key = tuple(row[name] for name in ("model", "when", "boundary", "source"))
            found.setdefault(key, []).append(row["value"])
    assert len(found) == 2 * 3 * (LAYERS - 1)
    for propagated, local in found.values():
        assert propagated == pytest.approx(local, rel=1e-4)


def test_the_page_says_the_score_beside_the_untrained_one(finished):
    record = read_run(finished[0])
    apart = [
        row["value"]
        for row in record.rows
        if row["kind"] == "depth_difference" and row["model"].startswith("random:")
        if (row["part"], row["effect"], row["convention"]) == ("layer", "output", "paper")
    ]
    (row,) = [
        row
        for row in page.differences(record)
        if (row["part"], row["effect"], row["model"]) == ("layer", "output", "untrained")
    ]
    assert [row["value"].value] == apart
    assert row["value"].ends
    (own,) = (
        each
        for each in page.scores(record)
        if (each["part"], each["effect"], each["over"]) == ("layer", "output", "mean")
        if (each["model"], each["convention"]) == ("model", "paper")
    )
    assert own["value"].low <= own["value"].value <= own["value"].high
    assert len(row["draw_scores"]) == 2
    assert row["draw_scores"][0] != row["draw_scores"][1]
    assert not any("#" in model for model in page.models(record))
    assert "Depth scores" in finished[1]
    assert "Single weights of down_proj, removed alone" in finished[1]


def test_tidy_rows_of_the_page_are_those_of_the_run(finished, tiny):
    record = read_run(finished[0])
    own = [row for row in record.rows if row["model"] == tiny.model]
    (wide,) = [
        row
        for row in page.contributions(record)
        if (row["model"], row["layer"], row["panel"]) == ("model", 1, "without the first token")
    ]
    for row in own:
        if (row["kind"], row.get("positions"), row.get("layer")) == ("contribution", "others", 1):
            assert wide[row["metric"]].value == row["value"]
            assert wide[row["metric"]].ends == row["ci95"]
    assert len(page.lenses(record)) == 2 * LAYERS
    assert [row["verdict"] for row in page.removals(record)] == ["no", "no"]
    for row in page.removals(record):
        others = [other for other in own if other.get("control_of") == row["layer"]]
        assert len(others) == 4
        assert row["similar"] == max(other["degradation_percent"] for other in others)
        assert row["within"] == sum(other["control"] == "similar" for other in others)
        (largest,) = (other for other in own if other.get("control") == "largest")
        assert row["largest"] == largest["degradation_percent"]
        assert row["largest_sizes"] == [abs(largest["weight"])]
    cells = page.cells(record)
    assert len(cells) == 2 * 3 * 4 * PAIRS
    assert all(cell["shown"] == min(cell["value"], 1) for cell in cells)
    influence = {(r["model"], r["part"], r["layer"]): r["change"] for r in page.influence(record)}
    examples = [
        row["examples"]
        for row in own
        if tuple(row.get(name) for name in ("kind", "part", "when", "source"))
        == ("output", "mlp", "future", 1)
    ]
    assert influence["model", "MLP", 1] == pytest.approx(np.max(examples, axis=0).mean())


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_rows(finished, start, tmp_path):
    workdir = tmp_path / "stopped"
    shutil.copytree(finished[0], workdir)
    lines = (workdir / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (workdir / "rows.jsonl").write_bytes(b"".join(lines[:100]) + lines[100][:20])
    (workdir / "arrays.npz").unlink()
    done = start(workdir, *FLAGS, "--config.sweep.chunk_size=20")
    assert (done.status, done.err) == (0, "")
    again = {row["hash"]: row for row in run_files.read_rows(workdir)}
    whole = {row["hash"]: row for row in run_files.read_rows(finished[0])}
    assert again.keys() == whole.keys()
    for key, row in whole.items():
        field = "nll" if row["kind"] == "removal" else "value"
        if field in row:
            assert again[key][field] == pytest.approx(row[field], rel=1e-4, abs=1e-6), row


def test_quick_and_dry_run(start, tmp_path):
    more = (
        "--config.parts=layer",
        "--config.untrained_draws=0",
        "--config.conventions=as_published",
    )
    done = start(tmp_path / "dry", *more, "--config.boundaries=4", "--dry_run")
    assert done.status == 0
    assert re.search(r"as_published/layer/propagated +layers 0-2", done.out)
    assert "random:" not in done.out
    assert not (tmp_path / "dry" / "rows.jsonl").exists()


def test_the_depth_score_alone(finished, start, tmp_path):
    more = ("--config.parts=layer", "--config.spreads=propagated", "--config.whens=future")
    done = start(tmp_path / "run", *FLAGS[:1], *more, "--config.super_weights=0")
    assert (done.status, done.err) == (0, "")
    rows = run_files.read_rows(tmp_path / "run")
    of_all = {row["hash"]: row for row in run_files.read_rows(finished[0])}
    effects = [row for row in rows if row["kind"] == "effect"]
    assert {(row["spread"], row["when"]) for row in effects} == {("propagated", "future")}
    scores = [row for row in rows if row["kind"] == "depth_score"]
    assert len(scores) == 4 * 2 * (2 + 6)  # the model and three draws
    for row in scores:
        if row["model"].endswith("#2"):
            continue  # two draws there
        assert row["value"] == pytest.approx(of_all[row["hash"]]["value"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.boundaries=1/4,100",), "boundary 100 needs a token to erase and one to read"),
        (("--config.boundaries=5/4",), "a boundary is a part of a prompt below 1"),
        (("--config.parts=head_0",), "unknown part 'head_0'"),
        (("--config.spreads=locally",), "unknown spread 'locally'; did you mean 'local'"),
        (("--config.whens=past",), "unknown when 'past'"),
        (("--config.whens=",), "whens must name at least one, each once"),
        (("--config.conventions=papers",), "unknown convention 'papers'; did you mean 'paper'"),
        (("--config.conventions=",), "conventions must name at least one, each once"),
        (("--config.parts=",), "parts must name at least one, each once"),
        (("--config.boundaries=",), "boundaries must name at least one, each once"),
        (("--config.parts=mlp,mlp",), "parts must name at least one, each once"),
        (("--config.packing.window=12",), "must fit into one window"),
        (("--config.blocks=2",), "two blocks must fit into the 3 layers; got blocks of 2"),
        (("--config.null_draws=1",), "null_draws must be a whole number, 2 or above"),
        (("--config.super_weights=-1",), "super_weights must be a whole number, 0 or above"),
        (("--config.untrained_draws=-1",), "untrained_draws must be a whole number, 0 or above"),
    ],
)
def test_bad_input_is_refused_in_a_line(start, tmp_path, flags, message):
    done = start(tmp_path / "run", *flags)
    assert done.status == 2
    assert re.search(message, done.err), done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()


def test_other_models_stand_beside_it_with_the_difference_of_scores(start, tmp_path, tiny):
    other = f"random:{tiny.model}"
    flags = ("--config.parts=layer", "--config.spreads=propagated", "--config.whens=future")
    more = ("--config.untrained_draws=0", "--config.super_weights=0", f"--config.others={other},")
    done = start(tmp_path, *flags, *more, "--config.boundaries=1/4")
    assert (done.status, done.err) == (0, "")
    record = read_run(tmp_path)
    by_model = {
        row["model"]: row["value"]
        for row in record.rows
        if row["kind"] == "depth_score" and (row["over"], row["effect"]) == ("mean", "output")
    }
    given, beside = by_model
    (found,) = [
        row
        for row in record.rows
        if row["kind"] == "depth_difference" and row["effect"] == "output"
    ]
    assert (found["model"], beside) == (other, other)
    assert found["value"] == pytest.approx(by_model[beside] - by_model[given], abs=1e-12)
    assert found["ci95"][0] < found["value"] < found["ci95"][1]
    assert [*record.provenance["others_sha256"]] == [other]
    assert "Depth scores less that of the model" in done.out
    refused = start(tmp_path / "twice", f"--config.others={tiny.model},")
    assert "each of model and others may come once" in refused.err
    for draw in ("", "#2"):
        twice = start(tmp_path / "twice", f"--config.others={other}{draw},")
        assert twice.status == 2
        assert f"untrained_draws=3 measures {other}{draw}, so others must not name it" in twice.err


def test_current_effects_need_no_boundaries(start, tmp_path):
    flags = ("--config.parts=layer", "--config.whens=current", "--config.boundaries=100")
    assert start(tmp_path / "dry", *flags, "--dry_run").status == 0


def test_prompts_too_short_for_a_boundary_are_refused(tiny, command, tmp_path):
    path = tmp_path / "short.jsonl"
    path.write_text("\n".join(json.dumps({"text": each}) for each in ("a long prompt", "ab")))
    given = (f"--config.model={tiny.model}", f"--config.text={path}")
    done = command("depth_use", *given, f"--workdir={tmp_path / 'run'}")
    assert done.status == 2
    assert re.search("boundary 1/2 needs .* prompt 1 has 2 tokens", done.err), done.err
