"""Effects of layers on later ones and on the output are those of a plain loop."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, naive_trace, random_params, text

from jaxanatomy import model
from jaxanatomy.config import LayerShape
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import baseline_steps
from jaxanatomy.measures.depth_score import changes
from jaxanatomy.measures.readings import effects
from jaxanatomy.model import rope
from jaxanatomy.sweep import Measured, Reading, Sweep, SweepOptions

BATCHES = [text(rows=2, seed=1), text(rows=2, seed=2, start=6)]
DOCUMENTS = 12
WINDOWED = CONFIG.with_layers([LayerShape(4, 2, 24, window=w) for w in (None, 3, 3, None)])
BOUNDARIES = {"paper": ("1/4", "1/2", "1"), "as_published": ("1/2", "3")}


@functools.cache
def compiled(config, layer):
    """A block as a function; layers of one shape share what is compiled."""

    @jax.jit
    def apply(block, x_RTD, arrays, gate):
        tables, bias = rope.tables(config, arrays[0]), model.attention_bias(arrays[1])
        return model.block(config, layer).apply(block, x_RTD, tables, bias, gate)[0]

    first = config.layers.index(config.layers[layer])
    return apply if first == layer else compiled(config, first)


def batch_arrays(batch):
    return batch.position_RT, batch.segment_RT


def sublayers(config, params, layer, batch):
    """Attention and MLP of a layer as functions of the stream that each of them reads."""

    def written(column, x_RTD):
        gate = np.zeros((*batch.token_RT.shape, config.layers[layer].num_heads + 2), np.float32)
        gate[..., column] = 1
        block = {"params": params["layers"][layer]}
        return np.asarray(compiled(config, layer)(block, x_RTD, batch_arrays(batch), gate)) - x_RTD

    return lambda x: written(slice(None, -1), x), lambda x: written(-1, x)


def forward(config, params, batch, x_RTD, start=0, erase=None):
    """What every layer from `start` reads and adds: a loop; `erase` is (layer, part, mask)."""
    inputs, added = [], []
    for layer in range(start, config.num_layers):
        attention, mlp = sublayers(config, params, layer, batch)
        a_RTD = attention(x_RTD)
        silent = erase is not None and erase[0] == layer
        if silent and erase[1] in ("layer", "attention"):
            a_RTD[erase[2]] = 0  # whole vectors of some tokens
        m_RTD = mlp(x_RTD + a_RTD)
        if silent and erase[1] in ("layer", "mlp"):
            m_RTD[erase[2]] = 0
        inputs.append(x_RTD)
        added.append(a_RTD + m_RTD)
        x_RTD = x_RTD + a_RTD + m_RTD
    return inputs, added, x_RTD


def distribution(config, params, x_RTD):
    scores = np.asarray(model.logits(config, params, x_RTD), np.float64)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def naive_changes(config, params, batch, labels):
    """For each later layer, and for the output, the change at every token, [R, T]."""
    source, part = labels["source"], labels["part"]
    erased, _ = naive_masks(batch, labels)
    embedded = np.asarray(model.embed(params, batch.token_RT))
    inputs, clean, end = forward(config, params, batch, embedded)
    found = {}
    if labels["spread"] == "propagated":
        _, added, changed = forward(config, params, batch, embedded, 0, (source, part, erased))
        p, q = (distribution(config, params, each) for each in (end, changed))
        found["output"] = np.sqrt(((p - q) ** 2).sum(axis=-1))
    else:
        attention, mlp = sublayers(config, params, source, batch)
        a = attention(inputs[source])
        m = mlp(inputs[source] + a)
        written = {"layer": a + m, "attention": a, "mlp": m}[part]
        added = list(clean)
        for target in range(source + 1, config.num_layers):
            x = inputs[target].copy()
            x[erased] -= written[erased]
            added[target] = forward(config, params, batch, x, target)[1][0]
    for target in range(source + 1, config.num_layers):
        moved = np.linalg.norm(added[target] - clean[target], axis=-1)
        found[target] = moved / np.maximum(np.linalg.norm(clean[target], axis=-1), 1e-6)
    return found


def naive_masks(batch, labels):
    """Where the source is erased and where is read, token by token, bool [R, T] each."""
    erased, read = np.zeros((2, *batch.token_RT.shape), bool)
    for r, t in np.ndindex(*batch.token_RT.shape):
        window = batch.segment_RT[r, t]
        position, tokens = batch.position_RT[r, t], int((batch.segment_RT == window).sum())
        if window < 0:
            continue
        boundary = labels["boundary"]
        if boundary is None:
            erased[r, t] = position >= (labels["convention"] == "as_published")
            read[r, t] = True
            continue
        last = {"1/4": tokens // 4, "1/2": tokens // 2}.get(boundary) or int(boundary)
        if labels["convention"] == "paper":
            erased[r, t], read[r, t] = position <= last, position > last
        else:
            erased[r, t], read[r, t] = 1 <= position <= last - 1, position >= last
    return erased, read


def expected_row(config, params, labels, target):
    """`value`, `mean` and `examples` from the loop."""
    largest, mean = np.zeros((2, DOCUMENTS))
    for batch in BATCHES:
        _, read = naive_masks(batch, labels)
        change = naive_changes(config, params, batch, labels)[target]
        for document in np.unique(batch.segment_RT[batch.segment_RT >= 0]):
            own = change[read & (batch.segment_RT == document)]
            largest[document], mean[document] = own.max(), own.mean()
    return {"value": largest.max(), "mean": mean.mean(), "examples": largest}


def run(config, params, spread, convention, readings, whens=effects.WHENS):
    boundaries = BOUNDARIES[convention]
    effects.require_boundaries(boundaries, convention, BATCHES)
    places = effects.places(whens, boundaries)
    text = effects.branched(config, BATCHES, convention, places)
    variants = effects.effect_variants(config, spread, convention=convention)
    sweep = Sweep(config, variants, text, readings, SweepOptions(widths=(3, 1), chunk_size=8))
    sweep.place(params)
    parts = [sweep.run(chunk) for chunk in range(len(sweep.chunks))]
    measured = {name: Measured.joined([part[name] for part in parts]) for name in readings}
    return variants, places, measured


def unit(row):
    """What a row is of, beside its variant."""
    of = "output" if row["kind"] == "output" else f"target {row['target']}"
    return " ".join(filter(None, (row["when"], row["boundary"], of)))


@pytest.mark.parametrize("convention", effects.CONVENTIONS)
@pytest.mark.parametrize("spread", effects.SPREADS)
@pytest.mark.parametrize(
    ("config", "whens"),
    [
        (CONFIG, effects.WHENS),
        (CONFIG, (effects.FUTURE,)),
        pytest.param(MIXED_SHAPES, effects.WHENS, marks=pytest.mark.slow),
        pytest.param(WINDOWED, effects.WHENS, marks=pytest.mark.slow),
    ],
    ids=["grouped", "future", "mixed", "windowed"],
)
def test_effects_are_those_of_a_plain_loop(config, whens, spread, convention):
    params = random_params(config)
    readings = effects.readings(spread)
    variants, places, measured = run(config, params, spread, convention, readings, whens)
    rows = effects.effect_rows(measured, variants, places=places, text="letters")
    L = config.num_layers
    listed = [(v.labels, each) for v in variants for each in effects.units(v, places, L)]
    assert [each for _, each in listed] == [unit(row) for row in rows]
    assert len(set((row["source"], row["part"], unit(row)) for row in rows)) == len(rows)
    for number in np.random.default_rng(0).choice(len(rows), 16, replace=False):
        row = rows[number]
        assert row.items() >= listed[number][0].items()
        target = row["target"] if row["kind"] == "effect" else "output"
        for field, value in expected_row(config, params, row, target).items():
            np.testing.assert_allclose(row[field], value, rtol=1e-5, atol=1e-6, err_msg=str(row))


@pytest.mark.parametrize("convention", effects.CONVENTIONS)
def test_what_is_erased_are_tokens_with_all_their_channels(convention):
    params = random_params(CONFIG)
    point = {name: Reading(lambda s, c: s[0], name) for name in ("block_in", "block_out")}
    variants, places, found = run(CONFIG, params, "propagated", convention, point)
    along = found["block_in"]
    clean = [naive_trace(CONFIG, params, baseline_steps(CONFIG.num_layers), b) for b in BATCHES]
    masks = 0
    layers = [variant for variant in variants if variant.labels["part"] == "layer"]
    for variant, (number, (_, boundary)) in itertools.product(layers, enumerate(places)):
        source = variant.labels["source"]
        sequence_N = read_as_one(along.documents, along.positions, along.branches, number)
        before, after = (found[name][variant.name][source][sequence_N] for name in point)
        masks += 1
        erased_N, clean_ND = [], []
        for batch, trace in zip(BATCHES, clean, strict=True):
            real = batch.segment_RT >= 0
            erased_N.append(naive_masks(batch, variant.labels | {"boundary": boundary})[0][real])
            clean_ND.append(np.asarray(trace[source][1]["block_out"])[real])
        erased_N, clean_ND = np.concatenate(erased_N), np.concatenate(clean_ND)
        assert (convention, boundary) == ("paper", None) or 0 < erased_N.sum() < len(erased_N)
        np.testing.assert_array_equal(after[erased_N], before[erased_N])
        np.testing.assert_allclose(after[~erased_N], clean_ND[~erased_N], rtol=1e-5, atol=1e-5)
        assert (np.abs(after - before)[~erased_N].max(axis=-1) > 1e-3).all()
    assert masks == CONFIG.num_layers * (1 + len(BOUNDARIES[convention]))


def read_as_one(document_N, position_N, branch_N, branch):
    """Where the tokens of each prompt stand as a branch has it, or (0) the trunk."""
    found = []
    for document in range(DOCUMENTS):
        (own,) = np.nonzero((document_N == document) & (branch_N == branch))
        trunk = (document_N == document) & (branch_N == 0) & (position_N < position_N[own[0]])
        found += [*np.flatnonzero(trunk), *own]
    return np.array(found)


def test_local_effects_need_a_layer_application_for_each_pair_and_few_streams():
    variants = effects.effect_variants(CONFIG, "local", parts=("layer",))
    readings = effects.readings("local")
    options = SweepOptions(widths=(2, 1), pool_megabytes=1)
    sweep = Sweep(CONFIG, variants, BATCHES, readings, options)
    L = CONFIG.num_layers
    assert sweep.distinct_applications == L + L * (L - 1) // 2


def test_heatmaps_hold_the_largest_and_the_mean_over_boundaries():
    labels = {"kind": "effect", "convention": "paper", "part": "mlp", "spread": "local"}
    rows = [
        labels | {"when": "future", "source": source, "target": target, "value": v, "mean": m}
        for source, target, v, m in [
            (0, 1, 1.0, 0.5),
            (0, 1, 3.0, 0.0),
            (0, 2, 2.0, 1.0),
            (1, 2, None, 4.0),
        ]
    ]
    ((key, found),) = effects.heatmaps([*rows, {"kind": "output"}]).items()
    nan = np.nan
    assert key == ("paper", "mlp", "local", "future")
    np.testing.assert_array_equal(found["value"], [[nan, 3, 2], [nan, nan, np.inf], [nan] * 3])
    np.testing.assert_array_equal(found["mean"], [[nan, 0.25, 1], [nan, nan, 4], [nan] * 3])


def test_changes_of_which_a_layer_is_missing_are_left_out():
    """A stopped run has no score of fewer layers than the model has."""

    def rows():
        for source in range(3):
            labels = {"convention": "paper", "part": "layer", "spread": "propagated"}
            labels |= {"when": "future", "source": source}
            yield {"kind": "output", **labels, "target": None, "examples": [1.0 + source, 2.0]}
            for target in range(source + 1, 3):
                yield {"kind": "effect", **labels, "target": target, "examples": [3.0, target]}

    key = ("paper", "layer")
    whole = [*rows()]
    np.testing.assert_array_equal(changes(whole, "output")[key], [[1, 2, 3], [2, 2, 2]])
    np.testing.assert_array_equal(changes(whole, "layer")[key], [[3, 3, 0], [2, 2, 0]])
    kept = [row for row in whole if (row["kind"], row["source"]) != ("output", 0)]
    assert changes(kept, "output") == {}
    kept = [row for row in whole if (row["kind"], row["source"]) != ("effect", 1)]
    assert changes(kept, "layer") == {}


@pytest.mark.parametrize(
    ("boundaries", "convention", "message"),
    [
        (("1/4", "3/4"), "paper", "boundary 3/4 needs .* prompt 0 has 4 tokens"),
        (("1/4",), "as_published", "boundary 1/4 needs a token to erase .* has 4 tokens"),
        (("5",), "paper", "boundary 5 needs a token to erase and one to read"),
        (("1",), "as_published", "boundary 1 needs"),
        (("4/4",), "paper", "a boundary is a part of a prompt below 1 .*; got '4/4'"),
        (("1/0",), "paper", "got '1/0'"),
        (("-1",), "paper", "got '-1'"),
        (("half",), "paper", "got 'half'"),
        (("9" * 20,), "paper", "got '9{20}'"),
        (("1/" + "9" * 20,), "paper", "got '1/9{20}'"),
        (("1/4", "1/4"), "paper", "boundaries"),
        (("1/4", "2/8"), "paper", "boundaries 1/4 and 2/8 are the same one"),
        (("1", "01"), "paper", "boundaries 1 and 01 are the same one"),
        (("1/4",), "papers", "unknown convention 'papers'; did you mean 'paper'"),
    ],
)
def test_boundaries_that_prompts_have_no_room_for_are_refused(boundaries, convention, message):
    with pytest.raises(InputError, match=message):
        effects.require_boundaries(boundaries, convention, BATCHES)


def test_a_prompt_of_several_windows_is_refused():
    batch = text(rows=2, seed=1)
    batch.document_P[batch.document_P == 4] = 1
    with pytest.raises(InputError, match="must fit into one window; prompt 1 does not"):
        effects.require_boundaries(("1/4",), "paper", [batch])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": ("layers",)}, "unknown part 'layers'; did you mean 'layer'"),
        ({"convention": "published"}, "unknown convention 'published'"),
        ({"spread": "global"}, "unknown spread 'global'"),
    ],
)
def test_unknown_words_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        effects.effect_variants(CONFIG, **{"spread": "local", **change})


def test_an_unknown_when_is_refused():
    with pytest.raises(InputError, match="unknown when 'now'"):
        effects.places(("now",))


def test_local_effects_of_one_layer_are_refused():
    one = dataclasses.replace(CONFIG, layers=CONFIG.layers[:1])
    with pytest.raises(InputError, match="local effects need two layers or more; got 1; leave"):
        effects.effect_variants(one, "local")
    assert effects.effect_variants(one, "propagated", parts=("mlp",))
