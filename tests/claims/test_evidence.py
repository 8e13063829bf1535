"""The runs that claims are tested against: models apart, runs of one experiment together."""

import numpy as np
import pytest
from claims import worlds_importance, worlds_training, worlds_weights  # noqa: F401  enter worlds
from claims.worlds import BY_ID, SMOLLM2, WORLDS, Maker, evidence

from jaxanatomy import experiment
from jaxanatomy.claims.audit import CLAIMS, EXPERIMENTS, audit
from jaxanatomy.claims.evidence import Evidence, gather, joined, key_of
from jaxanatomy.errors import InputError
from jaxanatomy.records import RunRecord

ROW = [{"hash": "h"}]


def record(rows=(), folder="run", experiment="importance", config=None, done=True, **provenance):
    made = {"model": "m", "experiment": experiment, "architecture": SMOLLM2} | provenance
    return RunRecord(folder, list(rows), dict(config or {}), made, {"done": True} if done else {})


@pytest.fixture
def gathered(monkeypatch):
    """`gathered(a=record, ...)`: what `gather` makes of runs in folders of these names."""

    def make(**records):
        monkeypatch.setattr("jaxanatomy.claims.evidence.read_run", records.__getitem__)
        return gather(list(records), EXPERIMENTS)

    return make


def test_runs_of_one_model_go_together_and_those_from_scratch_apart(gathered):
    found = gathered(
        a=record(ROW, weights_sha256="1", data_sha256={"t": "1", "u": "3"}),
        b=record(ROW, experiment="structure", weights_sha256="1"),
        c=record(ROW, experiment="recovery", weights_sha256="1", data_sha256={"t": "1", "v": "4"}),
        d=record(ROW, experiment="developmental", model=None, data_sha256="5"),
        e=record(ROW, experiment="flops", model=None),
    )
    assert [list(each.records) for each in found] == [
        ["importance", "structure", "recovery"],
        ["developmental", "flops"],
    ]


