"""The audit: three-valued rules, texts that agree and disagree, what was not measured."""

import math

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.records import RunRecord
from jaxanatomy.report.claims import CLAIMS, audit, experiment_of, gather, summarise
from jaxanatomy.report.claims.claim import (
    Claim,
    Evidence,
    Finding,
    agreed,
    beyond,
    combine,
    every,
    harms_more,
    most,
    negated,
    per_text,
    percent,
    reaches,
    some,
)

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"


def record(rows=(), folder="run", summary=None, **provenance):
    summary = {"done": True} if summary is None else summary
    return RunRecord(folder, list(rows), {}, {"model": "m", **provenance}, summary)


def make_claim(test, needs=("importance",), **more):
    return Claim("c", "AH", "it is so", "1", "it holds if so", test, needs, **more)


@pytest.mark.parametrize(
    ("answers", "all_", "any_", "majority"),
    [
        ([True, True, True], True, True, True),
        ([True, None, True], None, True, True),
        ([True, None, False], False, True, None),
        ([None, None], None, None, None),
        ([False, None], False, None, None),
        ([False, False, True], False, True, False),
        ([True, False], False, True, None),
        ([], True, False, None),
    ],
)
def test_rules_of_three_values(answers, all_, any_, majority):
    assert (every(answers), some(answers), most(answers)) == (all_, any_, majority)


@pytest.mark.parametrize(
    ("answers", "answer"),
    [
        ([True, True], True),
        ([False, False], False),
        ([True, False], None),
        ([True, None], None),
        ([None], None),
        ([], None),
    ],
)
def test_draws_agree_or_cannot_tell(answers, answer):
    assert agreed(answers) is answer


@pytest.mark.parametrize(
    ("answer", "reason", "absent", "words"),
    [
        (None, "", [], "an interval crosses the threshold, or there is none"),
        (None, "", ["L3"], "L3 was not measured"),
        (None, "open", ["L3", "L4"], "open; L3, L4 were not measured"),
        (False, "", ["L3"], "the rule is not met; L3 was not measured"),
        (None, "", list("abcdefgh"), "a, b, c, d, e, f and 2 more were not measured"),
    ],
)
def test_what_was_not_measured_is_named(answer, reason, absent, words):
    assert Finding.of(answer, "1", "0", reason, absent).reason == words


def test_negation_keeps_what_cannot_tell():
    assert [negated(answer) for answer in (True, False, None)] == [False, True, None]


@pytest.mark.parametrize(
    ("ends", "answer"),
    [
        ((100.0, 120.0), True),
        ((99.999, 120.0), None),
        ((80.0, 99.999), False),
        ((80.0, 100.0), None),
        ((100.0, math.inf), True),
        (None, None),
        ((math.nan, math.nan), None),
    ],
)
def test_an_interval_against_a_threshold(ends, answer):
    assert beyond(ends, 100.0) is answer


def test_a_perplexity_that_is_not_finite_reaches_everything():
    assert reaches({"degradation_percent": None, "ci95": None}, 1e9) is True
    assert reaches({"degradation_percent": 50.0, "ci95": None}, 10.0) is None
    assert reaches({"degradation_percent": 50.0, "ci95": [20.0, 70.0]}, 10.0) is True


def test_harm_is_compared_by_the_pairs():
    tokens = [10, 10, 10, 10, 10, 10]
    row = {"unit_nll": [30.0, 41.0, 29.0, 36.0, 33.0, 30.0], "unit_tokens": tokens}
    worse = {"unit_nll": [32.0, 44.0, 30.0, 38.0, 34.0, 31.0], "unit_tokens": tokens}
    mixed = {"unit_nll": [32.0, 39.0, 30.0, 35.0, 34.0, 29.0], "unit_tokens": tokens}
    assert harms_more(worse, row) is True
    assert harms_more(row, worse) is False
    assert harms_more(mixed, row) is None
    assert harms_more(row, {}) is None
    lost = {"nll": None, "unit_nll": [None] * 6, "unit_tokens": tokens}
    assert (harms_more(lost, row), harms_more(row, lost)) == (True, False)
    assert harms_more(lost, lost) is None


