"""The page of the depth use experiment: the depth score and the effects of layers on later ones."""

import functools
from typing import Any

import numpy as np

from jaxanatomy.forensics.blocks import repeats
from jaxanatomy.measures.depth_score import changes, untrained_draws, untrained_id
from jaxanatomy.measures.depth_use import of_model, removed_weights
from jaxanatomy.measures.readings import contribution, lens, outliers
from jaxanatomy.measures.readings.effects import CURRENT, FUTURE, LOCAL, PROPAGATED, heatmaps
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import LAYER, by_layer, joined, merged, null_of, once
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import percent, shortened

METRICS = {
    "attention_norm": "attention: |a| / |h|",
    "mlp_norm": "MLP: |m| / |h|",
    "mlp_norm_after_attention": "MLP: |m| / |h + a|",
    "attention_cosine": "attention: cosine of a and h",
    "mlp_cosine": "MLP: cosine of m and h",
    "mlp_cosine_after_attention": "MLP: cosine of m and h + a",
    "residual_norm": "norm of the stream after the layer",
    "kl": "KL(final || lens), nats",
    "kl_reverse": "KL(lens || final), nats",
    "top_1": "same likeliest token (share)",
    "top_5": "overlap of the five likeliest (share)",
    "entropy": "entropy of the lens, nats",
    "perplexity": "perplexity of the lens",
}
VERDICTS = {True: "yes", False: "no", None: "not known"}
POSITIONS = {"all": "all tokens", "others": "without the first token"}
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


def of_kind(record: RunRecord, kind: str) -> list[v.Row]:
    """The rows of a kind, with the name that each model has on the page."""
    return [
        joined(row) | {"model": model}
        for model, rows in models(record).items()
        for row in rows
        if row["kind"] == kind
    ]


def differences(record: RunRecord) -> list[v.Row]:
    """Depth scores of other models less that of the model."""
    rows = of_kind(record, "depth_difference")
    return [{k: row[k] for k in row if row[k] != []} for row in rows]


def scores(record: RunRecord) -> list[v.Row]:
    """The depth scores, the mean over prompts with its interval."""
    return [row for row in of_kind(record, "depth_score") if row["example"] is None]


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
    several = len(record.config.get("conventions", ())) > 1
    for model, rows in models(record).items():
        for (convention, part, spread, when), matrices in heatmaps(rows).items():
            labels = {"model": model, "convention": convention, "spread": spread, "when": when}
            for source, target in np.argwhere(~np.isnan(matrices["value"])).tolist():
                value = float(matrices["value"][source, target])
                place = {"source": source, "target": target, "value": value}
                panel = ", ".join((PARTS[part], model, *([convention] if several else [])))
                mean = float(matrices["mean"][source, target])
                more = {"shown": min(value, 1.0), "mean": min(mean, 1.0), "panel": panel}
                found.append({**labels, "part": part, **place, **more})
    return found


def profile(record: RunRecord, kind: str) -> list[v.Row]:
    """The means at each layer, a row for each layer and model with every metric as a field."""
    rows = [
        {"panel": POSITIONS.get(row.get("positions"), ""), "model": row["model"]}
        | {"layer": row["layer"], row["metric"]: row["value"]}
        for row in of_kind(record, kind)
    ]
    return merged(rows, "panel", "model", "layer")


contributions = functools.partial(profile, kind="contribution")
lenses = functools.partial(profile, kind="lens")


def periods(record: RunRecord) -> list[v.Row]:
    """Whether contributions repeat at the size of a block, beside the layers in random order."""
    return [
        row
        | {"label": METRICS[row["metric"]], "positions": POSITIONS[row["positions"]]}
        | {"null": null_of(row)}
        for row in of_kind(record, "periodicity")
    ]


def repeating(record: RunRecord) -> str:
    """Which contributions of the model repeat, of all that were looked at together."""
    rows = [row for row in periods(record) if row["model"] == TRAINED]
    found = [
        f"{row['label']} every {row['block']} layers ({row['positions']})" for row in repeats(rows)
    ]
    return f"Repeats itself: {'; '.join(found) or 'nothing'}." if rows else ""


def massive(record: RunRecord) -> list[v.Row]:
    """The largest entry of each layer's stream, of both models."""
    return [row for row in of_kind(record, "massive") if row["rank"] == 0]


