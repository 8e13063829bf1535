"""How a text is read, from Python."""

import numpy as np
import pytest
from naive import CONFIG, random_params

import jaxanatomy as ja
from jaxanatomy import model as llama

PARAMS = random_params(CONFIG)
TEXT = ja.Text("letters", ("abcde", "hello there", "x", "and the last of some more words"))
BOS = 2


class Letters:
    """One token for each character."""

    vocab_size, bos_id, eos_id, adds_bos = CONFIG.vocab_size, BOS, None, False

    def encode(self, text):
        return [ord(character) % CONFIG.vocab_size for character in text]


def naive_losses(token_T):
    """Loss of each token but the first, by one forward pass in float64."""
    logits_TV = np.asarray(llama.forward(CONFIG, PARAMS, token_T[None]), np.float64)[0, :-1]
    total_T = np.log(np.exp(logits_TV).sum(axis=-1))
    return total_T - np.take_along_axis(logits_TV, token_T[1:, None], axis=-1)[:, 0]


def test_bos_before_each_window():
    model = ja.Checkpoint(CONFIG, PARAMS, Letters(), "test", "sha256 of the weights")
    packing = {"add_bos": "window", "window": 6}
    (row,) = ja.sweep(model, [], TEXT, options=ja.SweepOptions(widths=(3, 1)), packing=packing)
    losses = []
    for document in TEXT.documents:
        token = Letters().encode(document)
        for start in range(0, len(token), 3):
            fresh = 0 if start == 0 else 2  # what the window before did not reach
            piece = np.asarray([BOS, *token[start : start + 5]])
            losses += [*naive_losses(piece)[fresh:]]
            if start + 5 >= len(token):
                break
    assert row["nll"] == pytest.approx(np.sum(losses), rel=1e-5)
    assert row["tokens"] == len(losses) == sum(map(len, TEXT.documents))
