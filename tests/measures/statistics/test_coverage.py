"""Do intervals hold what they promise? Simulations of fixed seeds, on real losses and made ones.

Half of what is asked here fails with the percentile bootstrap that these intervals replaced
(`tools/interval_coverage.py` prints all methods side by side).
"""

import numpy as np
import pytest

from jaxanatomy.measures.statistics.estimates import (
    ratio_intervals,
    seeds_interval,
    spearman_interval,
)
from jaxanatomy.measures.statistics.many_looks import chance_better, may_be_largest, may_be_smallest
from tools.interval_coverage import (
    LAYERS,
    alike_map,
    bands,
    blocks,
    coverage,
    divergence_map,
    heavy_map,
    null_map,
    real_coverage,
    real_losses,
    relabelled_map,
    rounding_map,
    skewed,
)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize("units", [10, 40])
def test_on_real_losses_of_28_layers(units, generator):
    assert 0.93 <= real_coverage("ours", units, 150, generator) <= 0.97


@pytest.mark.parametrize("law", ["normal", "gamma", "student 3"])
@pytest.mark.parametrize("units", [10, 40])
def test_on_skewed_and_heavy_losses_of_unequal_documents(law, units, generator):
    assert 0.93 <= coverage("ours", skewed(law, units, 4000, generator)) <= 0.97


@pytest.mark.parametrize("units", [10, 40])
def test_on_blocks_of_one_document(units, generator):
    assert 0.93 <= coverage("ours", blocks(units, 2000, generator)) <= 0.97


@pytest.mark.parametrize("units", [10, 40])
def test_a_percentile_bootstrap_would_not_do(units, generator):
    """The power of these tests: it is what they replaced."""
    assert real_coverage("percentile", units, 150, generator) < 0.945 - (units == 10) * 0.04


@pytest.mark.parametrize(("count", "spread"), [(3, 1.0), (5, 10.0)])
def test_over_seeds(count, spread, generator):
    draws = generator.normal(2.0, spread, size=(2000, count))
    ends = [seeds_interval(values).ends for values in draws]
    assert 0.93 <= np.mean([low <= 2.0 <= high for low, high in ends]) <= 0.97


@pytest.mark.parametrize("related", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("pairs", [11, 28])
def test_of_rank_correlations(pairs, related, generator):
    """Pairs of a normal law, of which Spearman's correlation is known."""
    truth = 6 / np.pi * np.arcsin(related / 2)
    held = []
    for _ in range(1000):
        x, noise = generator.normal(size=(2, pairs))
        low, high = spearman_interval(x, related * x + np.sqrt(1 - related**2) * noise).ends
        held.append(low <= truth <= high)
    assert 0.93 <= np.mean(held) <= 0.98


class TestManyLooks:
    """30 layers of which none does anything."""

    @pytest.mark.slow
    @pytest.mark.parametrize("units", [(8, 10), (40, 40)], ids=["few", "many"])
    @pytest.mark.parametrize(
        ("make", "least"),
        [
            (null_map, 0.03),
            (rounding_map, 0.03),
            (divergence_map, 0.03),
            # Of heavy tails, and of layers alike, the band errs on the safe side.
            (alike_map, 0.01),
            (heavy_map, 0.01),
            (relabelled_map, 0.01),
        ],
    )
    def test_some_layer_is_told_apart_in_one_map_of_twenty(self, make, least, units):
        held = [
            bands(make, each, 400, np.random.default_rng(seed))[0]
            for seed, each in enumerate(units)
        ]
        assert least <= 1 - np.mean(held) <= 0.07

    @pytest.mark.parametrize("units", [10, pytest.param(40, marks=pytest.mark.slow)])
    def test_the_band_holds_for_all_and_shows_no_anti_layer(self, units, generator):
        held, anti = bands(null_map, units, 200, generator)
        assert 0.93 <= held <= 0.98
        assert anti <= 0.05

    @pytest.mark.parametrize("extreme", [may_be_largest, may_be_smallest])
    def test_no_layer_is_called_less_extreme_than_another(self, extreme, generator):
        """All are equal, so all belong to the set; one alone in it would be a false claim."""
        left_out, alone = [], 0
        for _ in range(40):
            may_V = extreme(*null_map(10, generator))
            left_out.append(1 - may_V.mean())
            alone += may_V.sum() == 1
        # One in twenty, and three standard errors of forty maps whose layers are correlated.
        assert np.mean(left_out) <= 0.08
        assert alone <= 2

    def test_the_true_extreme_is_in_its_set_and_a_clear_one_alone(self, generator):
        inside = alone = 0
        for _ in range(40):
            sums_VU, tokens_U = null_map(10, generator)
            sums_VU[3] += 0.6 * tokens_U
            may_V = may_be_largest(sums_VU, tokens_U)
            inside += may_V[3]
            alone += may_V.sum() == 1 and may_V[3]
        assert inside >= 38
        assert alone >= 24

    def test_chance_is_what_null_maps_show(self, generator):
        """The count by relabelling one text agrees with the mean count over many texts."""
        counts, relabelled = [], []
        for index in range(300):
            sums_VU, tokens_U = null_map(10, generator)
            counts.append((ratio_intervals(sums_VU, tokens_U)[:, 2] < 0).sum())
            if index < 10:
                relabelled.append(chance_better(sums_VU, tokens_U))
        assert np.mean(relabelled) == pytest.approx(np.mean(counts), abs=0.2)
        assert 0.3 <= np.mean(counts) <= 0.9

    def test_real_losses_have_a_critical_layer_in_front(self):
        sums_VU, tokens_U = real_losses()
        assert np.flatnonzero(may_be_largest(sums_VU, tokens_U)).tolist() == [0]
        assert len(sums_VU) == LAYERS
