"""The page of the recovery experiment: what damaged layers recover, and how fast."""

from collections.abc import Mapping, Sequence

from jaxanatomy.measures.recovery import BASELINE, FINAL, curves, gaps_to_control, of_ended
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import CHANGE, LAYER, estimate, flat, published, tally
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, perplexity, spread

NOISED, CONTROL, SEEDS, BUDGET = "#D4512C", "#3B8C5A", "#B9C1C9", "#BFD3E6"
READINGS = {
    "noised": "perplexity with noise",
    "gap": "gap to the same training without noise",
    "steps": "steps to the last threshold of that training",
}
NO_CONTROL = "Nothing was trained without noise (controls=false): what recovers is not known."


def undamaged(record: RunRecord) -> float | None:
    """The perplexity of the undamaged model; None where it is not measured."""
    return next((row["ppl"] for row in record.rows if row.get("variant") == BASELINE), None)


def thresholds(record: RunRecord) -> list[str]:
    """Multiples of a perplexity, as rows name them."""
    return [f"{value:g}" for value in record.config["thresholds"]]


def points(record: RunRecord) -> list[v.Row]:
    """The points of each curve that trained, and the ends of a level line for each threshold."""
    base, rows = undamaged(record), []
    levels = {name: float(name) * base for name in thresholds(record)} if base else {}
    for (layer, seed), curve in curves(record.rows).items():
        if len(curve) > 1:
            own = {"panel": f"layer {layer}", "undamaged": base}
            kind = "control" if seed is None else "noised"
            rows += [own | row | {"kind": kind, "line": seed} for row in curve]
            rows += [
                own | {"step": row["step"], "ppl": ppl, "kind": "threshold", "line": name}
                for name, ppl in levels.items()
                for row in (curve[0], curve[-1])
            ]
    return rows


def gaps(record: RunRecord) -> list[v.Row]:
    """The gap of each layer to the same training without noise, over its noise seeds.

    `gap` is their mean with its interval, `seeds_range` reaches from the lowest to the highest.
    """
    # A run that has not come to its summary shows its curves as far as they are.
    rows = of_ended(record.rows, record.summary.get("steps", 0))
    return [
        {"layer": layer, **found, "gap": estimate(found["mean"], found["ci95"])}
        | {"seeds_range": Estimate(found["mean"], found["low"], found["high"])}
        for layer, found in gaps_to_control(rows).items()
    ]


def damage(record: RunRecord) -> list[v.Row]:
    """Perplexities of each layer: with noise, published, the lowest with and without noise."""
    rows, paper = [], _paper(record)
    for (layer, seed), curve in curves(record.rows).items():
        row = {"layer": layer, "undamaged": undamaged(record)}
        row |= {} if seed is None else {"noised": curve[0]["ppl"]}
        row |= {"paper": paper[str(layer)][0]} if str(layer) in paper else {}
        if len(curve) > 1:
            known = [point["ppl"] for point in curve if point["ppl"] is not None]
            row["control" if seed is None else "trained"] = min(known, default=None)
        rows.append(row)
    return rows


def finals(record: RunRecord) -> list[v.Row]:
    """A row for each curve that began with noise, with the figures of AH Table 5 beside."""
    rows, paper = [], _paper(record)
    for row in _finals(record):
        row = row | flat(row, "steps_to_control") | flat(row, "steps_to")
        if row["gap_to_control_nats"] is not None:
            row["gap"] = estimate(row["gap_to_control_nats"], row["gap_ci95"])
        if str(row["layer"]) in paper:
            row["paper_noised"], *row["paper_steps"], row["paper_last"] = paper[str(row["layer"])]
        rows.append(row)
    return rows


def importance(record: RunRecord) -> list[v.Row]:
    """The noise, and the steps to recover from it, beside the importance of the layer."""
    change = {
        row["layer"]: row["degradation_percent"]
        for row in record.rows
        if row.get("intervention") == "neighbour_mean" and row["degradation_percent"] is not None
    }
    rows, last = [], thresholds(record)[-1]
    for row in _finals(record):
        if row["layer"] in change:
            reached = row["steps_to_control"]
            steps = {"steps": reached[last]} if reached else {}
            rows.append(row | {"change": change[row["layer"]]} | steps)
    return rows


def shares(record: RunRecord) -> list[v.Row]:
    """R(l) of each layer, and the range that the paper gives it."""
    rows = []
    for layer, share in record.summary.get("shares", {}).items():
        row = {"layer": int(layer), "share": share}
        for group in groups(record):
            if int(layer) in group["layers"]:
                row["paper"] = Estimate(group["low"], group["low"], group["high"])
        rows.append(row)
    return rows


