"""From Python: variants by name, changed models, and what they write."""

import dataclasses

import jax
import matplotlib.axes
import numpy as np
import pytest
from naive import CONFIG
from test_api import MODEL, OPTIONS, TEXT, naive_perplexity

import jaxanatomy as ja
from jaxanatomy import model as llama
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.changes import combined_steps
from jaxanatomy.interventions.variants import Edit, Step

NAMES = ("clone/set/3,1", "scale_0.5/set/1,3", "zero/mlp/0-1", "repeat/span/2-3")


def test_variants_by_name():
    variants = ja.variants(MODEL, *NAMES)
    assert [variant.name for variant in variants] == [
        "baseline", "clone/set/1,3", "scale_0.5/set/1,3", "zero/mlp/0", "zero/mlp/1",
        "repeat/span/2-3",
    ]  # fmt: skip
    rows = ja.sweep(MODEL, variants, TEXT, options=OPTIONS)
    assert [row.get("strategy") for row in rows[1:3]] == ["clone", "scale"]
    # Layers 1 and 3 become copies of the nearest others, of equally near ones the lower.
    edits = {1: (1, 0), 3: (3, 2)}
    steps = [
        Step(layer, Edit("own copy", lambda own, other: other, edits[layer][1:]))
        if layer in edits
        else Step(layer)
        for layer in range(CONFIG.num_layers)
    ]
    assert rows[1]["ppl"] == pytest.approx(naive_perplexity(tuple(steps)), rel=1e-5)
    twice = tuple(Step(layer) for layer in (0, 1, 2, 3, 2, 3, 4))
    assert rows[5]["ppl"] == pytest.approx(naive_perplexity(twice), rel=1e-5)
    assert isinstance(ja.plot.manipulation(rows), matplotlib.axes.Axes)


@pytest.mark.parametrize("change", [*NAMES[:2], NAMES[3], ["zero/mlp/0", "scale_0.5/set/1,3"]])
def test_a_changed_model_is_a_model(change):
    changed = ja.apply(MODEL, change)
    steps = combined_steps(CONFIG, [change] if isinstance(change, str) else change)
    (row,) = ja.sweep(changed, [], TEXT, options=OPTIONS)
    assert row["ppl"] == pytest.approx(naive_perplexity(steps), rel=1e-5)
    assert row["model"] != MODEL.id
    again = ja.apply(MODEL, ja.Variant("mine", steps))
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, changed.params))


def test_generate_continues_a_text():
    prompts = ["b", "abca", "a"]
    written = ja.generate(MODEL, prompts, max_tokens=6)
    assert written == [ja.generate(MODEL, prompt, 6) for prompt in prompts]
    for prompt, found in zip(prompts, written, strict=True):
        ids = MODEL.tokenizer.encode(prompt)
        for _ in range(6):
            logits_BTV = llama.forward(CONFIG, MODEL.params, np.array([ids]))
            ids.append(int(np.argmax(logits_BTV[0, -1])))
        assert MODEL.tokenizer.decode(ids[-6:]) == found
    drawn = {ja.generate(MODEL, "a", 6, temperature=2.0, seed=seed) for seed in range(4)}
    assert len(drawn) > 1
    assert ja.generate(MODEL, "a", 6, temperature=2.0, seed=1) in drawn
    changed = ja.apply(MODEL, "exit/layer/0")
    assert ja.generate(changed, "abca", 6) != written[1]


def test_generate_needs_a_tokenizer_and_a_prompt():
    with pytest.raises(InputError, match="has no tokenizer"):
        ja.generate(dataclasses.replace(MODEL, tokenizer=None), "a")
    with pytest.raises(InputError, match="a prompt and steps of at least 1; got 0"):
        ja.generate(MODEL, "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clon/set/1", "unknown intervention 'clon'; did you mean 'clone'"),
        (3, "a variant is written INTERVENTION/SCOPE.*; got 3"),
        ("clone/set/1,7", "layers of this model are 0 to 4; got 7"),
        ("clone/set/3,3", "may come once; repeated: 3"),
        ("clone/set/0-4", "exists at layers that leave 1 layer .*; got set/0-4"),
        ("clone/set/measured", "not measured here; name the layers"),
        ("scale/set/1", "'scale' needs alpha"),
        ("scale_nan/set/1", "alpha must be a finite number"),
        ("low_rank_9/set/1", "from 1 to 8, the shortest side"),
        ("predicted/set/1", "predicted exists at the layers from 2 on"),
    ],
)
def test_names_refuse_what_is_not_there(name, message):
    with pytest.raises(InputError, match=message) as caught:
        ja.variants(MODEL, name)
    assert "\n" not in str(caught.value)


def test_a_variant_comes_once():
    with pytest.raises(InputError, match="variants may come once; repeated: clone/set/1,3"):
        ja.variants(MODEL, "clone/set/1,3", "clone/set/3,1")
