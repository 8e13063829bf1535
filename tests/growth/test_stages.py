"""PROP-alpha by hand and by its properties."""

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import depth_stages, prop_alpha


def test_by_hand():
    assert prop_alpha(10, 4) == (1, 2, 3, 4)
    assert prop_alpha(60, 3) == (10, 20, 30)
    assert prop_alpha(14, 3, alpha=2) == (1, 4, 9)
    assert prop_alpha(9, 3, alpha=0) == (3, 3, 3)
    assert prop_alpha(7, 1) == (7,)
    # 1.5, 3 and 4.5: a tie goes to the earlier stage, and thirds are no rounded floats.
    assert prop_alpha(9, 3) == (2, 3, 4)
    assert prop_alpha(3, 3) == (1, 1, 1)
    # 100/21 times 1 .. 6: floors sum to 97; 23.81, 4.76 and 28.57 have most left.
    assert prop_alpha(100, 6) == (5, 9, 14, 19, 24, 29)
    # Halves: 2.5 and 2.5, the earlier gets it.
    assert prop_alpha(5, 2, alpha=0) == (3, 2)
    # 1 : 1.414 : 1.732 of 100 are 24.12, 34.11, 41.77.
    assert prop_alpha(100, 3, alpha=0.5) == (24, 34, 42)


def test_the_papers_170_000_steps():
    # 360M: i/36 of 170,000 are 4,722.2, 9,444.4, 14,166.7, 18,888.9, 23,611.1, ...
    expected = (4722, 9444, 14167, 18889, 23611, 28333, 33056, 37778)
    assert prop_alpha(170_000, 8) == expected
    assert prop_alpha(170_000, 6) == (8095, 16191, 24286, 32381, 40476, 48571)


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 1.5, 2, 3.0])
def test_the_sum_is_exact_and_no_stage_is_off_by_a_step(alpha):
    for stages in range(1, 9):
        total = sum(stage**alpha for stage in range(1, stages + 1))
        for steps in (300, 997, 10_000, 170_000, 199_999):
            if steps / total < 1:
                continue
            found = prop_alpha(steps, stages, alpha)
            assert sum(found) == steps
            assert list(found) == sorted(found) or alpha == 0
            for stage, length in enumerate(found, start=1):
                assert abs(length - steps * stage**alpha / total) < 1


def test_a_run_grows_and_then_keeps_its_depth():
    stages = depth_stages(4, 32, 4, 170_000, 200_000)
    layers, steps = zip(*stages, strict=True)
    assert layers == (4, 8, 12, 16, 20, 24, 28, 32)
    assert (steps[0], steps[-1], sum(steps)) == (4722, 37_778 + 30_000, 200_000)
    assert depth_stages(2, 6, 2, 6, 6) == ((2, 1), (4, 2), (6, 3))
    assert depth_stages(4, 6, 2, 3, 10, alpha=1) == ((4, 1), (6, 9))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: prop_alpha(3, 4), "needs a step; got 4 stages and 3 steps; raise the steps"),
        (lambda: prop_alpha(3, 0), "got 0 stages"),
        (lambda: prop_alpha(10, 4, -1), "0 or above; got -1"),
        (lambda: prop_alpha(10, 4, float("inf")), "got inf"),
        (lambda: prop_alpha(10, 4, float("nan")), "got nan"),
        (lambda: prop_alpha(8, 8), "PROP-1 leaves one of 8 stages without any of 8 steps"),
        (lambda: prop_alpha(1000, 4, 5000.0), "PROP-5000 leaves one of 4 stages"),
        (lambda: depth_stages(4, 30, 4, 90, 100), "got a target of 30; take 28"),
        (lambda: depth_stages(4, 8, 4, 101, 100), "got 101 growing steps of 100; lower"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, said):
    with pytest.raises(InputError) as error:
        call()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