@pytest.mark.parametrize(
    ("verdicts", "verdict", "strict"),
    [
        ((HOLDS,), HOLDS, HOLDS),
        ((HOLDS, HOLDS), HOLDS, HOLDS),
        ((HOLDS, UNDECIDED), HOLDS, UNDECIDED),
        ((FAILS, UNDECIDED), FAILS, FAILS),
        ((HOLDS, FAILS), UNDECIDED, UNDECIDED),
        ((UNDECIDED, UNDECIDED), UNDECIDED, UNDECIDED),
    ],
)
def test_texts_are_combined(verdicts, verdict, strict):
    findings = {f"text {i}": Finding("1", "", each, "why") for i, each in enumerate(verdicts)}
    assert combine(findings).verdict == verdict
    assert combine(findings, everywhere=True).verdict == strict
    assert combine(findings).text == ", ".join(findings)


def test_figures_of_texts_stand_side_by_side():
    found = combine({"a": Finding("1", "0", HOLDS, "x"), "b": Finding("2", "0", FAILS, "y")})
    assert found.measured == "a: 1; b: 2"
    assert found.null == "0"
    assert found.reason == "a: holds, x; b: does not hold, y"
    assert combine({}) is None


def test_each_text_is_tested_on_its_own_rows():
    rows = [
        {"variant": "v", "text": "a"},
        {"variant": "w", "text": "a"},
        {"variant": "v", "text": "b"},
        {"variant": "v", "text": "b", "kind": "temperature"},
    ]
    test = per_text("importance", lambda rows: Finding.of(len(rows) > 1, str(len(rows))))
    found = test(Evidence({"importance": record(rows)}))
    assert (found.measured, found.verdict) == ("a: 2; b: 1", UNDECIDED)


def test_what_cannot_be_tested_is_listed_with_its_reason():
    def cannot(_):
        raise AssertionError("must not be tested")

    assert make_claim(cannot).finding(Evidence({})) == Finding(
        "not measured", "", UNDECIDED, "not measured: needs a run of importance"
    )
    evidence = Evidence({"importance": record()})
    found = make_claim(cannot, papers_model=True).finding(evidence)
    assert found.reason.startswith("another architecture")
    found = make_claim(lambda _: None).finding(evidence)
    assert found.reason == "not measured: the importance run lacks the rows"
    unfinished = Evidence({"importance": record(summary={})})
    found = make_claim(lambda _: Finding.of(True, "1")).finding(unfinished)
    assert found.verdict == HOLDS
    assert found.reason == "the rule is met; the importance run is not finished"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-0.6, "−0.6 %"),
        (63419.2, "+63,419 %"),
        (85_800_000, "+8.6e7 %"),
        (999.94, "+999.9 %"),
        (math.inf, "not finite"),
    ],
)
def test_percentages_for_reading(value, words):
    assert percent(value) == words


def test_every_claim_has_a_row_also_without_any_run():
    rows = audit(Evidence({}))
    assert [row["claim"] for row in rows] == [claim.id for claim in CLAIMS]
    assert len({row["claim"] for row in rows}) == len({row["hash"] for row in rows}) == len(rows)
    assert {row["verdict"] for row in rows if row["needs"]} == {UNDECIDED}
    wanted = [
        "claim",
        "source",
        "statement",
        "paper",
        "measured",
        "null",
        "rule",
        "verdict",
        "reason",
        "model",
        "text",
    ]
    assert all(set(wanted) <= set(row) for row in rows)
    assert all(
        row["rule"] and row["reason"] and row["source"].startswith(("AH ", "DG ")) for row in rows
    )


def test_a_row_changes_its_hash_with_its_evidence_and_its_rule():
    def hash_of(rows, rule="r"):
        claim = Claim("c", "AH", "s", "p", rule, lambda _: Finding.of(True, "1"), ("importance",))
        return audit(Evidence({"importance": record(rows)}), [claim])[0]["hash"]

    one, two = [{"hash": "a"}], [{"hash": "a"}, {"hash": "b"}]
    assert hash_of(one) == hash_of(one)
    assert len({hash_of(one), hash_of(two), hash_of(one, "other")}) == 3


