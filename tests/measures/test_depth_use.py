"""Logit lens, contributions, norms, massive activations, super weights: against plain loops."""

import numpy as np
import pytest
from naive import CONFIG, log_softmax, naive_trace, random_params, text

from jaxanatomy import model, tree
from jaxanatomy.forensics import blocks
from jaxanatomy.interventions.variants import baseline, baseline_steps
from jaxanatomy.measures import depth_use
from jaxanatomy.measures.readings import contribution, lens, outliers
from jaxanatomy.measures.readings.layer_means import layer_means
from jaxanatomy.measures.statistics.estimates import ratio_intervals
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
    variants = outliers.removal_variants(params, candidates, 2, seed=0)
    # Four of the size of each, and the largest of each of the other three layers.
    assert len(variants) == outliers.removals(candidates, 2) == 1 + 2 * (1 + 4) + 3
    # A layer that writes nothing, or nothing finite, has no candidate.
    for silent in ({"out_value": 0.0}, {"out_value": None}, {"hidden_value": None}):
        fewer = [row | silent if row["layer"] == 2 else row for row in candidates]
        own = outliers.removal_variants(params, fewer, L, seed=0)
        assert len(own) == outliers.removals(fewer, L) == 1 + (L - 1) * (1 + 4) + 1
    found, *controls = variants[1:6]
    assert (found.labels["layer"], found.labels["row"], found.labels["column"]) == (2, 7, 3)
    assert found.labels["contribution"] == pytest.approx(1, abs=1e-3)
    assert found.labels["control"] is None
    # No weight is as large as the planted one.
    assert [each.labels["control"] for each in controls] == ["nearest"] * 4
    assert [each.labels["control_of"] for each in controls] == [2] * 4
    assert [each.labels["control"] for each in variants[-3:]] == ["largest"] * 3
    sizes = [abs(each.labels["weight"]) for each in variants[-3:]]
    assert sizes == sorted(sizes, reverse=True)
    tried = {variants[1].labels["layer"], variants[6].labels["layer"]}
    others = [layer for layer in range(L) if layer not in tried]
    assert sorted(each.labels["layer"] for each in variants[-3:]) == others
    for each in variants[-3:]:
        kernel_FD = tree.get(params["layers"][each.labels["layer"]], "down_proj")
        assert abs(each.labels["weight"]) == np.abs(kernel_FD).max()
    assert len({each.name for each in variants}) == len(variants)
    for each in variants[1:]:
        block = params["layers"][each.labels["layer"]]
        edit = each.steps[each.labels["layer"]].edit
        new = edit.function(block, **dict(edit.arguments))
        changed = np.argwhere(tree.get(new, "down_proj") != tree.get(block, "down_proj"))
        assert changed.tolist() == [[each.labels["row"], each.labels["column"]]]
        assert tree.get(new, "down_proj")[tuple(changed[0])] == 0


def naive_controls(kernels, place, taken, seed):
    """Four of the same size in a plain loop over all weights; the nearest where there are fewer."""
    own_layer, own_row, own_column = place
    size, within, beyond = abs(kernels[own_layer][own_row, own_column]), [], []
    for layer, kernel_FD in enumerate(kernels):
        for row in range(kernel_FD.shape[0]):
            for column in range(kernel_FD.shape[1]):
                if column == own_column or (layer, row) == (own_layer, own_row):
                    continue
                if (layer, row, column) in taken:
                    continue
                apart = abs(abs(kernel_FD[row, column]) - size)
                near = within if apart <= size * 10 / 100 else beyond
                near.append((apart, layer, row, column))
    picked = np.random.default_rng(seed).choice(len(within), min(4, len(within)), replace=False)
    found = [(within[at][1:], "similar") for at in picked]
    return found + [(each[1:], "nearest") for each in sorted(beyond)[: 4 - len(found)]]


@pytest.mark.parametrize("alike", [None, 4, 3, 0])
def test_controls_of_a_weight_are_those_of_a_plain_loop(alike):
    """Of a weight as others are, and of a huge one with so many of its size beside it."""
    kernels = [np.array(tree.get(own, "down_proj")) for own in PARAMS["layers"]]
    if alike is not None:
        kernels[1][3, 5] = 50.0
        kernels[0][0, 5] = kernels[1][3, 6] = kernels[1][4, 5] = 50.0  # its column, its row
        for at in range(alike):
            kernels[at % 2][7 + at, 1] = -50.0 + at
        kernels[3][0, 0] = 50.0  # the largest of its layer, a control already
    layers = [
        tree.replace(own, {"down_proj": kernel})
        for own, kernel in zip(PARAMS["layers"], kernels, strict=True)
    ]
    place = {"layer": 1, "hidden_neuron": 3, "out_neuron": 5}
    candidates = [place | {"hidden_value": 1.0, "out_value": 2.0}]
    variants = outliers.removal_variants({**PARAMS, "layers": tuple(layers)}, candidates, 1, seed=3)
    places = [(v.labels["layer"], v.labels["row"], v.labels["column"]) for v in variants[1:]]
    kinds = [variant.labels["control"] for variant in variants[1:]]
    expected = naive_controls(kernels, (1, 3, 5), places[5:], seed=3)
    assert kinds[5:] == ["largest"] * (L - 1)
    assert list(zip(places[1:5], kinds[1:5], strict=True)) == expected
    assert kinds.count("similar") == (4 if alike is None else alike)
    assert len({*places}) == len(places)


