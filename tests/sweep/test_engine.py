"""The sweep gives what a naive loop gives, for every kind of variant."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from naive import (
    CONFIG,
    MIXED_SHAPES,
    average,
    double,
    edited,
    naive_kl,
    naive_nll,
    naive_stream,
    random_params,
    replaced,
    text,
)

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import (
    ALL,
    FIRST,
    OTHERS,
    Combination,
    Edit,
    Step,
    Variant,
    baseline,
    baseline_steps,
    closed,
    damped,
    up_to,
)
from jaxanatomy.measures.readings.nll import LOSSES, nll
from jaxanatomy.sweep import Beside, Measured, Sweep, SweepOptions

L = CONFIG.num_layers
BASE = baseline_steps(L)
PARAMS = random_params(CONFIG)
TEXT = text()


def on_host(own, *others):
    """Fails on JAX arrays: a host edit gets NumPy."""
    assert all(type(tree.get(block, "q_proj")) is np.ndarray for block in (own, *others))
    return double(own)


VARIANTS = {
    "baseline": BASE,
    "edit": replaced(BASE, edited(2)),
    "edits of several layers": replaced(BASE, edited(1, double, ()), edited(3), edited(4)),
    "edit of one matrix": replaced(BASE, edited(2, scope=("q_proj",))),
    "edit with norms": replaced(BASE, edited(2, scope=tree.MATRICES + tree.NORMS)),
    "edit on the host": replaced(BASE, Step(1, Edit("h", on_host, (0,), on_host=True))),
    "skip": BASE[:2] + BASE[3:],
    "skip several": BASE[:1] + BASE[4:],
    "skip all": (),
    "swap": (BASE[0], BASE[2], BASE[1], *BASE[3:]),
    "reverse": BASE[::-1],
    "repeat": (*BASE[:3], BASE[2], *BASE[3:]),
    "early exit": BASE[:3],
    "no attention": replaced(BASE, Step(2, factors=closed("attention"))),
    "no mlp": replaced(BASE, Step(2, factors=closed("mlp"))),
    "no head": replaced(BASE, Step(2, factors=closed("head_1", "head_3"))),
    "no mlp at first": replaced(BASE, Step(2, factors=closed("mlp"), positions=FIRST)),
    "skip at others": replaced(BASE, Step(3, factors=closed("mlp", "attention"), positions=OTHERS)),
    "edit at first": replaced(BASE, edited(2, positions=FIRST)),
    "edit up to 2": replaced(BASE, edited(2, positions=up_to(2))),
    "edit and gate": replaced(BASE, edited(2, factors=closed("mlp"))),
    "edit and gate at first": replaced(BASE, edited(1, factors=closed("head_0"), positions=FIRST)),
    "damped parts": replaced(BASE, Step(2, factors={"attention": 0.5, "head_1": -1, "mlp": 0.25})),
    "damped edit at first": replaced(BASE, edited(1, factors={"mlp": 2}, positions=FIRST)),
    "damped repeat": (*BASE[:4], damped(BASE[2:4], 0.5), *BASE[4:]),
    "less what a layer wrote": (
        Combination(((1, BASE[:4]), (-1, BASE[:2]), (1, BASE[:1]))),
        BASE[4],
    ),
    "the same at others": (
        Combination(((1, BASE[:4]), (-1, BASE[:2]), (1, BASE[:1])), OTHERS),
        BASE[4],
    ),
    "a combination that starts anew": (
        BASE[1],
        Combination(((1, BASE[:3]), (-1, BASE[:2]), (1, ())), OTHERS, from_text=True),
        BASE[4],
    ),
    "a combination in a combination": (
        BASE[0],
        damped((BASE[1], Combination(((2, ()), (-0.5, (edited(3),)))), BASE[2]), 0.75),
        BASE[4],
    ),
    "all at once": (
        BASE[1],
        edited(0, double, (), positions=OTHERS),
        Step(3, factors=closed("mlp")),
        edited(4),
        BASE[2],
    ),
}


def run(config, params, variants, batches, options=None, measures=None, **kwargs):
    sweep = Sweep(config, variants, batches, measures or {"nll": nll}, options, **kwargs)
    sweep.place(params)
    parts = [sweep.run(chunk) for chunk in range(len(sweep.chunks))]
    return sweep, {name: Measured.joined([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture(scope="module")
def all_at_once():
    variants = [Variant(name, steps) for name, steps in VARIANTS.items()]
    return run(CONFIG, PARAMS, variants, [TEXT], SweepOptions(widths=(4, 2, 1)))


@pytest.mark.parametrize("name", VARIANTS)
def test_sweep_equals_naive_loop(all_at_once, name):
    _, readings = all_at_once
    expected = naive_nll(CONFIG, PARAMS, VARIANTS[name], TEXT)
    np.testing.assert_allclose(readings["nll"][name], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def beside_clean():
    variants = [Variant(name, steps) for name, steps in VARIANTS.items()]
    return run(CONFIG, PARAMS, variants, [TEXT], SweepOptions(widths=(4, 2, 1)), LOSSES)


@pytest.mark.parametrize("name", VARIANTS)
def test_kl_to_the_unchanged_model_equals_that_of_whole_logits(all_at_once, beside_clean, name):
    _, readings = beside_clean
    assert set(readings) == {"nll", "kl"}
    expected = naive_kl(CONFIG, PARAMS, VARIANTS[name], TEXT)
    np.testing.assert_allclose(readings["kl"][name], expected, rtol=1e-5, atol=1e-6)
    assert (expected.max() > 1e-3) == (name != "baseline")
    alone = all_at_once[1]["nll"][name]
    np.testing.assert_allclose(readings["nll"][name], alone, rtol=1e-6, atol=1e-6)


def test_what_does_not_change_the_model_has_no_kl_at_all(beside_clean):
    assert np.array_equal(beside_clean[1]["kl"]["baseline"], np.zeros(len(TEXT.predict_P)))
    variants = [Variant("neutral", replaced(BASE, edited(2, lambda own: own, ())))]
    for widths in ((1,), (3, 1)):
        _, readings = run(CONFIG, PARAMS, variants, [TEXT], SweepOptions(widths=widths), LOSSES)
        assert np.array_equal(readings["kl"]["neutral"], np.zeros(len(TEXT.predict_P)))


def test_a_measure_beside_the_clean_stream_gets_it_whole():
    def change(streams, context):
        x_CRTD, clean_1RTD = streams
        return jnp.abs(x_CRTD - clean_1RTD).max(axis=(1, 2, 3))

    variants = [Variant(name, VARIANTS[name]) for name in ("skip", "baseline", "early exit")]
    options = SweepOptions(widths=(2, 1))
    measures = {"change": Beside(change)}
    _, readings = run(CONFIG, PARAMS, variants, [TEXT], options, measures)
    clean = naive_stream(CONFIG, PARAMS, BASE, TEXT)
    for variant in variants:
        got = readings["change"][variant.name]
        expected = jnp.abs(naive_stream(CONFIG, PARAMS, variant.steps, TEXT) - clean).max()
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_clean_stream_is_no_work_where_it_runs_anyway(beside_clean, all_at_once):
    assert beside_clean[0].distinct_applications == all_at_once[0].distinct_applications


@pytest.mark.slow
def test_kl_does_not_depend_on_chunks_slots_and_rows():
    batches = [text(rows=3, seed=1), text(rows=3, seed=2, start=9)]
    names = ["skip", "early exit", "edit at first", "edit and gate", "reverse"]
    variants = [Variant(name, VARIANTS[name]) for name in names]
    for options in (SweepOptions(widths=(2, 1), chunk_size=2), SweepOptions(widths=(1,))):
        _, readings = run(CONFIG, PARAMS, variants, batches, options, LOSSES)
        for name in names:
            kl = [naive_kl(CONFIG, PARAMS, VARIANTS[name], batch) for batch in batches]
            np.testing.assert_allclose(
                readings["kl"][name], np.concatenate(kl), rtol=1e-5, atol=1e-6
            )


def test_no_two_kinds_of_variant_agree_by_accident(all_at_once):
    _, readings = all_at_once
    totals = readings["nll"].values.sum(axis=1).tolist()
    assert len({round(total, 4) for total in totals}) == len(VARIANTS)


def applied(steps, parent=()):
    """Every application that steps need, each named by the steps that lead to it."""
    for step in steps:
        if isinstance(step, Combination):
            for _, branch in step.terms:
                yield from applied(branch, () if step.from_text else parent)
        elif step.edit is None:
            yield parent, step
        else:  # an edit at some positions runs in full, beside the clean layer
            yield parent, dataclasses.replace(step, positions=ALL)
            if step.positions != ALL:
                yield parent, Step(step.layer)
        anew = isinstance(step, Combination) and step.from_text
        parent = (step,) if anew else (*parent, step)


def test_application_counts_are_those_that_ran(all_at_once):
    sweep, _ = all_at_once
    distinct = {each for steps in VARIANTS.values() for each in applied(steps)}
    assert sweep.distinct_applications == len(distinct)
    assert sweep.executed_applications >= sweep.distinct_applications


def test_neutral_edit_is_equal_to_the_bit():
    def neutral(own, *others):
        return own

    variants = [baseline(L), Variant("neutral", replaced(BASE, edited(2, neutral, ())))]
    _, readings = run(CONFIG, PARAMS, variants, [TEXT])
    assert np.array_equal(readings["nll"]["baseline"], readings["nll"]["neutral"])


def test_widths_chunks_and_slots_do_not_change_results():
    names = ["baseline", "edits of several layers", "edit and gate at first", "reverse", "no head"]
    variants = [Variant(name, VARIANTS[name]) for name in names]
    _, expected = run(CONFIG, PARAMS, variants, [TEXT], SweepOptions(widths=(1,)))
    for options in (
        SweepOptions(widths=(3, 2, 1)),
        SweepOptions(widths=(2, 1), chunk_size=2),
        SweepOptions(widths=(1,), pool_megabytes=1),
    ):
        _, readings = run(CONFIG, PARAMS, variants, [TEXT], options)
        assert list(readings["nll"].variants) == names
        for name in names:
            got = readings["nll"][name]
            np.testing.assert_allclose(got, expected["nll"][name], rtol=1e-5, atol=1e-5)


def test_several_rows_and_batches():
    batches = [text(rows=3, seed=1), text(rows=3, seed=2, start=9)]
    variants = [Variant(name, VARIANTS[name]) for name in ("baseline", "edit at first", "skip")]
    _, readings = run(CONFIG, PARAMS, variants, batches, SweepOptions(widths=(2, 1)))
    for variant in variants:
        expected = [naive_nll(CONFIG, PARAMS, variant.steps, batch) for batch in batches]
        found = readings["nll"][variant.name]
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5, atol=1e-5)


def test_layers_may_differ_in_heads_and_widths():
    params = random_params(MIXED_SHAPES)
    base = baseline_steps(4)
    variants = [
        Variant("baseline", base),
        Variant("edit", replaced(base, edited(1, average, (0,)))),
        Variant(
            "heads",
            replaced(base, Step(1, factors=closed("head_3")), Step(2, factors=closed("head_1"))),
        ),
        Variant(
            "mlps", replaced(base, Step(2, factors=closed("mlp")), Step(3, factors=closed("mlp")))
        ),
        Variant("swap", (base[3], base[1], base[2], base[0])),
    ]
    _, readings = run(MIXED_SHAPES, params, variants, [TEXT], SweepOptions(widths=(2, 1)))
    for variant in variants:
        expected = naive_nll(MIXED_SHAPES, params, variant.steps, TEXT)
        np.testing.assert_allclose(readings["nll"][variant.name], expected, rtol=1e-5, atol=1e-5)


def test_padding_is_never_read():
    poisoned = TEXT.token_RT.copy()
    poisoned[TEXT.segment_RT < 0] = 7
    variants = [baseline(L), Variant("edit", replaced(BASE, edited(2)))]
    _, expected = run(CONFIG, PARAMS, variants, [TEXT])
    _, readings = run(
        CONFIG, PARAMS, variants, [TEXT.__class__(**{**vars(TEXT), "token_RT": poisoned})]
    )
    for name in ("baseline", "edit"):
        assert np.array_equal(readings["nll"][name], expected["nll"][name])


def test_an_intervention_that_changes_shapes_is_refused():
    def narrower(own):
        return tree.replace(own, {"up_proj": tree.get(own, "up_proj")[:, 1:]})

    steps = replaced(BASE, edited(2, narrower, (), scope=("up_proj",)))
    with pytest.raises(InputError, match=r"must keep shapes; narrower gave up_proj \(16, 23\)"):
        run(CONFIG, PARAMS, [Variant("v", steps)], [TEXT])


def test_bfloat16_is_close_and_sums_in_float32():
    _, exact = run(CONFIG, PARAMS, [baseline(L)], [TEXT])
    _, rough = run(CONFIG, PARAMS, [baseline(L)], [TEXT], SweepOptions(dtype="bfloat16"))
    exact, rough = exact["nll"]["baseline"], rough["nll"]["baseline"]
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("host", [False, True])
def test_edits_see_float32_weights_whatever_the_compute_dtype(host):
    seen = []

    def watch(own):
        seen.append(tree.get(own, "up_proj").dtype)
        return double(own)

    steps = replaced(BASE, Step(2, Edit("watch", watch, on_host=host)))
    options = SweepOptions(dtype="bfloat16")
    _, readings = run(CONFIG, PARAMS, [baseline(L), Variant("v", steps)], [TEXT], options)
    assert seen == [np.float32]
    expected = naive_nll(CONFIG, PARAMS, replaced(BASE, edited(2, double, ())), TEXT)
    assert np.abs(readings["nll"]["v"] - expected).max() < 0.05 * np.abs(expected).max()


def test_progress_ends_at_the_announced_number_of_applications():
    batches = [text(rows=2, seed=seed, start=6 * seed) for seed in range(3)]
    variants = [Variant(name, steps) for name, steps in VARIANTS.items()]
    sweep = Sweep(CONFIG, variants, batches, {"nll": nll}, SweepOptions(widths=(1,), chunk_size=12))
    sweep.place(PARAMS)
    reported = []
    sweep.run(1, reported.append)
    assert sum(reported) == sweep.applications(1) == 3 * sweep.schedules[1].distinct


def test_programs_are_compiled_before_the_run_and_never_again(monkeypatch):
    calls = []
    sweep = Sweep(CONFIG, [baseline(L)], [TEXT], {"nll": lambda s, c: calls.append(1) or nll(s, c)})
    sweep.compile()
    traced = len(calls)
    sweep.place(PARAMS)
    sweep.run(0)
    sweep.run(0)
    assert traced == len(calls) == 1


def test_the_anchor_alone_is_a_chunk():
    sweep = Sweep(CONFIG, [], [TEXT], {"nll": nll}, anchor=baseline(L))
    sweep.place(PARAMS)
    _, expected = run(CONFIG, PARAMS, [baseline(L)], [TEXT])
    assert np.array_equal(sweep.run(0)["nll"]["baseline"], expected["nll"]["baseline"])
