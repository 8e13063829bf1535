"""Claims about growth, from literal losses of seeds."""

import pytest

from jaxanatomy.records import RunRecord
from jaxanatomy.report import claims
from jaxanatomy.report.claims.claim import FAILS, HOLDS, UNDECIDED, Evidence

SPREAD = (-0.01, 0.0, 0.01)


def finals(arm, loss, lowest=None, exact=12, seconds=10.0, spread=SPREAD, rate=1e-3, flops=100):
    return [
        {
            "hash": f"{arm}{seed}",
            "kind": "final",
            "purpose": "main",
            "arm": arm,
            "seed": seed,
            "learning_rate": rate,
            "step": 656,
            "final_nll": loss + off,
            "min_nll": (loss if lowest is None else lowest) + off,
            "unit_nll": [loss + off] * 4,
            "min_unit_nll": [(loss if lowest is None else lowest) + off] * 4,
            "unit_tokens": [1] * 4,
            "seconds": seconds,
            "flops": flops,
            "completions": [""] * 12,
            "exact_completions": exact,
        }
        for seed, off in enumerate(spread)
    ]


def finding(claim, *groups):
    (chosen,) = (each for each in claims.CLAIMS if each.id == claim)
    rows = [row for group in groups for row in group]
    record = RunRecord("run", rows, {}, {}, {"done": 1})
    return chosen.finding(Evidence({"developmental": record}))


UNIFORM = finals("uniform_100", 1.0)


@pytest.mark.parametrize(
    ("claim", "groups", "verdict"),
    [
        ("growth_wins", (UNIFORM, finals("growth_100", 0.9)), HOLDS),
        ("growth_wins", (UNIFORM, finals("growth_100", 1.1)), FAILS),
        ("growth_wins", (UNIFORM, finals("growth_100", 1.0, spread=(0.3, -0.3, 0))), UNDECIDED),
        ("growth_wins", (UNIFORM,), UNDECIDED),
        ("growth_wins_by_far", (UNIFORM, finals("growth_100", 0.9)), FAILS),
        ("growth_wins_by_far", (finals("uniform_100", 5), finals("growth_100", 0.9)), HOLDS),
        ("growth_wins_by_far", (finals("uniform_100", 4.7), finals("growth_100", 1)), UNDECIDED),
        ("half_budget_wins", (UNIFORM, finals("growth_50", 0.9)), HOLDS),
        ("half_budget_wins", (UNIFORM, finals("growth_100", 0.9)), UNDECIDED),
        ("half_budget_wins_by_far", (finals("uniform_100", 3), finals("growth_50", 1)), HOLDS),
        ("half_budget_wins_by_far", (finals("uniform_100", 2), finals("growth_50", 1)), FAILS),
        ("growth_is_faster", (UNIFORM, finals("growth_100", 1, seconds=8.7, flops=87)), HOLDS),
        ("growth_is_faster", (UNIFORM, finals("growth_100", 1, seconds=8.8, flops=88)), FAILS),
        ("growth_is_faster", (UNIFORM, finals("growth_100", 1, seconds=9, flops=50)), UNDECIDED),
        ("half_budget_completes_alike", (UNIFORM, finals("growth_50", 1)), HOLDS),
        ("half_budget_completes_alike", (UNIFORM, finals("growth_50", 1, exact=11)), FAILS),
        ("half_budget_completes_alike", (UNIFORM, finals("growth_100", 1)), UNDECIDED),
        ("growth_completes_all", (finals("growth_100", 1),), HOLDS),
        ("growth_completes_all", (finals("growth_100", 1, exact=11),), FAILS),
    ],
)
def test_verdicts(claim, groups, verdict):
    assert finding(claim, *groups).verdict == verdict


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ((1.1, 1.2, 1.3), HOLDS),
        ((0.9, 1.2, 1.3), FAILS),
        ((1.1, 0.9, 1.3), FAILS),
        ((1.1, 1.2, 0.9), FAILS),
    ],
)
def test_the_phases_must_beat_every_control(losses, verdict):
    groups = map(finals, ("clone_init_uniform", "shuffled_phases", "core_alone"), losses)
    found = finding("phases_explain_growth", finals("growth_100", 1.0), *groups)
    assert found.verdict == verdict
    assert found.measured.count("growth_100") == 3
    assert "growth_100 less core_alone" not in found.null  # it stands among what is measured


