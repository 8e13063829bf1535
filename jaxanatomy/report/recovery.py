"""The page of the recovery experiment: what damaged layers recover, and how fast."""

from collections.abc import Mapping, Sequence

from jaxanatomy.measures.recovery import BASELINE, FINAL, curves, gaps_to_control
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.common import CHANGE, LAYER, flat, with_ends
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import (
    Axis,
    Bars,
    Column,
    Curves,
    Level,
    Mark,
    Palette,
    Row,
    Span,
    Table,
)
from jaxanatomy.words import label, perplexity, plain

NOISED, CONTROL, SEEDS, BUDGET = "#D4512C", "#3B8C5A", "#B9C1C9", "#BFD3E6"
KINDS = Palette(
    "kind",
    {"noised": NOISED, "control": CONTROL, "threshold": SEEDS},
    {
        "noised": "noise, then training of this layer",
        "control": "the same training without noise",
        "threshold": "the run's multiples of the undamaged perplexity",
    },
)
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


def points(record: RunRecord) -> list[Row]:
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


def gaps(record: RunRecord) -> list[Row]:
    """The gap of each layer to the same training without noise, over its noise seeds."""
    rows = []
    for layer, gap in gaps_to_control(record.rows).items():
        own = [row["steps_to_control"] for row in _finals(record) if row["layer"] == layer]
        steps = {name: [each[name] for each in own if each] for name in thresholds(record)}
        row = {"layer": layer, **gap, **flat({"within": steps}, "within")}
        rows.append(with_ends(row, "ci95", ("ci_low", "ci_high")))
    return rows


def damage(record: RunRecord) -> list[Row]:
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


def finals(record: RunRecord) -> list[Row]:
    """A row for each curve that began with noise, with the figures of AH Table 5 beside."""
    rows, paper = [], _paper(record)
    for row in _finals(record):
        row = row | flat(row, "steps_to_control") | flat(row, "steps_to")
        if row["gap_to_control_nats"] is not None:
            row = with_ends(row | {"gap": row["gap_to_control_nats"]}, "gap_ci95")
        if str(row["layer"]) in paper:
            row["paper_noised"], *row["paper_steps"], row["paper_last"] = paper[str(row["layer"])]
        rows.append(row)
    return rows


def importance(record: RunRecord) -> list[Row]:
    """The noise, and the steps to recover from it, beside the importance of the layer."""
    degradation = {
        row["layer"]: row["degradation_percent"]
        for row in record.rows
        if row.get("intervention") == "neighbour_mean" and row["degradation_percent"] is not None
    }
    rows, last = [], thresholds(record)[-1]
    for row in _finals(record):
        if row["layer"] in degradation:
            reached = row["steps_to_control"]
            steps = {"steps": reached[last]} if reached else {}
            rows.append(row | {"degradation_percent": degradation[row["layer"]]} | steps)
    return rows


def shares(record: RunRecord) -> list[Row]:
    """R(l) of each layer, and the range that the paper gives it."""
    rows = []
    for layer, share in record.summary.get("shares", {}).items():
        row = {"layer": int(layer), "share": share}
        for group in groups(record):
            if int(layer) in group["layers"]:
                row |= {"paper_low": group["low"], "paper_high": group["high"]}
        rows.append(row)
    return rows


def groups(record: RunRecord) -> list[Row]:
    """The mean R(l) of the groups of layers of AH Table 10."""
    found = record.summary.get("budget", {}).get("groups", ())
    return [group | {"group": label(group["group"])} for group in found]


def correlations(record: RunRecord) -> list[Row]:
    """Rank correlations of how layers recover with how important they are."""
    found = record.summary.get("importance", {}).items()
    rows = [with_ends({"reading": READINGS[name], **own}) for name, own in found]
    return [row for row in rows if row["value"] is not None]


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
    """The range of the gaps, and which intervals lie on one side of 0."""
    rows = gaps(record)
    if not rows:
        return NO_CONTROL if _finals(record) else ""
    low, high = (plain(end(row["mean"] for row in rows), 3) for end in (min, max))
    known = [(row["ci_low"], row["ci_high"]) for row in rows if "ci_low" in row]
    above, below = sum(one > 0 for one, _ in known), sum(two < 0 for _, two in known)
    return (
        f"The gap at the last step is {low} to {high} nats per token over {len(rows)} layers; of "
        f"{len(known)} intervals over seeds and documents {above} lie above 0 (not recovered) and "
        f"{below} below."
    )


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


def _finals(record: RunRecord) -> list[Row]:
    return [row for row in record.rows if row.get("kind") == FINAL and row["noise"]]


def _paper(record: RunRecord) -> Mapping[str, Sequence[float | None]]:
    same = table1_of({"config": record.config, "provenance": record.provenance})
    return paper_table("table5_recovery")["layers"] if same else {}


LAYERS, SEED = Column("layer", "layer"), Column("seed", "seed")
WITH_NOISE = Column("noised", "noised_ppl", perplexity)
LAST = Column("last", "final_ppl", perplexity)
UNDAMAGED = Level("undamaged", "undamaged")

