"""Delta correlations of the default model against literal deltas of its matrices."""

import numpy as np
import pytest
import run_files

from jaxanatomy import tree, weights
from jaxanatomy.papers import paper_table

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def rows(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "structure"
    done = command("structure", f"--workdir={workdir}", "--config.null_draws=300")
    assert (done.status, done.err) == (0, "")
    return run_files.read_rows(workdir)


def means(rows, null, field, metric="delta_correlation"):
    return {
        row["component"]: row[field]
        for row in rows
        if (row["metric"], row["null"], row["layer"]) == (metric, null, None)
    }


def test_delta_correlations_are_those_of_literal_deltas(rows):
    layers = weights.load(weights.DEFAULT_MODEL).params["layers"]
    for name in tree.MATRICES:
        correlations = []
        x_LN = [tree.get(block, name).ravel() for block in layers]
        for before, middle, after in zip(x_LN, x_LN[1:], x_LN[2:], strict=False):
            pair = np.corrcoef(middle - before, after - middle, dtype=np.float64)
            correlations.append(pair[0, 1])
        found = means(rows, "gaussian", "value")[name]
        assert found == pytest.approx(np.mean(correlations), abs=1e-6), name


def test_they_are_the_papers_and_those_of_independent_layers(rows):
    found, closed = means(rows, "closed_form", "value"), means(rows, "closed_form", "null_value")
    published = paper_table("table3_delta_correlation")
    assert found.keys() == closed.keys() == published.keys() == set(tree.MATRICES)
    assert found == pytest.approx(published, abs=1e-3)
    assert found == pytest.approx(closed, abs=1e-3)


def test_only_gate_leaves_the_gaussian_null_and_away_from_oscillation(rows):
    z = means(rows, "gaussian", "z")
    assert {name for name, value in z.items() if abs(value) > 3} == {"gate_proj"}
    assert z["gate_proj"] > 0
    cosine = means(rows, "gaussian", "z", metric="mean_cosine")
    assert {name for name, value in cosine.items() if abs(value) > 5} == {"gate_proj"}
