"""Claims about growth in depth, from literal losses and accuracies of seeds."""

import itertools

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.data.primitives import PAPER_PRIMITIVES
from jaxanatomy.records import RunRecord
from jaxanatomy.report import claims
from jaxanatomy.report.claims.claim import FAILS, HOLDS, UNDECIDED, Evidence

SPREAD = (-0.002, 0.0, 0.002)
WIDE = (0.3, -0.3, 0.1)
TASKS = (*PAPER_PRIMITIVES, "assignment_basic_2")


def finals(arm, loss=3.0, right=0.6, spread=SPREAD, seconds=10.0, flops=100e12, **more):
    """A final row for each seed; chance is 0.1 for copying and 0.2 else."""
    rows = []
    for seed, off in enumerate(spread):
        tasks = {
            name: {
                "accuracy": 0.0 if name == "assignment_basic_2" else right - off,
                "chance": 0.1 if name.startswith("copying") else 0.2,
                "questions": 40,
            }
            for name in TASKS
        }
        row = {
            "hash": f"{arm}{seed}",
            "kind": "final",
            "arm": arm,
            "seed": seed,
            "step": 1000,
            "tokens": 2_000_000,
            "flops": flops,
            "seconds": seconds,
            "eval_nll": loss + off,
            "eval_nll_by_source": {"code": loss},
            "accuracy": 0.0,
            "chance": 0.16,
            "accuracy_by_task": tasks,
            "reason": None,
        }
        rows.append(row | more)
    return rows


def finding(claim, *groups, seeds=None, layers=8, block=2):
    (chosen,) = (each for each in claims.CLAIMS if each.id == claim)
    rows = list(itertools.chain(*groups))
    config = {"block": block} | ({} if seeds is None else {"seeds": seeds})
    model = ModelConfig.uniform(layers, 1, 1, 8, vocab_size=9, hidden_size=8, head_dim=8)
    provenance = {"parameters": 2_100_000, "architecture": model.to_dict()}
    record = RunRecord("run", rows, config, provenance, {"done": 1})
    return chosen.finding(Evidence({"depth_growth": record}))


BASE = finals("baseline")


def test_a_depth_that_growth_cannot_reach_matters_to_arms_that_grow_alone():
    for layers, block in ((5, 2), (4, 4)):
        rows = BASE, finals("ln_scaling")
        assert finding("ln_scaling_tracks_baseline", *rows, layers=layers, block=block)


def test_constant_depths_stand_beside_the_arms_that_grow():
    controls = finals("shallow", 2.9), finals("mean_depth", 3.1)
    found = finding("midas_matches_loss", BASE, finals("midas"), *controls)
    assert "shallow 2.900, baseline 3.000, −0.100" in found.null
    assert "mean_depth 3.100, baseline 3.000, +0.100" in found.null


def both(midas, lidas, field):
    """Both grown arms with a field's values, one each."""
    return finals("midas", **{field: midas}), finals("lidas", **{field: lidas})


