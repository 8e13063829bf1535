"""What the default model's weights say about each other: no more than noise."""

import pytest
import run_files

pytestmark = pytest.mark.real


def test_values_of_the_default_model_are_as_unpredictable_as_noise(command, tmp_path):
    done = command(
        "predictability",
        "--config.texts=",
        "--config.components=v_proj,up_proj",
        "--config.samples=3000",
        "--config.null_draws=10",
        f"--workdir={tmp_path / 'run'}",
    )
    assert (done.status, done.err) == (0, "")
    rows = run_files.read_rows(tmp_path / "run")
    means = {(r["component"], r["reading"]): r for r in rows if r["target"] is None}
    for component in ("v_proj", "up_proj"):
        for reading in ("extrapolate", "in_sample", "target_included"):
            row = means[component, reading]
            assert abs(row["r2"] - row["null_r2"]) < 0.02
            assert abs(row["z"]) < 5
        assert means[component, "extrapolate"]["r2"] < -1
        assert means[component, "sorted"]["r2"] > 0.9
        assert means[component, "sorted"]["null_r2"] > 0.9
