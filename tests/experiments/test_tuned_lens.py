"""The tuned lens experiment from the command line: the contract of a run, end to end."""

import collections
import json
import shutil

import numpy as np
import pytest
import run_files

from configs.tuned_lens import get_config
from experiments import tuned_lens
from jaxanatomy.data.text import hold_out, load_text
from jaxanatomy.errors import InputError
from jaxanatomy.measures.readings.lens import load_lens
from jaxanatomy.records import read_run
from jaxanatomy.report import tuned_lens as page
from jaxanatomy.weights import open_model

FLAGS = (
    "--config.prompt=Two and $",
    "--config.tokens_per_step=64",
    "--config.lens.steps=6",
    "--config.held_out_share=0.5",
    "--config.checkpoint_every=2",
)
LAYERS, PROMPT = 3, 9


@pytest.fixture(autouse=True)
def version(fixed_version):
    """The code of this project may change between two commands of a test."""


QUESTIONS = (
    {"prompt": "Salt is", "choices": [" white", " loud"], "answer": 0},
    {"prompt": "Rain is", "choices": [" dry", " wet"], "answer": 1},
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "asked.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS))
    return str(path)


@pytest.fixture(scope="module")
def start(tiny, command, asked):
    def start(workdir, *more):
        given = (f"--config.model={tiny.model}", f"--config.text={tiny.jsonl}", *FLAGS)
        given += (f"--config.tasks={asked}",)
        return command("tuned_lens", *given, f"--workdir={workdir}", *more)

    return start


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory, fixed_version):
    workdir = tmp_path_factory.mktemp("runs") / "tuned_lens"
    done = start(workdir)
    assert (done.status, done.err) == (0, "")
    return workdir


def test_the_files_of_the_contract_and_the_rows(finished, tiny, asked):
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    files = {"config.json", "rows.jsonl", "summary.json", "arrays.npz", "figures", "report.html"}
    assert names == files, "checkpoints go when the lens is there"
    rows = run_files.read_rows(finished)
    counts = collections.Counter((row["kind"], row.get("lens")) for row in rows)
    assert counts == {
        ("step", None): 6,
        ("lens", "logit"): 6 * LAYERS,
        ("lens", "tuned"): 6 * LAYERS,
        ("lens", "difference"): 5 * LAYERS,
        ("prediction", "logit"): LAYERS * PROMPT,
        ("prediction", "tuned"): LAYERS * PROMPT,
        ("answers", "logit"): LAYERS,
        ("answers", "tuned"): LAYERS,
    }
    assert {row["model"] for row in rows} == {tiny.model}
    assert len({row["hash"] for row in rows}) == len(rows)
    by_kind = {row["kind"]: row["text"] for row in rows}
    assert by_kind == {
        "step": tiny.jsonl,
        "lens": f"{tiny.jsonl} (held out)",
        "prediction": "prompt",
        "answers": asked,
    }


def test_differences_are_paired_and_the_last_layer_is_the_model(finished):
    rows = [row for row in read_run(finished).rows if row["kind"] == "lens"]
    value = {(row["lens"], row["metric"], row["layer"]): row["value"] for row in rows}
    for (lens, metric, layer), found in value.items():
        if lens == "difference":
            expected = value["tuned", metric, layer] - value["logit", metric, layer]
            assert found == pytest.approx(expected, abs=1e-6)
            if layer == LAYERS - 1:
                assert found == 0
    for lens in ("logit", "tuned"):
        assert value[lens, "kl", LAYERS - 1] == 0
    for row in rows:
        low, high = row["ci95"]
        assert low <= row["value"] <= high
        if row["lens"] != "difference" and row["metric"] != "perplexity":
            assert low >= 0
            assert row["metric"] not in ("top_1", "top_5") or high <= 1


def test_the_summary_counts_both_sides_of_the_split_and_the_page_says_so(finished, tiny):
    record = read_run(finished)
    sides = hold_out(load_text(tiny.jsonl), 0.5)
    for side, text in zip(("train", "held_out"), sides, strict=True):
        assert record.summary[f"{side}_documents"] == len(text.documents)
        tokens = sum(len(document) - 1 for document in text.documents)
        assert record.summary[f"{side}_predictions"] == tokens
    assert "of 3 layers" in page.headline(record)
    shown = {row["token"] for row in page.predictions(record)}
    assert "" not in shown
    assert "8  $" in {row["read"] for row in page.predictions(record)}


def test_a_run_that_is_done_measures_nothing_again(finished, start):
    before = (finished / "rows.jsonl").read_bytes()
    done = start(finished)
    assert (done.status, done.err) == (0, "")
    assert not any("training" in line for line in done.said)
    assert (finished / "rows.jsonl").read_bytes() == before


