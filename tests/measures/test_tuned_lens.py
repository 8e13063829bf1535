"""Both lenses against whole distributions in float64, layer by layer, prediction by prediction."""

import functools

import numpy as np
import pytest
from naive import CONFIG, naive_trace, random_params, text

from jaxanatomy import model
from jaxanatomy.data.questions import Question, Questions
from jaxanatomy.interventions.variants import baseline, baseline_steps
from jaxanatomy.measures import tuned_lens
from jaxanatomy.measures.readings.lens import TunedLens
from jaxanatomy.measures.statistics.estimates import ratio_intervals, simultaneous_intervals
from jaxanatomy.sweep import Sweep

L, D = CONFIG.num_layers, CONFIG.hidden_size
PARAMS = random_params(CONFIG)
BATCHES = [text(rows=2, seed=1), text(rows=2, seed=2, start=6)]
BASE = baseline(L)
DRAWS = np.random.default_rng(4).standard_normal((L, D + 1, D)).astype(np.float32)
LENS = TunedLens(0.2 * DRAWS[:, :D], 0.5 * DRAWS[:, D])


def read(readings):
    sweep = Sweep(CONFIG, [BASE], BATCHES, readings)
    sweep.place(PARAMS)
    return sweep.run(0)


@functools.cache
def traces():
    return [naive_trace(CONFIG, PARAMS, baseline_steps(L), batch) for batch in BATCHES]


def scores(lens, layer):
    """By batch the scores of a lens at every token, float64 [R T, V]."""
    found = []
    for trace in traces():
        x_XD = np.asarray(trace[layer][1]["block_out"]).reshape(-1, D)
        if lens == "tuned":
            x_XD = x_XD + x_XD @ LENS.kernel[layer] + LENS.bias[layer]
        scores_1XV = model.logits(CONFIG, PARAMS, x_XD[None].astype(np.float32))
        found.append(np.asarray(scores_1XV[0], np.float64))
    return found


def log_probabilities(lens, layer):
    """Of all predictions, in the order of the text."""
    scores_PV = np.concatenate(
        [own[batch.predict_P] for own, batch in zip(scores(lens, layer), BATCHES, strict=True)]
    )
    return scores_PV - np.log(np.exp(scores_PV).sum(axis=1, keepdims=True))


def naive_metrics(lens, layer):
    """By name the value of each prediction."""
    log_p, log_q = log_probabilities("logit", L - 1), log_probabilities(lens, layer)
    p, q = np.exp(log_p), np.exp(log_q)
    best_p, best_q = (np.argsort(-each, axis=1)[:, :5].tolist() for each in (p, q))
    pairs = list(zip(best_p, best_q, strict=True))
    target_P = np.concatenate([batch.target_P for batch in BATCHES])
    return {
        "kl": (p * (log_p - log_q)).sum(axis=1),
        "kl_reverse": (q * (log_q - log_p)).sum(axis=1),
        "top_1": np.array([float(a[0] == b[0]) for a, b in pairs]),
        "top_5": np.array([len({*a} & {*b}) / 5 for a, b in pairs]),
        "entropy": -(q * log_q).sum(axis=1),
        "perplexity": -log_q[np.arange(len(q)), target_P],
    }


@pytest.fixture(scope="module")
def rows():
    measured = read(tuned_lens.held_out_readings(LENS))
    found = tuned_lens.held_out_rows(measured, [BASE], text="letters")
    fields = ("kind", "lens", "metric", "layer")
    names = [" ".join(str(row[name]) for name in fields) for row in found]
    assert names == tuned_lens.held_out_units(BASE, L), "hashes are those of the units"
    return {(row["lens"], row["metric"], row["layer"]): row for row in found}


@functools.cache
def together(name):
    """The differences of all layers with intervals that hold at once, [L, 3]."""
    document_P = np.concatenate([batch.document_P for batch in BATCHES])
    sums_LU = [
        np.bincount(
            document_P,
            naive_metrics("tuned", layer)[name] - naive_metrics("logit", layer)[name],
        )
        for layer in range(L)
    ]
    return simultaneous_intervals(np.stack(sums_LU), np.bincount(document_P))


@pytest.mark.parametrize("layer", range(L))
def test_means_and_intervals_are_those_of_whole_distributions(rows, layer):
    document_P = np.concatenate([batch.document_P for batch in BATCHES])
    values = {lens: naive_metrics(lens, layer) for lens in tuned_lens.LENSES}
    values["difference"] = {
        name: values["tuned"][name] - values["logit"][name] for name in tuned_lens.DIFFERENCES
    }
    tokens = np.bincount(document_P)
    for lens, by_metric in values.items():
        for name, value_P in by_metric.items():
            sums = np.bincount(document_P, value_P)
            (expected,) = ratio_intervals(sums[None], tokens)
            if lens == "difference":
                expected = together(name)[layer]
            else:
                bounds = {"top_1": (0, 1), "top_5": (0, 1)}.get(name, (0, np.inf))
                expected = expected.clip(*bounds)
            expected = np.exp(expected) if name == "perplexity" else expected
            row = rows[lens, name, layer]
            found = [row["value"], *row["ci95"]]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5, err_msg=name)


