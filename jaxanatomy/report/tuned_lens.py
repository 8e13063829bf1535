"""The page of the tuned lens: both lenses at every layer, and what they read of a prompt."""

from jaxanatomy.measures.readings import lens
from jaxanatomy.measures.statistics.estimates import BLOCK_TOKENS, MIN_DOCUMENTS
from jaxanatomy.measures.tuned_lens import DIFFERENCE, LENSES, LOGIT, TUNED
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.common import LAYER, by_layer, estimate, joined, merged, tally
from jaxanatomy.report.depth_use import METRICS
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, shortened

COLOURS = {LOGIT: "#7FA9D2", TUNED: "#AE2320"}
NAMES = {LOGIT: "logit lens", TUNED: "tuned lens"}
SHORTEST, LONGEST = 0x20, 0x52F  # characters that every font for figures has: up to Cyrillic


def readings(record: RunRecord) -> list[v.Row]:
    """A row for each lens and layer with every metric as a field."""
    rows = [
        {"lens": row["lens"], "layer": row["layer"]}
        | {row["metric"]: estimate(row["value"], row["ci95"])}
        for row in record.rows
        if row["kind"] == "lens" and row["lens"] in LENSES
    ]
    return merged(rows, "lens", "layer")


def differences(record: RunRecord) -> list[v.Row]:
    """The KL of the tuned lens less that of the logit lens, at each layer."""
    return [
        {"layer": row["layer"], "difference": estimate(row["value"], row["ci95"])}
        for row in record.rows
        if row["kind"] == "lens" and (row["lens"], row["metric"]) == (DIFFERENCE, "kl")
    ]


def training(record: RunRecord) -> list[v.Row]:
    """The training loss before each step."""
    return [row for row in record.rows if row["kind"] == "step"]


def predictions(record: RunRecord) -> list[v.Row]:
    """The likeliest token at each layer and position of the prompt."""
    return [
        {
            "panel": NAMES[row["lens"]],
            "layer": row["layer"],
            "position": row["position"],
            "read": f"{row['position']}  {shown(row['read'])}",
            "token": shown(row["token"]),
            "probability": row["probability"],
        }
        for row in record.rows
        if row["kind"] == "prediction"
    ]


def shown(token: str) -> str:
    """A token as a cell of a figure holds it: short, its white space and odd characters visible."""
    visible = token.replace("\n", "\\n").replace("\t", "\\t")
    visible = "".join(c if SHORTEST <= ord(c) <= LONGEST else "?" for c in visible)
    visible = visible.strip() or "_" * len(visible)
    return visible if len(visible) <= 10 else f"{visible[:9]}…"


def answers(record: RunRecord) -> list[v.Row]:
    """Accuracy after each layer, a panel for each task."""
    return [
        {
            "panel": label(row["task"]),
            "lens": row["lens"],
            "layer": row["layer"],
            "accuracy": row["accuracy"],
            "chance": row["chance"],
        }
        for row in map(joined, record.rows)
        if row["kind"] == "answers"
    ]


def headline(record: RunRecord) -> str | None:
    """What was measured, and what intervals are over."""
    summary = record.summary
    if not summary:
        return None
    few = summary["held_out_documents"] < MIN_DOCUMENTS
    differing = tally(differences(record), "difference", "layers")
    return (
        f"Measured on {summary['held_out_documents']} documents "
        f"({summary['held_out_predictions']:,} predictions) that no lens was trained on. KL of the "
        f"tuned lens less that of the logit lens: {differing}; the 95 % intervals hold for all "
        "layers at once, paired by "
        f"{f'block of {BLOCK_TOKENS} tokens' if few else 'document'}. At the last layer both are "
        "the model."
    )


def lead(record: RunRecord) -> str:
    """What was trained on what."""
    summary, text = record.summary, shortened(str(record.config.get("text", "a text")))
    return (
        f"Lenses trained for {summary.get('steps', 0)} steps on the first "
        f"{summary.get('train_documents', 0):,} documents of {text} "
        f"({summary.get('train_predictions', 0):,} predictions), measured on others."
    )


CURVES = by_layer(
    "lenses",
    readings,
    {name: METRICS[name] for name in lens.METRICS},
    series=v.Palette("lens", COLOURS, NAMES),
    caption="Means over the predictions of the documents held out; bands: 95 % over documents.",
)
DIFFERENCES = v.Curves(
    "kl_difference",
    differences,
    x=LAYER,
    y=v.Axis("difference", "KL, tuned less logit, nats"),
    band="y",
    levels=(v.Level(0.0),),
    caption="Below 0 the tuned lens is nearer. Band: 95 % for all layers at once, by document.",
)
PREDICTIONS = v.Heatmap(
    "predictions",
    predictions,
    x=v.Axis("read", "token read", "names"),
    y=v.Axis("layer", "layer"),
    cell=v.Axis("probability", "probability of the likeliest token"),
    words="token",
    cell_width=0.62,
    caption=(
        "The likeliest next token after each token of the prompt, as a lens reads it after each "
        "layer; white space at its ends is left out."
    ),
)
ANSWERS = v.Curves(
    "answers",
    answers,
    columns=3,
    x=v.Axis("layer", "layer"),
    y=v.Axis("accuracy", "accuracy", limits=(0, 1)),
    series=v.Palette("lens", COLOURS, NAMES),
    band="y",
    levels=(v.Level("chance", "guessing", dashed=True),),
    size=(3.6, 2.5),
    caption=(
        "The choice of the highest summed log-probability as a lens reads it after each layer; "
        "bands: Wilson's 95 % over questions. No lens was trained on questions."
    ),
)
TRAINING = v.Curves(
    "training",
    training,
    x=v.Axis("step", "step"),
    y=v.Axis("loss", "KL(final || lens), mean over lenses, nats", "log"),
    caption="The loss before each step, on the positions that the step learns from.",
)

PAGE = Page(
    "Tuned lens",
    lead,
    Section(
        "Both lenses",
        headline,
        "A lens is the model's own final norm and head on the stream after a layer: as it is "
        "(logit lens), or after an affine map of the layer's own (tuned lens; Belrose et al. "
        "2023). What a tuned lens reads is what a linear map finds; the model need not use it.",
        CURVES,
        DIFFERENCES,
    ),
    Section("Predictions by layer", PREDICTIONS),
    Section("Early exit", ANSWERS),
    Section("Training", TRAINING),
)
