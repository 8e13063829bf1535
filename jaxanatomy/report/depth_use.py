"""The page of the depth use experiment: the depth score and the effects of layers on later ones."""

from typing import Any

import numpy as np

from jaxanatomy.measures.depth_score import changes
from jaxanatomy.measures.depth_use import UNTRAINED, of_model
from jaxanatomy.measures.effects import CURRENT, FUTURE, LOCAL, PROPAGATED, heatmaps
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import LAYER, estimate, once
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import plain

MEASURED, NULL = "#AE2320", "#7FA9D2"
TRAINED, RANDOM = "model", "untrained"
PARTS = {"layer": "layer", "attention": "attention", "mlp": "MLP"}


@once
def models(record: RunRecord) -> dict[str, list[v.Row]]:
    """The rows of the model and of the untrained one."""
    ids = dict.fromkeys(row["model"] for row in record.rows)
    return {
        (RANDOM if model.startswith(UNTRAINED) and len(ids) > 1 else TRAINED): of_model(
            record.rows, model
        )
        for model in ids
    }


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


@once
def cells(record: RunRecord) -> list[v.Row]:
    """The entries of all heatmaps; `shown` is cut at 1, where as much has changed as there is."""
    found: list[dict[str, Any]] = []
    for model, rows in models(record).items():
        for (convention, part, spread, when), matrices in heatmaps(rows).items():
            labels = {"model": model, "convention": convention, "spread": spread, "when": when}
            for source, target in np.argwhere(~np.isnan(matrices["value"])).tolist():
                value = float(matrices["value"][source, target])
                place = {"source": source, "target": target, "value": value}
                panel = f"{PARTS[part]}, {model}, {convention}"
                mean = float(matrices["mean"][source, target])
                more = {"shown": min(value, 1.0), "mean": min(mean, 1.0), "panel": panel}
                found.append({**labels, "part": part, **place, **more})
    return found


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
        name = "The depth score" if row["model"] == TRAINED else "That of the untrained model"
        sentences.append(
            f"{name} (convention {row['convention']}) is {plain(value, 2)}{words}; layers in "
            f"random order would have {plain(row['null'], 1)} ± {plain(row['deviation'], 1)}."
        )
    return " ".join(sentences) or None


def _heatmap(spread: str, when: str, field: str, label: str) -> v.Heatmap:
    def rows(record: RunRecord) -> list[v.Row]:
        return [row for row in cells(record) if (row["spread"], row["when"]) == (spread, when)]

    name = f"{spread}_{when}" + ("_mean" if field == "mean" else "")
    return v.Heatmap(
        name,
        rows,
        columns=3,
        x=v.Axis("target", "effect at layer"),
        y=v.Axis("source", "silenced"),
        cell=v.Axis(field, label),
        numbers=False,
    )


def _both(spread: str, when: str) -> tuple[v.Heatmap, v.Heatmap]:
    return (
        _heatmap(spread, when, "shown", "largest relative change, cut at 1"),
        _heatmap(spread, when, "mean", "mean relative change, cut at 1"),
    )


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
INFLUENCE = v.Curves(
    "influence",
    influence,
    columns=3,
    x=LAYER,
    y=v.Axis("change", "change of later predictions", limits=(0, None)),
    series=v.Palette("model", {TRAINED: MEASURED, RANDOM: NULL}),
    levels=(v.Level(0.0, colour=style.MUTED),),
    caption=(
        "L2 of the change of the predicted distribution at tokens after the boundary, the largest "
        "over boundaries and positions, mean over prompts. The score is the mean layer under it."
    ),
)

PAGE = Page(
    "Depth use",
    lambda record: f"{len(record.rows):,} effects, on {record.config.get('text', 'a text')}.",
    Section("Depth score", headline, INFLUENCE, SCORES),
    Section(
        "Later tokens, passed on",
        "A source writes nothing up to a boundary; how much each later layer's contribution "
        "changes at the tokens beyond, where the source was left alone (DG Figure 5a).",
        *_both(PROPAGATED, FUTURE),
    ),
    Section(
        "Later tokens, layer by layer",
        "The same where each later layer sees the clean stream less what the source wrote, and "
        "nothing is passed on: what a layer reads of that one source (DG Figure 5b).",
        *_both(LOCAL, FUTURE),
    ),
    Section(
        "All tokens, passed on",
        "A source writes nothing at any token; read at all (DG Figure 7b).",
        *_both(PROPAGATED, CURRENT),
    ),
    Section("All tokens, layer by layer", *_both(LOCAL, CURRENT)),
)
