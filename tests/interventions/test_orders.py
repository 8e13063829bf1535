"""Skips, swaps, reversals and early exits against literal lists."""

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.orders import early_exit, reverse, skip, swap
from jaxanatomy.interventions.variants import Step

EIGHT = ModelConfig.uniform(8, 1, 1, 4, vocab_size=8, hidden_size=4, head_dim=4)


@pytest.mark.parametrize(
    ("variant", "name", "order"),
    [
        (skip(EIGHT, 2, 1), "skip/1/2", [0, 1, 3, 4, 5, 6, 7]),
        (skip(EIGHT, 4, 4), "skip/4/4", [0, 1, 2, 3]),
        (swap(EIGHT, 0, 1), "swap/1/0", [1, 0, 2, 3, 4, 5, 6, 7]),
        (swap(EIGHT, 2, 2), "swap/2/2", [0, 1, 4, 5, 2, 3, 6, 7]),
        (swap(EIGHT, 0, 4), "swap/4/0", [4, 5, 6, 7, 0, 1, 2, 3]),
        (reverse(EIGHT, 3, 3), "reverse/3/3", [0, 1, 2, 5, 4, 3, 6, 7]),
        (reverse(EIGHT, 0, 8), "reverse/8/0", [7, 6, 5, 4, 3, 2, 1, 0]),
        (early_exit(EIGHT, 3), "early_exit/3", [0, 1, 2]),
        (early_exit(EIGHT, 0), "early_exit/0", []),
        (early_exit(EIGHT, 8), "early_exit/8", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_order(variant, name, order):
    assert variant.name == name
    assert variant.steps == tuple(Step(layer) for layer in order)


def test_labels():
    assert swap(EIGHT, 2, 2).labels == {"op": "swap", "size": 2, "start": 2}
    assert early_exit(EIGHT, 3).labels == {"op": "early_exit", "size": 5, "start": 3}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: skip(EIGHT, 6, 3), "within 0 to 7; got start 6 and size 3, .* layer 8"),
        (lambda: skip(EIGHT, -1, 1), "got start -1"),
        (lambda: swap(EIGHT, 5, 2), "which reaches layer 8"),
        (lambda: reverse(EIGHT, 0, 0), "size >= 1"),
        (lambda: early_exit(EIGHT, 9), "0 to 8 layers; got 9"),
    ],
)
def test_spans_outside_the_model_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
