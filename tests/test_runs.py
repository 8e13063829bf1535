"""The contract of a run: locks, configs, rows that survive, what others may rely on."""

import json
import os

import numpy as np
import pytest
import run_files

from jaxanatomy.errors import InputError
from jaxanatomy.runs import Run, read_run

CONFIG = {"model": "random:tiny", "seed": 0, "sweep": {"backend": "shard_map", "width": 9}}
MADE = {"code_version": "1", "weights_sha256": "ab", "device": "cpu", "time": "now"}


def rows(*numbers):
    return [{"hash": f"{number:04d}", "value": number / 3} for number in numbers]


def refuse(match, folder, config=CONFIG, made=MADE, **options):
    with pytest.raises(InputError, match=match), Run.open(folder, config, made, **options):
        pass


def accept(folder, config=CONFIG, made=MADE, **options):
    with Run.open(folder, config, made, **options):
        pass


def hashes(run):
    return [row["hash"] for row in run.rows]


def lines(folder, name="rows.jsonl"):
    return (folder / name).read_text().splitlines()


def test_a_run_writes_its_files_and_nothing_else(tmp_path):
    folder = tmp_path / "deep" / "run"
    with Run.open(folder, CONFIG, MADE) as run:
        run.append(rows(1, 2))
        run.write_summary({"ppl": 26.5})
        run.write_arrays(heat=np.eye(2))
        run.write_text("report.html", "<p>ü</p>")
        run.path("figures").mkdir()
        with run.replacing("figures/map.png") as path:
            path.write_bytes(b"picture")
    assert json.loads((folder / "config.json").read_text()) == {
        "config": CONFIG,
        "provenance": MADE,
        "checksum": "93c9b150",
    }
    assert (
        lines(folder)[0] == '{"hash": "0001", "value": 0.3333333333333333, "checksum": "cec4e428"}'
    )
    assert run_files.read_rows(folder) == rows(1, 2)
    assert (folder / "figures" / "map.png").read_bytes() == b"picture"
    assert (folder / "report.html").read_bytes() == "<p>ü</p>".encode()
    visible = {path.name for path in folder.iterdir() if path.name != ".lock"}
    assert visible == {
        "config.json",
        "rows.jsonl",
        "summary.json",
        "arrays.npz",
        "report.html",
        "figures",
    }


def test_a_restart_knows_the_rows_and_skips_them(tmp_path):
    with Run.open(tmp_path, CONFIG, MADE) as run:
        assert not run.done("0001")
        run.append(rows(1, 2, 2))
        assert run.done("0001")
    with Run.open(tmp_path, CONFIG, MADE | {"time": "later", "device": "H200"}) as run:
        assert run.done("0002")
        run.append([{"hash": "0002", "value": "other"}, *rows(3)])
        assert run.rows == rows(1, 2, 3)
    assert run_files.read_rows(tmp_path) == rows(1, 2, 3)
    assert json.loads((tmp_path / "config.json").read_text())["provenance"] == MADE


