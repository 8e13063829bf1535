"""Roles over training runs, for the pages of arms: a strip for each seed, and what chance gives."""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.measures.arms.role_courses import looks, summarise_courses
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.common import ARM, once
from jaxanatomy.report.roles import ROLE
from jaxanatomy.report.sections import Section
from jaxanatomy.words import percent


@once
def found(record: RunRecord) -> Mapping[str, Any]:
    """What `measures.arms.role_courses.summarise_courses` has."""
    return summarise_courses(record.rows).get("roles", {})


def courses(record: RunRecord) -> list[v.Row]:
    """The role of each layer at each look, of seeds that have not stopped."""
    return [
        {"panel": f"{row['arm']}, seed {row['seed']}", "step": row["step"]}
        | {"layer": layer, "role": role}
        for row in looks(record.rows)
        for layer, role in enumerate(row["roles"])
    ]


def settled(record: RunRecord) -> list[v.Row]:
    """The role of each layer at the end and the step from which on it stays, by seed."""
    return list(found(record).get("settled", ()))


def chance(record: RunRecord) -> list[v.Row]:
    """How changes of roles go with falls of the loss."""
    own = found(record).get("coincidence")
    return [own] if own else []


STRIP = v.Strip(
    "role_courses",
    courses,
    place=v.Axis("layer", scale="names", write=lambda layer: f"L{layer}"),
    measure=v.Axis("step", "steps"),
    marks=(v.Mark("step", marker="s", colour=""),),
    palette=ROLE,
    columns=2,
    per_place=0.24,
    caption=(
        "By weights and, where the optimiser keeps it, momentum; no text is read. Layers are those "
        "of the model at that step: where it has grown they have other numbers."
    ),
)
SETTLED = v.Table(
    "role_settled",
    settled,
    "From when on each layer's role stays",
    cells=(
        ARM,
        v.Column("layer", "layer"),
        v.Column("role at the end, by seed", "roles"),
        v.Column("stays from step, by seed", "steps"),
    ),
    note="Of the last stage. A role that has changed at the last look may change again.",
    folded=True,
)
CHANCE = v.Table(
    "role_changes",
    chance,
    "Changes of roles beside falls of the loss",
    cells=(
        v.Column("seeds", "seeds"),
        v.Column("intervals of each", "intervals"),
        v.Column("changes", "changes"),
        v.Column("loss falls more, for each", "fall_percent", percent, null="none differ"),
        v.Column("correlation beside other seeds", "correlation", ".2f", null="none"),
        v.Column("with the trend of a run", "raw", ".2f", null="none"),
        v.Column("p", "p", ".3f", null="none"),
        v.Column("least p of so many seeds", "least_p", ".2g"),
    ),
    note=(
        "Losses fall and roles change most at the beginning, whatever causes either: the "
        "correlation with the trend is no finding. Beside other seeds: deviations from the mean of "
        "all seeds at the same look. p: how often as much where each seed's course of roles, as a "
        "whole, stands beside the losses of another; where the least p of so many seeds is above "
        "0.05, they are too few to tell."
    ),
)
SECTION = Section(
    "Roles of layers over the run",
    "LR section 8: roles settle early, and late falls of the loss coincide with changes of roles.",
    STRIP,
    CHANCE,
    SETTLED,
)
