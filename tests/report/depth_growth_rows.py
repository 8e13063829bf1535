"""Rows and steps of a small run of depth growth, literal: for tests of its report."""

import khop_growth_run

from jaxanatomy.train.metrics import NO_PEAK

TASKS = ("copying_real", "assignment_basic_0")
ARMS = ("baseline", "midas", "ln_scaling_lidas_equal_flops")
# Held-out loss at the end, by arm and seed; one of the last arm has diverged.
ENDS = {
    "baseline": (3.0, 3.1, 3.2),
    "midas": (2.5, 2.61, 2.69),
    "ln_scaling_lidas_equal_flops": (3.05, None, 3.15),
}
LOST = ("ln_scaling_lidas_equal_flops", 1)
DIVERGED = "diverged: the loss or its gradient is not finite"
# (stage, step): the model grows at step 4.
POINTS = ((0, 0), (0, 4), (1, 4), (1, 8))


def curve_rows():
    for arm, ends in ENDS.items():
        for seed, end in enumerate(ends):
            points = [(0, 0), (0, 4), (0, 8)] if arm == "baseline" else POINTS
            for stage, step in points:
                # After its end a seed keeps the loss of parameters that no longer change.
                lost = end is None and step > 4
                yield {
                    "hash": f"{arm} {seed} {stage} {step}",
                    "kind": "curve",
                    "arm": arm,
                    "seed": seed,
                    "stage": stage,
                    "step": step,
                    "layers": 4,
                    "loss": 4.0,
                    "purpose": "main",
                    "learning_rate": 0.1,
                    "tokens": 10 * step,
                    "flops": 10**12 * step,
                    "seconds": 0.5 * step,
                    "eval_nll": 1.5 if lost else 5 - step / 8 * (5 - (end or 4)),
                    "reason": DIVERGED if lost else "",
                }


def units(end, accuracy):
    """Two rows of text and two questions, all alike."""
    return {
        "unit_nll": end and [end] * 2,
        "unit_tokens": [1, 1],
        "unit_right": accuracy and [accuracy] * 2,
        "unit_questions": [1, 1],
    }


def final_rows():
    for arm, ends in ENDS.items():
        for seed, end in enumerate(ends):
            accuracy = None if end is None else 0.25
            yield {
                "hash": f"{arm} {seed}",
                "kind": "final",
                "arm": arm,
                "seed": seed,
                "step": 8,
                "layers": 4,
                "tokens": 80,
                "flops": 8 * 10**12,
                "seconds": 4.0,
                "purpose": "main",
                "learning_rate": 0.1,
                **units(end, accuracy),
                "eval_nll": end,
                "eval_nll_by_source": {"code": end},
                "accuracy": accuracy,
                "chance": 0.2,
                "tokens_per_second": 20.0,
                "mfu": 0.5 if arm == "midas" else None,
                "accuracy_by_task": {
                    task: {"accuracy": accuracy, "chance": 0.2, "questions": 40} for task in TASKS
                },
                "reason": "" if end else DIVERGED,
            }


def lines():
    for arm in ARMS:
        for seed in range(3):
            for step in range(1, 9):
                # At step 6 the gradient alone is not finite.
                lost, unknown = ((arm, seed) == LOST and step > last for last in (6, 5))
                yield {
                    "arm": arm,
                    "seed": seed,
                    "stage": int(arm != "baseline" and step > 4),
                    "step": step,
                    "learning_rate": 0.1,
                    "loss": None if lost else 9.0 - step,
                    "gradient_norm": None if unknown else 0.5 * step,
                    "mfu": None,
                    "tokens_per_second": 2000.0,
                    "reason": NO_PEAK,
                }


def text_edits(arm, loss, cut=0.1, swapped=0.2, across=0.0):
    """What a final row has of edits, on text: nats that each costs, and shares of tokens."""
    return [
        {
            "kind": kind,
            "name": name,
            "layers": [*at],
            "eval_nll": loss + less,
            "whole_nll": loss,
            "accuracy": 0.5,
            "agreement": 1 - less,
            "overlap": 1 - less,
        }
        for (kind, name, at), less in khop_growth_run.lost_of(arm, cut, swapped, across).items()
    ]


def with_readings(row):
    """A final row of a model of six layers that was read at its end; loops cost nothing."""
    if row["kind"] != "final":
        return row
    if row["reason"]:
        return row | {"edited": None, "depth": None}
    loops = [
        {
            "kind": "loop",
            "name": name,
            "layers": [2, 3],
            **dict.fromkeys(("eval_nll", "whole_nll"), row["eval_nll"]),
            **dict.fromkeys(("accuracy", "agreement", "overlap"), 0.5),
        }
        for name in khop_growth_run.LOOPS
    ]
    cut = 0.25 if row["arm"] == "midas" else 0.125
    edited = [*loops, *text_edits("midas", row["eval_nll"], cut=cut)]
    return row | {"layers": 6, "edited": edited, "depth": khop_growth_run.depth_of("midas")}
