"""The surgery experiment from the command line: the contract of a run, end to end."""

import dataclasses
import math
import re
import shutil
from pathlib import Path

import pytest
import run_files

from jaxanatomy import api, weights
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions.surgery import surgery_variants
from jaxanatomy.measures.surgery import looked_at, operations, summarise
from jaxanatomy.records import RunRecord, read_run
from jaxanatomy.report import html
from jaxanatomy.report import surgery as page

EVERY = 1 + 5 + 6 + 2 * 6 + 2 + 1  # unchanged, cuts, repeats, damped ones, swaps, reversals

BOTH = ("all", "all")  # swaps and reversals


@pytest.fixture(autouse=True)
def version(fixed_version):
    """The code of this project may change between two commands of a test."""


@pytest.fixture(scope="module")
def start(tiny, command):
    def start(workdir, *more):
        given = (f"--config.model={tiny.model}", f"--config.texts={tiny.jsonl}")
        return command("surgery", *given, f"--workdir={workdir}", *more)

    return start


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory, fixed_version):
    workdir = tmp_path_factory.mktemp("runs") / "surgery"
    done = start(workdir)
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_rows_are_those_of_every_variant(finished, tiny):
    rows = {row["variant"]: row for row in run_files.read_rows(finished[0])}
    variants = surgery_variants(weights.load(tiny.model).config, "all", "all", (0.5, 0.25), *BOTH)
    assert {variant.name for variant in variants} == rows.keys()
    assert len(rows) == EVERY
    assert rows["baseline"]["kl"] == 0


def test_a_swap_is_the_model_whose_layers_were_exchanged(finished, tiny):
    model = weights.load(tiny.model)
    first, second, third = model.params["layers"]
    params = {**model.params, "layers": (first, third, second)}
    exchanged = dataclasses.replace(model, params=params)
    (expected,) = api.sweep(exchanged, [], load_text(tiny.jsonl))
    rows = {row["variant"]: row for row in run_files.read_rows(finished[0])}
    row = rows["swap/span/1-2"]
    assert row["unit_nll"] == pytest.approx(expected["unit_nll"], rel=1e-5)
    more = expected["nll"] / expected["tokens"] - rows["baseline"]["nll"] / row["tokens"]
    assert row["degradation_percent"] == pytest.approx(100 * math.expm1(more), rel=1e-3)


def test_the_summary_and_the_page_are_those_of_the_rows(finished, tiny):
    workdir, out = finished
    record = read_run(workdir)
    baseline = next(row for row in record.rows if row["variant"] == "baseline")
    (digest,) = record.summary["texts"].values()
    assert digest["baseline_ppl"] == baseline["ppl"]
    cuts = operations(record.rows)[baseline["text"], "cut"]
    assert len(cuts) == digest["operations"]["cut"]["variants"] == 5
    best = {row["size"]: row["ppl"] for row in digest["operations"]["cut"]["best"]}
    for size in (1, 2):
        assert best[size] == min(row["ppl"] for row in cuts if row["size"] == size)
    shown = {row["variant"]: row for row in page.variants(record)}
    assert len(shown) == EVERY - 1
    for row in looked_at(cuts, baseline):
        assert shown[row["variant"]]["change"] == row["change"]
        assert shown[row["variant"]]["undecided"] != row["told_apart"]
    assert shown["swap/span/1-2"]["length"] == 1
    assert shown["cut/span/1-2"]["layers"] == "L1–L2"
    filled = html.fill(page.PAGE, record)
    words = " ".join(text for each in filled for text in each.text)
    assert re.search(r"Perplexity [\d.]+ on .* \(6 documents\)", words)
    below = sum(row["ppl"] < baseline["ppl"] for row in record.rows)
    assert 0 < below == sum(row["below"] for row in page.counts(record))
    assert "Of each length the layers that cost least to leave out" in out


