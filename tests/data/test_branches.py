"""Text laid out with branches against each window by itself, token by token."""

import itertools

import jax
import numpy as np
import pytest
from naive import CONFIG, random_params, text

from jaxanatomy import model
from jaxanatomy.data.branches import branch, is_trunk, windows
from jaxanatomy.model import rope

BATCHES = [text(rows=2, seed=1), text(rows=2, seed=2, start=6)]
STARTS = (lambda T: T // 2, lambda T: T - 1, lambda T: 1, lambda T: T // 2)
FLAGS = [*itertools.product([True, False], repeat=2)]


def tokens_of(batches):
    """The tokens of each window of a text without branches, and what is predicted of each."""
    found = {}
    for batch in batches:
        segment_X, token_X = batch.segment_RT.ravel(), batch.token_RT.ravel()
        for window in np.unique(segment_X[segment_X >= 0]).tolist():
            (own,) = np.nonzero(segment_X == window)
            target = dict(zip(batch.predict_P.tolist(), batch.target_P.tolist(), strict=True))
            found[window] = token_X[own].tolist(), [target.get(x) for x in own.tolist()]
    return found


def seen_by(batch, r, t):
    """The places that the one at (r, t) sees, itself the last."""
    return [k for k in range(t + 1) if t < batch.end_RT[r, k]]


@pytest.mark.parametrize("tokens", [16, 64, 4096])
@pytest.mark.parametrize(("whole", "share"), FLAGS)
def test_a_token_sees_its_own_window_and_what_is_changed_of_it_is_the_trunk(whole, share, tokens):
    found, texts = [], tokens_of(BATCHES)
    batches = branch(BATCHES, STARTS, whole=whole, share=share, tokens_per_batch=tokens)
    for batch in batches:
        assert batch.token_RT.shape == batches[0].token_RT.shape
        assert len(batch.predict_P) == len(batches[0].predict_P)
        of_place = zip(batch.predict_P, batch.target_P, batch.document_P, strict=True)
        predicted = {place: own for place, *own in of_place if own[1] >= 0}
        for r, t in np.argwhere(batch.segment_RT >= 0).tolist():
            window, number = batch.segment_RT[r, t], batch.branch_RT[r, t]
            own, targets = texts[window]
            seen = seen_by(batch, r, t)
            assert batch.token_RT[r, seen].tolist() == own[: len(seen)]
            assert batch.position_RT[r, seen].tolist() == [*range(len(seen))]
            assert set(batch.segment_RT[r, seen]) == {window}
            start = STARTS[number - 1](len(own)) if number > 0 else len(own)
            assert is_trunk(batch)[r, seen].tolist() == [p < start for p in range(len(seen))]
            place = r * batch.token_RT.shape[1] + t
            if targets[len(seen) - 1] is not None:
                assert predicted.pop(place) == [targets[len(seen) - 1], window]
            found.append((window, number, len(seen) - 1))
        assert not predicted
        for r, t in np.argwhere(batch.segment_RT < 0):
            assert seen_by(batch, r, t) == [t]
    expected = []
    for window, (own, _) in texts.items():
        begins = [start(len(own)) for start in STARTS]
        trunk = len(own) if whole else max(begins)
        expected += [(window, 0, position) for position in range(trunk)]
        for number, begin in enumerate(begins, 1):
            expected += [(window, number, position) for position in range(begin, len(own))]
            expected += [(window, -1, position) for position in range(begin) if not share]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("share", [True, False])
def test_the_model_reads_every_copy_as_the_token_itself(share):
    params = jax.device_put(random_params(CONFIG))

    @jax.jit
    def logits(token_RT, position_RT, bias_RTS):
        x_RTD = model.embed(params, token_RT)
        for layer, own in enumerate(params["layers"]):
            tables = rope.tables(CONFIG, position_RT)
            x_RTD = model.block(CONFIG, layer).apply({"params": own}, x_RTD, tables, bias_RTS)[0]
        return model.logits(CONFIG, params, x_RTD)

    expected = {}
    for batch in BATCHES:
        bias = model.attention_bias(batch.segment_RT)
        scores = np.asarray(logits(batch.token_RT, batch.position_RT, bias))
        for r, t in np.argwhere(batch.segment_RT >= 0).tolist():
            expected[batch.segment_RT[r, t], batch.position_RT[r, t]] = scores[r, t]
    for batch in branch(BATCHES, STARTS, share=share):
        bias = model.tree_bias(batch.end_RT)
        scores = np.asarray(logits(batch.token_RT, batch.position_RT, bias))
        for r, t in np.argwhere(batch.segment_RT >= 0).tolist():
            its = expected[batch.segment_RT[r, t], batch.position_RT[r, t]]
            np.testing.assert_allclose(scores[r, t], its, rtol=1e-5, atol=1e-5)


def test_shared_trunks_stand_once():
    def read(share, whole):
        batches = branch(BATCHES, STARTS[:2], share=share, whole=whole)
        return sum(int((batch.segment_RT >= 0).sum()) for batch in batches)

    # Windows of 4, 6 and 5 tokens, four of each, with branches of T - T // 2 and of one token.
    tokens, half = 4 * (4 + 6 + 5), 4 * (2 + 3 + 3)
    assert read(share=True, whole=True) == tokens + half + 12
    assert read(share=True, whole=False) == tokens - 12 + half + 12
    assert read(share=False, whole=True) == 3 * tokens


def test_a_text_without_branches_stays_as_it_is():
    assert branch(BATCHES, ()) == tuple(BATCHES)
    assert is_trunk(BATCHES[0]).all()
    assert BATCHES[0].branch_RT is None


def test_windows_are_found_in_all_batches():
    found = windows(BATCHES)
    flat = np.concatenate([batch.segment_RT.ravel() for batch in BATCHES])
    assert [*found] == [*range(12)]
    for window, places in found.items():
        np.testing.assert_array_equal(places, np.flatnonzero(flat == window))
