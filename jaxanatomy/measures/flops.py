"""What a run of growth costs beside one of constant depth (DG Table 7): rows and summary."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.depth_arms import BASELINE, EQUAL_FLOPS, DepthArmSettings, depth_arm
from jaxanatomy.growth.flops import growth_flops
from jaxanatomy.growth.stages import prop_alpha_shares

GROWN = "grown"
ARMS = {
    BASELINE: "all layers from the first step on",
    GROWN: "grown from b layers in steps of b; the same for every operator",
    GROWN + EQUAL_FLOPS: "the same, as many steps as the FLOPs of the baseline buy",
}
REMAINDER, FLOOR = "largest_remainder", "floor"
ROUNDINGS = {
    REMAINDER: "steps of a stage by largest remainder: the paper's text, and how we train",
    FLOOR: "steps of a stage rounded down, the rest to the last: how Table 7 was made",
}
# Any operator will do: the cost depends on the depth alone.
_OPERATOR = "lidas"

Stages = Sequence[tuple[int, int]]


def cost_rows(config: ModelConfig, settings: DepthArmSettings) -> list[dict[str, Any]]:
    """A row for each arm, and for each way to round the steps of its stages.

    Args:
      config: The architecture at the end.
      settings: Steps, stages and batch.

    Returns:
      Rows with `arm`; `rounding`, None where there is nothing to round; `stages`, pairs
      (layers, steps); `steps`; `tokens`; `petaflops`; and `ratio`, the baseline's over these.

    Raises:
      InputError: Layers of several shapes; the depth is not reached in steps of b; fewer steps
        than stages.
    """
    if not config.is_uniform:
        raise InputError(
            "growth copies layers to any place, so it needs layers of one shape; got "
            f"{len(set(config.layers))} shapes; take another model"
        )
    grown = _stages(_OPERATOR, config, settings)
    equal = _stages(_OPERATOR + EQUAL_FLOPS, config, settings)
    growing = round(settings.growth_fraction * settings.steps)
    named = [
        (BASELINE, None, _stages(BASELINE, config, settings)),
        (GROWN, REMAINDER, grown),
        (GROWN, FLOOR, rounded_down(grown, growing, settings.alpha)),
        (GROWN + EQUAL_FLOPS, REMAINDER, equal),
    ]
    rows = []
    for arm, rounding, stages in named:
        steps = sum(each for _, each in stages)
        flops = growth_flops(config, stages, settings.batch_size, settings.seq_len)
        row = {"arm": arm, "rounding": rounding, "stages": [list(stage) for stage in stages]}
        row |= {"steps": steps, "tokens": steps * settings.batch_size * settings.seq_len}
        rows.append(row | {"petaflops": flops / 1e15})
    return [row | {"ratio": rows[0]["petaflops"] / row["petaflops"]} for row in rows]


def rounded_down(stages: Stages, growing_steps: int, alpha: float) -> tuple[tuple[int, int], ...]:
    """The same depths with the steps of PROP-alpha rounded down; what is left goes to the last.

    With it the grown rows of DG Table 7 come out to the last digit; with largest remainder, as
    the paper's text says, to 1e-5.

    Args:
      stages: Pairs (layers, steps); their sum is the run's.
      growing_steps: Steps T that PROP-alpha divides.
      alpha: See `stages.prop_alpha`.
    """
    shares = prop_alpha_shares(len(stages), alpha)
    steps = [math.floor(growing_steps * share / sum(shares)) for share in shares]
    steps[-1] += sum(each for _, each in stages) - sum(steps)
    return tuple((depth, each) for (depth, _), each in zip(stages, steps, strict=True))


def beside_the_paper(
    row: Mapping[str, Any], printed: Mapping[str, float] | None, reason: str = ""
) -> dict[str, Any]:
    """The row with the paper's figures.

    Args:
      row: Of `cost_rows`.
      printed: By arm the paper's PFLOP, and its `ratio`; None if it has none.
      reason: Why it has none.

    Returns:
      The row with `paper_petaflops`, `deviation` (relative), `paper_ratio` and `reason`.
    """
    known = printed is not None and row["arm"] in printed
    paper = printed[row["arm"]] if known else None
    return {
        **row,
        "paper_petaflops": paper,
        "deviation": row["petaflops"] / paper - 1 if known else None,
        "paper_ratio": (printed["ratio"] if row["arm"] == GROWN else 1.0) if known else None,
        "reason": None if known else reason or "the paper has no such arm",
    }


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """By model: PFLOP of both arms, ratio, percent saved, and steps at equal FLOPs."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = found.setdefault(row["model"], {})
        if row["arm"] == BASELINE:
            own["baseline_petaflops"] = row["petaflops"]
        elif row["arm"] == GROWN + EQUAL_FLOPS:
            own["equal_flops_steps"] = row["steps"]
        elif row["rounding"] == REMAINDER:
            own |= {"grown_petaflops": row["petaflops"], "ratio": row["ratio"]}
            own["saved_percent"] = 100 * (1 - 1 / row["ratio"])
    return {"models": found}


def _stages(arm: str, config: ModelConfig, settings: DepthArmSettings) -> Stages:
    found = depth_arm(arm, config, settings)
    return [(stage.config.num_layers, stage.steps) for stage in found]
