"""The evaluate experiment from the command line: the contract of a run, end to end."""

import json

import pytest
import run_files

from jaxanatomy.records import read_run
from jaxanatomy.report import evaluate as page

CHOICES = [
    {"prompt": "Salt is", "choices": [" white", " loud"], "answer": 0},
    {"prompt": "Rain is", "choices": [" dry", " wet"], "answer": 1},
    {"prompt": "Salt is", "choices": [" sour", " salty", " sweet"], "answer": 1},
]
WORDS = [{"text": "the river runs to the sea"}, {"text": "a cat sat on the mat"}]
VARIANTS = ("zero/layer/1", "cut/span/0-1", "repeat_damped_0.5/span/1-2")


@pytest.fixture(autouse=True)
def version(fixed_version):
    """The code of this project may change between two commands of a test."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    for name, records in (("choices", CHOICES), ("words", WORDS)):
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines)
    return f"{folder / 'choices.jsonl'},{folder / 'words.jsonl'}"


@pytest.fixture(scope="module")
def start(tiny, command, files):
    def start(workdir, *more):
        given = (f"--config.model={tiny.model}", f"--config.tasks={files}")
        given += (f"--config.variants={','.join(VARIANTS)}",)
        return command("evaluate", *given, f"--workdir={workdir}", *more)

    return start


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory, fixed_version):
    workdir = tmp_path_factory.mktemp("runs") / "evaluate"
    done = start(workdir)
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_the_files_of_the_contract_and_a_row_of_every_task_and_variant(finished):
    workdir, out = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    assert names == {"config.json", "rows.jsonl", "summary.json", "figures", "report.html"}
    rows = run_files.read_rows(workdir)
    found = {(row["task"], row["variant"]): row for row in rows}
    assert set(found) == {
        (task, name) for task in ("choices", "words") for name in ("baseline", *VARIANTS)
    }
    assert len(rows) == len(found)
    assert {row["items"] for row in rows if row["task"] == "choices"} == {3}
    assert found["choices", "baseline"]["chance"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert found["words", "baseline"]["chance"] == 0
    assert "guessing" in out
    (kept,) = run_files.read_summary(workdir)["models"].values()
    assert [row["variant"] for row in kept] == [row["variant"] for row in rows]
    assert "right" not in kept[0]


def test_it_goes_on_where_it_was_stopped(finished, start, tmp_path):
    whole = run_files.read_rows(finished[0])
    assert start(tmp_path / "run", "--config.sweep.chunk_size=1").status == 0
    rows_path = tmp_path / "run" / "rows.jsonl"
    lines = rows_path.read_text().splitlines(keepends=True)
    rows_path.write_text("".join(lines[:3]))
    assert start(tmp_path / "run", "--config.sweep.chunk_size=1").status == 0
    again = {row["hash"]: row for row in run_files.read_rows(tmp_path / "run")}
    assert {row["hash"] for row in whole} == set(again)
    for row in whole:
        assert again[row["hash"]]["right"] == row["right"]
        assert again[row["hash"]]["nll"] == pytest.approx(row["nll"], rel=1e-5)


def test_the_page_shows_what_the_rows_say(finished):
    record = read_run(finished[0])
    rows = {(row["task"], row["variant"]): row for row in record.rows}
    made = page.changes(record)
    assert len(made) == 2 * len(VARIANTS)
    for row in made:
        own = rows[row["task"], row["variant"]]
        assert row["change"].value == pytest.approx(100 * own["change"])
        assert row["lost"] == -row["change"].value
        # What holds for all is wider than what holds for one.
        assert row["band"].low < row["change"].low < row["change"].high < row["band"].high
        assert row["told"] == "no"  # three items say nothing
    assert [row["accuracy"].value for row in page.reached(record)] == [
        pytest.approx(100 * rows[task, "baseline"]["accuracy"]) for task in ("choices", "words")
    ]


def test_a_band_that_leaves_out_zero_is_told():
    right = [1] * 40
    row = {
        "text": "t",
        "task": "t",
        "metric": "accuracy",
        "items": 40,
        "nll": None,
        "ci95": [-1, 0],
    }
    row |= {"accuracy": 0.5, "accuracy_ci95": [0.4, 0.6], "change": -0.5, "right": right}
    made = [row | {"variant": "baseline"}, row | {"variant": "cut", "right": [1, 0] * 20}]
    (found,) = page.changes(_Record(made))
    assert found["told"] == "worse"


class _Record:
    def __init__(self, rows):
        self.rows = rows


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.tasks=copying_reel"], "copying_real"),
        (["--config.tasks=()"], "tasks"),
        (["--config.tasks=chains,chains"], "chains"),
        (["--config.questions=0"], "questions must be a whole number"),
        (["--config.seed=-1"], "seed"),
        (["--config.variants=cut/span/1-7"], "a span is FIRST-LAST"),
        (["--config.variants=zero/layer/1,zero/layer/1"], "zero/layer/1"),
        (["--config.tasks=lm_eval:no_such_task_at_all"], "lm-eval"),
        (["--config.tasks=copying_real#5"], "the context is"),
    ],
)
def test_bad_input_is_one_line(start, tmp_path, flags, message):
    done = start(tmp_path / "run", *flags)
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()
