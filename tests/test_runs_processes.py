"""Runs under kill -9, against a second run in the folder, and in several processes."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxanatomy.checksums import sealed_line
from jaxanatomy.errors import InputError
from jaxanatomy.runs import Run, read_run

ROOT = Path(__file__).resolve().parent.parent
CONFIG = {"seed": 0}
MADE = {"code_version": "1"}

WRITER = """
import sys
from jaxanatomy.runs import Run
print("ready", flush=True)
with Run.open(sys.argv[1], {"seed": 0}, {"code_version": "1"}) as run:
    for start in range(0, 600, 7):
        chunk = [f"{n:04d}" for n in range(start, min(start + 7, 600))]
        run.append({"hash": h, "text": "x" * int(h)} for h in chunk if not run.done(h))
        run.write_summary({"rows": len(run.rows)})
"""


def expected(count):
    return [{"hash": f"{n:04d}", "text": "x" * n} for n in range(count)]


@pytest.fixture
def start_writer(tmp_path):
    path = tmp_path / "writer.py"
    path.write_text(WRITER)

    def start(folder):
        process = subprocess.Popen(
            [sys.executable, str(path), str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        process.stdout.readline()
        return process

    return start


def kill_after(process, path, size, delay):
    """Kills the process a moment after its start or after `path` has reached `size` bytes."""
    while size and process.poll() is None and not (path.exists() and path.stat().st_size >= size):
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()


def test_kills_at_any_moment_lose_and_tear_nothing(start_writer, tmp_path):
    folder, rng, counts = tmp_path / "run", random.Random(0), []
    for size in [0, *sorted(rng.randrange(1, 150_000) for _ in range(7))]:
        with start_writer(folder) as process:
            kill_after(process, folder / "rows.jsonl", size, rng.uniform(0, 0.01))
        if (folder / "config.json").exists():
            assert json.loads((folder / "config.json").read_text())["config"] == CONFIG
        with Run.open(folder, CONFIG, MADE) as run:
            assert run.rows == expected(len(run.rows))
            counts.append(len(run.rows))
        if (folder / "summary.json").exists():
            assert json.loads((folder / "summary.json").read_text())["rows"] <= counts[-1]
    assert counts == sorted(counts)
    assert len({count for count in counts if 0 < count < 600}) >= 4


def test_a_run_killed_and_started_again_equals_one_that_was_not(start_writer, tmp_path):
    with start_writer(tmp_path / "killed") as process:
        kill_after(process, tmp_path / "killed" / "rows.jsonl", 20_000, 0)
    assert 0 < len(read_run(tmp_path / "killed")) < 600
    for name in ("killed", "whole"):
        with start_writer(tmp_path / name) as process:
            assert process.wait(timeout=60) == 0
    killed, whole = (tmp_path / name / "rows.jsonl" for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()
    assert list(read_run(tmp_path / "whole")) == expected(600)


def test_a_second_run_in_the_folder_is_refused_with_the_first_ones_id(run_python, tmp_path):
    folder = tmp_path / "run"
    code = f"""
from jaxanatomy.errors import InputError
from jaxanatomy.runs import Run
try:
    with Run.open({str(folder)!r}, {CONFIG}, {MADE}):
        print("opened")
except InputError as error:
    print(error)
