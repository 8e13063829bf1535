"""The flops experiment from the command line."""

import pytest

from jaxanatomy import weights
from jaxanatomy.errors import InputError
from jaxanatomy.records import read_run


@pytest.fixture(scope="module")
def done(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("flops") / "run"
    found = command("flops", f"--workdir={workdir}")
    assert (found.status, found.err) == (0, "")
    return workdir, found.out


def test_the_shipped_config_is_table_7(done):
    record = read_run(done[0])
    rows = {(row["model"], row["arm"], row["rounding"]): row for row in record.rows}
    assert len(rows) == 8
    wanted = {
        ("smollm_360m", "baseline", None): (613_527.488, 1.0),
        ("smollm_360m", "grown", "largest_remainder"): (476_147.897, 1.289),
        ("smollm_360m", "grown", "floor"): (476_147.897, 1.289),
        ("smollm_1p7b", "baseline", None): (4_813_222.102, 1.0),
        ("smollm_1p7b", "grown", "largest_remainder"): (3_736_608.182, 1.288),
        ("smollm_1p7b", "grown", "floor"): (3_736_608.182, 1.288),
    }
    for key, (petaflops, ratio) in wanted.items():
        row = rows.pop(key)
        assert (row["paper_petaflops"], row["paper_ratio"]) == (petaflops, ratio)
        assert row["petaflops"] == pytest.approx(petaflops, rel=2e-5)
        assert row["deviation"] == pytest.approx(row["petaflops"] / petaflops - 1)
        assert abs(row["deviation"]) < (2e-5 if "largest_remainder" in key else 2e-9)
        assert round(row["ratio"], 3) == ratio
    assert {arm for _, arm, _ in rows} == {"grown_equal_flops"}
    assert {row["reason"] for row in rows.values()} == {"the paper has no such arm"}
    assert record.summary["models"]["smollm_360m"]["equal_flops_steps"] == 257_707


def test_the_table_and_the_page_say_how_steps_were_rounded(done):
    workdir, out = done
    assert max(map(len, out.splitlines()[:-1])) <= 100
    (exact,) = [line.split() for line in out.splitlines() if "476,147.897  476,147.897" in line]
    assert exact[:3] == ["grown", "floor", "200,000"]
    page = (workdir / "report.html").read_text()
    assert "Claims and verdicts" in page
    assert "largest remainder" in page
    assert "613,527.488" in page
    assert "257,707 steps instead of 200,000" in page


def test_a_second_run_adds_nothing(done, command):
    workdir, _ = done
    before = (workdir / "rows.jsonl").read_bytes()
    assert command("flops", f"--workdir={workdir}").status == 0
    assert (workdir / "rows.jsonl").read_bytes() == before
    other = command("flops", f"--workdir={workdir}", "--config.block=2")
    assert other.status == 2
    assert "config.block is 4, now it is 2" in other.err


def test_a_model_of_ones_own_is_not_loaded(command, copy_model, tmp_path):
    folder = copy_model(tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-64] + b"\xff" * 64)
    with pytest.raises(InputError, match="NaN or Inf"):
        weights.load(f"file:{folder}")
    fields = {"models": f"file:{folder},shape", "block": 1, "shape.num_layers": 5, "batch_size": 3}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    found = command("flops", f"--workdir={tmp_path / 'run'}", *flags)
    assert (found.status, found.err) == (0, "")
    record = read_run(tmp_path / "run")
    models = {row["model"]: row for row in record.rows if row["rounding"] == "floor"}
    assert [len(row["stages"]) for row in models.values()] == [3, 5]
    assert {row["reason"] for row in models.values()} == {"the paper has no such model"}
    assert {row["tokens"] for row in models.values()} == {200_000 * 3 * 2048}
    architectures = record.provenance["architectures"]
    assert [len(each["layers"]) for each in architectures.values()] == [3, 5]


def test_other_settings_have_no_figure_of_the_paper(command, tmp_path):
    found = command("flops", f"--workdir={tmp_path / 'run'}", "--config.block=8")
    assert found.status == 0
    rows = read_run(tmp_path / "run").rows
    assert {row["paper_petaflops"] for row in rows} == {None}
    assert {row["reason"] for row in rows} == {"not with the paper's block"}
    assert "Claims" not in (tmp_path / "run" / "report.html").read_text()


def test_a_dry_run_lists_the_stages_and_writes_nothing(command, tmp_path):
    found = command("flops", f"--workdir={tmp_path / 'run'}", "--dry_run")
    assert (found.status, found.err) == (0, "")
    assert "smollm_360m: 32 layers, 361,821,120 parameters, 200,000 steps of 512 x" in found.out
    assert "4,722 with 4, 9,444 with 8" in found.out
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_models_arms_and_roundings(command):
    found = command("flops", "--list")
    assert found.status == 0
    for name in ("smollm_360m", "shape", "pypi:NAME==VERSION", "grown_equal_flops", "floor"):
        assert f"\n  {name} " in found.out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"models": ""}, "models must name at least one"),
        ({"models": "shape,shape"}, "each once"),
        ({"models": "smollm_350m"}, "unknown model 'smollm_350m'; did you mean 'smollm_360m'?"),
        ({"models": "fiel:x"}, "unknown kind of model id 'fiel'; did you mean 'file'?"),
        (
            {"models": "shape"},
            "shape: arm 'lidas': from 4 layers in steps of 4 a model grows to 8, 12, ...; got",
        ),
        ({"models": "shape", "shape.num_heads": 15}, "multiple of num_heads; got 576 and 15"),
        ({"models": "shape", "shape.ffn_width": 0}, "ffn_width must be a positive integer"),
        ({"block": 0}, "block must be a whole number, 1 or above; got 0"),
        ({"block": 64}, "got a target of 32"),
        ({"alpha": -1}, "alpha of PROP-alpha must be a number, 0 or above; got -1"),
        ({"growth_fraction": 1.5}, "growth_fraction must be above 0 and 1 at most; got 1.5"),
        ({"steps": 0}, "steps must be a whole number, 1 or above; got 0"),
        ({"steps": 5}, "each of at least one stage needs a step; got 8 stages and 4 steps"),
        ({"seq_len": 0}, "seq_len must be a whole number, 1 or above; got 0"),
        (
            {"batch_size": 0},
            "1 or above; got 0; none is the paper's",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(fields, said, command, tmp_path):
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    found = command("flops", f"--workdir={tmp_path / 'run'}", *flags)
    assert found.status == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
