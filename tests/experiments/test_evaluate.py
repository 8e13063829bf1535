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
    assert [row["text"] for row in kept] == [row["text"] for row in rows]
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
    (found,) = page.changes(_Record(two_rows("t", "t", right=right, changed=[1, 0] * 20)))
    assert found["told"] == "worse"


def test_runs_of_several_lengths_are_a_map_and_the_rest_a_list():
    unchanged, cut = two_rows("t", "t", right=(1,) * 40, changed=(1, 0) * 20)
    spans = [(1, 0), (1, 1), (2, 0)]
    mapped = [{"op": "cut", "size": size, "start": start} for size, start in spans]
    repeated = [{"op": "repeat", "size": 2, "start": start} for start in (0, 1)]
    record = _Record(
        [
            unchanged,
            cut | {"variant": "zero/layer/0"},
            *(cut | each | {"variant": str(each)} for each in mapped + repeated),
        ]
    )
    found = page.mapped_changes(record)
    assert [(row["size"], row["start"], row["panel"]) for row in found] == [
        (size, start, "cut, t") for size, start in spans
    ]
    assert [row["lost"] for row in found] == pytest.approx([50] * 3)
    assert not any(row["undecided"] for row in found)
    listed = [row["variant"] for row in page.listed_changes(record)]
    assert listed == ["zero/layer/0", *map(str, repeated)]


def two_rows(text, task, metric="accuracy", accuracy=0.5, right=(1, 0), changed=(1, 0)):
    """Of the unchanged model and of a cut."""
    row = {"text": text, "task": task, "metric": metric, "items": len(right), "nll": None}
    row |= {"accuracy": accuracy, "accuracy_ci95": [0.4, 0.6], "change": -0.5, "ci95": [-1, 0]}
    row |= {"chance": None}
    return [
        row | {"variant": "baseline", "right": list(right)},
        row | {"variant": "cut", "right": list(changed)},
    ]


def test_sources_of_one_name_are_told_apart_on_the_page():
    texts = ("a/x.jsonl", "b/x.jsonl", "y.jsonl#0")
    record = _Record([row for text in texts for row in two_rows(text, "x" if "x" in text else "y")])
    names = ["x of a/x.jsonl", "x of b/x.jsonl", "y"]
    assert [row["name"] for row in page.reached(record)] == names
    assert [row["panel"] for row in page.changes(record)] == names
    assert [row["named"] for row in page.changes(record)] == names


def test_a_task_of_two_metrics_is_one_task_with_rows_of_both():
    shares = {"t0": 0.2, **{f"t{index}": 0.6 for index in range(1, 7)}}
    rows = []
    for task, accuracy in shares.items():
        rows += two_rows(task, task, "acc", accuracy)
    rows += two_rows("t0", "t0", "acc_norm", 1.0)
    record = _Record(rows)
    assert page.headline(record).startswith("0 of 8 changes are told apart")
    assert page.PAGE.lead(record) == "7 tasks, 2 variants, 7 texts."
    assert len(page.reached(record)) == len(page.changes(record)) == 8


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
        (
            ["--config.tasks=copying_real,lm_eval:any", "--config.distributed.num_processes=2"],
            "lm_eval:NAME run in one process; got 2",
        ),
        (["--config.tasks=copying_real#5"], "the context is"),
    ],
)
def test_bad_input_is_one_line(start, tmp_path, flags, message):
    done = start(tmp_path / "run", *flags)
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()
