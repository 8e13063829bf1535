"""Choosing a learning rate for each arm from runs on seeds of their own, by literal numbers."""

import itertools
import math

import numpy as np
import pytest

from jaxanatomy.measures.arms.finals import Losses, family_level
from jaxanatomy.measures.arms.tuning import choose_rate, losses_by_rate, rate_at_edge, regrets
from jaxanatomy.measures.statistics.estimates import student_quantile
from jaxanatomy.measures.statistics.seed_spread import SeedSpread

RATES = (1e-4, 1e-3, 1e-2)


def final_row(arm, seed, loss, rate, purpose="tuning"):
    labels = {"kind": "final", "purpose": purpose, "arm": arm, "seed": seed, "reason": ""}
    units = {"unit_nll": [loss, loss], "unit_tokens": [1, 1]}
    return {**labels, "learning_rate": rate, "loss": loss, "lowest": rate, **units}


TUNING = [
    final_row("a", seed, loss, rate)
    for rate, losses in ((1e-2, (0.1, None)), (1e-3, (3, 2.5)), (1e-4, (2, 4)))
    for seed, loss in enumerate(losses)
]


def test_the_rate_of_the_lowest_mean_loss_is_taken():
    assert losses_by_rate(TUNING, "loss") == {"a": {1e-4: 3.0, 1e-3: 2.75, 1e-2: None}}
    assert list(losses_by_rate(TUNING, "loss")["a"]) == [1e-4, 1e-3, 1e-2]
    assert choose_rate(TUNING, "a", "loss") == 1e-3
    assert choose_rate(TUNING, "a", "lowest") == 1e-4  # another measure chooses another rate
    assert choose_rate(TUNING, "b", "loss") is None
    assert choose_rate([final_row("a", 0, None, 1e-3)], "a", "loss") is None
    # Results choose nothing.
    assert choose_rate([final_row("a", 0, 1.0, 1e-3, "main")], "a", "loss") is None
    tie = [final_row("a", 0, 1.0, rate) for rate in (1e-2, 1e-3)]
    assert choose_rate(tie, "a", "loss") == 1e-3


@pytest.mark.parametrize(
    ("losses", "edge"),
    [
        ((1, 2, 3), True),
        ((3, 1, 2), False),
        ((3, 2, 1), True),
        ((3, 2, None), False),  # a higher one was losses_by_rate
        ((1,), False),
        ((None, None), False),
    ],
)
def test_a_rate_at_the_edge_of_those_tried_is_known_as_such(losses, edge):
    rows = [final_row("a", 0, *pair) for pair in zip(losses, RATES, strict=False)]
    assert rate_at_edge(rows, "a", "loss") == edge
    assert rate_at_edge(iter(rows), "a", "loss") == edge


def test_what_tuning_leaves_open():
    """The seeds of the results say how far two rates may be from what one draw of each shows."""
    rows = [
        *(
            final_row("a", 100, loss, rate)
            for loss, rate in zip((1.3, 1.0, 1.1), RATES, strict=True)
        ),
        *(
            final_row("b", 100, loss, rate)
            for loss, rate in zip((9.0, 1.0, 9.0), RATES, strict=True)
        ),
        *(
            final_row("c", 100, loss, rate)
            for loss, rate in zip((None, 1.0, None), RATES, strict=True)
        ),
        final_row("d", 100, 1.0, RATES[1]),
        *(final_row(arm, 0, 1.0, RATES[1], "main") for arm in "abcde"),
    ]
    spread = SeedSpread(dict.fromkeys("abcde", (0.1**2, 4)), (0.1**2, 16))
    # Own variances and Welch's eight degrees of freedom are the wider of the two intervals here.
    noise = student_quantile(0.95, 8) * math.sqrt(2) * 0.1
    expected = {"a": noise - math.log(1.1), "b": 0.0, "c": 0.0, "d": 0.0}
    assert regrets(rows, "loss", spread) == pytest.approx(expected)
    # Four tuning seeds halve the noise.
    more = [row | {"seed": seed} for row in rows[:3] for seed in (101, 102, 103)]
    found = regrets(rows + more, "loss", spread)["a"]
    assert found == pytest.approx(noise / 2 - math.log(1.1))
    quiet = SeedSpread(dict.fromkeys("abcde", (0.01**2, 4)), (0.01**2, 16))
    assert regrets(rows, "loss", quiet)["a"] == 0.0
    # Where nothing is pooled nobody knows what one draw of each rate leaves open.
    unknown = SeedSpread(dict.fromkeys("abcde", (0.1**2, 1)), (math.nan, 0))
    found = regrets(rows, "loss", unknown)
    assert [arm for arm, regret in found.items() if math.isnan(regret)] == ["a", "b"]


@pytest.mark.parametrize(("worse", "noise"), [(0.05, 0.03), (0.1, 0.06), (0.15, 0.06)])
def test_equal_arms_whose_rates_were_drawn_are_told_apart_as_rarely_as_the_level_says(worse, noise):
    """Five arms, equal at the middle rate; the others cost them `worse`. One tuning seed."""
    generator, draws = np.random.default_rng(0), 200
    pairs, told = list(itertools.combinations("abcde", 2))[:7], np.zeros(2)
    for _ in range(draws):
        rows = list(drawn_run(generator, worse, noise))
        losses = Losses.of(rows, "loss")
        given = Losses(losses.by_arm, losses.spread, {})  # takes the rates for the best
        for at, each in enumerate((losses, given)):
            found = [each.log_ratio(pair, family_level(len(pairs)))[0] for pair in pairs]
            told[at] += any(one.low > 0 or one.high < 0 for one in found)
    with_regret, without = told / draws
    assert with_regret <= 0.07  # 5 % and two standard errors
    assert without > 0.1


def drawn_run(generator, worse, noise, seeds=5):
    """Rows of five arms: one tuning seed, then results at the rate that it chose."""
    means = (worse, 0.0, worse)
    for arm in "abcde":
        logs = means + noise * generator.normal(size=3)
        yield from (
            final_row(arm, 100, math.exp(log), rate) for log, rate in zip(logs, RATES, strict=True)
        )
        best = int(np.argmin(logs))
        for seed, log in enumerate(means[best] + noise * generator.normal(size=seeds)):
            yield final_row(arm, seed, math.exp(log), RATES[best], "main")
