"""Effects of layers and the depth score against hooks on live transformers; the real model.

Needs the `[parity]` extra (torch). `test_small_effects.py` compares all that there is on a small
model; here it is the real one.
"""

import itertools

import numpy as np
import pytest
from parity_marks import PARITY

from jaxanatomy import weights
from jaxanatomy.data.text import Text, load_text
from jaxanatomy.measures.depth_score import depth_score_rows
from jaxanatomy.measures.readings import effects
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Measured, Sweep

torch = pytest.importorskip("torch", reason="needs the [parity] extra")

from torch_effects import erased, local, relative, watched  # noqa: E402

pytestmark = [*PARITY, pytest.mark.real]

RELATIVE = 1e-3
LAYERS = 30
BOUNDARIES = {"1/4": 0.25, "1/2": 0.5, "3/4": 0.75}
# What is compared cell by cell; layer 11 writes the attention sink.
SOURCES = (2, 11, 20)
CASES = (("1/2", "layer"), ("1/4", "attention"), ("3/4", "mlp"), (None, "mlp"))


@pytest.fixture(scope="module")
def checkpoint():
    return weights.load(weights.DEFAULT_MODEL)


@pytest.fixture(scope="module")
def llama(checkpoint, tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("smollm2") / "model"
    weights.export_hf(checkpoint, folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def some_prompts(examples):
    documents = load_text("depth_prompts").documents
    return Text("depth_prompts", tuple(documents[at] for at in examples))


def ids_of(checkpoint, text):
    return [torch.tensor([checkpoint.tokenizer.encode(document)]) for document in text.documents]


def largest(clean, other, start):
    """The largest relative change of each layer's contribution at tokens from `start` on."""
    return [float(relative(*pair)[start:].max()) for pair in zip(clean, other, strict=True)]


def rows_of(checkpoint, text, spread, wanted, places):
    """Our rows on a text of the variants whose labels are wanted."""
    variants = [v for v in effects.effect_variants(checkpoint.config, spread) if wanted(v.labels)]
    batches = tokenise(checkpoint, text)
    batches = effects.branched(checkpoint.config, batches, "paper", places)
    readings = effects.readings(spread)
    sweep = Sweep(checkpoint.config, variants, batches, readings)
    sweep.place(checkpoint.params)
    parts = [sweep.run(chunk) for chunk in range(len(sweep.chunks))]
    measured = {name: Measured.joined([part[name] for part in parts]) for name in readings}
    return effects.effect_rows(measured, variants, places=places, text="depth_prompts")


def test_the_depth_score_is_that_of_a_plain_loop(checkpoint, llama):
    """Of two prompts; `test_real_depth_use.py` has the published figure, the mean over all."""
    text = some_prompts((2, 4))
    future = effects.places((effects.FUTURE,))
    rows = rows_of(checkpoint, text, "propagated", lambda labels: labels["part"] == "layer", future)
    scores = {
        (row["over"], row["example"]): row["value"]
        for row in depth_score_rows(rows)
        if row["effect"] == "output"
    }
    for example, ids in enumerate(ids_of(checkpoint, text)):
        change_L = np.zeros(LAYERS)
        _, _, clean = watched(llama, ids)
        for part, source in itertools.product(BOUNDARIES.values(), range(LAYERS)):
            last = int(ids.shape[1] * part)
            _, _, other = erased(llama, ids, source, "layer", slice(last + 1))
            largest = float((clean - other).norm(dim=-1)[last + 1 :].max())
            change_L[source] = max(change_L[source], largest)
        expected = (np.arange(LAYERS) * change_L).sum() / change_L.sum()
        assert scores[None, example] == pytest.approx(expected, rel=RELATIVE)
        for source in range(LAYERS):
            own = [r["examples"] for r in rows if (r["kind"], r["source"]) == ("output", source)]
            largest = np.max(own, axis=0)[example]
            assert largest == pytest.approx(change_L[source], rel=RELATIVE, abs=1e-6)


@pytest.mark.parametrize("spread", effects.SPREADS)
def test_effects_on_later_layers_are_those_of_a_plain_loop(checkpoint, llama, spread):
    text = some_prompts((1, 4))
    wanted = lambda labels: labels["source"] in SOURCES  # noqa: E731
    rows = rows_of(checkpoint, text, spread, wanted, effects.places())
    run = erased if spread == "propagated" else local
    compared = 0
    prompts = enumerate(ids_of(checkpoint, text))
    for (example, ids), (boundary, part), source in itertools.product(prompts, CASES, SOURCES):
        last = ids.shape[1] - 1 if boundary is None else int(ids.shape[1] * BOUNDARIES[boundary])
        start = 0 if boundary is None else last + 1
        _, clean, _ = watched(llama, ids)
        _, other, _ = run(llama, ids, source, part, slice(last + 1))
        expected = largest(clean, other, start)[source + 1 :]
        found = [
            row["examples"][example]
            for row in rows
            if row["kind"] == "effect"
            and (row["boundary"], row["part"], row["source"]) == (boundary, part, source)
        ]
        np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=1e-6)
        compared += len(found)
    assert compared == 2 * len(CASES) * sum(LAYERS - 1 - source for source in SOURCES)