@pytest.mark.parametrize(
    ("claim", "groups", "verdict"),
    [
        # A margin of 0.02 nats.
        ("midas_matches_loss", (BASE, finals("midas", 3.0)), HOLDS),
        ("midas_matches_loss", (BASE, finals("midas", 2.5)), HOLDS),
        ("midas_matches_loss", (BASE, finals("midas", 3.019)), HOLDS),
        ("midas_matches_loss", (BASE, finals("midas", 3.021)), FAILS),
        ("midas_matches_loss", (BASE, finals("midas", 3.0, spread=WIDE)), UNDECIDED),
        ("midas_matches_loss", (BASE, finals("lidas", 3.0)), UNDECIDED),
        ("midas_matches_loss", (finals("midas"),), UNDECIDED),
        ("lidas_matches_loss", (BASE, finals("lidas", 3.0)), HOLDS),
        ("lidas_matches_loss", (BASE, finals("lidas", 3.03)), FAILS),
        ("lidas_less_loss_than_midas", both(3.0, 2.999, "loss"), HOLDS),
        ("lidas_less_loss_than_midas", both(3.0, 3.001, "loss"), FAILS),
        (
            "lidas_less_loss_than_midas",
            (finals("midas"), finals("lidas", 2.9, spread=WIDE)),
            UNDECIDED,
        ),
        ("ln_scaling_tracks_baseline", (BASE, finals("ln_scaling", 2.981)), HOLDS),
        ("ln_scaling_tracks_baseline", (BASE, finals("ln_scaling", 3.019)), HOLDS),
        ("ln_scaling_tracks_baseline", (BASE, finals("ln_scaling", 2.979)), FAILS),
        ("ln_scaling_tracks_baseline", (BASE, finals("ln_scaling", 3.021)), FAILS),
        ("ln_scaling_tracks_baseline", (BASE, finals("ln_scaling", spread=WIDE)), UNDECIDED),
        (
            "growth_keeps_loss_under_ln_scaling",
            (finals("ln_scaling"), finals("ln_scaling_lidas", 3.01)),
            HOLDS,
        ),
        (
            "growth_keeps_loss_under_ln_scaling",
            (finals("ln_scaling"), finals("ln_scaling_lidas", 3.03)),
            FAILS,
        ),
        ("growth_keeps_loss_under_ln_scaling", (BASE, finals("lidas", 3.0)), UNDECIDED),
        (
            "growth_raises_primitives_under_ln_scaling",
            (finals("ln_scaling"), finals("ln_scaling_lidas", right=0.7)),
            HOLDS,
        ),
        (
            "growth_raises_primitives_under_ln_scaling",
            (finals("ln_scaling"), finals("ln_scaling_lidas", right=0.5)),
            FAILS,
        ),
        ("lidas_raises_primitives_over_midas", both(0.5, 0.6, "right"), HOLDS),
        ("lidas_raises_primitives_over_midas", both(0.6, 0.5, "right"), FAILS),
        ("growth_raises_primitives", (BASE, *both(0.7, 0.8, "right")), HOLDS),
        ("growth_raises_primitives", (BASE, *both(0.7, 0.5, "right")), FAILS),
        ("growth_raises_primitives", (BASE, *both(0.5, 0.7, "right")), FAILS),
        (
            "growth_raises_primitives",
            (BASE, finals("midas", right=0.7), finals("lidas", right=0.7, spread=WIDE)),
            UNDECIDED,
        ),
        (
            "ln_scaling_trails_growth",
            (finals("ln_scaling"), *both(0.7, 0.7, "right")),
            HOLDS,
        ),
        (
            "ln_scaling_trails_growth",
            (finals("ln_scaling"), *both(0.7, 0.5, "right")),
            FAILS,
        ),
        (
            "depth_growth_wins_at_equal_flops",
            (BASE, finals("midas_equal_flops", 2.9), finals("lidas_equal_flops", 2.95)),
            HOLDS,
        ),
        (
            "depth_growth_wins_at_equal_flops",
            (BASE, finals("midas_equal_flops", 2.9), finals("lidas_equal_flops", 3.1)),
            FAILS,
        ),
        ("depth_growth_wins_at_equal_flops", (BASE, *both(2.9, 2.9, "loss")), UNDECIDED),
    ],
)
def test_verdicts(claim, groups, verdict):
    assert finding(claim, *groups).verdict == verdict


@pytest.mark.parametrize(
    ("timed", "verdict"),
    [
        ({"seconds": 7.7, "flops": 85e12}, HOLDS),
        ({"seconds": 10.5, "flops": 85e12}, FAILS),
        ({"seconds": 7.9, "flops": 77e12}, FAILS),
        ({"seconds": 7.9, "flops": 85e12}, UNDECIDED),
    ],
)
def test_a_shape_that_saves_less_is_not_asked_for_the_papers_speed(timed, verdict):
    found = finding(
        "depth_growth_is_faster", BASE, finals("midas", **timed), finals("lidas", **timed)
    )
    assert found.verdict == verdict
    small = "saves a factor of 1.18 in FLOPs only: 1.29 cannot be asked of it"
    assert (small in found.reason) is (verdict == UNDECIDED)


def test_a_gain_in_time_that_flops_do_not_explain_is_the_machines():
    timed = {"seconds": 6.0, "flops": 80e12}
    found = finding(
        "depth_growth_is_faster", BASE, finals("midas", **timed), finals("lidas", **timed)
    )
    assert found.verdict == UNDECIDED
    assert "1.67 times as fast with 1.25 times fewer FLOPs: the machine was not" in found.reason


