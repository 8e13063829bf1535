"""A model loaded in fewer bits goes through every function of the Python API."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_api import MODEL, OPTIONS, TEXT

import jaxanatomy as ja
from jaxanatomy import model, tree
from jaxanatomy.interventions.cells import CONTROLS

# What rounding the weights may move: a loss by 1 %.
DTYPES = ("bfloat16", "float16")


@pytest.fixture(scope="module", params=DTYPES)
def rounded(request):
    """The model as `ja.load(id, dtype=...)` gives it, norms included."""
    dtype = jnp.dtype(request.param)
    return dataclasses.replace(
        MODEL, params=jax.tree.map(lambda leaf: leaf.astype(dtype), MODEL.params)
    )


def exact(rounded):
    """The same numbers in float32: what the rounded model must agree with."""
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float32), rounded.params)
    return dataclasses.replace(rounded, params=wide)


def losses(model, variants, options=OPTIONS):
    rows = ja.sweep(model, variants, TEXT, options=options)
    return np.array([[row["nll"], row["kl"]] for row in rows])


def test_sweep_with_every_intervention(rounded):
    variants = ja.ablations(rounded, CONTROLS, layers=[2], draws=1)
    found = losses(rounded, variants)
    np.testing.assert_allclose(found, losses(exact(rounded), variants), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[0, 0], losses(MODEL, [])[0, 0], rtol=0.01)


def test_sweep_in_bfloat16(rounded):
    options = dataclasses.replace(OPTIONS, dtype="bfloat16")
    found = losses(rounded, [], options)
    np.testing.assert_allclose(found[0, 0], losses(MODEL, [])[0, 0], rtol=0.05)


def test_strategies(rounded):
    names = ["zero", "clone", "blend_2", "low_rank_half", "own_svd_half", "scale_0.9", "predicted"]
    variants = ja.variants(rounded, *(f"{name}/set/2,3" for name in names))
    expected = losses(exact(rounded), variants)
    np.testing.assert_allclose(losses(rounded, variants), expected, rtol=1e-5, atol=1e-7)


def test_structure(rounded):
    found, expected = (ja.structure(each, initial=each) for each in (rounded, exact(rounded)))
    for row, other in zip(found, expected, strict=True):
        if other["value"] is None:  # of blocks, of which few layers have too few
            assert row["value"] is None
            assert row["component"] == "ffn"
        else:
            assert row["value"] == pytest.approx(other["value"], rel=1e-4, abs=1e-6)


def test_generate(rounded):
    prompt_BT = np.array([[1, 2, 3]])
    written, expected = (
        model.generate(each.config, each.params, prompt_BT, 4) for each in (rounded, exact(rounded))
    )
    assert np.array_equal(written, expected)


def test_what_is_loaded_is_not_changed(rounded):
    losses(rounded, [])
    assert tree.get(rounded.params["layers"][0], "q_proj").dtype in map(jnp.dtype, DTYPES)