def test_counts_of_verdicts_are_apart():
    evidence = Evidence({"importance": record([{"hash": "a"}], "f", {}, code_version="1+x")})
    rows = [
        {"verdict": HOLDS, "needs": ["importance"]},
        {"verdict": HOLDS, "needs": []},
        {"verdict": FAILS, "needs": []},
    ]
    assert summarise(evidence, rows) == {
        "verdicts": {
            "measured": {HOLDS: 1, FAILS: 0, UNDECIDED: 0},
            "arithmetic": {HOLDS: 1, FAILS: 1, UNDECIDED: 0},
        },
        "papers_model": False,
        "runs": {
            "importance": {"folder": "f", "rows": 1, "finished": False, "code_version": "1+x"}
        },
    }


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"intervention": "zero", "variant": "zero/layer/1"}, "importance"),
        ({"component": "q_proj", "metric": "mean_cosine"}, "structure"),
        ({"component": "q_proj", "reading": "sorted"}, "predictability"),
        ({"reading": "function", "strategy": "predicted"}, "predictability"),
        ({"strategy": "zero", "set": "paper"}, "manipulation"),
        ({"claim": "c", "verdict": HOLDS}, None),
    ],
)
def test_the_experiment_of_a_run_is_seen_in_its_rows(row, name):
    assert experiment_of(record([row])) == name


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """`folders(a=record, ...)`: names of runs that `gather` will read."""

    def make(**records):
        monkeypatch.setattr("jaxanatomy.report.claims.read_run", records.__getitem__)
        return list(records)

    return make


def test_runs_of_one_model_are_gathered(folders):
    names = folders(
        a=record([{"intervention": "zero"}], weights_sha256="1"),
        b=record([{"metric": "x"}], weights_sha256="1"),
    )
    assert list(gather(names).records) == ["importance", "structure"]


def test_texts_of_other_names_and_of_a_run_that_names_none_may_differ(folders):
    names = folders(
        a=record([{"intervention": "zero"}], data_sha256={"t": "1", "u": "3"}),
        b=record([{"reading": "x"}], data_sha256={"t": "1", "v": "4"}),
        c=record([{"exact_completions": 1}], data_sha256="5"),
        d=record([{"metric": "x"}]),
    )
    assert len(gather(names).records) == 4


def test_the_model_is_that_of_the_run_that_has_one():
    scratch = RunRecord("d", [], {}, {"architecture": {"layers": [1]}}, {})
    held = {"model": "m", "weights_sha256": "1", "architecture": {"layers": [1, 2, 3]}}
    evidence = Evidence({"developmental": scratch, "importance": record(**held)})
    assert (evidence.model, evidence.depth) == (held, 3)
    alone = Evidence({"developmental": scratch})
    assert (alone.model, alone.depth) == ({}, 0)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            {
                "a": record([{"intervention": "z"}], "a", weights_sha256="1" * 64),
                "b": record([{"metric": "x"}], "b", weights_sha256="2" * 64),
            },
            "expected runs of one model; a is of m, b of m (11111111 and 22222222); audit each",
        ),
        (
            {
                "a": record([{"intervention": "z"}], "a"),
                "b": record([{"intervention": "z"}], "b"),
            },
            "expected one run of each experiment; a and b are both of importance; name one",
        ),
        (
            {
                "a": record([{"intervention": "z"}], "a", data_sha256={"t": "1" * 64, "u": "3"}),
                "b": record([{"reading": "z"}], "b", data_sha256={"t": "2" * 64, "v": "4"}),
            },
            "expected runs on one text 't'; a and b have different ones of this name (11111111 "
            "and 22222222); measure one of them again, or leave it out",
        ),
        ({"a": record([], "a")}, "with rows; a has none yet; leave it out"),
        ({"a": record([{"claim": "c"}], "a")}, "with rows; a has others; leave it out"),
        ({}, "runs must name at least one folder of a run; got none"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(folders, records, message):
    with pytest.raises(InputError) as error:
        gather(folders(**records))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder; name the runs that you have"):
        gather([tmp_path / "none"])
