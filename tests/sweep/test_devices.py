"""Eight virtual devices, and two processes, give what one device gives."""

import json
import re
import sys
from pathlib import Path

import jax
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.runs import read_run
from jaxanatomy.sweep import distributed
from jaxanatomy.sweep.devices import choose_devices

HERE = Path(__file__).parent


@pytest.fixture
def with_tests_on_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join([str(HERE.parent), *sys.path[:1]]))


@pytest.fixture
def report(run_python, with_tests_on_path):
    return json.loads(run_python(HERE / "devices_script.py", devices=8, timeout=400))


@pytest.mark.slow
def test_lanes_equal_one_device(report):
    assert report.pop("devices") == 8
    assert len(report) == 9
    for name, result in report.items():
        assert result["deviation"] < 1e-5, name
    lanes = [result["lanes"] for result in report.values()]
    assert lanes == [8, 8, 3, 8, 2, 8, 4, 8, 2]
    # Both backends run the same plans; lanes that split streams repeat shared prefixes.
    assert report["streams shard_map 8"]["distinct"] == report["streams pmap 8"]["distinct"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["shard_map", "pmap"])
def test_two_processes_write_the_rows_of_one(run_python, with_tests_on_path, tmp_path, backend):
    script = HERE / "process_script.py"
    run_python(script, tmp_path / "one", backend, devices=1)
    measured = run_python(script, tmp_path / "two", backend, devices=4, processes=2)
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    # Searched for, because the transport of the processes prints lines of its own.
    shares = [int(re.search(r"measured (\d+) rows", printed)[1]) for printed in measured]
    assert 0 < min(shares) < len(one.rows)
    assert sorted(row["variant"] for row in two.rows) == sorted(one.column("variant"))
    assert not list((tmp_path / "two").glob("rows.*.jsonl"))
    expected = {row["variant"]: row["nll"] for row in one.rows}
    for row in two.rows:
        assert row["nll"] == pytest.approx(expected[row["variant"]], rel=1e-5)


PARTS_OF_SEVERAL_SIZES = """
from test_study import CONFIG, OTHER, PARAMS, TEXT, source
from jaxanatomy import runs
from jaxanatomy.interventions import cells
from jaxanatomy.study import StudyPart, Study, StudySettings
from jaxanatomy.sweep import SweepOptions

parts = [StudyPart(TEXT, cells.protocol_cells(CONFIG)), StudyPart(OTHER, cells.main_map(CONFIG))]
settings = StudySettings(options=SweepOptions(widths=(4, 1), split="streams"))
study = Study(source(), parts, settings)
with runs.Run.open("run", {}, study.provenance()) as run:
    study.measure(run)
    missing = set(study.row_order()) - {row["hash"] for row in run.rows}
print([sweep.lanes.count for sweep in study.sweeps], len(missing))
"""


@pytest.mark.slow
def test_parts_of_a_study_may_use_different_numbers_of_devices(
    run_python, with_tests_on_path, tmp_path
):
    printed = run_python(PARTS_OF_SEVERAL_SIZES, devices=8, cwd=tmp_path, timeout=300)
    assert printed.strip() == "[4, 1] 0"


AGREEING = """
import os, sys
from jaxanatomy.errors import InputError
from jaxanatomy.sweep import distributed

count, index = int(os.environ["PROCESS_COUNT"]), int(os.environ["PROCESS_INDEX"])
distributed.start(os.environ["COORDINATOR"], count, index)
distributed.require_same("seed", {"seed": 3})
try:
    distributed.require_same("text", ["a", index])
except InputError as error:
    print(error)
"""


def test_processes_that_do_not_agree_are_told_so(run_python):
    for printed in run_python(AGREEING, devices=1, processes=2):
        assert "all processes must have the same text; those of processes [1] are not" in printed


def test_more_devices_than_there_are_is_refused():
    have = jax.local_device_count()
    with pytest.raises(InputError, match=f"sweep.devices={have + 1}, but this process has {have}"):
        choose_devices(have + 1, 1)


@pytest.mark.parametrize(
    ("coordinator", "count", "index", "message"),
    [
        ("", 2, 0, "need distributed.coordinator_address"),
        ("localhost:1", 2, 2, "process_id must be 0 .. 1 with distributed.num_processes=2; got 2"),
    ],
)
def test_bad_process_settings_are_refused(coordinator, count, index, message):
    with pytest.raises(InputError, match=message):
        distributed.start(coordinator, count, index)


def test_auto_where_no_coordinator_is_found_is_refused(monkeypatch):
    def initialize(heartbeat_timeout_seconds):
        raise ValueError("coordinator_address should be defined.")

    # The real one replaces the file behind standard error for the rest of the process.
    monkeypatch.setattr(distributed.peers, "explain_loss", lambda: None)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(InputError, match=r"auto is for Cloud TPU and Slurm; .* give HOST"):
        distributed.start("auto")
