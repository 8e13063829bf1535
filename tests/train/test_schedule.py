"""Learning rates by literal numbers."""

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.train.schedule import WarmupStableDecay


def test_the_trapezoid_is_literal():
    rates = WarmupStableDecay(2.0, warmup=0.2, cooldown=0.4).rates(10)
    falling = [2.0, *(2 * (1 - (done / 4) ** 0.5) for done in (1, 2, 3))]
    np.testing.assert_allclose(rates, [1.0, 2.0, 2, 2, 2, 2, *falling], rtol=1e-6)
    assert rates.dtype == np.float32


def test_without_warmup_and_cooldown_it_is_constant():
    np.testing.assert_array_equal(WarmupStableDecay(0.5, 0, 0).rates(3), np.float32([0.5] * 3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0,), "finite and above 0; got 0.0"),
        ((float("nan"),), "finite and above 0; got nan"),
        ((1e-3, 0.6, 0.5), "got 0.6 and 0.5"),
        ((1e-3, -0.1, 0.5), "got -0.1 and 0.5"),
        ((1e-3, float("nan"), 0.5), "got nan and 0.5"),
        ((1e-3, 0.1, float("nan")), "got 0.1 and nan"),
    ],
)
def test_bad_schedules_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        WarmupStableDecay(*arguments)