def test_rows_are_plain_json_and_read_back_exactly(tmp_path):
    value = np.float32(0.1)
    with Run.open(tmp_path, CONFIG, MADE) as run:
        row = {"hash": "a", "value": value, "count": np.int64(3), "pair": np.array([1.5, 2])}
        run.append([row | {"flag": np.bool_(True), "names": ("ü", "\u2028"), "none": None}])
        run.write_summary({"file": tmp_path / "model", "matrix": np.eye(2, dtype=np.float16)})
        (known,) = run.rows
    summary = {"file": str(tmp_path / "model"), "matrix": [[1.0, 0.0], [0.0, 1.0]]}
    assert run_files.read_summary(tmp_path) == summary
    assert run_files.read_rows(tmp_path) == [known]
    assert known == {"hash": "a", "value": float(value), "count": 3, "pair": [1.5, 2.0]} | {
        "flag": True,
        "names": ["ü", "\u2028"],
        "none": None,
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"hash": "a", "ppl": float("inf")}, "ppl = inf is not"),
        ({"hash": "a", "ci95": (1.0, np.float32("nan"))}, r"ci95\[1\] = nan is not"),
        ({"hash": "a", "x": {"y": np.array([0.0, -np.inf])}}, r"x.y\[1\] = -inf is not"),
        ({"value": 1}, "expected a 'hash'"),
    ],
)
def test_a_bad_row_is_refused_and_none_is_written(tmp_path, bad, message):
    with Run.open(tmp_path, CONFIG, MADE) as run:
        with pytest.raises(ValueError, match=message):
            run.append([*rows(1), bad])
        assert run.rows == []
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_torn_last_line_is_dropped(tmp_path):
    with Run.open(tmp_path, CONFIG, MADE) as run:
        run.append(rows(1, 2, 3))
    whole = (tmp_path / "rows.jsonl").read_bytes()
    end_of_two = whole.rindex(b"{")
    for size in range(end_of_two, len(whole)):
        (tmp_path / "rows.jsonl").write_bytes(whole[:size])
        assert list(read_run(tmp_path)) == rows(1, 2)
        with Run.open(tmp_path, CONFIG, MADE) as run:
            assert hashes(run) == ["0001", "0002"]
            assert (tmp_path / "rows.jsonl").read_bytes() == whole[:end_of_two]
            run.append(rows(3))
        assert (tmp_path / "rows.jsonl").read_bytes() == whole


@pytest.mark.parametrize("line", ["{half", "[1]", '{"value": 1}', "", "\0\0"])
def test_another_corrupt_line_is_an_error_with_its_number(tmp_path, line):
    with Run.open(tmp_path, CONFIG, MADE) as run:
        run.append(rows(1, 2))
    first, second = lines(tmp_path)
    (tmp_path / "rows.jsonl").write_text(f"{first}\n{line}\n{second}\n")
    refuse(r"line 2 of .*rows.jsonl", tmp_path)


def test_another_config_is_refused_with_the_field_and_both_values(tmp_path):
    with Run.open(tmp_path, CONFIG, MADE) as run:
        run.append(rows(1))
    refuse(r"config.seed is 0, now it is 1; choose", tmp_path, CONFIG | {"seed": 1})
    refuse(r"config.new is absent, now it is 2", tmp_path, CONFIG | {"new": 2})
    less = {name: value for name, value in CONFIG.items() if name != "model"}
    refuse(r"model is 'random:tiny', now it is absent", tmp_path, less)
    assert run_files.read_rows(tmp_path) == rows(1)


