"""Files of a run after any accident: read as they were written, or refused in one line."""

import json

import fuzz
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxanatomy.records import read_run
from jaxanatomy.runs import Run
from jaxanatomy.train.metrics import read_metrics

pytestmark = pytest.mark.slow

CONFIG = {"model": "random:tiny", "seed": 0, "sweep": {"width": 9, "names": ["a", "b"]}}
MADE = {"code_version": "1", "weights_sha256": "ab", "time": "now"}
ROWS = [
    {"hash": f"{at:04d}", "ppl": 1.5 + at / 7, "ci95": [-0.25, at], "text": "ü", "reason": None}
    for at in range(4)
]
SUMMARY = {"baseline": 26.5, "texts": {"a": [1, 2.5]}}
LINE = {"arm": "midas", "seed": 0, "step": 3, "loss": 1.5, "reason": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with Run.open(folder, CONFIG, MADE) as run:
        run.append(ROWS)
        run.write_summary(SUMMARY)
        run.write_arrays(heat=np.arange(6.0).reshape(2, 3), names=np.array(["a", "b"]))
    (folder / "metrics.jsonl").write_text(json.dumps(LINE) + "\n")
    return folder


def everything(folder):
    record = read_run(folder)
    arrays = {name: array.tolist() for name, array in record.arrays.items()}
    return record.config, record.provenance, record.rows, record.summary, arrays


@pytest.mark.parametrize("name", ["config.json", "rows.jsonl", "summary.json", "arrays.npz"])
def test_every_single_flipped_bit_is_refused_or_changes_nothing(folder, name):
    path, expected = folder / name, everything(folder)
    whole = path.read_bytes()
    refused = changed = 0
    try:
        for bit in range(0, 8 * len(whole), 1 if len(whole) < 1000 else 3):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            found = fuzz.reads_or_refuses(everything, folder)
            refused += found is None
            changed += found is not None and found != expected
    finally:
        path.write_bytes(whole)
    assert changed == 0
    assert refused > (1 if name == "arrays.npz" else 4) * len(whole) / 3


@pytest.mark.parametrize("name", ["config.json", "rows.jsonl", "summary.json", "arrays.npz"])
@fuzz.bounded(300)
@given(data=st.data())
def test_any_damage_is_refused_or_changes_nothing(folder, name, data):
    path, expected = folder / name, everything(folder)
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(fuzz.damaged_bytes(whole)))
        found = fuzz.reads_or_refuses(everything, folder)
        assert found is None or found == expected
    finally:
        path.write_bytes(whole)


@fuzz.bounded(500)
@given(config=fuzz.damaged_json({"config": CONFIG, "provenance": MADE, "checksum": "00000000"}))
def test_any_config_is_refused(folder, config):
    path = folder / "config.json"
    whole = path.read_bytes()
    try:
        path.write_bytes(config)
        assert fuzz.reads_or_refuses(read_run, folder) is None
        assert fuzz.reads_or_refuses(open_and_close, folder) is None
    finally:
        path.write_bytes(whole)


def open_and_close(folder):
    with Run.open(folder, CONFIG, MADE) as run:
        return run.rows


@fuzz.bounded(300)
@given(line=fuzz.damaged_json(LINE))
def test_any_line_of_metrics_is_read_or_refused(folder, line):
    (folder / "metrics.jsonl").write_bytes(line + b"\n")
    fuzz.reads_or_refuses(read_metrics, folder)
