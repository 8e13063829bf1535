"""Features of a probe against literal attention weights and streams."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures.readings import probe
from jaxanatomy.sweep import Measured

# Two windows in a row of seven: "b a b a" and "a a c"; the first a of the second follows no a.
TEXT = types.SimpleNamespace(
    token_RT=jnp.array([[2, 1, 2, 1, 1, 1, 3]]),
    position_RT=jnp.array([[0, 1, 2, 3, 0, 1, 2]]),
    segment_RT=jnp.array([[0, 0, 0, 0, 1, 1, 1]]),
)


def test_attention_on_the_sink_and_on_what_may_be_copied():
    rng = np.random.default_rng(0)
    weight_CRHTS = rng.random((2, 1, 3, 7, 7)).astype(np.float32)
    found = probe.attended([jnp.asarray(weight_CRHTS)], types.SimpleNamespace(text=TEXT))
    mean_CTS = weight_CRHTS[:, 0].mean(axis=1)
    # By query the first token of its window, and the keys after an earlier token like it.
    sink, copies = [0, 0, 0, 0, 4, 4, 4], {2: [1], 3: [2], 5: [5]}
    for t in range(7):
        np.testing.assert_allclose(found["sink_mass"][:, 0, t], mean_CTS[:, t, sink[t]], rtol=1e-6)
        expected = mean_CTS[:, t, copies.get(t, [])].sum(axis=-1)
        np.testing.assert_allclose(found["copy_density"][:, 0, t], expected, rtol=1e-6)
        assert (found["has_copies"][:, 0, t] == (t in copies)).all()


def test_what_is_written_by_hand():
    before, attention, mlp = (
        jnp.array(x, jnp.float32).reshape(1, 1, 1, 2) for x in ([3, 4], [0, 5], [5, 7])
    )
    found = {name: x.item() for name, x in probe.written([before, attention, mlp], None).items()}
    assert found == pytest.approx(
        {
            "write_attention": 5.0,
            "write_mlp": np.sqrt(74),
            "write_total": 13.0,
            "write_relative": 13 / 5,
            "activation_alignment": (3 * 8 + 4 * 16) / (5 * np.sqrt(320)),
        }
    )


def measured(values, copies):
    """Readings of two layers on tokens of six documents, two each."""
    positions, documents = np.tile([0, 1], 6), np.repeat(np.arange(6), 2)
    dims = ("variant", "layer", "position")
    found = {**dict.fromkeys(probe.PROBE_FEATURES, values), "has_copies": np.stack([copies] * 2)}
    return {
        name: Measured(x[None], dims, ("baseline",), np.arange(2), documents, positions)
        for name, x in found.items()
    }


def test_rows_are_means_without_the_first_token_and_say_what_each_document_adds():
    values = np.arange(24.0).reshape(2, 12)
    copies = np.array([1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], float)
    rows = probe.probe_rows(measured(values, copies), [baseline(2)], text="t")
    assert len(rows) == 2 * len(probe.PROBE_FEATURES)
    by_name = {(row["metric"], row["layer"]): row for row in rows}
    sink = by_name["sink_mass", 1]
    assert sink["unit_sums"] == [13, 15, 17, 19, 21, 23]
    assert (sink["value"], sink["unit_tokens"]) == (18, [1] * 6)
    assert sink["ci95"][0] < 18 < sink["ci95"][1]
    copied = by_name["copy_density", 0]
    assert copied["unit_tokens"] == [1, 0, 1, 0, 0, 0]
    assert (copied["unit_sums"], copied["value"]) == ([1, 0, 5, 0, 0, 0], 3)


def test_a_text_without_repetitions_has_no_copy_density():
    rows = probe.probe_rows(measured(np.ones((2, 12)), np.zeros(12)), [baseline(2)], text="t")
    found = {row["metric"]: row["value"] for row in rows}
    assert found["copy_density"] is None
    assert found["write_total"] == 1
