"""The page of the roles experiment: which role each layer has, on what evidence, beside chance."""

from jaxanatomy.forensics.roles import MARGIN, ROLES, ROUTED, ROUTING, TIE, defined, z_scores
from jaxanatomy.measures.readings.probe import PROBE_FEATURES
from jaxanatomy.measures.roles import features, name_of, of_kind, with_peers
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.common import by_layer, estimate, once
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import first, listed, shortened

MODEL, UNTRAINED = "model", "untrained"
MEASURED, NULL = "#AE2320", "#7FA9D2"
COLOURS = {
    "hub": "#0072B2",
    "damper": "#009E73",
    "passthrough": "#BCC4CC",
    "specialist": "#D55E00",
    TIE: "#F0E442",
}
# What the curves show, with the scale of each.
SHOWN = {
    "o_proj.effective_rank": "effective rank of o_proj",
    "gate_proj.effective_rank": "effective rank of gate_proj",
    "down_proj.effective_rank": "effective rank of down_proj",
    "co_magnitude_cv": "CV of |gate| |up|",
    "saturated": "saturated neurons (3 σ)",
    "saturated_robust": "saturated neurons (robust)",
    "peak_over_mean": "largest neuron / mean",
    "attention_share_energy": "attention's share of energy",
    "down_over_gate_up": "down / gate and up",
    "head_spread": "spread of heads",
    "head_diversity": "diversity of heads",
    "coupling": "coupling of heads",
    "ffn_cluster_entropy": "entropy of neuron clusters",
    "attention_norm.gamma_concentration": "concentration, attention norm",
    "mlp_norm.gamma_concentration": "concentration, MLP norm",
    "mlp_norm.damped_share": "damped share, MLP norm",
    "gate_proj.spectral_norm_to_peers": "spectral norm of gate / peers",
    "down_proj.spectral_norm_to_peers": "spectral norm of down / peers",
    "gate_proj.largest_weight_to_peers": "largest weight of gate / peers",
    "down_proj.alpha": "alpha of down_proj",
    "down_proj.momentum_cosine": "next step against down_proj, cosine",
    "down_proj.stuck_share": "stuck share of down_proj",
    **{name: name.replace("_", " ") for name in PROBE_FEATURES if name in ROUTED},
}
ERRORS = 1.96  # standard errors on either side, of a 95 % interval


@once
def models(record: RunRecord) -> dict[str, str]:
    """The models of the run by their ids, with the name that each has on the page."""
    given = record.config.get("model", "")
    ids = dict.fromkeys(row["model"] for row in record.rows)
    null = f"random:{given}"
    names = {given: MODEL, null: UNTRAINED}
    return {model: names.get(model, shortened(model)) for model in ids}


@once
def tables(record: RunRecord) -> dict[str, dict]:
    """Every feature of each model over its layers."""
    return {model: with_peers(features(record.rows, model)) for model in models(record)}


def strip(record: RunRecord) -> list[v.Row]:
    """The role of each layer of each model."""
    return [
        {"model": name, "layer": row["layer"], "role": row["role"]}
        for model, name in models(record).items()
        for row in of_kind(record.rows, "role", model)
    ]


@once
def roles(record: RunRecord) -> list[v.Row]:
    """The roles of the model and of others, with what they hang on."""
    others = [name for name in models(record).values() if name != UNTRAINED]
    return [
        {
            **row,
            "panel": name if len(others) > 1 else "",
            **{role: row[role] for role in ROLES},
            "without": first(row["without"], 3) or "none",
        }
        for model, name in models(record).items()
        if name != UNTRAINED
        for row in of_kind(record.rows, "role", model)
    ]


def evidence(record: RunRecord) -> list[v.Row]:
    """The z-score of every routed feature at each layer."""
    return [
        {"panel": name, "layer": layer, "feature": feature, "z": float(z)}
        for model, name in models(record).items()
        for feature, value_L in defined(tables(record)[model]).items()
        for layer, z in enumerate(z_scores(value_L))
    ]


