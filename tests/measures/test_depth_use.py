"""Logit lens, contributions, norms, massive activations, super weights: against plain loops."""

import numpy as np
import pytest
from naive import CONFIG, log_softmax, naive_trace, random_params, text

from jaxanatomy import model, tree
from jaxanatomy.interventions.variants import baseline, baseline_steps
from jaxanatomy.measures import contribution, depth_use, lens, outliers
from jaxanatomy.measures.layer_means import layer_means
from jaxanatomy.measures.statistics import ratio_intervals
from jaxanatomy.sweep import Measured, Sweep, SweepOptions

L = CONFIG.num_layers
PARAMS = random_params(CONFIG)
BATCHES = [text(rows=2, seed=1), text(rows=2, seed=2, start=6)]
BASE = baseline(L)


@pytest.fixture(scope="module")
def traces():
    return [naive_trace(CONFIG, PARAMS, baseline_steps(L), batch) for batch in BATCHES]


@pytest.fixture(scope="module")
def rows():
    sweep = Sweep(CONFIG, [BASE], BATCHES, depth_use.PROFILE, SweepOptions(widths=(1,)))
    sweep.place(PARAMS)
    return depth_use.profile_rows(sweep.run(0), [BASE], text="letters")


def at(traces, layer, point):
    """What stands at a point, every real token in the order of the text; and their places."""
    x_ND = np.concatenate(
        [
            np.asarray(t[layer][1][point])[b.segment_RT >= 0]
            for t, b in zip(traces, BATCHES, strict=True)
        ]
    )
    places = [
        np.concatenate([each[b.segment_RT >= 0] for each, b in zip(listed, BATCHES, strict=True)])
        for listed in ([b.segment_RT for b in BATCHES], [b.position_RT for b in BATCHES])
    ]
    return x_ND.astype(np.float64), *places


def find(rows, kind, **labels):
    return [row for row in rows if row["kind"] == kind and row.items() >= labels.items()]


def test_rows_come_in_the_order_of_their_units(rows):
    units = depth_use.profile_units(BASE, L)
    assert len(units) == len(rows)
    fields = ("kind", "metric", "positions", "layer", "rank")
    assert units == [" ".join(str(row[name]) for name in fields if name in row) for row in rows]
    assert {row["text"] for row in rows} == {"letters"}


def log_probabilities(x_RTD, batch):
    return log_softmax(model.logits(CONFIG, PARAMS, np.asarray(x_RTD)), batch)


@pytest.mark.parametrize("layer", range(L))
def test_the_lens_is_the_head_on_each_layer(rows, traces, layer):
    expected = {name: [] for name in lens.METRICS}
    for trace, batch in zip(traces, BATCHES, strict=True):
        log_p, log_q = (
            log_probabilities(trace[each][1]["block_out"], batch) for each in (L - 1, layer)
        )
        p, q = np.exp(log_p), np.exp(log_q)
        best_p, best_q = (np.argsort(-each, axis=1)[:, :5] for each in (p, q))
        expected["kl"].append((p * (log_p - log_q)).sum(axis=1))
        expected["kl_reverse"].append((q * (log_q - log_p)).sum(axis=1))
        expected["top_1"].append(best_p[:, 0] == best_q[:, 0])
        both = [len({*a} & {*b}) / 5 for a, b in zip(best_p.tolist(), best_q.tolist(), strict=True)]
        expected["top_5"].append(both)
        expected["entropy"].append(-(q * log_q).sum(axis=1))
        expected["perplexity"].append(-log_q[np.arange(len(q)), batch.target_P])
    for name, parts in expected.items():
        (row,) = find(rows, "lens", metric=name, layer=layer)
        value = np.concatenate(parts).mean()
        value = np.exp(value) if name == "perplexity" else value
        assert row["value"] == pytest.approx(value, rel=1e-5, abs=1e-6), name
        assert row["ci95"][0] <= row["value"] <= row["ci95"][1]
    if layer == L - 1:
        values = {row["metric"]: row["value"] for row in find(rows, "lens", layer=layer)}
        assert (values["kl"], values["kl_reverse"], values["top_1"], values["top_5"]) == (
            0,
            0,
            1,
            1,
        )


@pytest.mark.parametrize("positions", contribution.POSITIONS)
def test_contributions_and_norms_with_and_without_the_first_token(rows, traces, positions):
    for layer in range(L):
        h, document_N, position_N = at(traces, layer, "block_in")
        a, m, out = (
            at(traces, layer, name)[0] for name in ("attention_out", "mlp_out", "block_out")
        )
        kept = position_N >= (positions == "others")
        expected = {"residual_norm": np.linalg.norm(out, axis=1)}
        for name, (part, whole) in {
            "attention_norm": (a, h),
            "mlp_norm": (m, h),
            "mlp_norm_after_attention": (m, h + a),
        }.items():
            sizes = [np.linalg.norm(each, axis=1) for each in (part, whole)]
            expected[name] = sizes[0] / sizes[1]
            cosine = (part * whole).sum(axis=1) / (sizes[0] * sizes[1])
            expected[name.replace("norm", "cosine")] = cosine
        assert expected.keys() == contribution.READINGS.keys()
        for name, value_N in expected.items():
            (row,) = find(rows, "contribution", metric=name, layer=layer, positions=positions)
            assert row["value"] == pytest.approx(value_N[kept].mean(), rel=1e-5, abs=1e-6), name
            sums, tokens = (np.bincount(document_N[kept], w) for w in (value_N[kept], None))
            (interval,) = ratio_intervals(sums[None], tokens)
            assert row["ci95"] == pytest.approx(interval[1:].tolist(), rel=1e-4, abs=1e-5), name