def test_one_slow_arm_fails_though_the_other_cannot_tell():
    slow, near = finals("midas", seconds=11.0), finals("lidas", seconds=8.5, flops=85e12)
    found = finding("depth_growth_is_faster", BASE, slow, near)
    assert found.verdict == FAILS
    assert found.measured == "midas 0.91 times as fast, lidas 1.18 times as fast"
    assert found.null == "midas 1.00 times fewer FLOPs, lidas 1.18 times fewer FLOPs"


@pytest.mark.parametrize(
    ("claim", "groups", "missing"),
    [
        ("growth_raises_primitives", (BASE, finals("midas", right=0.1)), "lidas"),
        ("depth_growth_wins_at_equal_flops", (BASE, finals("lidas_equal_flops")), "midas_equal_f"),
        ("ln_scaling_trails_growth", (finals("ln_scaling"), finals("lidas", right=0.1)), "midas"),
        ("depth_growth_is_faster", (BASE, finals("midas", seconds=99.0)), "lidas"),
    ],
)
def test_an_arm_that_was_not_trained_never_decides(claim, groups, missing):
    found = finding(claim, *groups)
    assert found.verdict == UNDECIDED
    assert missing in found.reason
    assert "was not measured" in found.reason


def test_few_seeds_and_seeds_that_are_not_there_never_decide():
    two = finals("lidas", 2.0, spread=SPREAD[:2])
    found = finding("lidas_matches_loss", finals("baseline", spread=SPREAD[:2]), two)
    assert found.verdict == UNDECIDED
    assert found.reason.startswith("2 seeds where the rule needs 3")
    found = finding("lidas_matches_loss", BASE, two)
    assert found.verdict == UNDECIDED
    assert found.reason.startswith("lidas is not finished for seed 2 (")
    three = finals("lidas", 2.0)
    assert finding("lidas_matches_loss", BASE, three, seeds=(0, 1, 2)).verdict == HOLDS
    found = finding("lidas_matches_loss", BASE, three, seeds=(0, 1, 2, 3, 4))
    assert found.reason.startswith("lidas is not finished for seeds 3, 4 (")
    assert found.verdict == UNDECIDED
    timed = finals("midas", seconds=1.0), finals("lidas", seconds=1.0, spread=SPREAD[:1])
    assert finding("depth_growth_is_faster", BASE, *timed).verdict == UNDECIDED


def test_a_seed_that_diverged_never_decides():
    lost = finals("lidas", 2.0)
    tasks = {name: {"accuracy": None, "chance": 0.2, "questions": 40} for name in TASKS}
    lost[1] |= {"eval_nll": None, "reason": "loss is not finite", "accuracy_by_task": tasks}
    for claim in ("lidas_matches_loss", "growth_raises_primitives"):
        found = finding(claim, BASE, finals("midas", 2.0), lost)
        assert found.verdict == UNDECIDED
        assert found.reason.startswith("lidas diverged for seed 1 (")
    assert "lidas 2.000" in finding("lidas_matches_loss", BASE, lost).measured


def test_a_curve_alone_is_no_final_row():
    rows = [row | {"kind": "curve"} for row in finals("lidas")]
    assert finding("lidas_matches_loss", BASE, rows).reason.startswith("not measured")


def test_a_seed_that_stopped_early_is_in_no_figure_of_speed():
    lost = finals("midas", seconds=10.0)
    lost[1] |= {"seconds": 0.1, "flops": 1e12, "reason": "loss is not finite"}
    found = finding("depth_growth_is_faster", BASE, lost, finals("lidas"))
    assert found.measured.startswith("midas 1.00 times as fast")
    assert found.null.startswith("midas 1.00 times fewer FLOPs")
    assert finding("midas_matches_loss", BASE, lost).null == (
        "seeds of baseline differ by up to 0.004 nats"
    )


