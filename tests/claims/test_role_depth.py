"""Scores of roles against what others find of layers, where both follow depth by themselves."""

import numpy as np
import pytest

from jaxanatomy.claims.audit import CLAIMS, error_of
from jaxanatomy.claims.roles import agreement, beyond_depth
from jaxanatomy.measures.statistics.estimates import effective_pairs, spearman, spearman_interval

LAYERS, DRAWS = np.arange(30), 600
ERROR = min(error_of(claim) for claim in CLAIMS if "roles" in claim.needs)
LINE = np.linspace(-1, 1, len(LAYERS))
# A number of each layer by itself: noise on a curve over depth of random size.
NOTHING = {"a line": LINE, "a bend": LINE**2 - 1 / 3, "no trend": 0 * LINE}


def draws(shape_N):
    """Two numbers of each layer that know nothing of each other, [draws, 2, N]."""
    generator = np.random.default_rng(0)
    size_D21 = 4 * generator.normal(size=(DRAWS, 2, 1))
    return size_D21 * shape_N + generator.normal(size=(DRAWS, 2, len(shape_N)))


def decided(estimates):
    return np.mean([each.low > 0 or each.high < 0 for each in estimates])


@pytest.mark.parametrize("name", NOTHING)
def test_two_trends_over_depth_do_not_foretell_each_other(name):
    made = draws(NOTHING[name])
    beside = decided(agreement(*pair, LAYERS, 1 - ERROR) for pair in made)
    assert beside <= ERROR + 3 * np.sqrt(ERROR / DRAWS)
    if name != "no trend":
        level, pairs_of = 1 - ERROR, effective_pairs
        plain = decided(spearman_interval(*pair, level, pairs_of(*pair)) for pair in made)
        assert plain > 10 * ERROR  # what the rule said before depth was taken out


def test_what_goes_with_a_score_beyond_depth_is_found():
    generator = np.random.default_rng(1)
    made = draws(LINE)[:200]
    common_DN = 2 * generator.normal(size=(len(made), len(LAYERS)))
    found = [
        agreement(own + each, its + each, LAYERS, 1 - ERROR)
        for (own, its), each in zip(made, common_DN, strict=True)
    ]
    assert decided(found) > 0.9


def test_a_parabola_takes_ranks_that_it_fits_and_keeps_what_has_no_trend():
    assert not beyond_depth(np.exp(LINE), LAYERS).any()
    assert np.isnan(agreement(np.exp(LINE), np.sin(LAYERS), LAYERS, 0.95).value)
    wave = np.random.default_rng(2).permutation(30.0 * LAYERS)
    left = beyond_depth(wave, LAYERS)
    assert abs(left @ LINE) < 1e-6
    assert abs(left @ LINE**2) < 1e-6
    assert spearman(left, wave) > 0.8
