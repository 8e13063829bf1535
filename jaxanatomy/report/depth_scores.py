"""Depth scores on a page: of the model, of others and of the untrained one; what they come from."""

from collections.abc import Iterable
from typing import Any

from jaxanatomy.measures.depth_score import changes, untrained_draws, untrained_id
from jaxanatomy.measures.depth_use import of_model
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
    """The rows of the model, of others and of the untrained one; of its draws the first."""
    given, *more = dict.fromkeys(row["model"] for row in record.rows)
    further = {*untrained_draws(given, more)} - {untrained_id(given)}
    names = {given: TRAINED, untrained_id(given): RANDOM}
    return {
        names.get(one, shortened(one)): of_model(record.rows, one)
        for one in (given, *more)
        if one not in further
    }


def differences(record: RunRecord) -> list[v.Row]:
    """Depth scores of other models less that of the model."""
    return [
        {name: row[name] for name in ("convention", "part", "effect")}
        | {"model": model, "difference": estimate(row["value"], row["ci95"])}
        | ({"draw_scores": row["draw_scores"]} if row["draw_scores"] else {})
        for model, rows in models(record).items()
        for row in rows
        if row["kind"] == "depth_difference"
    ]


def scores(record: RunRecord) -> list[v.Row]:
    """The depth scores, the mean over prompts with its interval."""
    return [
        {
            **{name: row[name] for name in ("convention", "part", "effect", "over")},
            "model": model,
            "score": estimate(row["value"], row["ci95"]),
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
    """The depth score, those beside it, and how far they are from it."""
    apart = {(row["convention"], row["model"]): row for row in _of_output(differences(record))}
    sentences = []
    for row in _of_output(scores(record)):
        if row["over"] != "mean":
            continue
        if row["score"] is None:
            sentences.append(f"No depth score of the {row['model']} ({row['convention']}).")
            continue
        name = "The depth score" if row["model"] == TRAINED else f"That of {_named(row['model'])}"
        words = f"{name} (convention {row['convention']}) is {_over_prompts(row['score'])}"
        other = apart.get((row["convention"], row["model"]))
        if other and other["difference"] is not None:
            draws = len(other.get("draw_scores", ()))
            of_mean = f"; the mean of {draws} draws of its weights is" if draws > 1 else ","
            over = "prompts and draws" if draws > 1 else "prompts"
            words += f"{of_mean} apart from the model's by "
            words += _over_prompts(other["difference"], "+", over)
        sentences.append(f"{words}.")
    return " ".join(sentences) or None


def _of_output(rows: Iterable[v.Row]) -> list[v.Row]:
    return [row for row in rows if (row["part"], row["effect"]) == ("layer", "output")]


def _over_prompts(found: Any, sign: str = "", over: str = "prompts") -> str:
    """A number and, where there are several prompts, its interval."""
    ends, value = getattr(found, "ends", None), getattr(found, "value", found)
    if not ends:
        return plain(value, 2, sign)
    low, high = (plain(end, 2, sign) for end in ends)
    return f"{plain(value, 2, sign)} ({low} to {high}, 95 % over {over})"


def _named(model: str) -> str:
    return "the untrained model" if model == RANDOM else model


SCORES = v.Table(
    "depth_scores",
    scores,
    "Depth scores",
    cells=(
        v.Column("model", "model"),
        v.Column("convention", "convention"),
        v.Column("silenced", "part"),
        v.Column("effect", "effect"),
        v.Column("over prompts", "over"),
        v.Column("score (95 %)", "score", ".2f", null="none"),
    ),
    note=(
        "Effect: on the predicted distribution, or on the later layer that moves most. In any "
        "transformer later layers do less for later tokens, as fewer layers with attention come "
        "after them: what training has made of it is the difference from the untrained model."
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
        v.Column("score of each draw", "draw_scores", ".2f", null="none"),
    ),
    note=(
        "Paired by prompt; intervals of a line hold for all models of its kind at once. Of the "
        "untrained model it is the mean over draws of its weights, and its interval holds for "
        "other prompts and one more draw; of one draw alone for other prompts only. Of other "
        "models it says how these checkpoints differ on other prompts. It is no verdict on the "
        "ways in which they were trained: the unit of that is the training seed, of which a "
        "checkpoint is one."
    ),
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
