"""Questions scored on several devices: each its own rows; data/test_choices.py has more."""

import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "scoring_script.py"


@pytest.mark.slow
def test_each_device_scores_its_own_rows_of_a_part(run_python):
    found = json.loads(run_python(SCRIPT, devices=4))
    assert found["several"] == found["one"]
    assert 0 < sum(found["one"][0]) < len(found["one"][0])
    assert found["programs"] == 1
    shapes = list(map(tuple, found["shapes"]))
    rows, heads, length = 2, 2, 24  # 16 rows in 2 parts on 4 devices
    assert (rows, heads * length, length) in shapes  # attention of one device
    assert (4 * rows, length) in shapes  # the losses, of all rows
    tokens = [shape for shape in shapes if shape[-2:] == (heads * length, length)]
    assert {shape[0] for shape in tokens} == {rows}