def test_bad_input_before_the_first_row_leaves_the_folder_to_the_corrected_command(tmp_path):
    def stop(config, done, error):
        with Run.open(tmp_path, config, MADE) as run:
            run.append(rows(*done))
            raise error("NaN in the weights")

    def fail(config, *done, error=InputError):
        with pytest.raises(error, match="NaN"):
            stop(config, done, error)

    fail(CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    fail({"model": "random:other"}, error=ZeroDivisionError)  # a fault of ours keeps it
    refuse(r"config.model is 'random:other'", tmp_path)
    (tmp_path / "config.json").unlink()
    fail(CONFIG, 1)
    fail(CONFIG)
    assert read_run(tmp_path).config == CONFIG


def test_fields_that_decide_nothing_may_differ(tmp_path):
    accept(tmp_path)
    other = CONFIG | {"sweep": {"backend": "pmap", "width": 9}}
    accept(tmp_path, other, ignore=("sweep.backend",))
    accept(tmp_path, {"model": "random:tiny", "seed": 0}, ignore=("sweep",))
    refuse("sweep.backend", tmp_path, other, ignore=("swe",))


def test_provenance_that_takes_long_is_made_when_folder_and_config_are_good(tmp_path):
    made = []

    def making():
        made.append(MADE)
        return MADE

    accept(tmp_path / "run", made=making)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["provenance"] == MADE
    refuse("config.seed is 0, now it is 1", tmp_path / "run", CONFIG | {"seed": 1}, making)
    (tmp_path / "notes.txt").write_text("mine")
    refuse("is occupied", tmp_path, made=making)
    assert len(made) == 1
    other = {**MADE, "weights_sha256": "cd"}
    refuse("weights_sha256 is 'ab', now it is 'cd'", tmp_path / "run", made=lambda: other)


def test_tuples_and_lists_are_the_same_config(tmp_path):
    accept(tmp_path, {"layers": (1, 2)})
    accept(tmp_path, {"layers": [1, 2]})
    refuse("layers", tmp_path, {"layers": [2, 1]})


@pytest.mark.parametrize("name", ["code_version", "weights_sha256"])
def test_other_code_or_weights_are_refused(tmp_path, name):
    accept(tmp_path)
    refuse(f"provenance.{name} is", tmp_path, made=MADE | {name: "other"})


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    refuse(r"occupied \(thesis.tex\)", tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    refuse("occupied", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex", "config.json"}


def test_hidden_files_and_lone_rows_do_not_occupy(tmp_path):
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".writing-123-config.json").write_text("{")
    run_files.write_rows(tmp_path, rows(1))
    with Run.open(tmp_path, CONFIG, MADE) as run:
        assert hashes(run) == ["0001"]
    assert not list(tmp_path.glob(".writing-*"))
    assert json.loads((tmp_path / "config.json").read_text())["config"] == CONFIG


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    refuse("expected a workdir that can be written", tmp_path / "file")
    refuse("expected a workdir that can be written", tmp_path / "file" / "run")


def test_a_folder_without_permission_is_refused(run_python):
    code = """
import os, pathlib, tempfile
from jaxanatomy.errors import InputError
from jaxanatomy.runs import Run, read_run
with tempfile.TemporaryDirectory() as folder:
    with Run.open(folder + "/open", {}, {}):
        pass  # what is imported late is imported now
    closed = pathlib.Path(folder, "closed")
    closed.mkdir()
    closed.chmod(0o555)
    pathlib.Path(folder).chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    for place in (closed, closed / "new"):
        try:
            with Run.open(place, {}, {}):
                print("opened")
        except InputError as error:
            print(error)
    os.seteuid(user)
    pathlib.Path(folder).chmod(0o755)
"""
    printed = run_python(code).splitlines()
    assert len(printed) == 2
    for line in printed:
        assert "expected a workdir that can be written" in line
        assert "Permission denied; choose another workdir" in line


def write_half(run, name):
    with run.replacing(name) as path:
        path.write_text("{half")
        raise KeyboardInterrupt


def test_files_are_replaced_whole_or_not_at_all(tmp_path):
    with Run.open(tmp_path, CONFIG, MADE) as run:
        run.write_summary({"ppl": 1.0})
        with pytest.raises(ValueError, match="ppl = nan"):
            run.write_summary({"ppl": float("nan")})
        with pytest.raises(KeyboardInterrupt):
            write_half(run, "summary.json")
        with pytest.raises(ValueError, match="array 'bad'; got objects"):
            run.write_arrays(bad=[{}])
    assert run_files.read_summary(tmp_path) == {"ppl": 1.0}
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.json", "summary.json"}


def test_a_disk_that_is_full_leaves_whole_rows(tmp_path, monkeypatch):
    write = os.write

    def full(descriptor, content):
        if len(content) < 60:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:30])

    with Run.open(tmp_path, CONFIG, MADE) as run:
        run.append(rows(1))
        before = (tmp_path / "rows.jsonl").read_bytes()
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            run.append(rows(2, 3))
        monkeypatch.undo()
        assert (tmp_path / "rows.jsonl").read_bytes() == before
        assert not run.done("0002")
        run.append(rows(2, 3))
    assert run_files.read_rows(tmp_path) == rows(1, 2, 3)


