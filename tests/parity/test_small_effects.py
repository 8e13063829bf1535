"""All effects of a small model, and what it does unedited, against plain loops over transformers.

Needs the `[parity]` extra (torch); no real weights. Both conventions, the three parts, current and
future, propagated and local, largest and mean; the logit lens, contributions and residual norms.
"""

import dataclasses
import importlib.util
import itertools
import pathlib

import numpy as np
import pytest
from parity_marks import PARITY

from jaxanatomy import weights
from jaxanatomy.data.text import Text
from jaxanatomy.interventions.variants import BASELINE, baseline
from jaxanatomy.measures.readings import contribution, effects, lens
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Measured, Sweep

torch = pytest.importorskip("torch", reason="needs the [parity] extra")

from torch_effects import erased, local, relative, sublayers, watched  # noqa: E402

pytestmark = [*PARITY]

RELATIVE, ABSOLUTE = 1e-3, 1e-6
LAYERS, VOCABULARY = 4, 97
TEXT = Text("small", ("rain fell", "and the sea rose", "until night"))
BOUNDARIES = {"1/4": 0.25, "1/2": 0.5, "3/4": 0.75}
RUNS = {"propagated": erased, "local": local}


class Letters:
    """One token for each character."""

    vocab_size, bos_id, eos_id, adds_bos = VOCABULARY, None, None, False

    def encode(self, text):
        return [ord(character) % VOCABULARY for character in text]


PROMPTS = [torch.tensor([Letters().encode(document)]) for document in TEXT.documents]


@pytest.fixture(scope="module", params=["gqa_untied", "qwen3"])
def pair(request, tmp_path_factory):
    """One small model, its weights drawn, as both libraries see it; transformers in float64."""
    path = pathlib.Path(__file__).parents[2] / "tools" / "make_golden.py"
    spec = importlib.util.spec_from_file_location("make_golden_of_four_layers", path)
    make_golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_golden)
    make_golden.LAYERS = LAYERS
    llama = make_golden.tiny_model(request.param, seed=7)
    folder = tmp_path_factory.mktemp(request.param)
    llama.save_pretrained(folder)
    ours = dataclasses.replace(weights.load(f"file:{folder}"), tokenizer=Letters())
    assert ours.config.num_layers == LAYERS
    return llama.double(), ours


def measure(ours, variants, readings, batches=None):
    """What a sweep of some variants reads of the text."""
    sweep = Sweep(ours.config, variants, batches or tokenise(ours, TEXT), readings)
    sweep.place(ours.params)
    parts = [sweep.run(chunk) for chunk in range(len(sweep.chunks))]
    return {name: Measured.joined([part[name] for part in parts]) for name in readings}


def slices(convention, boundary, tokens):
    """Where a source is erased, and where is read, as slices of tokens."""
    if boundary is None:
        return slice(None) if convention == "paper" else slice(1, None), slice(None)
    t = int(tokens * BOUNDARIES[boundary])
    if convention == "paper":
        return slice(0, t + 1), slice(t + 1, None)
    return slice(1, t), slice(t, None)


def naive_effects(llama, unedited, convention, spread, part, boundary, source):
    """Of each later layer, and the output, the largest change by prompt, and the mean."""
    found = {}
    for ids, (_, clean, p) in zip(PROMPTS, unedited, strict=True):
        where, read = slices(convention, boundary, ids.shape[1])
        _, other, q = RUNS[spread](llama, ids, source, part, where)
        changes = {target: relative(clean[target], other[target]) for target in range(LAYERS)}
        if spread == "propagated":
            changes[None] = (p - q).norm(dim=-1).numpy()
        for target, change in changes.items():
            if target is None or target > source:
                found.setdefault(target, []).append((change[read].max(), change[read].mean()))
    return {target: np.transpose(own) for target, own in found.items()}