def test_controls_are_drawn_with_the_seed_from_all_layers():
    place = {"layer": 1, "hidden_neuron": 3, "out_neuron": 5}
    candidates = [place | {"hidden_value": 1.0, "out_value": 2.0}]
    drawn = [
        [
            (each.labels["layer"], each.labels["row"], each.labels["column"])
            for each in outliers.removal_variants(PARAMS, candidates, 1, seed)[2:6]
        ]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({layer for layer, _, _ in drawn[0] + drawn[2]}) > 1


def removal_rows(candidate, similar=(0.0,) * 4, largest=(0.0,) * 4, noise=0.1, seed=0, tried=1):
    """Rows of removals that raise the loss by so much, in nats, on eight documents."""
    rng = np.random.default_rng(seed)

    def row(rise, layer, control, at, of=None):
        return {
            "variant": f"without_weight/{layer}/{control},{at}",
            "layer": layer,
            "control": control,
            "control_of": of,
            "degradation_percent": 100 * np.expm1(rise),
            "unit_nll": (10 * (3 + rise + noise * rng.normal(size=8))).tolist(),
            "unit_tokens": [10] * 8,
        }

    rows = [{**row(0.0, 0, None, 0), "variant": "baseline"}]
    for layer in range(tried):
        rows.append(row(candidate, layer, None, 0))
        # Controls may be of any layer.
        rows += [row(rise, 20 + at, "similar", layer, layer) for at, rise in enumerate(similar)]
    return rows + [row(rise, 9 + at, "largest", at) for at, rise in enumerate(largest)]


DOUBLED = np.log(2.0)


def test_a_super_weight_ruins_the_model_and_no_control_does():
    def verdicts(*arguments, **more):
        found = outliers.super_weights(removal_rows(*arguments, **more))
        return [row["is_super"] for row in found]

    assert verdicts(3.0) == [True]
    assert verdicts(3.0, tried=3) == [True] * 3
    assert verdicts(0.5) == [False]  # it costs, but the model lives
    assert verdicts(3.0, similar=(0.0, 0.0, 3.0, 0.0)) == [False]
    assert verdicts(3.0, largest=(0.0, 3.0)) == [False]
    assert verdicts(3.0, largest=()) == [True]
    assert verdicts(np.inf) == [None]
    (found,) = outliers.super_weights(removal_rows(3.0))
    assert [row["control"] for row in found["controls"]] == ["similar"] * 4 + ["largest"] * 4
    assert outliers.super_weights(removal_rows(3.0)[:1]) == []


@pytest.mark.parametrize(
    "world", [{"candidate": DOUBLED}, {"candidate": 2.0, "similar": (0.0, 2.0)}, {"candidate": 0.0}]
)
def test_noise_makes_no_super_weight(world):
    """On the threshold, or no worse than a control: one run of twenty names any of three."""
    runs = [removal_rows(**world, noise=0.5, seed=seed, tried=3) for seed in range(200)]
    named = [any(row["is_super"] for row in outliers.super_weights(rows)) for rows in runs]
    assert sum(named) <= 0.05 * 200 + 6


def test_what_is_not_finite_has_no_value():
    values = np.array([[[1.0, 2.0, np.inf, 1.0], [1.0, 1.0, 1.0, 1.0]]])
    measured = Measured(values, (), ("v",), np.arange(2), np.array([0, 0, 1, 1]))
    one, two = layer_means(measured, "v", {"kind": "x"})
    assert (one["value"], one["ci95"]) == (None, None)
    assert two["value"] == 1


def contributions(value_L, metric="attention_norm", positions="all"):
    labels = {"kind": "contribution", "metric": metric, "positions": positions, "model": "m"}
    return [
        {**labels, "text": "t", "layer": layer, "value": value}
        for layer, value in enumerate(value_L)
    ]


def test_contributions_that_repeat_are_named_of_all_that_were_looked_at():
    rng = np.random.default_rng(0)
    rows = []
    for metric in contribution.PERIODIC:
        for positions in contribution.POSITIONS:
            value_L = rng.normal(size=24)
            if (metric, positions) == ("attention_cosine", "others"):
                value_L = 0.2 * value_L + np.tile([0.0, 1.0, 2.0, 4.0], 6)
            rows += contributions(value_L.tolist(), metric, positions)
    found = depth_use.period_rows(rows[::-1], "m", (1, 2, 4), 1000, 0)
    assert len(found) == 4 * 2 * 2
    (named,) = depth_use.summarise([*rows, *found])["models"]["m"]["repeats"]
    assert (named["metric"], named["positions"], named["block"]) == (
        "attention_cosine",
        "others",
        4,
    )
    (own,) = (row for row in found if row["p"] == named["p"])
    literal = blocks.periodicity_of(value_of(rows, "attention_cosine", "others"), 4, 1000, 0)
    assert own.items() >= literal.items()
    lost = contributions([1.0, None, 2.0, 4.0, 3.0])
    (lost_row,) = (
        row
        for row in depth_use.period_rows([*lost, *rows[24:]], "m", (2,), 50, 0)
        if (row["metric"], row["positions"]) == ("attention_norm", "all")
    )
    assert (lost_row["value"], lost_row["p"]) == (None, None)


def value_of(rows, metric, positions):
    return [r["value"] for r in rows if (r["metric"], r["positions"]) == (metric, positions)]
