"""Proxies against naive loops over layers, tokens and documents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, naive_trace, random_params, text

from jaxanatomy import model, tree
from jaxanatomy.forensics.spectra import power_law
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures import proxies
from jaxanatomy.sweep import Sweep

L = CONFIG.num_layers
CUTS = [(start, size) for size in (1, 3) for start in range(L - size + 1)]


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def rows(params):
    # Ten documents, so that each is a unit.
    batches = [text(rows=2, seed=0), text(rows=2, seed=1, start=6)]
    sweep = Sweep(CONFIG, [baseline(L)], batches, proxies.readings(L))
    sweep.place(params)
    found = proxies.text_rows(sweep.run(0), [baseline(L)], text="it", cuts=CUTS)
    assert len(found) == len(proxies.units(baseline(L), CUTS))
    return {(row["proxy"], row["start"], row["size"]): row for row in found}


@pytest.fixture(scope="module")
def streams(params):
    """For each prediction its document, the streams [L + 1, D] and the lens's KL [L + 1]."""
    found = []
    for seed, start in ((0, 0), (1, 6)):
        batch = text(rows=2, seed=seed, start=start)
        trace = naive_trace(CONFIG, params, baseline(L).steps, batch)
        stands = [points["block_in"] for _, points in trace] + [trace[-1][1]["block_out"]]
        x_SPD = np.stack(
            [np.asarray(x).reshape(-1, CONFIG.hidden_size)[batch.predict_P] for x in stands]
        )
        log_SPV = jax.nn.log_softmax(model.logits(CONFIG, params, jnp.asarray(x_SPD), jnp.float32))
        log_SPV = np.asarray(log_SPV, np.float64)
        kl_SP = (np.exp(log_SPV[-1]) * (log_SPV[-1] - log_SPV)).sum(axis=-1)
        found += [
            (int(document), x_SPD[:, p].astype(np.float64), kl_SP[:, p])
            for p, document in enumerate(batch.document_P)
        ]
    return found


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


NAIVE = {
    "block_influence": lambda x, y, *_: 1 - cosine(x, y),
    "angular_distance": lambda x, y, *_: np.arccos(cosine(x, y)) / np.pi,
    "contribution_norm": lambda x, y, *_: np.linalg.norm(y - x) / np.linalg.norm(x),
    "lens_change": lambda x, y, before, after: before - after,
}


@pytest.mark.parametrize("name", proxies.OF_TEXT)
def test_of_a_text_against_a_loop(name, rows, streams):
    for start, size in CUTS:
        by_document = {}
        for document, x_SD, kl_S in streams:
            ends = x_SD[start], x_SD[start + size], kl_S[start], kl_S[start + size]
            by_document.setdefault(document, []).append(NAIVE[name](*ends))
        row = rows[name, start, size]
        assert row["unit_tokens"] == [len(by_document[d]) for d in sorted(by_document)]
        sums = [sum(by_document[d]) for d in sorted(by_document)]
        assert row["unit_value"] == pytest.approx(sums, rel=1e-5, abs=2e-4)
        assert row["value"] == pytest.approx(sum(sums) / len(streams), rel=1e-5, abs=1e-5)


def test_of_weights_against_numpy(params):
    found, errors = proxies.of_layers(params)
    for layer, block in enumerate(params["layers"]):
        ranks, alphas, squares = [], [], []
        for name in ("o_proj", "gate_proj", "down_proj"):
            singular = np.linalg.svd(tree.get(block, name).astype(np.float64), compute_uv=False)
            share = singular / singular.sum()
            ranks.append(np.exp(-(share * np.log(share)).sum()))
            tail = power_law(singular**2)
            alphas.append(tail.alpha)
            squares.append((tail.alpha - 1) ** 2 / tail.tail)
        assert found["effective_rank"][layer] == pytest.approx(np.mean(ranks), rel=1e-5)
        assert found["heavy_tail"][layer] == pytest.approx(-np.mean(alphas), rel=1e-5)
        assert errors["heavy_tail"][layer] == pytest.approx(np.sqrt(sum(squares)) / 3, rel=1e-5)
        gate, up = tree.get(block, "gate_proj"), tree.get(block, "up_proj")
        size = np.sqrt((gate**2).sum(axis=0)) * np.sqrt((up**2).sum(axis=0))
        variation = size.std() / size.mean()
        assert found["co_magnitude_cv"][layer] == pytest.approx(variation, rel=1e-5)
    assert found["earliness"].tolist() == [0, -1, -2, -3, -4]


def test_of_weights_a_cut_has_the_sum_over_its_layers(params):
    rows = proxies.weight_rows(params, CUTS)
    by_cut = {(row["proxy"], row["start"], row["size"]): row["value"] for row in rows}
    for name in proxies.OF_WEIGHTS:
        whole = sum(by_cut[name, layer, 1] for layer in (1, 2, 3))
        assert by_cut[name, 1, 3] == pytest.approx(whole)
    error = {(row["proxy"], row["start"], row["size"]): row.get("error") for row in rows}
    assert {name for (name, *_), each in error.items() if each} == {"heavy_tail"}
    squares = sum(error["heavy_tail", layer, 1] ** 2 for layer in (1, 2, 3))
    assert error["heavy_tail", 1, 3] == pytest.approx(np.sqrt(squares))


def test_a_layer_of_zeros_has_no_order(params):
    silent = jax.tree.map(np.zeros_like, params["layers"][0])
    changed = tree.with_layers(params, (silent, *params["layers"][1:]))
    rows = proxies.weight_rows(changed, CUTS)
    by_cut = {(row["proxy"], row["start"], row["size"]): row["value"] for row in rows}
    assert by_cut["effective_rank", 0, 1] is by_cut["co_magnitude_cv", 0, 3] is None
    assert by_cut["effective_rank", 1, 1] is not None


def test_streams_that_do_not_move_are_at_no_distance():
    x_SPD = np.repeat(
        np.random.default_rng(0).standard_normal((1, 4, 8)).astype(np.float32), 3, axis=0
    )
    for value_SSP in proxies.between(x_SPD).values():
        np.testing.assert_allclose(value_SSP, 0.0, atol=1e-7)
    assert np.isfinite(proxies.between(np.zeros((3, 2, 8), np.float32))["contribution_norm"]).all()
