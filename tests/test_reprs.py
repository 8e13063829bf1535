"""What a notebook shows of an object is one line that says what it is."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, probes, random_params, text

from jaxanatomy import reprs
from jaxanatomy.data.packing import PackedText
from jaxanatomy.data.text import LeftOut, Text
from jaxanatomy.interventions import cells
from jaxanatomy.measures.readings.nll import LOSSES
from jaxanatomy.model import parameter_count
from jaxanatomy.records import RunRecord
from jaxanatomy.study import StudyPart
from jaxanatomy.sweep import Plan, Sweep, SweepOptions
from jaxanatomy.train.loop import TrainState
from jaxanatomy.train.loss import batch_of
from jaxanatomy.weights import Checkpoint, Source

PARAMS = random_params(CONFIG)
BATCH = text()
MAP = cells.main_map(CONFIG)  # the baseline, and the neighbour mean of the three inner layers
SIZE = f"llama, 5 layers, hidden size 16, {parameter_count(CONFIG):,} parameters"
LETTERS = Text("letters", tuple("abcdef") * 100)
ROWS = [{"nll": number} for number in range(342)]
PROVENANCE = {"experiment": "importance"}

SHOWN = {
    "config": (CONFIG, "ModelConfig(llama, 5 layers, hidden size 16)"),
    "model": (Checkpoint(CONFIG, PARAMS, None, "m", "0"), f"Checkpoint('m', {SIZE})"),
    "source": (Source("m", CONFIG, str, dict, str), f"Source('m', {SIZE})"),
    "run": (
        RunRecord(Path("runs/a"), ROWS, {"seed": 0}, PROVENANCE, {"ppl": 2.0}),
        "RunRecord('runs/a', importance, 342 rows, finished)",
    ),
    "rows": (RunRecord.of_rows(ROWS), "RunRecord('.', no experiment, 342 rows, unfinished)"),
    "text": (LETTERS, "Text('letters', 600 documents)"),
    "batch of text": (
        BATCH,
        "TextBatch(token_RT=int32[1, 16], position_RT=int32[1, 16], segment_RT=int32[1, 16], "
        "predict_P=int32[12], target_P=int32[12], document_P=int32[12], first_P=bool[12], "
        "end_RT=None, branch_RT=None)",
    ),
    "packed text": (
        PackedText((BATCH,) * 2, LeftOut(5)),
        "PackedText(2 batches, 0 of 5 documents left out: none)",
    ),
    "variant": (MAP[1], "Variant('neighbour_mean/layer/1', 5 steps)"),
    "part": (StudyPart(LETTERS, MAP), "StudyPart('letters', 4 variants)"),
    "plan": (Plan(CONFIG, MAP, probes(**LOSSES)), "Plan(4 variants, 14 layer applications)"),
    "batch": (
        batch_of(np.ones((2, 9), np.int32), pad=0),
        "TokenBatch(token_BT=int32[2, 8], target_BT=int32[2, 8], weight_BT=float32[2, 8], "
        "position_BT=None, segment_BT=None)",
    ),
    "state": (
        TrainState(PARAMS, (), jnp.array(True)),
        f"TrainState(params=47 arrays of {parameter_count(CONFIG):,} values, moments=(), "
        "alive=bool[])",
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_one_line_says_what_it_is(name):
    shown, expected = SHOWN[name]
    assert repr(shown) == expected


def test_a_sweep_says_how_much_it_does():
    sweep = Sweep(CONFIG, MAP[1:], [BATCH], LOSSES, SweepOptions(chunk_size=2), anchor=MAP[0])
    assert repr(sweep) == (
        f"Sweep(4 variants, {sweep.distinct_applications} layer applications, 1 batches, 1 devices)"
    )


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (np.zeros((2, 3)), "float64[2, 3]"),
        ({"a": [np.zeros(2), {"b": np.zeros((2, 3))}], "name": "n"}, "2 arrays of 8 values"),
        ((), "0 arrays of 0 values"),
    ],
)
def test_arrays_are_counted(tree, expected):
    assert reprs.describe_arrays(tree) == expected