def test_massive_activations_are_the_largest_entries(rows, traces):
    for layer in range(L):
        x_ND, document_N, position_N = at(traces, layer, "block_out")
        found = find(rows, "massive", layer=layer)
        sizes = np.sort(np.abs(x_ND).ravel())[::-1]
        assert [abs(row["value"]) for row in found] == pytest.approx(
            sizes[: outliers.TOP], rel=1e-5
        )
        for row in found:
            here = (document_N == row["document"]) & (position_N == row["position"])
            assert x_ND[here][0, row["neuron"]] == pytest.approx(row["value"], rel=1e-5)
            median = np.median(np.median(np.abs(x_ND), axis=1))
            assert row["median"] == pytest.approx(median, rel=1e-5)
            assert row["massive"] is False


def planted():
    """A model in whose layer 2 hidden neuron 7 writes a huge entry to neuron 3 at every token."""
    params = random_params(CONFIG)
    layers = list(params["layers"])
    kernel_FD = np.array(tree.get(layers[2], "down_proj"))
    kernel_FD[7, 3] = 2e5
    for name in ("gate_proj", "up_proj"):
        kernel_DF = np.array(tree.get(layers[2], name))
        kernel_DF[:, 7] *= 20
        layers[2] = tree.replace(layers[2], {name: kernel_DF})
    layers[2] = tree.replace(layers[2], {"down_proj": kernel_FD})
    return {**params, "layers": tuple(layers)}


def test_a_planted_super_weight_is_found_and_its_controls_are_not():
    params = planted()
    sweep = Sweep(CONFIG, [BASE], BATCHES, depth_use.PROFILE, SweepOptions(widths=(1,)))
    sweep.place(params)
    rows = depth_use.profile_rows(sweep.run(0), [BASE], text="letters")
    assert {row["layer"] for row in find(rows, "massive", massive=True)} == {2, 3, 4}
    candidates = find(rows, "candidate")
    variants = outliers.removal_variants(params, candidates, 2, 0)
    assert len(variants) == outliers.removals(candidates, 2) == 1 + 2 * (1 + outliers.CONTROLS)
    found, *controls = variants[1 : 2 + outliers.CONTROLS]
    assert (found.labels["layer"], found.labels["row"], found.labels["column"]) == (2, 7, 3)
    assert found.labels["contribution"] == pytest.approx(1, abs=1e-3)
    assert found.labels["control"] is None
    assert [each.labels["control"] for each in controls] == [0, 1, 2, 3]
    assert len({each.name for each in variants}) == len(variants)
    for each in variants[1:]:
        block = params["layers"][each.labels["layer"]]
        edit = each.steps[each.labels["layer"]].edit
        new = edit.function(block, **dict(edit.arguments))
        changed = np.argwhere(tree.get(new, "down_proj") != tree.get(block, "down_proj"))
        assert changed.tolist() == [[each.labels["row"], each.labels["column"]]]
        assert tree.get(new, "down_proj")[tuple(changed[0])] == 0


def test_controls_are_of_nearly_the_same_size(monkeypatch):
    monkeypatch.setattr(outliers, "CLOSEST", 8)
    place = {"layer": 1, "hidden_neuron": 3, "out_neuron": 5}
    candidates = [place | {"hidden_value": 1.0, "out_value": 2.0}]
    kernel_FD = np.abs(tree.get(PARAMS["layers"][1], "down_proj"))
    controls = outliers.removal_variants(PARAMS, candidates, 1, 0)[2:]
    assert all((each.labels["row"], each.labels["column"]) != (3, 5) for each in controls)
    apart = sorted(abs(size - kernel_FD[3, 5]) for size in kernel_FD.ravel().tolist())
    found = [abs(abs(each.labels["weight"]) - kernel_FD[3, 5]) for each in controls]
    assert len({*found}) == outliers.CONTROLS
    assert max(found) <= apart[8]


def test_what_is_not_finite_has_no_value():
    values = np.array([[[1.0, 2.0, np.inf, 1.0], [1.0, 1.0, 1.0, 1.0]]])
    measured = Measured(values, (), ("v",), np.arange(2), np.array([0, 0, 1, 1]))
    one, two = layer_means(measured, "v", {"kind": "x"})
    assert (one["value"], one["ci95"]) == (None, None)
    assert two["value"] == 1
