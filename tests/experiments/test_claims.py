"""The claims experiment from the command line, on runs that other experiments left."""

import json

import numpy as np
import pytest
import run_files
from claims.worlds import SMOLLM2, Maker

from jaxanatomy.claims.audit import CLAIMS
from jaxanatomy.records import read_run


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, rows, finished, weights)`: a folder as an experiment leaves it."""

    def make(experiment="importance", rows=None, finished=True, weights="1" * 64, **more):
        folder = tmp_path / ("new" if weights == "2" * 64 else experiment)
        folder.mkdir(exist_ok=True)
        provenance = {"model": "file:x", "weights_sha256": weights, "architecture": SMOLLM2}
        provenance |= {"experiment": experiment} | more
        run_files.write_config(folder, {"model": "file:x"}, provenance)
        run_files.write_rows(folder, MAP if rows is None else rows)
        if finished:
            run_files.write_summary(folder, {"texts": {}})
        return folder

    return make


def layer_map(top):
    """A map of all inner layers, one of which does much."""
    maker = Maker(np.random.default_rng(0))
    rows = [maker.baseline()]
    for layer in range(1, 29):
        fields = {"intervention": "neighbour_mean", "scope": "layer", "positions": "all"}
        rows.append(maker.row(top if layer == 11 else 0.1, layer=layer, **fields))
    return [row | {"hash": f"{at:016x}"} for at, row in enumerate(rows)]


MAP, FLAT = layer_map(3.0), layer_map(0.1)


def test_every_claim_becomes_a_row(make_run, command, tmp_path):
    run = make_run()
    done = command("claims", f"--config.runs={run}", f"--workdir={tmp_path / 'claims'}")
    assert (done.status, done.err) == (0, "")
    line = next(line for line in done.out.splitlines() if "not interchangeable" in line)
    assert line.split()[-2:] == ["holds", "AH"]
    record = read_run(tmp_path / "claims")
    assert [row["claim"] for row in record] == [claim.id for claim in CLAIMS]
    assert record.provenance["weights_sha256"] == "1" * 64
    assert record.summary["verdicts"]["figures"]["holds"] == 5
    assert [run["finished"] for run in record.summary["runs"]] == [True]
    assert (record.folder / "report.html").exists()


def test_when_a_run_has_got_further_its_claims_are_replaced(make_run, command, tmp_path):
    flags = ("claims", f"--config.runs={make_run(finished=False)}", f"--workdir={tmp_path / 'c'}")
    assert command(*flags).status == 0
    (first,) = read_run(tmp_path / "c").select(claim="non_equivalence")
    assert first["reason"].endswith("the importance run is not finished")
    make_run(rows=FLAT)
    assert command(*flags).status == 0
    record = read_run(tmp_path / "c")
    (second,) = record.select(claim="non_equivalence")
    assert second["verdict"] == "does not hold"
    assert len(record) == len(CLAIMS)


def test_a_second_audit_replaces_the_first_with_other_runs_and_other_code(
    make_run, command, tmp_path
):
    flags = (f"--workdir={tmp_path / 'c'}",)
    assert command("claims", f"--config.runs={make_run()}", *flags).status == 0
    made = json.loads((tmp_path / "c" / "config.json").read_text())
    made["provenance"]["code_version"] = "0.0.1+other"
    run_files.write_config(tmp_path / "c", made["config"], made["provenance"])
    other = make_run("structure", [{"hash": "s", "metric": "mean_cosine", "layer": None}])
    done = command("claims", f"--config.runs={make_run()},{other}", *flags)
    assert (done.status, done.err) == (0, "")
    record = read_run(tmp_path / "c")
    assert record.config["runs"] == [str(tmp_path / "importance"), str(other)]
    assert record.provenance["code_version"] != "0.0.1+other"
    assert [run["experiment"] for run in record.summary["runs"]] == ["importance", "structure"]
    assert len(record) == len(CLAIMS)


def test_an_audit_of_another_model_and_other_runs_are_never_replaced(make_run, command, tmp_path):
    flags = (f"--workdir={tmp_path / 'c'}",)
    atlas = make_run()
    assert command("claims", f"--config.runs={atlas}", *flags).status == 0
    before = (tmp_path / "c" / "rows.jsonl").read_bytes()
    done = command("claims", f"--config.runs={make_run(weights='2' * 64)}", *flags)
    assert done.status == 2
    assert done.err.startswith("error: expected an audit of one model in ")
    assert done.err.count("\n") == 1
    assert (tmp_path / "c" / "rows.jsonl").read_bytes() == before
    rows = (atlas / "rows.jsonl").read_bytes()
    assert command("claims", f"--config.runs={atlas}", f"--workdir={atlas}").status == 2
    assert (atlas / "rows.jsonl").read_bytes() == rows


def test_the_provenance_is_that_of_the_run_with_the_model(make_run, command, tmp_path):
    rows = [{"hash": "d", "kind": "curve", "exact_completions": None}]
    scratch = make_run("developmental", rows, model=None, weights=None)
    runs = f"--config.runs={scratch},{make_run()}"
    assert command("claims", runs, f"--workdir={tmp_path / 'c'}").status == 0
    provenance = read_run(tmp_path / "c").provenance
    assert (provenance["model"], provenance["weights_sha256"]) == ("file:x", "1" * 64)


def test_a_dry_run_names_the_runs(make_run, command, tmp_path):
    done = command("claims", f"--config.runs={make_run(finished=False)}", "--dry_run")
    assert done.out.startswith(f"importance: {tmp_path / 'importance'}, 29 rows, not finished\n")
    assert f"of {len(CLAIMS)}" in done.out


def test_the_list_has_every_claim(command):
    listed = command("claims", "--list").out
    assert all(f"  {claim.id} " in listed for claim in CLAIMS)


def test_runs_of_two_models_are_audited_apart_and_two_of_one_together(make_run, command, tmp_path):
    other = make_run(rows=FLAT, weights="2" * 64, model="file:y")
    runs = f"--config.runs={make_run()},{other}"
    done = command("claims", runs, f"--workdir={tmp_path / 'c'}")
    assert (done.status, done.err) == (0, "")
    record = read_run(tmp_path / "c")
    verdicts = {row["model"]: row["verdict"] for row in record.select(claim="non_equivalence")}
    assert verdicts == {"file:x": "holds", "file:y": "does not hold"}
    assert record.provenance["model"] == "file:x, file:y"
    assert record.provenance["weights_sha256"] == ["1" * 64, "2" * 64]
    again = command("claims", runs, f"--workdir={tmp_path / 'c'}")
    assert (again.status, again.err) == (0, "")


def test_runs_that_contradict_each_other_are_refused_in_one_line(make_run, command, tmp_path):
    second = make_run(rows=FLAT).rename(tmp_path / "second")
    first = make_run()
    for more in ((), ("--dry_run",)):
        runs = f"--config.runs={first},{second}"
        done = command("claims", runs, f"--workdir={tmp_path / 'claims'}", *more)
        assert done.status == 2
        assert done.err.startswith("error: expected one nll of a, 11/neighbour_mean/layer/all; ")
        assert done.err.count("\n") == 1
        assert not (tmp_path / "claims").exists()