@pytest.mark.parametrize("pair", ["gqa_untied"], indirect=True)
@pytest.mark.parametrize("spread", effects.SPREADS)
@pytest.mark.parametrize("convention", effects.CONVENTIONS)
def test_every_effect_and_heatmap_is_that_of_a_plain_loop(pair, convention, spread):
    llama, ours = pair
    variants = effects.effect_variants(ours.config, spread, convention=convention)
    places = effects.places()
    batches = effects.branched(ours.config, tokenise(ours, TEXT), convention, places)
    measured = measure(ours, variants, effects.readings(spread), batches)
    rows = effects.effect_rows(measured, variants, places=places, text="small")
    by_place = {}
    for row in rows:
        place = tuple(row[name] for name in ("part", "boundary", "source"))
        by_place.setdefault(place, {})[row["target"]] = row
    sources = range(LAYERS - (spread == "local"))
    assert len(by_place) == len(effects.PARTS) * 4 * len(sources)
    cells, unedited = {}, [watched(llama, ids) for ids in PROMPTS]
    for place, own in by_place.items():
        part, boundary, source = place
        expected = naive_effects(llama, unedited, convention, spread, *place)
        assert own.keys() == expected.keys()
        for target, (largest_E, mean_E) in expected.items():
            row, close = own[target], dict(rtol=RELATIVE, atol=ABSOLUTE, err_msg=str(place))
            np.testing.assert_allclose(row["examples"], largest_E, **close)
            np.testing.assert_allclose(row["value"], largest_E.max(), **close)
            np.testing.assert_allclose(row["mean"], mean_E.mean(), **close)
            when = "current" if boundary is None else "future"
            key = (convention, part, spread, when), source, target
            cells.setdefault(key, []).append((largest_E.max(), mean_E.mean()))
    maps = effects.heatmaps(rows)
    assert len(maps) == len(effects.PARTS) * len(effects.WHENS)
    for key, matrices in maps.items():
        value_LL, mean_LL = np.full((2, LAYERS, LAYERS), np.nan)
        for source, target in itertools.combinations(range(LAYERS), 2):
            largest_B, mean_B = np.transpose(cells[key, source, target])  # by boundary
            value_LL[source, target], mean_LL[source, target] = largest_B.max(), mean_B.mean()
        for name, expected_LL in (("value", value_LL), ("mean", mean_LL)):
            np.testing.assert_allclose(matrices[name], expected_LL, rtol=RELATIVE, atol=ABSOLUTE)


def naive_contributions(llama):
    """By metric [L, N], over all tokens."""
    found = {}
    for ids in PROMPTS:
        inputs, added, _ = watched(llama, ids)
        for layer, (a, m) in enumerate(zip(*sublayers(llama, ids), strict=True)):
            h = inputs[layer]
            for name, part, whole in (
                ("attention", a, h),
                ("mlp", m, h),
                ("mlp{}_after_attention", m, h + a),
            ):
                name = name if "{}" in name else name + "{}"
                norms = part.norm(dim=-1), whole.norm(dim=-1)
                cosine = (part * whole).sum(-1) / (norms[0] * norms[1])
                for metric, value in (("_norm", norms[0] / norms[1]), ("_cosine", cosine)):
                    found.setdefault((name.format(metric), layer), []).append(value)
            end = (h + added[layer]).norm(dim=-1)
            found.setdefault(("residual_norm", layer), []).append(end)
    return {key: torch.cat(values).numpy() for key, values in found.items()}


def naive_lens(llama):
    """By metric [L, P], over the predicted tokens."""
    found = {}
    for ids in PROMPTS:
        inputs, added, _ = watched(llama, ids)
        with torch.no_grad():
            read = [
                llama.lm_head(llama.model.norm(x + c)).double().log_softmax(-1)[:-1]
                for x, c in zip(inputs, added, strict=True)
            ]
        for layer, q in enumerate(read):
            p = read[-1]
            best_p, best_q = p.topk(5).indices, q.topk(5).indices
            shared = (best_p[:, :, None] == best_q[:, None]).any(-1).double().mean(-1)
            for metric, value in (
                ("kl", (p.exp() * (p - q)).sum(-1)),
                ("kl_reverse", (q.exp() * (q - p)).sum(-1)),
                ("top_1", (best_p[:, 0] == best_q[:, 0]).double()),
                ("top_5", shared),
                ("entropy", -(q.exp() * q).sum(-1)),
                ("perplexity", -q.gather(-1, ids[0, 1:, None])[:, 0]),  # its loss
            ):
                found.setdefault((f"lens_{metric}", layer), []).append(value)
    return {key: torch.cat(values).numpy() for key, values in found.items()}


def test_lens_and_contributions_of_the_unedited_model_are_those_of_a_plain_loop(pair):
    llama, ours = pair
    readings = {**contribution.READINGS, **lens.READINGS}
    measured = measure(ours, [baseline(LAYERS)], readings)
    expected = naive_contributions(llama) | naive_lens(llama)
    assert {name for name, _ in expected} == readings.keys()
    for (name, layer), value_N in expected.items():
        found_N = measured[name][BASELINE][layer]
        np.testing.assert_allclose(found_N, value_N, rtol=RELATIVE, atol=1e-5, err_msg=name)
    rows = contribution.contribution_rows(measured, BASELINE) + lens.lens_rows(measured, BASELINE)
    assert len(rows) == LAYERS * (2 * len(contribution.READINGS) + len(lens.READINGS))
    position_N = np.concatenate([np.arange(ids.shape[1]) for ids in PROMPTS])
    for row in rows:
        name = row["metric"] if row["kind"] == "contribution" else f"lens_{row['metric']}"
        value_N = expected[name, row["layer"]]
        if row.get("positions") == "others":
            value_N = value_N[position_N > 0]
        mean = np.exp(value_N.mean()) if name == "lens_perplexity" else value_N.mean()
        assert row["value"] == pytest.approx(mean, rel=RELATIVE, abs=1e-5)
