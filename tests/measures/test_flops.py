"""The cost of growth against DG Table 7 and against stages counted by hand."""

import dataclasses

import pytest

from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.depth_arms import DepthArmSettings
from jaxanatomy.growth.smollm import LENGTH, MODELS
from jaxanatomy.measures.flops import beside_the_paper, cost_rows, rounded_down, summarise

PRINTED = {
    "smollm_360m": (613_527.488, 476_147.897),
    "smollm_1p7b": (4_813_222.102, 3_736_608.182),
}
TINY = ModelConfig.uniform(3, 1, 1, 6, vocab_size=7, hidden_size=4, head_dim=4)


def by_arm(name):
    model = MODELS[name]
    settings = DepthArmSettings(steps=200_000, block=4, batch_size=model.batch_size, seq_len=LENGTH)
    return {(row["arm"], row["rounding"]): row for row in cost_rows(model.config, settings)}


@pytest.mark.parametrize("name", PRINTED)
def test_petaflops_of_table_7_by_both_roundings(name):
    rows, (standard, grown) = by_arm(name), PRINTED[name]
    assert rows["baseline", None]["petaflops"] == pytest.approx(standard, rel=1e-9)
    remainder, floor = rows["grown", "largest_remainder"], rows["grown", "floor"]
    assert 1e-6 < abs(remainder["petaflops"] / grown - 1) < 2e-5
    assert floor["petaflops"] == pytest.approx(grown, abs=5e-4)
    assert floor["ratio"] == pytest.approx(standard / grown, rel=1e-8)


def test_stages_of_the_small_model_are_literal():
    rows = by_arm("smollm_360m")
    depths = list(range(4, 33, 4))
    remainder, floor = rows["grown", "largest_remainder"], rows["grown", "floor"]
    steps = [4722, 9444, 14_167, 18_889, 23_611, 28_333, 33_056, 67_778]
    assert remainder["stages"] == [list(pair) for pair in zip(depths, steps, strict=True)]
    steps = [4722, 9444, 14_166, 18_888, 23_611, 28_333, 33_055, 67_781]
    assert floor["stages"] == [list(pair) for pair in zip(depths, steps, strict=True)]
    assert {row["steps"] for row in (remainder, floor)} == {200_000}
    assert remainder["tokens"] == 200_000 * 512 * 2048


def test_a_tiny_model_is_counted_by_hand():
    settings = DepthArmSettings(
        steps=30, block=1, growth_fraction=0.7, alpha=2.0, batch_size=2, seq_len=5
    )
    baseline, grown, floor, equal = cost_rows(TINY, settings)
    # A layer: 10 tokens times 2 (4 x 12 + 4 x 4 + 3 x 4 x 6), attention 2 x 2 x 2 x 25 x 4.
    layer, head = 20 * (48 + 16 + 72) + 800, 20 * 28
    cost = [3 * (depth * layer + head) for depth in (1, 2, 3)]
    assert baseline["petaflops"] == 30 * cost[2] / 1e15
    # 21 steps by 1, 4, 9 of 14 are 1.5, 6 and 13.5: the half goes to the earlier.
    assert grown["stages"] == [[1, 2], [2, 6], [3, 22]]
    assert floor["stages"] == [[1, 1], [2, 6], [3, 23]]
    spent = 2 * cost[0] + 6 * cost[1] + 22 * cost[2]
    assert grown["petaflops"] == spent / 1e15
    assert grown["ratio"] == pytest.approx(30 * cost[2] / spent, rel=1e-12)
    assert equal["arm"] == "grown_equal_flops"
    assert equal["steps"] == 33


def test_rounding_down_gives_the_rest_to_the_last_stage():
    assert rounded_down(((2, 3), (4, 7)), 10, 1.0) == ((2, 3), (4, 7))
    assert rounded_down(((2, 3), (4, 8)), 8, 1.0) == ((2, 2), (4, 9))
    assert rounded_down(((2, 5), (4, 6)), 11, 0.0) == ((2, 5), (4, 6))


def test_the_papers_figures_stand_beside_or_a_reason():
    printed = {"baseline": 8.0, "grown": 5.0, "ratio": 1.6}
    row = {"arm": "grown", "petaflops": 4.0}
    assert beside_the_paper(row, printed) == row | {
        "paper_petaflops": 5.0,
        "deviation": pytest.approx(-0.2),
        "paper_ratio": 1.6,
        "reason": None,
    }
    assert beside_the_paper({"arm": "baseline", "petaflops": 8.0}, printed)["paper_ratio"] == 1.0
    none = dict.fromkeys(("paper_petaflops", "deviation", "paper_ratio"))
    assert beside_the_paper(row, None, "why") == row | none | {"reason": "why"}
    other = beside_the_paper({"arm": "grown_equal_flops", "petaflops": 8.0}, printed)
    assert (other["deviation"], other["reason"]) == (None, "the paper has no such arm")


def test_the_summary_is_by_model():
    settings = DepthArmSettings(steps=200_000, block=4, batch_size=512, seq_len=LENGTH)
    rows = [{"model": "m", **row} for row in cost_rows(MODELS["smollm_360m"].config, settings)]
    (found,) = summarise(rows)["models"].values()
    assert found == {
        "baseline_petaflops": rows[0]["petaflops"],
        "grown_petaflops": rows[1]["petaflops"],
        "ratio": rows[1]["ratio"],
        "saved_percent": pytest.approx(22.392, abs=1e-3),
        "equal_flops_steps": rows[3]["steps"],
    }


def test_layers_of_several_shapes_are_refused():
    config = TINY.with_layers((*TINY.layers[:2], LayerShape(1, 1, 9)))
    settings = DepthArmSettings(steps=10, block=1, batch_size=1, seq_len=1)
    with pytest.raises(InputError, match="layers of one shape; got 2 shapes"):
        cost_rows(config, settings)
    with pytest.raises(InputError, match=r"in steps of 2 a model grows to 4, .* got a target of 3"):
        cost_rows(TINY, dataclasses.replace(settings, block=2))