def test_the_model_is_that_of_the_run_that_has_one():
    held = {"weights_sha256": "1", "architecture": {"layers": [1, 2, 3]}}
    scratch = RunRecord("d", [], {}, {"architecture": {"layers": [1]}}, {})
    both = Evidence({"developmental": scratch, "importance": record(**held)})
    assert both.model["weights_sha256"] == "1"
    assert Evidence({"developmental": scratch}).model == {}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            {
                "a": record(ROW, "a", data_sha256={"t": "1" * 64, "u": "3"}),
                "b": record(ROW, "b", "structure", data_sha256={"t": "2" * 64, "v": "4"}),
            },
            "expected runs on one text 't'; a and b have different ones of this name (11111111 "
            "and 22222222); measure one of them again, or leave it out",
        ),
        (
            {
                "a": record([{"hash": "h", "text": "t", "variant": "v", "nll": 1.0}], "a"),
                "b": record([{"hash": "i", "text": "t", "variant": "v", "nll": 1.1}], "b"),
            },
            "expected one nll of t, v; a has 1.0 and b 1.1; measure one of them again, or audit "
            "them apart, each in a workdir of its own",
        ),
        ({"a": record([], "a")}, "with rows; a is one of importance with 0 rows; leave it out"),
        ({"a": record(ROW, "a", "claims")}, "a is one of claims with 1 rows; leave it out"),
        ({}, "runs must name at least one folder of a run; got none"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(gathered, records, message):
    with pytest.raises(InputError) as error:
        gathered(**records)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder; name the runs that you have"):
        gather([tmp_path / "none"], EXPERIMENTS)


def layer_map(text, top, layers=range(1, 29), **labels):
    """A baseline and neighbour means; layer 11 harms by `top` nats."""
    maker = Maker(np.random.default_rng(len(text)), text)
    rows = [maker.baseline() | labels]
    for layer in layers:
        fields = {"intervention": "neighbour_mean", "scope": "layer", "positions": "all"}
        rows.append(maker.row(top if layer == 11 else 0.1, layer=layer, **fields, **labels))
    return rows


def verdicts(found, claim):
    rows = audit(found, [BY_ID[claim]])
    return [(row["model"], row["text"], row["verdict"]) for row in rows]


def test_two_texts_of_one_model_are_read_together(gathered):
    one, two = layer_map("a", 3.0), layer_map("bb", 0.1)
    found = gathered(x=record(one, "x"), y=record(two, "y"))
    assert verdicts(found, "non_equivalence") == [("m", "a, bb", "cannot tell")]
    found = gathered(x=record(one, "x"), y=record(layer_map("bb", 3.0), "y"))
    assert verdicts(found, "non_equivalence") == [("m", "a, bb", "holds")]


def test_a_row_that_two_runs_have_is_read_once_whatever_the_model_is_called(gathered):
    rows = layer_map("a", 3.0, model="m")
    again = [{**row, "hash": "other", "model": "alias"} for row in rows[:9]]
    more = layer_map("bb", 3.0)
    one = record(rows, "x", weights_sha256="1")
    two = record([*again, *more], "y", weights_sha256="1", model="alias")
    (both,) = gathered(x=one, y=two)
    assert both.records["importance"].rows == [*rows, *more]
    assert [run.folder for run in both.runs] == ["x", "y"]


def test_a_figure_that_differs_by_rounding_is_the_same():
    rows = [{"hash": "a", "variant": "v", "nll": 100.0, "seconds": 1.0}]
    other = [{"hash": "b", "variant": "v", "nll": 100.0001, "seconds": 7.0}]
    assert joined([record(rows), record(other)]).rows == rows
    with pytest.raises(InputError, match="expected one nll of v; run has"):
        joined([record(rows), record([{"hash": "b", "variant": "v", "nll": None}])])


@pytest.mark.parametrize(
    ("experiment", "field"),
    [(each.name, name) for each in experiment.EXPERIMENTS.values() for name in each.key],
)
def test_measurements_that_differ_by_a_name_are_two(experiment, field):
    one, two = ([{"hash": f"{at}", "nll": float(at), field: at}] for at in (1, 2))
    runs = [record(rows, experiment=experiment) for rows in (one, two)]
    assert joined(runs).rows == one + two


def test_models_are_audited_apart_and_what_is_about_none_once(gathered):
    found = gathered(
        x=record(layer_map("a", 3.0), "x", weights_sha256="1"),
        y=record(layer_map("a", 0.1), "y", weights_sha256="2", model="n"),
    )
    assert verdicts(found, "non_equivalence") == [
        ("m", "a", "holds"),
        ("n", "a", "does not hold"),
    ]
    rows = audit(found)
    of_importance = sum(claim.needs == ("importance",) for claim in CLAIMS)
    assert len(rows) == len({row["hash"] for row in rows}) == len(CLAIMS) + of_importance
    assert {row["model"] for row in rows if row["needs"] != ["importance"]} == {""}


def test_models_of_one_id_or_none_are_told_apart_by_the_folders_of_their_runs(gathered):
    found = gathered(
        x=record(ROW, "x", weights_sha256="1"),
        y=record(ROW, "y", weights_sha256="2"),
        z=record(ROW, "z", "structure", weights_sha256="2"),
        u=record(ROW, "u", "developmental", {"steps": 1}, model=None),
        v=record(ROW, "v", "developmental", {"steps": 2}, model=None),
        w=record(ROW, "w", "flops", model=None),
    )
    named = {}
    for row in audit(found):
        named.setdefault(tuple(row["needs"]), {}).setdefault(row["model"])
    measured = ("importance",), ("structure",), ("developmental",)
    assert {needs: [*names] for needs, names in named.items()} == {
        ("importance",): ["m in x", "m in y"],
        ("structure",): ["m"],
        ("developmental",): ["in u", "in v"],
    } | {needs: [""] for needs in named if needs not in measured}


def curve(layer, loss):
    labels = {"layer": layer, "seed": layer, "text": "t", "train_text": "u"}
    return [{"hash": f"{layer} {at}", "step": at, "nll": loss, **labels} for at in (0, 10)]


@pytest.mark.parametrize(
    ("changed", "folders"),
    [
        ({}, [["x", "y"]]),
        ({"train": {"group_size": 2}, "num_noise_seeds": 4, "layers": [2]}, [["x", "y"]]),
        ({"num_seeds": 3}, [["x", "y"]]),
        ({"steps": 60}, [["x"], ["y"]]),
        ({"text": "v"}, [["x"], ["y"]]),
        ({"optimiser": {"learning_rate": 1e-3}}, [["x"], ["y"]]),
    ],
)
def test_what_was_trained_otherwise_is_read_apart(gathered, changed, folders):
    config = {"steps": 200, "optimiser": {"learning_rate": 1e-4}, "layers": [1]}
    found = gathered(
        x=record(curve(1, 3.0), "x", "recovery", config),
        y=record(curve(2, 2.0), "y", "recovery", config | changed),
    )
    assert [[run.folder for run in each.runs] for each in found] == folders


def test_seeds_and_calibrations_are_put_together_and_all_must_be_finished():
    made = {"experiment": "manipulation"}
    one = RunRecord("x", ROW, {"seeds": [0, 1]}, made, {"calibration": [{"variant": "v"}]})
    two = RunRecord("y", [], {"seeds": [1, 2]}, made, {"calibration": [{"variant": "w"}]})
    both = joined([one, two])
    assert both.config == {"seeds": [0, 1, 2]}
    assert both.summary == {"calibration": [{"variant": "v"}, {"variant": "w"}]}
    assert joined([one, RunRecord("z", [], {}, made, {})]).summary == {}


@pytest.mark.parametrize("id", sorted(WORLDS))
def test_no_two_rows_of_a_run_have_one_name(id):
    """Else one of them would be taken for the other, or refused as a contradiction."""
    for name, made in evidence(BY_ID[id], WORLDS[id].true, 0).records.items():
        names = experiment.EXPERIMENTS[name].key
        assert len({key_of(row, names) for row in made.rows}) == len(made.rows)
