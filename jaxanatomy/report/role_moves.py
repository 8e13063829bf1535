"""The page of moving roles: which arms moved them, what became of neurons, ranks and the loss."""

import functools

import numpy as np

from jaxanatomy.measures.arms.finals import finals_by_arm, living, seed_range
from jaxanatomy.measures.arms.role_moves import AGAIN, PROPOSAL, STUCK, UNIFORM, WITHIN
from jaxanatomy.measures.arms.tuning import of_purpose
from jaxanatomy.records import RunRecord
from jaxanatomy.report import role_courses
from jaxanatomy.report import views as v
from jaxanatomy.report.arms import cost_fields, costs_table, diverged, points
from jaxanatomy.report.common import (
    ARM,
    by_layer,
    entries,
    estimate_of,
    flattened,
    grouped,
    once,
    sides,
)
from jaxanatomy.report.role_shape import REGISTERS_SECTION, SKIPS, WIDTHS
from jaxanatomy.report.roles import ROLE
from jaxanatomy.report.sections import Page, Section

SERIES = v.Palette("arm", {UNIFORM: "#1B2026", AGAIN: "#9AA3AD"})
PROFILE = {
    "co_magnitude_cv": "CV of |gate| |up|",
    "saturated": "saturated neurons (3 σ)",
    "o_proj.effective_rank": "effective rank of o_proj",
    "down_proj.effective_rank": "effective rank of down_proj",
}


moves = entries("moves")  # of each arm but the baseline, what is held against it


@once
def finals(record: RunRecord) -> dict[str, dict[int, v.Row]]:
    """The final rows of seeds that did not diverge, by arm and seed."""
    return {arm: living(seeds) for arm, seeds in finals_by_arm(record.rows).items()}


def strips(record: RunRecord) -> list[v.Row]:
    """The role of each layer of each arm, a panel for each seed."""
    rows = [
        {"panel": f"seed {seed}", "arm": arm, "layer": layer, "role": role}
        for arm, seeds in finals(record).items()
        for seed, row in seeds.items()
        for layer, role in enumerate(row["roles"])
    ]
    return sorted(rows, key=lambda row: row["panel"])


def profile(record: RunRecord) -> list[v.Row]:
    """Features by layer: means over seeds and their ranges, a field of each.

    Of the arms of the baseline's shape: layers of other widths have other ranks.
    """
    rows = []
    for arm, seeds in finals(record).items():
        if not all(row["alike"] for row in seeds.values()):
            continue
        for layer in range(len(next(iter(seeds.values()))["roles"]) if seeds else 0):
            own = {
                name: [row["features"][name][layer] for row in seeds.values()] for name in PROFILE
            }
            found = {name: estimate_of(seed_range(each)) for name, each in own.items()}
            rows.append({"arm": arm, "layer": layer, **found})
    return rows


def costs(record: RunRecord) -> list[v.Row]:
    """What each arm took, its loss, and what it is."""
    return [
        {**cost_fields(name, arm), **flattened({"loss": arm["eval_nll"], "what": arm["what"]})}
        for name, arm in record.summary.get("arms", {}).items()
    ]


curves = functools.partial(points, places=("step",))


@once
def proposals(record: RunRecord) -> dict[tuple, list[v.Row]]:
    """The rows of each policy by arm and seed, in their order."""
    rows = of_purpose(record.rows, PROPOSAL)
    return grouped(sorted(rows, key=lambda row: row["step"]), "arm", "seed")


def drift(record: RunRecord) -> list[v.Row]:
    """How far each policy's mean has come: doublings from the first proposal to the last."""
    found: dict[tuple, list[np.ndarray]] = {}
    for (arm, _), own in proposals(record).items():
        for tensor, last_L in own[-1]["mean"].items():
            doublings_L = np.log2(last_L) - np.log2(own[0]["mean"][tensor])
            found.setdefault((arm, tensor), []).append(doublings_L)
    return [
        {"panel": arm, "tensor": tensor, "layer": layer, "doublings": float(value)}
        for (arm, tensor), own in found.items()
        for layer, value in enumerate(np.mean(own, axis=0))
        if np.any(own)
    ]


def policies(record: RunRecord) -> list[v.Row]:
    """What each policy came to."""
    words = "{tensor} of layer {layer}, seed {seed} ({proposals})"
    return [
        row | {"stuck": [words.format(**each) for each in row["stuck"]]}
        for row in entries("policies")(record)
    ]


