"""The importance experiment from the command line: the contract of a run, end to end."""

import json
import re

import numpy as np
import pytest
import run_files

from jaxanatomy import weights
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions import cells
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep

FIELDS = {
    "hash",
    "model",
    "text",
    "variant",
    "intervention",
    "scope",
    "positions",
    "layer",
    "draw",
    "nll",
    "tokens",
    "kl",
    "kl_ci95",
    "unit_kl",
    "ppl",
    "degradation_percent",
    "ci95",
    "category",
    "anti_layer",
    "boundary",
    "ppl_without_first",
    "degradation_percent_without_first",
    "unit_nll",
    "unit_tokens",
}
MAP = ("--config.cells=map",)


def rows_of(workdir):
    return run_files.read_rows(workdir)


def flags(tiny, workdir, *texts):
    texts = ",".join(texts or (tiny.jsonl,))
    return [
        "importance",
        f"--config.model={tiny.model}",
        f"--config.texts={texts}",
        f"--workdir={workdir}",
    ]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory, command):
    """All cells of the tiny model on one text, the map on another."""
    workdir = tmp_path_factory.mktemp("runs") / "atlas"
    done = command(
        *flags(tiny, workdir, tiny.jsonl, tiny.txt),
        "--config.sweep.chunk_size=32",
    )
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_the_files_of_the_contract_are_there(finished):
    workdir, out = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    assert names == {"config.json", "rows.jsonl", "summary.json", "figures", "report.html"}
    pictures = list((workdir / "figures").iterdir())
    assert workdir / "figures" / "importance.png" in pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    page = (workdir / "report.html").read_text().lstrip()
    assert page.lower().startswith("<!doctype html>")
    assert "<svg" in page
    assert f"report: {workdir / 'report.html'}" in out
    assert re.search(r"^1 +\w+ +[\d.,]+ +[+-][\d.]+ ", out, re.MULTILINE)


def test_a_run_says_what_it_begins(tiny, command, tmp_path):
    said = [line[9:] for line in command(*flags(tiny, tmp_path / "run"), *MAP).said]
    assert f"loading {tiny.model}\n" in said
    assert any(re.fullmatch(r"compiling \d+ programs of the sweep\n", line) for line in said)
    assert said[-1] == "drawing the report\n"


def test_every_row_has_the_fields_of_the_design(finished):
    rows = rows_of(finished[0])
    assert all(set(row) == FIELDS for row in rows)
    assert len({row["hash"] for row in rows}) == len(rows)
    assert all(re.fullmatch(r"[0-9a-f]{16}", row["hash"]) for row in rows)


def test_the_first_text_has_all_cells_and_the_other_the_map(finished, tiny):
    config = weights.open_model(tiny.model).config
    expected = [(tiny.jsonl, variant.name) for variant in cells.protocol_cells(config)]
    expected += [(tiny.txt, v.name) for v in cells.main_map(config, boundary=True)]
    assert sorted((row["text"], row["variant"]) for row in rows_of(finished[0])) == sorted(expected)


def test_rows_are_those_of_a_sweep_by_hand(finished, tiny):
    model = weights.load(tiny.model)
    text = load_text(tiny.jsonl)
    (batch,) = tokenise(model, text)
    variants = cells.protocol_cells(model.config)[::7]
    sweep = Sweep(model.config, variants, [batch], {"nll": nll})
    sweep.place(model.params)
    readings = sweep.run(0)
    rows = {row["variant"]: row for row in rows_of(finished[0]) if row["text"] == tiny.jsonl}
    base = rows["baseline"]["ppl"]
    for variant in variants:
        losses = np.asarray(readings["nll"][variant.name], np.float64)
        row = rows[variant.name]
        assert row["tokens"] == len(losses) == sum(map(len, text.documents)) - 6
        assert row["nll"] == pytest.approx(losses.sum(), rel=1e-6)
        assert row["ppl"] == pytest.approx(np.exp(losses.mean()), rel=1e-6)
        assert row["degradation_percent"] == pytest.approx(100 * (row["ppl"] / base - 1), abs=1e-6)
        rest = losses[~batch.first_P]
        assert row["ppl_without_first"] == pytest.approx(np.exp(rest.mean()), rel=1e-6)
        for label in ("intervention", "scope", "positions", "layer", "draw"):
            assert row[label] == variant.labels.get(label)
        if variant.name != "baseline":
            low, high = row["ci95"]
            assert low < row["degradation_percent"] < high


def test_config_and_summary_say_what_was_run(finished, tiny):
    made = json.loads((finished[0] / "config.json").read_text())
    assert made["config"]["model"] == tiny.model
    assert made["config"]["sweep"]["chunk_size"] == 32
    provenance = made["provenance"]
    assert provenance["weights_sha256"] == weights.load(tiny.model).sha256
    texts = {name: load_text(name).sha256 for name in (tiny.jsonl, tiny.txt)}
    assert provenance["data_sha256"] == texts
    summary = run_files.read_summary(finished[0])
    assert set(summary["texts"]) == set(texts)