CURVES = Section(
    "What layers recover",
    (
        headline,
        warnings,
        "Noise of sigma times its standard deviation is added to each of the seven matrices of "
        "one layer; then that layer alone is trained, all others frozen (AH section 3.6). "
        "Training a layer lowers the perplexity whether it was damaged or not, so the same "
        "training without noise stands beside every curve: the gap between the two at the same "
        "step is what has not recovered.",
    ),
    (
        Bars(
            name="gaps",
            rows=gaps,
            title="gap to the same training without noise at the last step",
            place=LAYER,
            measure=Axis("", "gap (nats per token)"),
            spans=(
                Span("ci_low", "ci_high", "95 %, seeds and documents", SEEDS, cut=True),
                Span("low", "high", "lowest to highest noise seed", "#F0B9A6", 0.5),
            ),
            marks=(Mark("mean", "mean over noise seeds", "o", NOISED),),
            levels=(Level(0.0, "recovered"),),
            caption="Intervals need two seeds, may leave the frame, and are each of one layer.",
        ),
        Table(
            name="gaps",
            rows=gaps,
            title="Gap to the same training without noise, nats per token, by layer",
            cells=(
                LAYERS,
                Column("seeds", "seeds"),
                Column("at step", "step"),
                Column("gap (95 %)", "mean", "+.3f", "ci_low", "ci_high"),
                Column("lowest seed", "low", "+.3f"),
                Column("highest seed", "high", "+.3f"),
                Column("steps to {}× of it", "within.*", "d", null="never"),
            ),
            note="Steps are of each seed in turn.",
        ),
        Curves(
            name="recovery_curves",
            rows=points,
            facet="panel",
            columns=6,
            size=(1.9, 1.9),
            x=Axis("step", "step"),
            y=Axis("ppl", "perplexity", "log"),
            series=KINDS,
            thin="line",
            levels=(UNDAMAGED,),
            caption="A cross: the perplexity is not finite.",
        ),
        Bars(
            name="damage",
            rows=damage,
            title="perplexity with noise, and after training",
            place=LAYER,
            measure=Axis("", "perplexity", "log"),
            marks=(
                Mark("paper", "with noise (AH Table 5)", "D", style.PAPER, -0.3, True),
                Mark("noised", "with noise, each seed", "o", SEEDS, -0.12),
                Mark("trained", "lowest after noise and training", "o", NOISED, 0.1),
                Mark("control", "lowest without noise", "o", CONTROL, 0.3),
            ),
            levels=(UNDAMAGED,),
            caption="Grey dots of a layer differ by chance alone. AH Table 5 has another baseline.",
        ),
        Table(
            name="curves",
            rows=finals,
            title="Each curve: perplexities, and steps to N× of the training without noise",
            cells=(
                LAYERS,
                SEED,
                WITH_NOISE,
                Column("lowest", "best_ppl", perplexity),
                Column("at step", "best_step", "d"),
                LAST,
                Column("to {}×", "steps_to_control.*", "d", null="never"),
                Column("gap, nats (95 %)", "gap", "+.3f", "low", "high"),
            ),
            note="First evaluated steps; gaps are at the last step, intervals over documents.",
            folded=True,
            printed=True,
        ),
        Table(
            name="steps",
            rows=finals,
            title="Steps to multiples of the undamaged model's perplexity (AH Table 5)",
            cells=(
                LAYERS,
                SEED,
                WITH_NOISE,
                Column("to {}×", "steps_to.*", "d", null="never"),
                LAST,
                Column("AH Table 5: noised", "paper_noised", perplexity),
                Column("to 2×, 1.5×, 1.1×", "paper_steps", null="never"),
                Column("last", "paper_last", perplexity),
            ),
            note=(
                "The paper counts against the undamaged model (its own: 22.60), which training "
                "alone may reach as well, and trains on other text. Later rises are overfitting: "
                "the first crossing and the minimum say more than the last value."
            ),
            folded=True,
        ),
    ),
)
IMPORTANCE = Section(
    "Recovery and importance",
    (),
    (
        Table(
            name="correlations",
            rows=correlations,
            title="Rank correlation with the degradation of the neighbour mean",
            cells=(
                Column("reading", "reading"),
                Column("layers", "layers"),
                Column("correlation (95 %)", "value", "+.2f", "low", "high"),
            ),
        ),
        Curves(
            name="importance",
            rows=importance,
            x=CHANGE,
            y=(
                Axis("noised_ppl", "perplexity with noise", "log"),
                Axis("steps", "steps to the last threshold of no noise"),
            ),
            series=Palette("", {None: NOISED}),
            dashes="kind",
            dash_styles={FINAL: ""},
            write="layer",
            size=(4.8, 3.6),
            caption=(
                "Numbers are layers, each noise seed a dot; a cross at the top never got there. "
                "Along x: what the layer costs as the mean of its neighbours, which the first and "
                "the last layer lack."
            ),
        ),
    ),
)
BUDGETS = Section(
    "Budgets",
    (
        saved,
        "R(l) is the first evaluated step at which the damaged model is within the run's last "
        "threshold of the same training without noise, over all steps; 1 if it never is; the mean "
        "over noise seeds. That a layer which recovers fast also needs little training to be "
        "learnt is the paper's assumption, not a finding of this experiment.",
    ),
    (
        Bars(
            name="budget",
            rows=shares,
            place=LAYER,
            measure=Axis("", "share of the steps, R(l)", limits=(-0.06, 1.1)),
            spans=(Span("paper_low", "paper_high", "AH Table 10", BUDGET, 0.8),),
            marks=(Mark("share", "from recovery, measured", "o", NOISED),),
        ),
        Table(
            name="groups",
            rows=groups,
            title="Mean R(l) of the groups of AH Table 10",
            cells=(
                Column("group", "group"),
                Column("layers measured", "layers"),
                Column("from recovery", "ours", ".2f", null="–"),
                Column("AH Table 10, low", "low", ".2f"),
                Column("high", "high", ".2f"),
            ),
        ),
    ),
)

PAGE = Page("Recovery of layers", lead, (CURVES, IMPORTANCE, BUDGETS))