def test_rows_are_written_in_one_call_and_synced(tmp_path, monkeypatch):
    calls = []
    write, fsync = os.write, os.fsync
    with Run.open(tmp_path, CONFIG, MADE) as run:
        monkeypatch.setattr(os, "write", lambda *a: calls.append("write") or write(*a))
        monkeypatch.setattr(os, "fsync", lambda *a: calls.append("fsync") or fsync(*a))
        run.append(rows(*range(20)))
    assert calls == ["write", "fsync"]


@pytest.mark.parametrize("name", [".holder", ".lock", "rows.jsonl", "rows.1.jsonl"])
def test_nothing_is_written_through_a_link(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("mine\n")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    refuse(f"{name} is a link; put the file in its place", folder)
    assert victim.read_text() == "mine\n"


def test_files_replace_links_and_leave_what_they_lead_to(tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("mine")
    with Run.open(folder, CONFIG, MADE) as run:
        (folder / "summary.json").symlink_to(victim)
        (folder / f".writing-{os.getpid()}-summary.json").symlink_to(victim)
        run.write_summary({"ppl": 1.0})
    assert victim.read_text() == "mine"
    assert run_files.read_summary(folder) == {"ppl": 1.0}


def test_what_a_killed_run_was_writing_is_removed(tmp_path):
    accept(tmp_path)
    for part in (".model.part-ab12", "models/.midas_0.part-cd34"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "model.safetensors").write_text("half")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/.writing-7-map.png").write_text("half")
    accept(tmp_path)
    left = [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert left == [".lock"]


def test_a_damaged_line_is_named_and_comes_back_when_it_was_deleted(tmp_path):
    with Run.open(tmp_path, CONFIG, MADE) as run:
        run.append(rows(1, 2, 3, 4))
        run.write_summary({"ppl": 1.0})
    whole = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(whole.replace("0.6666666666666666", "0.6666666666666667"))
    for read in (read_run, lambda folder: accept(folder)):
        with pytest.raises(InputError) as refused:
            read(tmp_path)
        assert str(refused.value) == (
            f"line 2 of {tmp_path / 'rows.jsonl'} is damaged: its checksum is not that of what it "
            "says; delete the line and start the run again: what it said is measured anew"
        )
    (tmp_path / "rows.jsonl").write_text(whole.replace("1.0", "1.5").replace('"0004"', '"0014"'))
    refuse(r"line 3 of .*; so are 1 more \(4\); delete these lines", tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(whole.splitlines(keepends=True)[::2]))
    with pytest.raises(InputError, match=r"expected the 4 rows .*; there are 2; start the run"):
        read_run(tmp_path)
    with Run.open(tmp_path, CONFIG, MADE) as run:
        assert not run.done("0002")
        run.append(rows(2, 4))
    assert len(read_run(tmp_path)) == 4


def test_a_damaged_config_is_refused_and_its_rows_go_on_elsewhere(tmp_path):
    with Run.open(tmp_path / "run", CONFIG, MADE) as run:
        run.append(rows(1))
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    for config in (CONFIG, CONFIG | {"seed": 1}):
        refuse("is damaged: its checksum .* move rows.jsonl to an", tmp_path / "run", config)
    (tmp_path / "new").mkdir()
    (tmp_path / "run/rows.jsonl").rename(tmp_path / "new/rows.jsonl")
    with Run.open(tmp_path / "new", CONFIG, MADE) as run:
        assert hashes(run) == ["0001"]


def test_a_config_that_others_would_read_differently_is_refused(tmp_path):
    refuse("expected a config of .* half a surrogate pair", tmp_path, {"text": "caf\udce9.txt"})
    refuse("expected a config of finite numbers", tmp_path, {"rate": float("nan")})
