"""Choosing a learning rate for each arm from runs on seeds of their own, by literal numbers."""

import pytest

from jaxanatomy.measures.tuning import choose_rate, losses_by_rate, rate_at_edge


def final_row(arm, seed, loss, rate, purpose="tuning"):
    labels = {"kind": "final", "purpose": purpose, "arm": arm, "seed": seed}
    return {**labels, "learning_rate": rate, "loss": loss, "lowest": rate}


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
    rates = (1e-4, 1e-3, 1e-2)
    rows = [final_row("a", 0, *pair) for pair in zip(losses, rates, strict=False)]
    assert rate_at_edge(rows, "a", "loss") == edge
    assert rate_at_edge(iter(rows), "a", "loss") == edge
