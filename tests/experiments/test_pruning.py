"""The pruning experiment from the command line: rows, plan, page, and what export makes of it."""

import re
import shutil

import numpy as np
import pytest
import run_files

from jaxanatomy import api, weights
from jaxanatomy.data.text import load_text
from jaxanatomy.measures.proxies import PROXIES
from jaxanatomy.measures.pruning import WAYS
from jaxanatomy.model import layer_parameter_count
from jaxanatomy.records import read_run
from jaxanatomy.report import html
from jaxanatomy.report import pruning as page

JUDGED = (
    "Ten lamps were lit.",
    "Snow lies on the hills.",
    "She sold the old cart.",
    "He hums.",
    "No.",
)


@pytest.fixture(autouse=True)
def version(fixed_version):
    """The code of this project may change between two commands of a test."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    path = tmp_path_factory.mktemp("judged") / "judged.txt"
    path.write_text("\n".join(JUDGED))
    return f"{path}#lines"


@pytest.fixture(scope="module")
def start(tiny, judged, command):
    def start(workdir, *more):
        given = (f"--config.model={tiny.model}", f"--config.selection_text={tiny.jsonl}")
        given += (f"--config.judgement_text={judged}", "--config.sizes=1-2")
        given += ("--config.random_orders=2", "--config.timing_rounds=2")
        return command("pruning", *given, f"--workdir={workdir}", *more)

    return start


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory, fixed_version):
    workdir = tmp_path_factory.mktemp("runs") / "pruning"
    done = start(workdir)
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def of_kind(workdir, kind):
    return [row for row in run_files.read_rows(workdir) if row["kind"] == kind]


def test_every_run_of_layers_is_left_out(finished, tiny):
    rows = of_kind(finished[0], "removal")
    assert [row["layers"] for row in sorted(rows, key=lambda row: row["layers"])] == [
        [0],
        [0, 1],
        [1],
        [1, 2],
        [2],
    ]
    model, text = weights.load(tiny.model), load_text(tiny.jsonl)
    for row in rows:
        (expected,) = api.sweep(api.apply(model, row["variant"]), [], text)
        assert row["unit_nll"] == pytest.approx(expected["unit_nll"], rel=1e-5)


def test_greed_takes_the_cheapest_first_and_then_what_is_cheapest_beside_it(finished):
    single = {
        row["layers"][0]: row["nll"] for row in of_kind(finished[0], "removal") if row["size"] == 1
    }
    first = min(single, key=single.get)
    rows = of_kind(finished[0], "removal") + of_kind(finished[0], "greedy")  # runs are there
    pairs = {tuple(row["layers"]): row["nll"] for row in rows if row["size"] == 2}
    rounds = {pair: nll for pair, nll in pairs.items() if first in pair}
    assert len(rounds) == 2
    plan = {(row["way"], row["size"]): row["layers"] for row in of_kind(finished[0], "plan")}
    assert plan["greedy", 1] == [first]
    assert plan["greedy", 2] == list(min(rounds, key=rounds.get))


def test_every_way_and_number_is_judged_on_the_other_text(finished, judged, tiny):
    rows = of_kind(finished[0], "plan")
    ways = {*WAYS, "random_s0", "random_s1"} - {"random_sK"}
    assert {(row["way"], row["size"]) for row in rows} == {("none", 0)} | {
        (way, size) for way in ways for size in (1, 2)
    }
    assert {row["text"] for row in rows} == {judged}
    model, text = weights.load(tiny.model), load_text(judged)
    per_layer = layer_parameter_count(model.config, 0)
    names = {row["variant"] for row in rows} - {"baseline"}
    expected = {name: api.sweep(api.apply(model, name), [], text)[0]["ppl"] for name in names}
    expected["baseline"] = api.sweep(model, [], text)[0]["ppl"]
    for row in rows:
        assert row["ppl"] == pytest.approx(expected[row["variant"]], rel=1e-5)
        assert row["bytes_saved"] == 4 * per_layer * row["size"]


def test_export_takes_a_row_of_the_plan(finished, judged, tiny, command, tmp_path):
    row = next(
        row for row in of_kind(finished[0], "plan") if (row["way"], row["size"]) == ("greedy", 2)
    )
    done = command(
        "export",
        f"--config.model={tiny.model}",
        f"--config.variants={row['variant']}",
        f"--config.text={judged}",
        f"--workdir={tmp_path}",
    )
    assert (done.status, done.err) == (0, "")
    summary = run_files.read_summary(tmp_path)
    assert summary["ppl_after"] == pytest.approx(row["ppl"], abs=1e-4)
    (kept,) = {0, 1, 2} - {*row["layers"]}
    assert summary["layers"] == [kept]
    assert 4 * (summary["parameters_before"] - summary["parameters_after"]) == row["bytes_saved"]
    pruned = ",".join(map(str, row["layers"]))
    assert f"llama-quantize --prune-layers {pruned} MODEL.gguf pruned.gguf COPY" in done.out
    assert f"mergekit-yaml {tmp_path / 'mergekit.yml'} FOLDER" in done.out
    written = (tmp_path / "mergekit.yml").read_text()
    assert f"layer_range: [{kept}, {kept + 1}]" in written
    assert tiny.model.removeprefix("file:") in written


def test_a_change_of_weights_is_no_choice_of_layers(tiny, command, tmp_path):
    done = command(
        "export",
        f"--config.model={tiny.model}",
        "--config.variants=scale_0.9/layer/1",
        "--config.text=",
        f"--workdir={tmp_path}",
    )
    assert done.status == 0
    assert "mergekit" not in done.out
    assert "llama" not in done.out
    assert not (tmp_path / "mergekit.yml").exists()


def test_seconds_are_measured_of_each_depth(finished):
    rows = of_kind(finished[0], "seconds")
    assert [row["size"] for row in rows] == [0, 1, 2]
    saved = read_run(finished[0]).summary["seconds"]
    for row in rows:
        assert row["prompt_seconds"] > 0
        # So small a model's time a token cannot be told on a busy machine.
        if row["decode_seconds"] is not None:
            low, high = row["decode_seconds_range"]
            assert low <= row["decode_seconds"] <= high
    first = rows[0]["decode_seconds"]
    assert saved[0]["decode_seconds_saved_percent"] == (None if first is None else 0)


def test_the_page_and_the_summary_are_those_of_the_rows(finished):
    record = read_run(finished[0])
    assert {(found["proxy"], found["size"]) for found in record.summary["audit"]} == {
        (name, size) for name in PROXIES for size in (1, 2)
    }
    tail = [row for row in of_kind(finished[0], "proxy") if row["proxy"] == "heavy_tail"]
    for size in (1, 2):
        own = [row for row in tail if row["size"] == size]
        noise = np.mean([row["error"] ** 2 for row in own]) ** 0.5
        share = noise / np.std([row["value"] for row in own])
        looks = [each for each in record.summary["audit"] if each["size"] == size]
        errors = {each["proxy"]: each["error"] for each in looks if "error" in each}
        assert errors == {"heavy_tail": pytest.approx(share)}
        if size == 1:
            shown = {row["proxy"]: row.get("error") for row in page.verdicts(record)}
            assert {name: each for name, each in shown.items() if each} == {
                "heavy tail": errors["heavy_tail"]
            }
    # Three layers are too few to tell anything from chance.
    assert {found["verdict"] for found in record.summary["audit"]} == {"cannot tell"}
    filled = html.fill(page.PAGE, record)
    words = " ".join(text for each in filled for text in each.text)
    assert {row["verdict"] for row in page.verdicts(record)} == {"cannot tell"}
    assert re.search(r"chosen on .* \(6 documents or blocks\) and judged", page.lead(record))
    assert page.lead(record).endswith("(5 documents or blocks).")
    assert "The unchanged model's perplexity is " in words
    plan = {(row["way"], row["size"]): row["ppl"] for row in record.rows if row["kind"] == "plan"}
    best = {row["size"]: row for row in page.cheapest(record)}
    for size in (1, 2):
        drawn = [plan[f"random_s{seed}", size] for seed in (0, 1)]
        others = [ppl for (way, n), ppl in plan.items() if n == size and "random" not in way]
        assert best[size]["ppl"] == min(others)
        assert best[size]["random"].value == pytest.approx(np.mean(drawn))
        assert best[size]["random"].ends == sorted(drawn)
    assert len(page.single_layers(record)) == 3 * len(PROXIES)
    assert len(page.plan(record)) == 2 * (len(WAYS) - 1)
    assert "Of each number of layers the choice of the lowest perplexity" in finished[1]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_rows(finished, start, tmp_path):
    workdir = tmp_path / "stopped"
    shutil.copytree(finished[0], workdir)
    lines = (workdir / "rows.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for number, line in enumerate(lines) if number % 3]
    (workdir / "rows.jsonl").write_bytes(b"".join(kept) + lines[0][:20])
    (workdir / "summary.json").unlink()
    done = start(workdir)
    assert (done.status, done.err) == (0, "")
    one, other = (
        {row["hash"]: row for row in run_files.read_rows(each)} for each in (workdir, finished[0])
    )
    assert one.keys() == other.keys()
    for row_hash, row in one.items():
        if row["kind"] != "seconds":
            assert row == other[row_hash]


def test_one_short_document_has_a_page_without_intervals(start, tmp_path):
    (tmp_path / "one.txt").write_text("A cat sat on the mat.")
    more = (f"--config.selection_text={tmp_path / 'one.txt'}", "--config.sizes=1")
    done = start(tmp_path / "run", *more, "--config.timing_rounds=0", "--config.random_orders=0")
    assert (done.status, done.err) == (0, "")
    record = read_run(tmp_path / "run")
    assert record.summary["selection"]["units"] == 1
    looks = record.summary["audit"]
    assert {look["verdict"] for look in looks} == {"cannot tell"}
    assert all(look["ci"] is None for look in looks)
    assert record.summary["seconds"] == []


def test_a_model_of_two_layers_has_one_to_leave_out(start, tiny, tmp_path):
    two = tmp_path / "two"
    weights.export_hf(api.apply(weights.load(tiny.model), "cut/set/1"), two)
    done = start(tmp_path / "run", f"--config.model=file:{two}", "--config.sizes=1")
    assert (done.status, done.err) == (0, "")
    looks = read_run(tmp_path / "run").summary["audit"]
    assert {look["verdict"] for look in looks} == {"cannot tell"}
    assert {look["spearman"] for look in looks if not look["ends"]} == {None}
    done = start(tmp_path / "more", f"--config.model=file:{two}")
    assert done.status == 2
    assert "from 1 to 1 of the 2 that this model has; got '1-2'" in done.err


def test_dry_run_says_what_follows(start, tmp_path):
    done = start(tmp_path / "dry", "--dry_run")
    assert done.status == 0
    assert "Then 1 greedy rounds" in done.out
    assert not (tmp_path / "dry" / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.sizes=1-3",), "sizes are numbers of layers .* from 1 to 2 of the 3"),
        (("--config.sizes=",), "sizes"),
        (("--config.sizes=0",), "sizes are numbers of layers"),
        (("--config.random_orders=-1",), "random_orders must be a whole number, 0 or above"),
        (("--config.timing_rounds=0.5",), "timing_rounds"),
        (
            ("--config.judgement_text={same}",),
            "judgement_text may hold no document of selection_text",
        ),
        (("--config.judgement_text=nowhere.txt",), "nowhere.txt"),
    ],
)
def test_bad_input_is_refused_in_a_line(start, tiny, tmp_path, flags, message):
    done = start(tmp_path / "run", *(flag.format(same=tiny.jsonl) for flag in flags))
    assert done.status == 2
    assert re.search(message, done.err), done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()


def test_a_document_in_both_texts_is_enough_to_refuse(start, tiny, tmp_path):
    shared = load_text(tiny.jsonl).documents[2]
    (tmp_path / "some.txt").write_text(f"Something else.\n{shared}")
    done = start(tmp_path / "run", f"--config.judgement_text={tmp_path / 'some.txt'}#lines")
    assert done.status == 2
    assert "got 1 in both" in done.err
