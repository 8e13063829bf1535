"""Depth scores on a page: of the model, of others and of the untrained one; what they come from."""

from jaxanatomy.measures.depth_score import changes
from jaxanatomy.measures.depth_use import UNTRAINED, of_model
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import LAYER, estimate, once
from jaxanatomy.words import plain, shortened

MEASURED, NULL = "#AE2320", "#7FA9D2"
TRAINED, RANDOM = "model", "untrained"
PARTS = {"layer": "layer", "attention": "attention", "mlp": "MLP"}
MODELS = v.Palette("model", {TRAINED: MEASURED, RANDOM: NULL})


@once
def models(record: RunRecord) -> dict[str, list[v.Row]]:
    """The rows of the model, of others and of the untrained one."""
    given, *more = dict.fromkeys(row["model"] for row in record.rows)
    names = {given: TRAINED, f"{UNTRAINED}{given}": RANDOM}
    return {names.get(one, shortened(one)): of_model(record.rows, one) for one in (given, *more)}


def differences(record: RunRecord) -> list[v.Row]:
    """Depth scores of other models less that of the model."""
    return [
        {name: row[name] for name in ("convention", "part", "effect")}
        | {"model": model, "difference": estimate(row["value"], row["ci95"])}
        for model, rows in models(record).items()
        for row in rows
        if row["kind"] == "depth_difference"
    ]


def scores(record: RunRecord) -> list[v.Row]:
    """The depth scores, the mean over prompts with its interval."""
    return [
        {
            **{name: row[name] for name in ("convention", "part", "effect", "over", "z")},
            "model": model,
            "score": estimate(row["value"], row["ci95"]),
            "null": row["null_value"],
            "deviation": row["null_std"],
        }
        for model, rows in models(record).items()
        for row in rows
        if row["kind"] == "depth_score" and row["example"] is None
    ]


def influence(record: RunRecord) -> list[v.Row]:
    """For each layer and part the change of later predictions, mean over prompts."""
    return [
        {"layer": layer, "part": PARTS[part], "model": model, "change": change}
        | {"panel": f"{PARTS[part]}, {convention}"}
        for model, rows in models(record).items()
        for (convention, part), change_EL in changes(rows, "output").items()
        for layer, change in enumerate(change_EL.mean(axis=0).tolist())
    ]


def headline(record: RunRecord) -> str | None:
    """The depth score beside its nulls."""
    found = [
        row
        for row in scores(record)
        if (row["part"], row["effect"], row["over"]) == ("layer", "output", "mean")
    ]
    sentences = []
    for row in found:
        score = row["score"]
        if score is None:
            sentences.append(f"No depth score of the {row['model']} ({row['convention']}).")
            continue
        ends = getattr(score, "ends", None)
        value = getattr(score, "value", score)
        words = f" ({plain(ends[0], 2)} to {plain(ends[1], 2)}, 95 % over prompts)" if ends else ""
        name = "The depth score" if row["model"] == TRAINED else f"That of {_named(row['model'])}"
        sentences.append(
            f"{name} (convention {row['convention']}) is {plain(value, 2)}{words}; layers in "
            f"random order would have {plain(row['null'], 1)} ± {plain(row['deviation'], 1)}."
        )
    return " ".join(sentences) or None


def _named(model: str) -> str:
    return "the untrained model" if model == RANDOM else model


SCORES = v.Table(
    "depth_scores",
    scores,
    "Depth scores, beside layers in random order",
    cells=(
        v.Column("model", "model"),
        v.Column("convention", "convention"),
        v.Column("silenced", "part"),
        v.Column("effect", "effect"),
        v.Column("over prompts", "over"),
        v.Column("score (95 %)", "score", ".2f", null="none"),
        v.Column("random order", "null", ".1f", null="none"),
        v.Column("deviation", "deviation", ".2f", null="none"),
        v.Column("z", "z", "+.1f", null="none"),
    ),
    note=(
        "Effect: on the predicted distribution, or on the later layer that moves most. Random "
        "order: the exact mean and standard deviation when the same changes are dealt to layers "
        "at random."
    ),
    printed=True,
)
DIFFERENCES = v.Table(
    "depth_differences",
    differences,
    "Depth scores less that of the model",
    cells=(
        v.Column("of", "model"),
        v.Column("convention", "convention"),
        v.Column("silenced", "part"),
        v.Column("effect", "effect"),
        v.Column("difference (95 %)", "difference", "+.2f", null="none"),
    ),
    note="Paired by prompt; intervals of a line hold for all models of its kind at once.",
    printed=True,
)
INFLUENCE = v.Curves(
    "influence",
    influence,
    columns=3,
    x=LAYER,
    y=v.Axis("change", "change of later predictions", limits=(0, None)),
    series=MODELS,
    levels=(v.Level(0.0, colour=style.MUTED),),
    caption=(
        "L2 of the change of the predicted distribution at tokens after the boundary, the largest "
        "over boundaries and positions, mean over prompts. The score is the mean layer under it."
    ),
)