def groups(record: RunRecord) -> list[v.Row]:
    """The mean R(l) of the groups of layers of AH Table 10."""
    found = record.summary.get("budget", {}).get("groups", ())
    return [group | {"group": label(group["group"])} for group in found]


def correlations(record: RunRecord) -> list[v.Row]:
    """Rank correlations of how layers recover with how important they are."""
    return [
        {"reading": READINGS[name], **own, "value": estimate(own["value"], own["ci95"])}
        for name, own in record.summary.get("importance", {}).items()
        if own["value"] is not None
    ]


def lead(record: RunRecord) -> str:
    """What was trained on what."""
    found = curves(record.rows)
    if not found:
        return "No layer is trained yet."
    point = next(iter(found.values()))[0]
    layers = {layer for layer, _ in found}
    ended = sum(row.get("kind") == FINAL for row in record.rows)
    return (
        f"{len(layers)} layers, {ended} curves; trained on {point['train_text']}, "
        f"evaluated on {point['text']}; undamaged perplexity {perplexity(undamaged(record))}."
    )


def warnings(record: RunRecord) -> str:
    """What makes the curves say less: shared texts, curves that ended early."""
    said = [f"Warning: {words}." for words in record.summary.get("warnings", ())]
    point = next(iter(curves(record.rows).values()))[0]
    if point["train_text"] == point["text"] and not said:
        said.append(
            "Trained on the text that it is evaluated on: an upper bound of what training can do, "
            "and no recovery."
        )
    said += [
        f"Layer {each['layer']}, seed {each['seed']}: {each['reason']}."
        for each in record.summary.get("diverged", ())
    ]
    return " ".join(said)


def headline(record: RunRecord) -> str:
    """The range of the gaps, and how many intervals lie on one side of 0."""
    rows = gaps(record)
    if not rows:
        return NO_CONTROL if _finals(record) else ""
    words = (
        f"The gap at the last step is {spread(row['mean'] for row in rows)} nats per token over "
        f"{len(rows)} layers"
    )
    return f"{'; '.join(filter(None, [words, tally(rows, 'gap')]))}. Above 0: not recovered."


def saved(record: RunRecord) -> str:
    """What a budget by recovery saves, beside the paper's."""
    found = record.summary["budget"]
    words = (
        f"Over {found['layers']} layers: {found['ours']:,.0f} of {found['uniform']:,} steps, "
        f"{found['saved_percent']:.0f} % saved"
    )
    if found["groups"]:
        low, high = found["published_low"], found["published_high"]
        words += f"; AH Table 10 over the same layers {low:,.0f} to {high:,.0f}"
    return f"{words}."


def _finals(record: RunRecord) -> list[v.Row]:
    return [row for row in record.rows if row.get("kind") == FINAL and row["noise"]]


def _paper(record: RunRecord) -> Mapping[str, Sequence[float | None]]:
    return published(record, "table5_recovery").get("layers", {})


