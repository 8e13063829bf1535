"""The default model's depth score, and what stands beside it."""

import pytest
import run_files

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_the_depth_score_of_the_default_model(command, tmp_path):
    done = command(
        "depth_use",
        "--config=configs/depth_use.py:quick",
        "--config.spreads=propagated",
        "--config.whens=future",
        "--config.super_weights=0",
        f"--workdir={tmp_path / 'run'}",
    )
    assert (done.status, done.err) == (0, "")
    rows = run_files.read_rows(tmp_path / "run")
    (score,) = [
        row
        for row in rows
        if row["kind"] == "depth_score" and (row["effect"], row["over"]) == ("output", "mean")
    ]
    assert score["value"] == pytest.approx(9.59, abs=0.005)
    # The sink: layer 11 writes one entry at the first token, which stays until the last layers.
    massive = [row for row in rows if row["kind"] == "massive" and row["massive"]]
    assert {row["layer"] for row in massive} == set(range(11, 28))
    assert {(row["position"], row["neuron"]) for row in massive} == {(0, 507)}