def curves(record: RunRecord) -> list[v.Row]:
    """A row for each layer and model with every feature as a field."""
    found: dict[tuple, dict] = {}
    for model, name in models(record).items():
        own = tables(record)[model]
        for feature, value_L in own.items():
            error_L = own.get(f"{feature}_error")
            for layer, value in enumerate(value_L.tolist()):
                row = found.setdefault((name, layer), {"model": name, "layer": layer})
                if feature in SHOWN and value == value:
                    row[feature] = value
                    if error_L is not None:
                        half = ERRORS * float(error_L[layer])
                        row[feature] = Estimate(value, value - half, value + half)
    for model, name in models(record).items():
        for row in of_kind(record.rows, "feature", model):
            feature = name_of(row["component"], row["metric"])
            if row.get("ci95"):
                found[name, row["layer"]][feature] = estimate(row["value"], row["ci95"])
    return list(found.values())


def all_features(record: RunRecord) -> list[v.Row]:
    """Every feature at every layer, the untrained model's beside it."""
    names = {name: model for model, name in models(record).items()}
    null = tables(record).get(names.get(UNTRAINED), {})
    return [
        {
            "panel": name,
            "feature": feature,
            "layer": layer,
            "value": None if value != value else value,
        }
        | ({"null": float(null[feature][layer])} if feature in null else {})
        for model, name in models(record).items()
        if name != UNTRAINED
        for feature, value_L in tables(record)[model].items()
        for layer, value in enumerate(value_L.tolist())
    ]


def changes(record: RunRecord) -> list[v.Row]:
    """How far each tensor of each other checkpoint has moved."""
    return [
        {**row, "panel": models(record)[row["model"]], "change": row["value"]}
        for row in record.rows
        if row["kind"] == "change" and row["metric"] == "relative_change"
    ]


def moved(record: RunRecord) -> list[v.Row]:
    """Of each other checkpoint the layers whose role is another, and the largest change.

    Beside them how far the roles of the untrained model are, if there is one.
    """
    found, null = record.summary.get("models", {}), record.summary.get("null")
    rows = [
        {
            "model": models(record)[model],
            "distance": own["role_distance"],
            "moved": [
                f"L{layer} {found[record.config['model']]['roles'][layer]} → {own['roles'][layer]}"
                for layer in own["moved"]
            ],
            **{f"largest_{name}": value for name, value in (own["largest_change"] or {}).items()},
        }
        for model, own in found.items()
        if "moved" in own
    ]
    untrained = [{"model": UNTRAINED, "distance": null["role_distance"]}] if null else []
    return [*rows, *untrained] if rows else []


def headline(record: RunRecord) -> str | None:
    """How many layers have which role, how many hang on one feature, and what chance gives."""
    found = record.summary.get("models", {})
    if not found:
        return None
    own, null = found[record.config["model"]], record.summary.get("null")
    said = (
        f"Roles: {_counted(own['counts'])}. Those of {len(own['fragile'])} of {len(own['roles'])} "
        "layers change when some single feature is left out."
    )
    if own["stability"] is None:
        said += " No text was read, so that features of a probe are missing."
    if null:
        said += (
            " The untrained model, whose layers differ by chance alone, gets by the same rule "
            f"{_counted(null['counts'])}; {len(null['fragile'])} change without some single "
            "feature."
        )
    return said


def _counted(counts: dict[str, int]) -> str:
    return listed(f"{role} {count}" for role, count in counts.items() if count)