LAYERS, SEED = v.Column("layer", "layer"), v.Column("seed", "seed")
UNDAMAGED = v.Level("undamaged", "undamaged")
GAPS = v.Bars(
    "gaps",
    gaps,
    "gap to the same training without noise at the last step",
    place=LAYER,
    measure=v.Axis("", "gap (nats per token)"),
    spans=(
        v.Span("gap", "95 %, seeds and documents", SEEDS, cut=True),
        v.Span("seeds_range", "lowest to highest noise seed", "#F0B9A6", 0.5),
    ),
    marks=(v.Mark("gap", "mean over noise seeds", "o", NOISED),),
    levels=(v.Level(0.0, "recovered"),),
    caption="Intervals need two seeds, may leave the frame, and are each of one layer.",
)
POINTS = v.Curves(
    "recovery_curves",
    points,
    columns=6,
    size=(1.9, 1.9),
    x=v.Axis("step", "step"),
    y=v.Axis("ppl", "perplexity", "log"),
    series=v.Palette(
        "kind",
        {"noised": NOISED, "control": CONTROL, "threshold": SEEDS},
        {
            "noised": "noise, then training of this layer",
            "control": "the same training without noise",
            "threshold": "the run's multiples of the undamaged perplexity",
        },
    ),
    thin="line",
    levels=(UNDAMAGED,),
    caption="A cross: the perplexity is not finite.",
)
DAMAGE = v.Bars(
    "damage",
    damage,
    "perplexity with noise, and after training",
    place=LAYER,
    measure=v.Axis("", "perplexity", "log"),
    marks=(
        v.Mark("paper", "with noise (AH Table 5)", "D", style.PAPER, -0.3, True),
        v.Mark("noised", "with noise, each seed", "o", SEEDS, -0.12),
        v.Mark("trained", "lowest after noise and training", "o", NOISED, 0.1),
        v.Mark("control", "lowest without noise", "o", CONTROL, 0.3),
    ),
    levels=(UNDAMAGED,),
    caption="Grey dots of a layer differ by chance alone. AH Table 5 has another baseline.",
)
FINALS = v.Table(
    "curves",
    finals,
    "Each curve: perplexities, and steps to N× of the training without noise",
    cells=(
        LAYERS,
        SEED,
        v.Column("noised", "noised_ppl", perplexity),
        v.Column("lowest", "best_ppl", perplexity),
        v.Column("at step", "best_step", "d"),
        v.Column("last", "final_ppl", perplexity),
        v.Column("to {}×", "steps_to_control.*", "d", null="never"),
        v.Column("gap, nats (95 %)", "gap", "+.3f"),
    ),
    note="First evaluated steps; gaps are at the last step, intervals over documents.",
    folded=True,
    printed=True,
)
STEPS = v.Table(
    "steps",
    finals,
    "Steps to multiples of the undamaged model's perplexity (AH Table 5)",
    cells=(
        LAYERS,
        SEED,
        v.Column("to {}×", "steps_to.*", "d", null="never"),
        v.Column("AH Table 5: noised", "paper_noised", perplexity),
        v.Column("to 2×, 1.5×, 1.1×", "paper_steps", null="never"),
        v.Column("last", "paper_last", perplexity),
    ),
    note=(
        "The paper counts against the undamaged model (its own: 22.60), which training alone may "
        "reach as well, and trains on other text. Later rises are overfitting: the first crossing "
        "and the minimum say more than the last value."
    ),
    folded=True,
)
CORRELATIONS = v.Table(
    "correlations",
    correlations,
    "Rank correlation with the degradation of the neighbour mean",
    cells=(
        v.Column("reading", "reading"),
        v.Column("layers", "layers"),
        v.Column("correlation (95 %)", "value", "+.2f"),
    ),
)
IMPORTANCE = v.Curves(
    "importance",
    importance,
    x=CHANGE,
    y=(
        v.Axis("noised_ppl", "perplexity with noise", "log"),
        v.Axis("steps", "steps to the last threshold of no noise"),
    ),
    series=v.Palette("", {None: NOISED}),
    dashes=v.Dashes("kind", {FINAL: ""}),
    write="layer",
    size=(4.8, 3.6),
    caption=(
        "Numbers are layers, each noise seed a dot; a cross at the top never got there. Along x: "
        "what the layer costs as the mean of its neighbours, which the first and the last layer "
        "lack."
    ),
)
SHARES = v.Bars(
    "budget",
    shares,
    place=LAYER,
    measure=v.Axis("", "share of the steps, R(l)", limits=(-0.06, 1.1)),
    spans=(v.Span("paper", "AH Table 10", BUDGET, 0.8),),
    marks=(v.Mark("share", "from recovery, measured", "o", NOISED),),
)
GROUPS = v.Table(
    "groups",
    groups,
    "Mean R(l) of the groups of AH Table 10",
    cells=(
        v.Column("group", "group"),
        v.Column("layers measured", "layers"),
        v.Column("from recovery", "ours", ".2f", null="–"),
        v.Column("AH Table 10, low", "low", ".2f"),
        v.Column("high", "high", ".2f"),
    ),
)

PAGE = Page(
    "Recovery of layers",
    lead,
    Section(
        "What layers recover",
        headline,
        warnings,
        "Noise of sigma times its standard deviation is added to each of the seven matrices of one "
        "layer; then that layer alone is trained, all others frozen (AH section 3.6). Training a "
        "layer lowers the perplexity whether it was damaged or not, so the same training without "
        "noise stands beside every curve: the gap between the two at the same step is what has not "
        "recovered.",
        GAPS,
        POINTS,
        DAMAGE,
        FINALS,
        STEPS,
    ),
    Section("Recovery and importance", CORRELATIONS, IMPORTANCE),
    Section(
        "Budgets",
        saved,
        "R(l) is the first evaluated step at which the damaged model is within the run's last "
        "threshold of the same training without noise, over all steps; 1 if it never is; the mean "
        "over noise seeds. That a layer which recovers fast also needs little training to be "
        "learnt is the paper's assumption, not a finding of this run.",
        SHARES,
        GROUPS,
    ),
)
