"""Arrays from Python: ready readings and one's own, against plain loops."""

import itertools

import jax
import numpy as np
import pytest
from naive import CONFIG, naive_kl, naive_nll, naive_stream, naive_trace
from test_api import BASE, BATCH, MODEL, OPTIONS, TEXT

import jaxanatomy as ja
from jaxanatomy import model as llama
from jaxanatomy.measures.readings.lens import TunedLens


def test_ready_readings_in_a_line_each():
    trace = [points for _, points in naive_trace(CONFIG, MODEL.params, BASE, BATCH)]
    real = BATCH.segment_RT >= 0
    x = ja.read(MODEL, None, TEXT, ja.readings.residual())
    assert x.dims == ("variant", "layer", "position", "feature")
    assert (x.variants, x.layers.tolist()) == (("baseline",), [*range(CONFIG.num_layers)])
    expected = np.stack([points["block_out"][real] for points in trace])
    np.testing.assert_allclose(x["baseline"], expected, rtol=1e-5, atol=1e-5)
    m = ja.read(
        MODEL, None, TEXT, ja.readings.residual("mlp_out", layers="1-2", reduction=ja.mean())
    )
    assert m.dims == ("variant", "layer", "feature")
    expected = np.stack([trace[layer]["mlp_out"][real].mean(axis=0) for layer in (1, 2)])
    np.testing.assert_allclose(m["baseline"], expected, rtol=1e-5, atol=1e-5)
    scores = ja.read(MODEL, None, TEXT, ja.readings.logits())
    assert scores.dims == ("variant", "position", "vocabulary")
    expected = llama.logits(CONFIG, MODEL.params, trace[-1]["block_out"])[real]
    np.testing.assert_allclose(scores["baseline"], expected, rtol=1e-5, atol=1e-5)
    losses = ja.read(MODEL, ja.Variant("exit", BASE[:2]), TEXT, ja.readings.losses())
    assert losses.dims == ("variant", "prediction")
    expected = naive_nll(CONFIG, MODEL.params, BASE[:2], BATCH)
    np.testing.assert_allclose(losses["exit"], expected, rtol=1e-5, atol=1e-5)


def test_attention_patterns_count_keys_from_the_start_of_each_window():
    patterns = ja.read(MODEL, None, TEXT, ja.readings.attention(layers=1))
    assert patterns.dims == ("variant", "layer", "position", "head", "key")
    (_, points), found = naive_trace(CONFIG, MODEL.params, BASE, BATCH)[1], patterns["baseline"][0]
    number = 0
    for r, t in itertools.product(*map(range, BATCH.token_RT.shape)):
        if BATCH.segment_RT[r, t] < 0:
            continue
        position = BATCH.position_RT[r, t]
        assert (patterns.documents[number], patterns.positions[number]) == (
            BATCH.segment_RT[r, t],
            position,
        )
        expected = points["attention"][r, :, t, t - position : t + 1]
        np.testing.assert_allclose(found[number, :, : position + 1], expected, rtol=1e-5, atol=1e-6)
        assert not found[number, :, position + 1 :].any()
        number += 1
    assert number == found.shape[0]


def test_lens_and_contributions_equal_a_naive_forward():
    readings = {"lens": ja.readings.lens_kl(), **ja.readings.contributions()}
    found = ja.read(MODEL, None, TEXT, readings, OPTIONS)
    real = BATCH.segment_RT >= 0
    for layer, (_, points) in enumerate(naive_trace(CONFIG, MODEL.params, BASE, BATCH)):
        kl_P = naive_kl(CONFIG, MODEL.params, BASE[: layer + 1], BATCH)
        np.testing.assert_allclose(
            found["lens"]["baseline"][layer], kl_P.mean(), rtol=1e-5, atol=1e-6
        )
        h, a, m = (
            np.asarray(points[name], np.float64)[real]
            for name in ("block_in", "attention_out", "mlp_out")
        )
        for name, (part, whole) in {
            "attention": (a, h),
            "mlp": (m, h),
            "mlp_after": (m, h + a),
        }.items():
            norm, cosine = (
                f"{name.removesuffix('_after')}_{what}" + "_after_attention" * ("after" in name)
                for what in ("norm", "cosine")
            )
            sizes = [np.linalg.norm(each, axis=-1) for each in (part, whole)]
            expected = (sizes[0] / sizes[1]).mean()
            assert found[norm]["baseline"][layer] == pytest.approx(expected, rel=1e-5)
            expected = ((part * whole).sum(axis=-1) / sizes[0] / sizes[1]).mean()
            assert found[cosine]["baseline"][layer] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found["lens"]["baseline"][-1] == 0  # the last layer is the model itself