def removals(record: RunRecord) -> list[v.Row]:
    """Each candidate whose removal was measured, beside the most that a control of it costs."""
    found = []
    for row in (row for own in models(record).values() for row in removed_weights(own)):
        wide = {**joined(row), "verdict": VERDICTS[row["is_super"]]}
        sets = {kind: [] for kind in outliers.CONTROLS}
        for each in row["controls"]:
            own_set = outliers.SIMILAR if each["control"] == outliers.NEAREST else each["control"]
            sets[own_set].append(each)
        for kind, own in sets.items():
            costs = [each["degradation_percent"] for each in own]
            wide[kind] = None if None in costs else max(costs, default=None)
            wide[f"{kind}_sizes"] = [abs(each["weight"]) for each in own]
        wide["within"] = sum(each["control"] == outliers.SIMILAR for each in row["controls"])
        found.append(wide)
    return found


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
    "Depth scores",
    cells=(
        v.Column("model", "model"),
        v.Column("convention", "convention"),
        v.Column("silenced", "part"),
        v.Column("effect", "effect"),
        v.Column("over prompts", "over"),
        v.Column("score (95 %)", "value", ".2f", null="none"),
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
        v.Column("difference (95 %)", "value", "+.2f", null="none"),
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
CONTRIBUTIONS = by_layer(
    "contributions",
    contributions,
    {name: METRICS[name] for name in contribution.READINGS},
    series=MODELS,
    caption=(
        "Means over tokens. On the first token many models keep a sink, so it stands apart. Bands: "
        "95 % over prompts."
    ),
)
PERIODS = v.Table(
    "periodicity",
    periods,
    "Whether contributions repeat at the size of a block",
    cells=(
        v.Column("model", "model"),
        v.Column("contribution", "label"),
        v.Column("tokens", "positions"),
        v.Column("layers in a block", "block"),
        v.Column("periodicity", "value", "+.2f", null="none"),
        v.Column("random order, 95 %", "null", "+.2f", null="none"),
        v.Column("p", "p", ".3f", null="none"),
    ),
    note=(
        "How much less the ranks of two layers differ at this distance than at one more or one "
        "less, in variances of what a straight line over depth leaves; p: how often layers in "
        "random order have as much."
    ),
    folded=True,
)
LENS = by_layer(
    "lens",
    lenses,
    {name: METRICS[name] for name in lens.METRICS},
    series=MODELS,
    caption=(
        "The head on the stream after each layer, with the model's own final norm; means over the "
        "predictions of the prompts. Bands: 95 % over prompts."
    ),
)
MASSIVE = v.Table(
    "massive",
    massive,
    "The largest entry of the stream after each layer",
    cells=(
        v.Column("model", "model"),
        v.Column("layer", "layer"),
        v.Column("prompt", "document"),
        v.Column("token", "position"),
        v.Column("neuron", "neuron"),
        v.Column("value", "value", ".1f"),
        v.Column("median magnitude", "median", ".3f"),
        v.Column("massive", "massive"),
    ),
    note="Massive: above 100 in magnitude and above 1,000 medians (Sun et al. 2024).",
    folded=True,
)
REMOVALS = v.Table(
    "super_weights",
    removals,
    "Single weights of down_proj, removed alone",
    cells=(
        v.Column("layer", "layer"),
        v.Column("hidden neuron", "row"),
        v.Column("neuron", "column"),
        v.Column("weight", "weight", "+.3f"),
        v.Column("share written", "contribution", ".2f"),
        v.Column("change (95 %)", "change", percent),
        v.Column("super weight", "verdict"),
        v.Column("others of its size cost at most", "similar", percent),
        v.Column("their sizes", "similar_sizes", ".1f"),
        v.Column(f"of them within {outliers.SIMILAR_PERCENT} %", "within"),
        v.Column("largest elsewhere at most", "largest", percent, null="none"),
    ),
    note=(
        "Share written: of what the MLP wrote to that neuron there. Others of its size: "
        f"{outliers.CONTROLS[outliers.SIMILAR]} random weights of any layer's down_proj within "
        f"{outliers.SIMILAR_PERCENT} % of its magnitude that write to another neuron; where there "
        "are fewer, those next to it in magnitude stand in, which are smaller where it is the "
        "largest by far. Largest elsewhere: of layers without a candidate. A "
        f"super weight raises the perplexity by {outliers.RUINED_PERCENT:g} % or more and costs "
        "more than each of these, by the lower ends of intervals that hold for all candidates at "
        "once. Candidates are found on the prompts on which they are removed."
    ),
    printed=True,
)

PAGE = Page(
    "Depth use",
    lambda record: f"{len(record.rows):,} effects, on {record.config.get('text', 'a text')}.",
    Section("Depth score", INFLUENCE, SCORES, DIFFERENCES),
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
    Section(
        "What each sublayer adds",
        "h is the stream before the layer, a what attention writes, m what the MLP writes (DG "
        "Figure 4).",
        repeating,
        CONTRIBUTIONS,
        PERIODS,
    ),
    Section("The logit lens", LENS),
    Section(
        "Massive activations and super weights",
        "Candidates come from one pass: where the MLP of a layer writes most, the weight from its "
        "largest hidden neuron to the neuron that it writes to. A super weight is one whose "
        "removal alone ruins the model, and costs more than that of random ones of its size and "
        "of the largest of other layers.",
        REMOVALS,
        MASSIVE,
    ),
)