"""
    with Run.open(folder, CONFIG, MADE):
        refused = run_python(code)
        with (
            pytest.raises(InputError, match=f"in use; .*process {os.getpid()} on "),
            Run.open(folder, CONFIG, MADE),
        ):
            pass
    assert str(folder) in refused
    assert f"process {os.getpid()} on {os.uname().nodename}" in refused
    assert run_python(code) == "opened\n"


def test_a_failed_run_gives_the_lock_back(tmp_path):
    with pytest.raises(KeyError), Run.open(tmp_path, CONFIG, MADE):
        raise KeyError
    with Run.open(tmp_path, CONFIG, MADE) as run:
        assert run.rows == []


def part(folder, index):
    return Run.open(folder, CONFIG, MADE, process_index=index, process_count=3)


def test_parts_are_merged_in_the_given_order(tmp_path):
    with part(tmp_path, 0) as first, part(tmp_path, 1) as second, part(tmp_path, 2) as third:
        first.append([{"hash": "a"}])
        second.append([{"hash": "d"}, {"hash": "b"}])
        third.append([{"hash": "c"}, {"hash": "z"}])
        assert (tmp_path / "rows.2.jsonl").exists()
        first.merge_parts(["a", "b", "c", "d"])
        assert [row["hash"] for row in first.rows] == ["a", "b", "c", "d"]  # z is of no plan
        assert first.done("d")
    assert [row["hash"] for row in read_run(tmp_path)] == ["a", "b", "c", "d"]
    assert not list(tmp_path.glob("rows.*.jsonl"))


def test_rows_that_no_process_has_written_are_missed(tmp_path):
    with part(tmp_path, 0) as first, part(tmp_path, 1) as second:
        first.append([{"hash": "a"}])
        second.append([{"hash": "b"}])
        with pytest.raises(InputError) as refused:
            first.merge_parts(["a", "b", "c", "d", "e"])
    assert str(refused.value) == (
        f"expected 5 rows of all processes in {tmp_path}; 3 are missing; start all processes again "
        "with one workdir that all of them see"
    )
    assert [row["hash"] for row in read_run(tmp_path)] == ["a", "b"]


def test_part_rows_are_found_again_by_every_process(tmp_path):
    with part(tmp_path, 0) as first, part(tmp_path, 2) as third:
        first.append([{"hash": "a"}])
        third.append([{"hash": "c"}])
    with open(tmp_path / "rows.2.jsonl", "a") as file:
        file.write('{"hash": "torn')
    assert [row["hash"] for row in read_run(tmp_path)] == ["a", "c"]
    with part(tmp_path, 0) as first, part(tmp_path, 1) as second, part(tmp_path, 2) as third:
        for run in (first, second, third):
            assert run.done("a")
            assert run.done("c")
        third.append([{"hash": "c"}, {"hash": "e"}])
        part_lines = (tmp_path / "rows.2.jsonl").read_text()
        assert part_lines == "".join(sealed_line({"hash": hash}) for hash in "ce")
        second.append([{"hash": "b"}])
    # killed between writing the merged rows and deleting the parts: nothing comes twice
    with open(tmp_path / "rows.jsonl", "a") as file:
        file.write(sealed_line({"hash": "c"}))
    assert [row["hash"] for row in read_run(tmp_path)] == ["a", "c", "b", "e"]
    with Run.open(tmp_path, CONFIG, MADE) as run:
        run.merge_parts()
    written = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["hash"] for line in written] == ["a", "c", "b", "e"]


def test_a_part_may_come_before_process_zero(tmp_path):
    with part(tmp_path, 1) as second:
        second.append([{"hash": "b"}])
        with part(tmp_path, 0) as first:
            assert first.done("b")
    assert json.loads((tmp_path / "config.json").read_text())["config"] == CONFIG


def test_only_process_zero_merges_and_indices_are_checked(tmp_path):
    with part(tmp_path, 1) as run, pytest.raises(ValueError, match="for process 0"):
        run.merge_parts()
    with pytest.raises(ValueError, match="process_index 3 of 3"), part(tmp_path, 3):
        pass


def test_two_launches_do_not_write_the_same_part(tmp_path):
    with (
        part(tmp_path, 1),
        part(tmp_path, 2),
        pytest.raises(InputError, match="in use"),
        part(tmp_path, 1),
    ):
        pass


def test_a_process_of_another_config_is_refused_once_the_config_is_there(tmp_path):
    with part(tmp_path, 0):
        pass
    with (
        pytest.raises(InputError, match="seed"),
        Run.open(tmp_path, {"seed": 7}, {}, process_index=1, process_count=2),
    ):
        pass
    assert not (tmp_path / "rows.1.jsonl").exists()