def test_rows_that_were_lost_come_back_and_the_summary_stays(
    finished, start, tmp_path, monkeypatch
):
    monkeypatch.setattr("jaxanatomy.report.html.fill", lambda page, *records: [])
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    rows, lines = run_files.read_rows(finished), (finished / "rows.jsonl").read_bytes().split(b"\n")
    lost = [("step", 5), ("step", 2), ("lens", None)]
    firsts = [[(row["kind"], row.get("step")) for row in rows].index(each) for each in lost]
    kept = [line for number, line in enumerate(lines) if number not in firsts]
    (workdir / "rows.jsonl").write_bytes(b"\n".join(kept))
    done = start(workdir)
    assert (done.status, done.err) == (0, "")
    by_hash = [
        {row["hash"]: row for row in run_files.read_rows(each)} for each in (workdir, finished)
    ]
    assert by_hash[0] == by_hash[1]
    summary = run_files.read_summary(workdir)
    assert summary == run_files.read_summary(finished)
    assert (summary["steps"], summary["last_loss"]) == (6, rows[firsts[0]]["loss"])


def test_a_lens_is_refused_by_another_model(finished, tiny, copy_model, tmp_path):
    lens = load_lens(finished, open_model(tiny.model).read_sha256())
    D = open_model(tiny.model).config.hidden_size
    assert [leaf.shape for leaf in lens] == [(LAYERS, D, D), (LAYERS, D)]
    assert np.abs(lens.kernel[:-1]).max() > 0
    assert not lens.kernel[-1].any()
    other = open_model(f"file:{copy_model(tmp_path / 'other', 'gqa_untied')}").read_sha256()
    with pytest.raises(InputError, match=f"got weights {other[:12]}; train one on this model"):
        load_lens(finished, other)
    with pytest.raises(InputError, match="expected"):
        load_lens(tmp_path, other)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.held_out_share=1.0",), "the share held out must be between 0 and 1; got 1.0"),
        (("--config.lens.steps=0",), "steps must be"),
        (("--config.lens.positions=0",), "positions must be"),
        (("--config.train_tokens=1",), "train_tokens must be"),
        (
            ("--config.choosing_share=0.5",),
            "leave documents to train on beside held_out_share=0.5; go",
        ),
        (
            ("--config.choosing=True",),
            "choosing_share must be above 0 and leave documents to train",
        ),
        (
            ("--config.document_characters=0",),
            "the characters of a document must be a whole number",
        ),
        (("--config.prompt= ",), "'prompt' must hold at least one document with text"),
        (("--config.packing.window=5",), "the prompt must fit into one window; it takes 3"),
        (("--config.tasks=copying_reel,",), "copying_reel"),
        (("--config.tasks=copying_real,copying_real",), "each of task may come once"),
        (("--config.questions=0",), "questions must be"),
        (("--config.optimiser.name=adam",), "unknown optimiser 'adam'"),
        (("--config.sweep.devices=99",), "sweep.devices=99, but this process has"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_trained(start, tmp_path, flags, message):
    done = start(tmp_path / "run", *flags)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("[a-z]*"))


@pytest.fixture
def wiki(tmp_path):
    """Ten articles of two lines."""
    articles = (
        f" = Title {at} = \n \n First of {at} . \n Second of {at} . \n \n" for at in range(10)
    )
    (tmp_path / "wiki.txt").write_text("".join(articles))
    return f"{tmp_path / 'wiki.txt'}#articles"


def test_what_chooses_settings_is_in_neither_the_training_nor_the_results(wiki):
    config = get_config()
    config.update({"text": wiki, "held_out_share": 0.3, "document_characters": 27})
    begun = [f" = Title {at} = \n \n First of {at}" for at in range(10)]
    train, results = tuned_lens._texts(config)
    assert (train.documents, results.documents) == (tuple(begun[:7]), tuple(begun[7:]))
    config.choosing_share = 0.2
    train, results = tuned_lens._texts(config)
    assert (train.documents, results.documents) == (tuple(begun[:5]), tuple(begun[7:]))
    config.choosing = True
    assert tuned_lens._texts(config)[0] == train
    chosen_on = tuned_lens._texts(config)[1]
    assert chosen_on.documents == tuple(begun[5:7])
    assert chosen_on.name == f"{wiki} (to choose on)"


def test_a_budget_that_ends_in_the_first_documents_is_refused(start, tmp_path, wiki):
    given = (f"--config.text={wiki}", "--config.packing.window=40", "--dry_run")
    done = start(tmp_path / "run", *given, "--config.packing.token_budget=150")
    assert done.status == 2
    assert "must reach 5 of the 5 documents held out" in done.err
    assert "150 tokens reach 2; raise it, or read less of each" in done.err
    assert start(tmp_path / "run", *given).status == 0
    read_less = (*given, "--config.packing.token_budget=150", "--config.document_characters=13")
    done = start(tmp_path / "run", *read_less)
    assert "held_out_documents 5" in done.out


def test_a_text_of_one_document_cannot_be_split(start, tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "Alone."}) + "\n")
    done = start(tmp_path / "run", f"--config.text={tmp_path / 'one.jsonl'}")
    assert done.status == 2
    assert "at least two different documents" in done.err


def test_a_dry_run_names_both_sides_and_the_work(start, tmp_path):
    done = start(tmp_path / "run", "--dry_run")
    assert done.status == 0
    assert "6 steps on" in done.out
    assert "train_documents 3" in done.out
    assert "TFLOP" in done.out