def test_predictions_of_a_prompt_are_the_likeliest_tokens():
    measured = read(tuned_lens.prompt_readings(LENS))
    real = np.concatenate([batch.segment_RT.ravel() >= 0 for batch in BATCHES])
    token_T = np.concatenate([batch.token_RT.ravel() for batch in BATCHES])[real].tolist()
    made = tuned_lens.prompt_rows(measured, [BASE], text="p", token_T=token_T, spell=str)
    fields = ("kind", "lens", "layer", "position")
    names = [" ".join(str(row[name]) for name in fields) for row in made]
    assert names == tuned_lens.prompt_units(BASE, L, len(token_T))
    for lens in tuned_lens.LENSES:
        for layer in range(L):
            own = [row for row in made if (row["lens"], row["layer"]) == (lens, layer)]
            scores_NV = np.concatenate(scores(lens, layer))[real]
            chances_NV = np.exp(scores_NV) / np.exp(scores_NV).sum(axis=1, keepdims=True)
            assert [int(row["token"]) for row in own] == scores_NV.argmax(axis=1).tolist()
            assert [int(row["read"]) for row in own] == token_T
            found = [row["probability"] for row in own]
            np.testing.assert_allclose(found, chances_NV.max(axis=1), rtol=1e-4)


def test_losses_through_a_lens_are_those_of_whole_distributions():
    found = read(tuned_lens.answer_readings(LENS))["tuned_nll"]
    for layer in range(L):
        expected = naive_metrics("tuned", layer)["perplexity"]
        np.testing.assert_allclose(found["baseline"][layer], expected, rtol=1e-5, atol=1e-5)


def test_questions_are_answered_by_the_likeliest_choice_at_each_layer():
    """Twelve documents as the choices of four questions; all targets of a document count."""
    kinds = (("a", 1), ("b", 0), ("a", 2), ("b", 2))
    asked = Questions("q", tuple(Question(task, "p", tuple("xyz"), at) for task, at in kinds))
    measured = read(tuned_lens.answer_readings(LENS))
    document_P = np.concatenate([batch.document_P for batch in BATCHES])
    rows = tuned_lens.answer_rows(measured, [BASE], text="q", questions=asked)
    fields = ("kind", "lens", "task", "layer")
    names = [" ".join(str(row[name]) for name in fields) for row in rows]
    assert names == tuned_lens.answer_units(BASE, L, ["a", "b"])
    right = []
    for row in rows:
        nll_P = naive_metrics(row["lens"], row["layer"])["perplexity"]
        best_Q = np.bincount(document_P, nll_P).reshape(4, 3).argmin(axis=1)
        own = {"a": (0, 2), "b": (1, 3)}[row["task"]]
        expected = [best_Q[q] == asked.items[q].answer for q in own]
        assert row["accuracy"] == np.mean(expected)
        assert (row["items"], row["chance"]) == (2, pytest.approx(1 / 3))
        assert row["accuracy_ci95"][0] <= row["accuracy"] <= row["accuracy_ci95"][1]
        right.append(row["accuracy"])
    assert len(set(right)) > 1, "some are answered, some not"


def test_a_lens_that_gives_no_number_agrees_with_nothing():
    broken = TunedLens(np.full_like(LENS.kernel, np.nan), LENS.bias)
    measured = read(tuned_lens.held_out_readings(broken))
    for name in ("top_1", "top_5"):
        assert not measured[f"tuned_{name}"].values.any()
    assert np.isnan(measured["tuned_kl"].values).all()


def test_a_summary_counts_the_layers_that_are_told_apart():
    rows = [
        {"kind": "lens", "metric": "kl", "lens": lens, "layer": layer, "value": value, "ci95": ends}
        for lens, found in {
            "logit": [(3.0, [2, 4]), (2.0, [1, 3]), (1.0, None), (1.0, [0, 2]), (0.0, [0, 0])],
            "tuned": [(1.0, [0, 2]), (1.9, [1, 3]), (0.5, None), (1.5, [1, 3]), (0.0, [0, 0])],
            "difference": [
                (-2.0, [-3, -1]),
                (-0.1, [-0.3, 0.1]),
                (-0.5, None),
                (0.5, [0.1, 1]),
                (0.0, [0, 0]),
            ],
        }.items()
        for layer, (value, ends) in enumerate(found)
    ]
    rows += [{"kind": "step", "step": step, "loss": 2.0 - step} for step in range(2)]
    found = tuned_lens.summarise(rows)
    assert tuned_lens.summarise(rows[::-1]) == found, "a row that was lost comes back last"
    assert (found["layers_better"], found["layers_worse"]) == ([0], [3])
    assert (found["steps"], found["last_loss"]) == (2, 1.0)
    assert found["kl"]["difference"] == [-2.0, -0.1, -0.5, 0.5, 0.0]
    assert found["kl_difference_ci95"] == [[-3, -1], [-0.3, 0.1], None, [0.1, 1], [0, 0]]