def test_a_control_that_was_not_trained_cannot_tell_but_one_may_suffice_to_fail():
    grown = finals("growth_100", 1.0)
    for cloned, verdict in ((1.1, UNDECIDED), (0.9, FAILS)):
        found = finding("phases_explain_growth", grown, finals("clone_init_uniform", cloned))
        assert found.verdict == verdict
        assert found.reason.endswith("shuffled_phases, core_alone were not measured")
    assert finding("phases_explain_growth", grown).reason.startswith("not measured")


def test_a_seed_that_diverged_completes_nothing():
    grown = finals("growth_100", 1.0)
    grown[0] |= {"final_nll": None, "exact_completions": 0}
    found = finding("growth_completes_all", grown)
    assert (found.verdict, found.reason) == (FAILS, "all of them in 2 of 3 seeds")


def test_losses_of_other_seeds_have_no_ratio():
    other = [row | {"seed": row["seed"] + 9} for row in finals("growth_100", 0.1)]
    found = finding("growth_wins_by_far", UNIFORM, other)
    assert found.reason.startswith("not measured")
    found = finding("growth_wins_by_far", UNIFORM[:1], finals("growth_100", 0.1)[:1])
    assert found.verdict == UNDECIDED
    assert found.measured.endswith("times (no interval from one seed)")


def test_the_lowest_losses_stand_beside_the_last():
    found = finding("growth_wins", finals("uniform_100", 1.0, 0.5), finals("growth_100", 0.8, 0.7))
    assert found.measured == (
        "growth_100 0.800 in 656 steps, uniform_100 1.000 in 656 steps, "
        "−0.200 [−0.200, −0.200] nats"
    )
    assert "+0.200" in found.null
    ratio = finding(
        "growth_wins_by_far",
        finals("uniform_100", 2, spread=(0,) * 3),
        finals("growth_100", 1, spread=(0,) * 3),
    )
    assert ratio.measured == "2.00 times [2.00, 2.00]"


def test_equal_flops_the_core_alone_and_the_rates_of_both_stand_beside():
    grown = finals("growth_100", 0.8, rate=1e-3)
    groups = UNIFORM, finals("equal_flops", 1.2), finals("core_alone", 0.7), grown
    tried = [
        {"kind": "final", "purpose": "tuning", "arm": arm, "learning_rate": rate, "final_nll": loss}
        for arm, losses in (("growth_100", (3, 2)), ("uniform_100", (3, 1)))
        for rate, loss in zip((1e-4, 1e-3), losses, strict=True)
    ]
    tried.append(tried[-1] | {"learning_rate": 1e-2, "final_nll": None})
    found = finding("growth_wins", *groups, tried)
    assert found.verdict == HOLDS
    assert "growth_100 less equal_flops −0.400 [−0.400, −0.400] nats" in found.null
    assert "growth_100 less core_alone +0.100 [+0.100, +0.100] nats" in found.null
    assert found.null.endswith(
        "each arm's own: growth_100 1e-03 (at the edge of those tried), uniform_100 1e-03"
    )
    assert "against equal_flops 1.50 times" in finding("growth_wins_by_far", *groups).null
    # These FLOPs are those of growth_100.
    short = finding("half_budget_wins", *groups, finals("growth_50", 0.8))
    assert "equal_flops" not in short.null


def test_a_seed_that_stopped_is_left_out():
    stopped = finals("growth_100", 0.9)
    stopped[0]["final_nll"] = None
    assert finding("growth_wins", UNIFORM, stopped).verdict == HOLDS
    alone = finals("growth_100", 0.9, spread=(0.0,))
    assert "no interval from one seed" in finding("growth_wins", UNIFORM, alone).measured


def test_a_run_from_scratch_goes_with_runs_of_a_checkpoint(tmp_path):
    from jaxanatomy.runs import Run

    made = {"importance": {"intervention": "zero"}, "developmental": {"exact_completions": 3}}
    provenance = {"importance": {"model": "file:x", "weights_sha256": "1"}, "developmental": {}}
    for name, fields in made.items():
        with Run.open(tmp_path / name, {}, provenance[name]) as run:
            run.append([{"hash": name, **fields}])
    evidence = claims.gather([tmp_path / name for name in made])
    assert set(evidence.records) == set(made)
    assert {row["model"] for row in claims.audit(evidence)} == {"file:x"}