def test_readings_of_ones_own_inside_layers_and_beside_the_unedited_model():
    def moved(streams, context):
        """How far a contribution moved against its size (DG section 4), [C, R, T]."""
        before, after, (clean_before, clean_after) = streams
        change, clean = after - before, clean_after - clean_before
        size = jax.numpy.linalg.norm(clean, axis=-1)
        return jax.numpy.linalg.norm(change - clean, axis=-1) / jax.numpy.maximum(size, 1e-6)

    effect = ja.Reading(ja.Beside(moved), ("block_in", "block_out"), ja.maximum("others"))
    skipped = [ja.Variant(f"skip/{s}", BASE[:s] + BASE[s + 1 :]) for s in range(3)]
    options = ja.SweepOptions(widths=(2, 1), chunk_size=2)
    found = ja.read(MODEL, skipped, TEXT, {"effect": effect}, options)["effect"]
    assert found.dims == ("variant", "layer")
    assert found.variants == ("skip/0", "skip/1", "skip/2")
    clean = dict(naive_trace(CONFIG, MODEL.params, BASE, BATCH))
    counted = (BATCH.segment_RT >= 0) & (BATCH.position_RT > 0)
    for s, variant in enumerate(skipped):
        assert np.isnan(found[variant.name][s])
        for layer, points in naive_trace(CONFIG, MODEL.params, variant.steps, BATCH):
            own = points["block_out"] - points["block_in"]
            other = clean[layer]["block_out"] - clean[layer]["block_in"]
            apart, size = (np.linalg.norm(x, axis=-1)[counted] for x in (own - other, other))
            assert found[variant.name][layer] == pytest.approx((apart / size).max(), rel=1e-4)


def test_a_reading_of_one_number_goes_into_the_row():
    largest = ja.Reading(lambda streams, context: abs(streams[0]).max(axis=-1), "end", ja.maximum())
    (row,) = ja.sweep(MODEL, [], TEXT, {"largest": largest}, OPTIONS)
    x_RTD = naive_stream(CONFIG, MODEL.params, BASE, BATCH)
    assert row["largest"] == pytest.approx(np.abs(x_RTD)[BATCH.segment_RT >= 0].max(), rel=1e-5)


def test_a_token_of_several_windows_is_read_where_its_context_is_longest():
    text = ja.Text("long", ("abcdefghijklmnopqrst", "xyz"))
    packing = {"window": 8, "stride": 4}
    x = ja.read(MODEL, None, text, ja.readings.residual("block_in", layers=0), packing=packing)
    # Windows start at tokens 0, 4, 8 and 12; what the one before has predicted is context.
    windows = [0] * 8 + [1] * 4 + [2] * 4 + [3] * 4
    expected = [token - 4 * window for token, window in enumerate(windows)]
    assert x.positions.tolist() == [*expected, 0, 1, 2]
    assert x.documents.tolist() == [0] * 20 + [1] * 3
    tokens = [
        ord(character) % CONFIG.vocab_size for document in text.documents for character in document
    ]
    embedded = np.asarray(MODEL.params["embed"]["embedding"])[tokens]
    np.testing.assert_array_equal(x["baseline"][0], embedded)
    losses = ja.read(MODEL, None, text, ja.readings.losses(), packing=packing)
    assert losses.positions.tolist() == [p - 1 for p in expected[1:]] + [0, 1]


def test_a_lens_is_read_with_and_is_the_logit_lens_where_it_changes_nothing():
    shape = (CONFIG.num_layers, CONFIG.hidden_size)
    lens = TunedLens(
        np.zeros((*shape, CONFIG.hidden_size), np.float32), np.zeros(shape, np.float32)
    )
    logit, tuned = (ja.read(MODEL, None, TEXT, ja.readings.lenses(each)) for each in (None, lens))
    assert list(tuned) == ["kl", "kl_reverse", "top_1", "top_5", "entropy", "nll"]
    for name, measured in tuned.items():
        assert measured.dims == ("variant", "layer", "prediction")
        np.testing.assert_array_equal(measured.values, logit[name].values)
    expected = naive_nll(CONFIG, MODEL.params, BASE, BATCH)
    np.testing.assert_allclose(tuned["nll"]["baseline"][-1], expected, rtol=1e-5, atol=1e-5)
