"""The benchmark of accelerators: parts fail alone, the time is kept, a second call goes on."""

import importlib
import json
import pathlib
import sys
import time

import pytest

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("bench_accelerator")


@pytest.fixture
def scripted(bench, monkeypatch, tmp_path):
    """`scripted(part=code)`: each part runs this Python instead; the others write nothing new."""
    codes = {}

    def fake(command, seconds, log, extra=None):
        part = command[command.index("--part") + 1] if "--part" in command else "growth"
        return real(["-c", codes.get(part, "pass")], seconds, log, extra)

    real = bench.start
    monkeypatch.setattr(bench, "start", fake)
    monkeypatch.setattr(bench, "TINY_SECONDS", 0.1)
    figures = {
        "product": {"product": {"float32": 50e12, "bfloat16": 800e12}, "device": "H100"},
        "cpu_map": {"ppl": None},
        "exactness": {"perplexities": 29, "worst": 3e-6, "against": "CPU", "weights": "random"},
        "map_float32": {"variants": 29, "map_seconds": 0.5, "flops_per_second": 25e12},
        "map_bfloat16": {"variants": 29, "map_seconds": 0.1, "flops_per_second": 400e12},
        "training": {"parameters": 361_821_120, "step_seconds": 0.2, "tokens_per_second": 8e4},
    }
    for part in ("map_float32", "map_bfloat16"):
        figures[part] |= {"weights": "random", "median_change_of_perplexity": None}
    figures["training"] |= {"flops_per_second": 200e12, "mfu": 0.2, "peak_bytes": 2**34}
    for part, found in figures.items():
        (tmp_path / f"{part}.json").write_text(json.dumps(found))
    return codes


def call(bench, tmp_path, minutes=1.0):
    began = time.monotonic()
    assert bench.main(["--tiny", f"--minutes={minutes}", f"--out={tmp_path}"]) == 0
    assert time.monotonic() - began < 60 * minutes + bench.GRACE
    results = json.loads((tmp_path / "results.json").read_text())
    return results, (tmp_path / "table.txt").read_text().splitlines()


def test_the_table_says_what_was_measured_as_shares_of_the_peak(bench, scripted, tmp_path, capsys):
    _, lines = call(bench, tmp_path)
    assert capsys.readouterr().out.splitlines() == lines
    assert lines == [
        "device: H100",
        "product       float32 50.00 TFLOP/s, bfloat16 800.00 TFLOP/s",
        "training      361.8M parameters, 0.200 s a step, 80,000 tokens/s, 200.00 TFLOP/s, 25% of "
        "the product peak, MFU 20%; peak memory 16.0 GiB",
        "exactness     29 perplexities within 3.0e-06 of CPU; random",
        "map_float32   29 variants in 0.500 s, 25.00 TFLOP/s, 50% of the product peak; random",
        "map_bfloat16  29 variants in 0.100 s, 400.00 TFLOP/s, 50% of the product peak; random",
        "growth        not begun",
    ]


def test_a_part_that_fails_is_a_line_and_is_tried_again(bench, scripted, tmp_path):
    scripted["training"] = "raise MemoryError('no room')"
    results, lines = call(bench, tmp_path)
    assert results["training"]["error"].startswith("status 1: MemoryError: no room; see ")
    assert lines[2].startswith("training      failed: status 1: MemoryError: no room")
    assert lines[6] == "growth        not begun"
    scripted.clear()
    for part in ("product", "exactness"):
        scripted[part] = "raise AssertionError('measured again')"
    results, lines = call(bench, tmp_path)
    assert not [line for line in lines if "failed" in line]
    assert results["training"]["mfu"] == 0.2


@pytest.mark.slow
def test_what_hangs_is_ended_and_what_does_not_fit_is_skipped(bench, scripted, tmp_path):
    scripted["map_float32"] = "import time; time.sleep(600)"
    results, _ = call(bench, tmp_path, minutes=0.25)
    assert results["map_float32"]["error"].startswith("did not end within")
    assert results["map_bfloat16"]["skipped"].endswith("0 s were left")
    assert results["growth"]["skipped"].endswith("0 s were left")


ARMS = ["baseline", "midas", "lidas"]
GROWN = ["baseline", "lidas"]


def leave(folder, *results, torn=""):
    """What a run of growth leaves behind: its config, and final rows (arm, seed, purpose)."""
    folder.mkdir(exist_ok=True)
    config = {"config": {"arms": ARMS, "seeds": [0, 1]}}
    (folder / "config.json").write_text(json.dumps(config))
    rows = [{"kind": "curve", "purpose": "main", "arm": arm, "seed": 0} for arm in ARMS]
    names = ("arm", "seed", "purpose")
    rows += [{"kind": "final"} | dict(zip(names, each, strict=True)) for each in results]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines + torn)


def test_the_table_says_how_many_legs_are_done(bench, scripted, tmp_path):
    main = [(arm, seed, "main") for arm in ARMS for seed in (0, 1)]
    # The seeds of a rate are no results; of LIDAS a seed is missing, and a line was torn.
    leave(tmp_path / "growth", *main[:-1], ("lidas", 1, "tuning"), torn='{"kind": "fin')
    scripted["growth"] = "raise SystemExit('no memory')"
    results, lines = call(bench, tmp_path)
    assert lines[-1].startswith("growth        failed: status 1: no memory; see ")
    assert results["growth"]["left"] == ["lidas"]
    assert bench.table({"growth": results["growth"] | {"error": None, "done": False}}) == (
        "device: unknown\ngrowth        2 of 3 legs done; left: lidas, report: run again"
    )
    leave(tmp_path / "growth", *main)
    (tmp_path / "growth" / "summary.json").write_text("{}")
    results, _ = call(bench, tmp_path)
    assert "error" in results["growth"]  # it was started, as the report is still to be written
    (tmp_path / "growth" / "report.html").write_text("")
    _, lines = call(bench, tmp_path)
    assert lines[-1] == "growth        3 of 3 legs done"


@pytest.mark.slow
def test_growth_goes_on_in_the_next_call(bench, scripted, tmp_path):
    scripted["growth"] = "import time; time.sleep(600)"
    results, lines = call(bench, tmp_path, minutes=0.3)
    assert not results["growth"]["done"]
    assert lines[-1] == "growth        not begun; left: report: run again"
    leave(tmp_path / "growth", ("baseline", 0, "main"), ("baseline", 1, "main"))
    _, lines = call(bench, tmp_path, minutes=0.3)
    assert lines[-1] == "growth        1 of 3 legs done; left: midas, lidas, report: run again"


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_with_tiny_sizes(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    results, lines = call(bench, tmp_path, minutes=9)
    assert not [line for line in lines if "failed" in line or "skipped" in line], lines
    assert results["exactness"]["worst"] < 1e-5
    assert (results["growth"]["ended"], results["growth"]["left"]) == (GROWN, [])
    assert sys.modules.get("bench.accelerator") is None  # the driver itself loads no JAX
