"""Held-out rows by document: parts that share none, losses against a sum over tokens, halves."""

import growing_run
import jax
import numpy as np
import pytest
from growing_run import config

from jaxanatomy import model, tree
from jaxanatomy.data.registers import Registers
from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.evaluation import score
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.registers import with_registers
from jaxanatomy.train.role_documents import DocumentRows, by_document, halves, rows_apart
from jaxanatomy.train.setup import Setup

LENGTH = 9


def documents_of(generator, rows, mean):
    """The document of each token of some rows, which are about so many tokens long."""
    sizes = 1 + generator.poisson(mean - 1, size=rows * LENGTH)
    number = np.repeat(np.arange(len(sizes)), sizes)
    return number[: rows * LENGTH].reshape(rows, LENGTH)


def test_parts_of_a_text_share_no_document_and_lie_in_its_order():
    generator, refused = np.random.default_rng(0), 0
    for _ in range(300):
        document_NT = documents_of(generator, 40, generator.choice([3, 20, 80]))
        own, other = generator.integers(1, 20, size=2)
        try:
            parts = rows_apart(document_NT, own, other)
        except InputError:
            refused += 1
            # Not even the first rows and the last ones would do.
            assert document_NT[own - 1, -1] >= document_NT[40 - other, 0]
            continue
        assert [len(part) for part in parts] == [own, other]
        assert (np.diff(np.concatenate(parts)) > 0).all()
        assert not np.intersect1d(document_NT[parts[0]], document_NT[parts[1]]).size
    assert refused < 100


def test_where_documents_are_not_shared_rows_are_spread_over_the_text():
    found = rows_apart(np.repeat(np.arange(24), LENGTH).reshape(24, LENGTH), 6, 2)
    assert [part.tolist() for part in found] == [[0, 3, 6, 9, 12, 15], [18, 21]]


def test_too_few_documents_for_two_parts_are_refused():
    document_NT = np.repeat([0, 1, 2], [3 * LENGTH + 4, 2 * LENGTH, LENGTH - 4])
    with pytest.raises(InputError, match="at most the 3 rows of documents that none of the 2"):
        rows_apart(document_NT.reshape(-1, LENGTH), 4, 2)


@pytest.mark.parametrize("registers", [None, Registers("registers_learned", 3, 50, 6)])
def test_the_loss_of_a_document_is_the_sum_over_its_tokens_in_all_rows(registers):
    generator = np.random.default_rng(1)
    token_NT = generator.integers(0, 50, (6, LENGTH + 1)).astype(np.int32)
    ones = np.ones((3, LENGTH), np.float32)
    batches = [Batch(own[:, :-1], own[:, 1:], ones) for own in (token_NT[:3], token_NT[3:])]
    document_NT = np.sort(generator.integers(0, 5, 6 * LENGTH)).reshape(6, LENGTH) * 7
    rows = DocumentRows.of(batches, document_NT)
    if registers:
        rows = with_registers(rows, registers)
    stage = Stage(config(2), 1)
    schedule = growing_run.SCHEDULE
    setup = Setup((stage,), growing_run.ADAMW, schedule, (0, 3), learning_rates=[0.01, 0.01])
    models = [model.init(config(2), jax.random.key(seed)) for seed in setup.seeds]
    stacked = [tree.with_layers(own, tree.stack(own["layers"])) for own in models]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *stacked)
    (found,) = by_document({"text": rows})(setup, stage, params).values()
    assert (found.share, sum(found.tokens)) == (1.0, 6 * LENGTH)
    for at, own in enumerate(models):
        expected = dict.fromkeys(np.unique(document_NT).tolist(), 0.0)
        for number in range(6):
            before = registers.draw(1, 0)[0] if registers else np.zeros(0, int)
            read = np.concatenate([before, token_NT[number, :-1]])[None]
            logits_TV = np.asarray(model.forward(config(2), own, read)[0], np.float64)[-LENGTH:]
            nll_TV = np.log(np.exp(logits_TV).sum(-1, keepdims=True)) - logits_TV
            for t in range(LENGTH):
                expected[int(document_NT[number, t])] += nll_TV[t, token_NT[number, t + 1]]
        assert found.nll[at] == pytest.approx(list(expected.values()), rel=1e-5)
    # The mean is that of the rows.
    assert found.mean() == pytest.approx(score(setup, stage, params, rows).mean(), rel=1e-12)


def test_halves_are_of_whole_documents_and_about_as_large():
    assert halves(np.repeat([0, 1, 2, 3], [5, 1, 3, 2])).tolist() == [0, 0, 1, 1]
    assert halves(np.repeat([0, 1, 2], [2, 2, 2])).tolist() == [0, 1, 0]
    generator = np.random.default_rng(2)
    for _ in range(50):
        size_U = generator.integers(1, 30, size=generator.integers(2, 20))
        half_U = halves(np.repeat(np.arange(len(size_U)), size_U))
        filled = np.bincount(half_U, size_U)
        assert len(filled) == 2
        assert abs(filled[0] - filled[1]) <= size_U.max()
