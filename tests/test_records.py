"""A finished run as a table."""

import numpy as np
import pytest

from jaxanatomy import records
from jaxanatomy.errors import InputError
from jaxanatomy.runs import Run, read_run

ROWS = [
    {"hash": "a", "scope": "layer", "layer": 0, "ppl": 2.0},
    {"hash": "b", "scope": "layer", "layer": 1, "ppl": None, "reason": "overflow"},
    {"hash": "c", "scope": "mlp", "layer": 1, "ppl": 4.0},
]


@pytest.fixture
def record(tmp_path):
    with Run.open(tmp_path, {"seed": 3}, {"device": "cpu"}) as run:
        run.append(ROWS)
        run.write_summary({"baseline": 26.5})
        run.write_arrays(map=np.arange(6.0).reshape(2, 3), names=np.array(["a", "b"]))
    return read_run(tmp_path)


def test_everything_that_was_written_is_read(record):
    assert record.rows == ROWS
    assert list(record) == ROWS
    assert len(record) == 3
    assert record.config == {"seed": 3}
    assert record.provenance == {"device": "cpu"}
    assert record.summary == {"baseline": 26.5}
    assert set(record.arrays) == {"map", "names"}
    np.testing.assert_array_equal(record.arrays["map"], [[0, 1, 2], [3, 4, 5]])
    assert record.arrays["names"].tolist() == ["a", "b"]


def test_arrays_are_read_at_first_use_and_once(record, monkeypatch):
    loads = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: loads.append(a) or load(*a, **k))
    assert record.arrays is record.arrays
    assert len(loads) == 1


def test_columns(record):
    assert record.column("ppl") == [2.0, None, 4.0]


def test_select_by_one_value_and_by_any_of_several(record):
    def chosen(**values):
        return [row["hash"] for row in record.select(**values)]

    assert chosen(scope="layer") == ["a", "b"]
    assert chosen(scope="layer", layer=1) == ["b"]
    assert chosen(scope=["layer", "mlp"], layer=(1,)) == ["b", "c"]
    assert chosen(layer=range(1)) == ["a"]
    assert chosen(ppl=None) == ["b"]
    assert chosen(reason=None) == []
    assert record.select(scope="mlp").column("ppl") == [4.0]
    assert record.select(scope="none").column("ppl") == []
    assert len(record) == 3


def test_unknown_fields_name_the_closest(record):
    with pytest.raises(InputError, match="unknown field 'scop'; did you mean 'scope'"):
        record.select(scop="layer")
    with pytest.raises(InputError, match="unknown field 'pppl'; did you mean 'ppl'"):
        record.column("pppl")


def test_a_record_is_frozen(record):
    with pytest.raises(AttributeError):
        record.rows = []


def test_an_unfinished_run_has_rows_and_neither_summary_nor_arrays(tmp_path):
    with Run.open(tmp_path, {}, {}) as run:
        run.append(ROWS[:1])
        record = read_run(tmp_path)
    assert (record.rows, record.summary, record.arrays) == (ROWS[:1], {}, {})


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        read_run(tmp_path / "absent")
    with pytest.raises(InputError, match=r"it has no config.json"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": []}')
    with pytest.raises(InputError, match=r"its config.json is no run's"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"expected a JSON object in .* it holds a list"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"expected a JSON object in .* cannot read it"):
        read_run(tmp_path)


@pytest.mark.parametrize(("written", "raised"), [("older", InputError), ("this one", KeyError)])
def test_a_field_that_another_version_did_not_write_is_named(
    tmp_path, monkeypatch, written, raised
):
    """Of a run by the same code a missing field is a fault of ours, and stays a KeyError."""
    monkeypatch.setattr(records, "code_version", lambda experiment: "this one")
    made = {"experiment": "importance", "code_version": written}
    old = records.RunRecord(tmp_path, [{"ppl": 1.0}], {}, made, {})
    message = "without 'nll'; run importance again" if raised is InputError else "nll"
    with pytest.raises(raised, match=message), records.as_written_now([old]):
        [row["nll"] for row in old.rows]