@pytest.mark.parametrize(("right", "spread"), [(0.302, SPREAD), (0.31, (-0.02, 0.0, 0.02))])
def test_primitives_at_the_level_of_guessing_have_no_order(right, spread):
    # Guessing reaches 0.457 in the two of copying, and chance, 0.2, in the three assignments.
    better = finals("lidas", right=right, spread=spread)
    found = finding("lidas_raises_primitives_over_midas", finals("midas", right=0.1), better)
    assert found.verdict == UNDECIDED
    assert found.reason.startswith("no arm leaves chance")
    assert found.null.startswith("guessing 30.3 %; ")


def test_one_arm_above_guessing_is_enough():
    found = finding("lidas_raises_primitives_over_midas", *both(0.29, 0.31, "right"))
    assert found.verdict == HOLDS
    assert found.measured == "lidas 31.0 %, midas 29.0 %, +2.0 [+2.0, +2.0] points"


def test_only_the_papers_primitives_count():
    rows = finals("midas", right=0.5), finals("lidas", right=0.6)
    assert "lidas 60.0 %" in finding("lidas_raises_primitives_over_midas", *rows).measured
    for row in rows[0]:
        row["accuracy_by_task"] = {"copying_real": row["accuracy_by_task"]["copying_real"]}
    found = finding("lidas_raises_primitives_over_midas", *rows)
    assert found.verdict == UNDECIDED


@pytest.mark.parametrize(("layers", "verdict"), [(4, UNDECIDED), (6, HOLDS)])
def test_midas_and_lidas_that_insert_the_same_cannot_differ(layers, verdict):
    # From 2 layers to 4 there is one block: the middle block is the middle.
    found = finding("lidas_less_loss_than_midas", *both(3.0, 2.5, "loss"), layers=layers)
    assert found.verdict == verdict
    same = "both insert the same layers at every growth step"
    assert (same in found.reason) is (layers == 4)
    other = finding("growth_raises_primitives", BASE, *both(0.7, 0.8, "right"), layers=4)
    assert other.verdict == HOLDS


def test_the_control_stands_beside():
    equal = finals("midas_equal_flops", 2.9)
    found = finding("midas_matches_loss", BASE, finals("midas", 2.95, flops=80e12), equal)
    assert found.measured == "midas 2.950, baseline 3.000, −0.050 [−0.050, −0.050] nats"
    assert found.null == (
        "seeds of baseline differ by up to 0.004 nats; midas takes 20 % fewer FLOPs; "
        "midas_equal_flops 2.900, baseline 3.000, −0.100 [−0.100, −0.100] nats"
    )
    found = finding("lidas_less_loss_than_midas", *both(3.0, 2.9, "loss"))
    assert "they insert other layers at 1 of 3 growth steps" in found.null


def test_every_reason_and_every_rule_says_how_small_the_evidence_is():
    every = ("baseline", "midas", "lidas", "ln_scaling", "ln_scaling_lidas")
    groups = [finals(arm) for arm in (*every, "midas_equal_flops", "lidas_equal_flops")]
    own = [claim for claim in claims.CLAIMS if claim.needs == ("depth_growth",)]
    assert len(own) == 11
    for claim in own:
        found = finding(claim.id, *groups)
        assert "a model of 2.1 million parameters on 2.0 million tokens, where the paper" in (
            found.reason
        )
        assert "Fewer than 3 seeds" in claim.rule
    assert finding("growth_raises_primitives", *groups).verdict == UNDECIDED


def test_a_very_small_run_is_not_called_nothing():
    rows = finals("baseline", tokens=41_000), finals("midas", tokens=41_000)
    assert "on 0.041 million tokens" in finding("midas_matches_loss", *rows).reason


def test_the_papers_figures_are_those_of_its_tables():
    papers = {claim.id: claim.paper for claim in claims.CLAIMS}
    assert papers["lidas_matches_loss"] == (
        "lidas 2.16 and 1.96, baseline 2.18 and 1.96 (360M and 1.7B)"
    )
    assert papers["growth_raises_primitives_under_ln_scaling"] == (
        "ln_scaling_lidas 35.30 and 43.32, ln_scaling 31.38 and 44.38, ln_scaling_midas 33.04 and "
        "none (360M and 1.7B)"
    )


def test_the_run_is_known_by_its_rows():
    record = RunRecord("run", finals("midas"), {}, {}, {})
    assert claims.experiment_of(record) == "depth_growth"