def test_maps_are_of_operations_tried_at_every_length(finished):
    record = read_run(finished[0])
    panels = {row["panel"] for row in page.maps(record)}
    # Three layers have cuts of two lengths only, swaps of one.
    assert panels == {"applied twice", *(p for p in panels if "second change" in p)}
    assert len(panels) == 3
    assert {row["op"] for row in page.curves(record)} == {"cut", "swap", "reverse"}


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_rows(finished, start, tmp_path):
    workdir = tmp_path / "stopped"
    shutil.copytree(finished[0], workdir)
    lines = (workdir / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (workdir / "rows.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:20])
    (workdir / "summary.json").unlink()
    done = start(workdir)
    assert (done.status, done.err) == (0, "")
    again = {row["hash"]: row for row in run_files.read_rows(workdir)}
    whole = {row["hash"]: row for row in run_files.read_rows(finished[0])}
    assert again == whole


def test_two_texts_stand_in_panels_of_their_own(finished):
    rows = run_files.read_rows(finished[0])
    rows += [row | {"text": "another"} for row in rows]
    record = RunRecord(
        Path(), rows, {}, {}, summarise(rows, dict.fromkeys({row["text"] for row in rows}, 6))
    )
    panels = {row["panel"] for row in page.variants(record)}
    assert {panel for panel in panels if panel.endswith(", another")} == {
        f"{operation}, another" for operation in {row["operation"] for row in page.counts(record)}
    }
    assert len(panels) == 2 * 6
    assert [row["panel"] for row in page.best(record, is_cut=True)][2:] == ["another"] * 2


def test_dry_run_says_what_is_shared(start, tmp_path):
    done = start(tmp_path / "dry", "--config.swap=", "--config.reverse=", "--dry_run")
    assert done.status == 0
    assert f"{EVERY - 3} variants, chunks of work: 1" in done.out
    assert not (tmp_path / "dry" / "rows.jsonl").exists()


def test_a_text_too_short_for_intervals_has_a_page(finished):
    rows = [
        row | {name: [sum(row[name])] for name in ("unit_nll", "unit_kl", "unit_tokens")}
        for row in run_files.read_rows(finished[0])
    ]
    record = RunRecord(Path(), rows, {}, {}, summarise(rows, {rows[0]["text"]: 1}))
    assert all(row["undecided"] and math.isnan(row["change"].low) for row in page.variants(record))
    filled = html.fill(page.PAGE, record)
    words = " ".join(text for each in filled for text in each.text)
    assert "(1 document; intervals over 1 block of 64 tokens)" in words
    assert next(row["starts"] for row in page.best(record, is_cut=True)) == "0-2"


def test_the_page_says_what_intervals_are_over(finished):
    record = read_run(finished[0])
    (found,) = record.summary["texts"].values()
    found |= {"documents": 4, "units": 11}
    assert "(4 documents; intervals over 11 blocks of 64 tokens)" in page.headline(record)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.cut=3",), "cut takes 1 to 2 layers of this model; got 3"),
        (("--config.swap=2",), "swap takes 1 to 1 layers of this model; got 2"),
        (("--config.reverse=1-2",), "reverse takes 3 to 3 layers of this model; got 1"),
        (("--config.repeat=2,two",), "repeat must be whole numbers or ranges"),
        (("--config.damping=0.5,0.5",), "each of damping may come once; repeated: 0.5"),
        (
            tuple(f"--config.{op}=" for op in ("cut", "repeat", "damping", "swap", "reverse")),
            "needs lengths of cut, repeat, swap or reverse; got none",
        ),
        (("--config.texts=",), "texts must name at least one text"),
        (
            ("--config.texts=sentences,sentences",),
            "each of texts may come once; repeated: sentences",
        ),
    ],
)
def test_bad_input_is_refused_in_a_line(start, tmp_path, flags, message):
    done = start(tmp_path / "run", *flags)
    assert done.status == 2
    assert re.search(message, done.err), done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()