ROLE = v.Palette("role", COLOURS, {TIE: f"tie: no role wins by more than {MARGIN}"})
STRIP = v.Strip(
    "roles",
    strip,
    place=v.Axis("model", scale="names"),
    measure=v.Axis("layer", "layer"),
    marks=(v.Mark("layer", marker="s", colour=""),),
    palette=ROLE,
    caption=(
        "Z-scores compare the layers of one model and know no scale: the untrained model has "
        "roles, too."
    ),
)
ROLE_TABLE = v.Table(
    "roles",
    roles,
    "The role of each layer, and what it hangs on",
    cells=(
        v.Column("layer", "layer"),
        v.Column("role", "role", filters=True),
        v.Column("margin", "margin", ".3f"),
        *(v.Column(role, role, ".2f") for role in ROLES),
        v.Column("same over draws", "stability", ".2f", null="no text"),
        v.Column("changes without", "without"),
    ),
    note=(
        "Scores are sigmoids of mean z-scores. Same over draws: share of bootstrap draws of the "
        "probe's documents in which the role is the same; the weights do not vary."
    ),
    printed=True,
)
EVIDENCE = v.Heatmap(
    "evidence",
    evidence,
    x=v.Axis("layer", "layer"),
    y=v.Axis("feature", scale="names"),
    cell=v.Axis("z", "z-score over layers", "diverging"),
    numbers=False,
    size=(8.4, 5.4),
    caption="The routed features that every layer has; which role each is evidence for: "
    + "; ".join(
        f"{role}: " + ", ".join(("" if sign > 0 else "−") + name for name, sign in each.items())
        for role, each in ROUTING.items()
    )
    + ".",
)
CURVES = by_layer(
    "features",
    curves,
    SHOWN,
    series=v.Palette("model", {MODEL: MEASURED, UNTRAINED: NULL}),
    size=(3.6, 2.3),
    caption=(
        "One giant neuron inflates the standard deviation, so that the count above three of them "
        "is lowest where one neuron is 50 times the mean; the robust count is over medians. The "
        "untrained model shows the share of parameters, the null of attention's shares. Peers: "
        "the median of the same matrix in all other layers. Bands: 95 % over the documents of "
        "the probe; of alpha by its standard error."
    ),
)
FEATURES = v.Table(
    "features",
    all_features,
    "Every feature at every layer",
    cells=(
        v.Column("feature", "feature", filters=True),
        v.Column("layer", "layer", filters=True),
        v.Column("value", "value", ".4g", null="undefined"),
        v.Column("untrained", "null", ".4g"),
    ),
    note=(
        "Alpha: exponent of the power law in the tail of a spectrum, with its standard error "
        "(alpha − 1) / √n, which takes the cut and the law for granted. Alpha span: how far it "
        "moves where the cut leaves half to twice as many values."
    ),
    folded=True,
)
CHANGES = v.Heatmap(
    "changes",
    changes,
    columns=2,
    x=v.Axis("layer", "layer"),
    y=v.Axis("component", scale="names"),
    cell=v.Axis("change", "norm of the change / norm of the tensor", "log"),
    numbers=False,
    size=(4.8, 2.6),
)
MOVED = v.Table(
    "moved",
    moved,
    "Other checkpoints beside the model",
    cells=(
        v.Column("checkpoint", "model"),
        v.Column("distance of roles", "distance", ".3f", null="other features"),
        v.Column("layers of another role", "moved"),
        v.Column("largest change: layer", "largest_layer"),
        v.Column("tensor", "largest_component"),
        v.Column("relative", "largest_value", ".3g"),
    ),
    note=(
        "Distance: root mean square difference of role scores (0 to 1) over roles and layers; none "
        "where the roles hang on other features. The untrained model's is that of roles which have "
        "nothing in common with the model's."
    ),
    printed=True,
)

PAGE = Page(
    "Layer roles",
    lambda record: f"{len(ROUTED)} features are evidence for {len(ROLES)} roles.",
    Section("Roles", headline, STRIP, ROLE_TABLE),
    Section("Two checkpoints", MOVED, CHANGES),
    Section("Evidence", EVIDENCE),
    Section("Features", CURVES, FEATURES),
)