def test_a_second_run_reads_no_weights_and_gives_the_same_rows(
    finished, tiny, command, tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise AssertionError("weights were read")

    monkeypatch.setattr("jaxanatomy.weights.tensors.read_params", fail)
    workdir, before = finished[0], (finished[0] / "rows.jsonl").read_bytes()
    again = [*flags(tiny, workdir, tiny.jsonl, tiny.txt)]
    again += ["--config.sweep.chunk_size=32", "--config.sweep.pool_megabytes=100"]
    assert command(*again).status == 0
    assert (workdir / "rows.jsonl").read_bytes() == before
    assert command(*flags(tiny, tmp_path / "new"), *MAP).status == 1  # the trap does spring


@pytest.mark.parametrize(
    ("flag", "name", "was", "now"),
    [
        ("--config.boundary=False", "config.boundary", "True", "False"),
        ("--config.packing.window=64", "config.packing.window", "None", "64"),
        ("--config.layers=1", "config.layers", r"\[\]", r"\[1\]"),
    ],
)
def test_another_config_is_refused_in_the_same_folder(
    finished, tiny, command, flag, name, was, now
):
    workdir = finished[0]
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    same = [*flags(tiny, workdir, tiny.jsonl, tiny.txt)]
    done = command(*same, "--config.sweep.chunk_size=32", flag)
    assert (done.status, done.out) == (2, "")
    assert re.fullmatch(
        rf"error: expected to continue the run in \S+; its {name} is {was}, now it is {now}; "
        r"choose another workdir\n",
        done.err,
    )
    assert {path: path.read_bytes() for path in before} == before


def test_a_row_that_is_not_finite_is_null_with_a_reason(tiny, command, tmp_path):
    overflow = "--config.interventions=scale_1" + 38 * "0"
    done = command(*flags(tiny, tmp_path / "run"), *MAP, overflow, "--config.layers=1")
    assert (done.status, done.err) == (0, "")
    baseline, row = rows_of(tmp_path / "run")
    assert set(row) == FIELDS | {"reason"}
    assert [row[name] for name in ("nll", "ppl", "degradation_percent", "ci95")] == 4 * [None]
    assert row["reason"] == "the summed NLL is nan"
    assert baseline["ppl"] > 1
    assert (tmp_path / "run" / "report.html").exists()


def test_the_lists_of_the_config_restrict_every_text(tiny, command, tmp_path):
    lists = ["--config.interventions=zero", "--config.scopes=mlp,head_5", "--config.layers=0,2"]
    lists += ["--config.positions=first"]
    done = command(*flags(tiny, tmp_path / "run", tiny.jsonl, tiny.txt), *MAP, *lists)
    assert (done.status, done.err) == (0, "")
    found = [(row["text"], row["variant"]) for row in rows_of(tmp_path / "run")]
    names = ["zero/mlp@first/0", "zero/head_5@first/0", "zero/mlp@first/2", "zero/head_5@first/2"]
    assert found == [(text, v) for text in (tiny.jsonl, tiny.txt) for v in ("baseline", *names)]


@pytest.mark.parametrize(
    ("flag", "cells"),
    [
        ("layers=0-1", {("neighbour_mean", "layer", "all", layer) for layer in (0, 1)}),
        ("scopes=q_proj", {("neighbour_mean", "q_proj", "all", layer) for layer in range(3)}),
        ("positions=others", {("neighbour_mean", "layer", "others", layer) for layer in range(3)}),
        ("interventions=zero", {("zero", "layer", "all", layer) for layer in range(3)}),
    ],
)
def test_one_list_alone_restricts_every_text(tiny, command, tmp_path, flag, cells):
    texts = (tiny.jsonl, tiny.txt)
    assert command(*flags(tiny, tmp_path / "run", *texts), f"--config.{flag}").status == 0
    rows = rows_of(tmp_path / "run")
    for text in texts:
        own = [row for row in rows if row["text"] == text and row["variant"] != "baseline"]
        fields = ("intervention", "scope", "positions", "layer")
        assert {tuple(row[name] for name in fields) for row in own} == cells


def test_a_run_goes_on_with_what_decides_no_result(tiny, command, tmp_path):
    """Half of the rows with one size of chunks, the others with another; none comes twice."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert command(*flags(tiny, whole), *MAP).status == 0
    assert command(*flags(tiny, run), *MAP, "--config.sweep.chunk_size=3").status == 0
    lines = (run / "rows.jsonl").read_text().splitlines(keepends=True)
    (run / "rows.jsonl").write_text("".join(lines[:2]))
    others = ["chunk_size=2", "tokens_per_call=50", "pool_megabytes=9", "devices=1", "split=rows"]
    flags_of = [f"--config.sweep.{each}" for each in others]
    done = command(*flags(tiny, run), *MAP, *flags_of)
    assert (done.status, done.err) == (0, "")
    found, expected = rows_of(run), rows_of(whole)
    assert [row["variant"] for row in found] == [row["variant"] for row in expected]
    assert [row["hash"] for row in found] == [row["hash"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row["nll"] == pytest.approx(other["nll"], rel=1e-5)


def test_a_dry_run_says_the_cost_and_writes_nothing(tiny, command, tmp_path):
    done = command(*flags(tiny, tmp_path / "run"), *MAP, "--dry_run")
    assert (done.status, done.err) == (0, "")
    assert f"text {tiny.jsonl}: 4 variants" in done.out
    assert re.search(r"neighbour_mean/layer +layers 0-2\n", done.out)
    # Three layers unedited, and from each edited one to the end: 3 + 3 + 2 + 1.
    assert re.search(r"  distinct +9\n", done.out)
    assert re.search(r"matrix products +[\d.]+ TFLOP\n", done.out)
    assert re.search(r"memory for weights and streams +[\d,]+ MiB on each of 1 device", done.out)
    assert re.search(r"expected time +[\d.]+ s", done.out)
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_what_can_be_chosen(command):
    done = command("importance", "--list")
    assert (done.status, done.err) == (0, "")
    for name in ("neighbour_mean", "scale_ALPHA", "q_proj", "others", "paragraphs", "file:PATH"):
        assert re.search(rf"^  {re.escape(name)} ", done.out + " ", re.MULTILINE), name