def headline(record: RunRecord) -> str | None:
    """Which arms moved roles beyond the null, and which changed the loss."""
    rows = moves(record)
    if not rows:
        return None

    said = {
        "beyond_null": "Distance of roles from the baseline, beyond another order of the text",
        "loss_percent": "Held-out loss less the baseline's",
        "saturated.net": "Saturated neurons, gained less lost",
    }
    return " ".join(f"{words}: {sides(rows, field)}." for field, words in said.items())


MOVES = v.Table(
    "moves",
    moves,
    "Each arm beside the baseline of the same seed",
    cells=(
        ARM,
        v.Column("held-out loss (%)", "loss_percent", "+.2f"),
        v.Column("distance of roles", "distance", ".3f"),
        v.Column("beyond another order", "beyond_null", "+.3f"),
        v.Column("layers of another role", "changed", ".1f"),
        v.Column("saturated: lost", "saturated.lost", ".1f"),
        v.Column("gained", "saturated.gained", ".1f"),
        v.Column("kept", "saturated.kept", ".1f"),
        v.Column("gained less lost", "saturated.net", "+.1f"),
    ),
    note=(
        "Distance: root mean square difference of role scores (0 to 1) over roles and layers. "
        "Neurons have the same numbers in all arms of a seed, which begin alike. Means over seeds; "
        "intervals hold for all arms at once with 95 %; layers of another role and neurons lost, "
        "gained and kept have the lowest and the highest seed."
    ),
    printed=True,
)
RANKS = v.Table(
    "ranks",
    moves,
    "Effective ranks against the baseline's",
    cells=(
        ARM,
        v.Column("{}: largest change of a layer", "rank.*.largest", "+.2f"),
        v.Column(f"{{}}: layers within {WITHIN:g}", "rank.*.within"),
    ),
    note=(
        "The largest change is that of any layer in any seed; layers are within the bound in all "
        "seeds. LR's matrices are ten times as wide as the default ones here."
    ),
)
STRIPS = v.Strip(
    "roles",
    strips,
    columns=3,
    size=(3.6, 2.0),
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("layer", "layer"),
    marks=(v.Mark("layer", marker="s", colour=""),),
    palette=ROLE,
    caption="By the weights alone; an untrained model has roles, too.",
)
PROFILES = by_layer(
    "profile",
    profile,
    PROFILE,
    columns=2,
    series=SERIES,
    band="",
    size=(4.6, 2.6),
    caption="Means over seeds, of arms whose layers are as wide as the baseline's.",
)
CURVES = v.Curves(
    "curves",
    curves,
    x=v.Axis("step", "steps", limits=(0, None)),
    y=v.Axis("loss", "held-out loss (nats)"),
    series=SERIES,
    band="loss",
    size=(7.0, 3.2),
    caption="Means over seeds and their ranges. A seed that has diverged is in no line.",
)
DRIFT = v.Heatmap(
    "proposals",
    drift,
    columns=2,
    x=v.Axis("layer", "layer"),
    y=v.Axis("tensor", scale="names"),
    cell=v.Axis("doublings", "doublings since the start", "diverging"),
    numbers=False,
    size=(4.6, 2.4),
    caption="Of the mean of what is proposed, over all seeds; each seed has a policy of its own.",
)
POLICIES = v.Table(
    "policies",
    policies,
    "What the policies came to",
    cells=(
        ARM,
        v.Column("proposals", "proposals"),
        v.Column("fall of the loss over each", "reward", ".4f"),
        v.Column("share of means at the clamp", "at_clamp", ".2f"),
        v.Column(f"stuck there for {STUCK} or more", "stuck"),
    ),
    note=(
        "A mean that is stuck at its clamp says that the policy would go further. Widening a clamp "
        "can end a run: a rate ten times too high does (LR section 7)."
    ),
    printed=True,
)
WHAT = v.Table(
    "arms",
    costs,
    "What each arm is",
    prose=True,
    folded=True,
    cells=(ARM, v.Column("what", "what"), v.Column("held-out loss", "loss", ".4f")),
)

PAGE = Page(
    "Moving roles",
    "Arms begin alike and read the same, seed by seed; the null is the baseline with its text in "
    "another order.",
    Section("Do roles move?", headline, diverged, MOVES, WHAT),
    Section("Roles", STRIPS),
    Section("Layers", PROFILES, RANKS),
    Section("The policies", DRIFT, POLICIES),
    WIDTHS,
    REGISTERS_SECTION,
    SKIPS,
    role_courses.SECTION,
    Section("Curves and costs", CURVES, costs_table(costs)),
    title="Roles moved on purpose",
)
