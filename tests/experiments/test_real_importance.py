"""The importance map of the default model against values computed independently in float64."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxanatomy import weights
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep, SweepOptions

pytestmark = pytest.mark.real

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "smollm2_importance.json"
RELATIVE = 1e-4


@pytest.fixture(scope="module")
def reference():
    """Perplexities by the name of the variant."""
    values = json.loads(REFERENCE.read_text())
    means, skips = values["neighbour_mean_ppl"], values["skip_ppl_sample"]
    assert (len(means), len(skips)) == (28, 5)
    return (
        {"baseline": values["baseline_ppl"]}
        | {f"neighbour_mean/layer/{layer}": ppl for layer, ppl in means.items()}
        | {f"zero/layer/{layer}": ppl for layer, ppl in skips.items()}
    )


def rows_of(command, workdir, *flags):
    done = command(
        "importance", "--config=configs/importance.py:quick", f"--workdir={workdir}", *flags
    )
    assert (done.status, done.err) == (0, "")
    lines = (workdir / "rows.jsonl").read_text().splitlines()
    return {row["variant"]: row["ppl"] for row in map(json.loads, lines)}


@pytest.mark.slow
def test_the_quick_map_is_the_reference(command, tmp_path, reference):
    found = rows_of(command, tmp_path / "quick")
    expected = {name: ppl for name, ppl in reference.items() if not name.startswith("zero")}
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=RELATIVE)


def test_skipped_layers_are_the_reference(command, tmp_path, reference):
    found = rows_of(
        command,
        tmp_path / "skips",
        "--config.interventions=zero",
        "--config.layers=0,11,14,17,29",
    )
    expected = {name: ppl for name, ppl in reference.items() if not name.startswith("neighbour")}
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.slow
def test_the_width_of_calls_does_not_change_a_bit():
    model = weights.load(weights.DEFAULT_MODEL)
    (batch,) = tokenise(model, load_text("sentences"))
    assert batch.token_RT.shape == (1, 111)
    names = ["neighbour_mean", "zero", "rescaled_mean"]
    variants = cells.ablations(model.config, names, ["layer", "mlp"], layers=[20, 22, 24, 28])
    variants += cells.ablations(model.config, ["zero"], ["head_3"], layers=[25])[1:]
    variants += cells.ablations(model.config, None, None, ["first"], layers=[27])[1:]
    anchor = baseline(model.config.num_layers)
    readings = []
    for widths in ((9, 2, 1), (1,)):
        options = SweepOptions(widths=widths)
        sweep = Sweep(model.config, variants[1:], [batch], {"nll": nll}, options, anchor=anchor)
        sweep.place(model.params)
        readings.append(sweep.run(0)["nll"])
        calls = sweep.schedules[0].calls
        assert {call.width for call in calls if call.kind == "apply"} >= {widths[0]}
    wide, single = readings
    differ = [name for name in single.variants if not np.array_equal(wide[name], single[name])]
    assert differ == []
