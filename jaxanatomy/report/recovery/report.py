"""The report of the recovery experiment: what layers recover, and how fast."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.measures.recovery import curves, gaps_to_control
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table
from jaxanatomy.report.recovery import figures

Row = Mapping[str, Any]
_METHOD = (
    "Noise of sigma times its standard deviation is added to each of the seven matrices of one "
    "layer; then that layer alone is trained, all others frozen (AH section 3.6). A point is the "
    "perplexity on a text that was not trained on, unless it is said here."
)
_UPPER_BOUND = (
    "Trained on the text that it is evaluated on: an upper bound of what training can do, and no "
    "recovery."
)
_CONTROL = (
    "Training a layer lowers the perplexity whether it was damaged or not. So the same training "
    "without noise stands beside every curve: a layer has recovered when its perplexity is that of "
    "this control at the same step, and the gap between the two is what has not recovered."
)
_NO_CONTROL = (
    "The layers were not trained without noise (controls=false), so what they recover is not known."
)
_PAPER_STEPS = (
    "The paper counts steps to multiples of the undamaged model's perplexity, which training alone "
    "may reach as well. Later rises are overfitting: the first crossing, the minimum and its step "
    "say more than the last value."
)
_BUDGET = (
    "R(l) is the first evaluated step at which the damaged model is within {threshold}× of the "
    "same training without noise, over all steps; 1 if it never is; the mean over noise seeds. "
    "That a layer which recovers fast also needs little training to be learnt is the paper's "
    "assumption, not a finding of this experiment."
)


def recovery_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of this experiment; None if it is of another."""
    found = curves(record.rows)
    if not any("noise" in row for curve in found.values() for row in curve):
        return None
    finals = [row for row in record.rows if row.get("kind") == "final"]
    baseline = next((row for row in record.rows if row.get("variant") == "baseline"), {})
    same_model = table1_of({"config": record.config, "provenance": record.provenance})
    paper = paper_table("table5_recovery")["layers"] if same_model else None
    degradation = {
        row["layer"]: row["degradation_percent"]
        for row in record.rows
        if row.get("intervention") == "neighbour_mean" and row["degradation_percent"] is not None
    }
    sections = []
    if baseline.get("ppl"):
        sections.append(_curves_section(record, finals, baseline["ppl"], paper))
    if degradation and any(row["noise"] for row in finals) and record.summary:
        sections.append(_importance_section(finals, degradation, record.summary))
    if record.summary and record.summary["shares"]:
        sections.append(_budget_section(record.summary))
    text = next(iter(found.values()))[0]
    lead = (
        f"{len({layer for layer, _ in found})} layers, {len(finals)} curves; trained on "
        f"{text['train_text']}, evaluated on {text['text']}."
    )
    title = str(record.provenance.get("model") or "this model")
    return Report("Recovery of layers", title, lead, tuple(sections))


def recovery_table(rows: Sequence[Row]) -> str:
    """What a run prints at its end: a line for each curve that began with noise.

    Args:
      rows: Of a recovery run.

    Returns:
      Lines of at most 100 ASCII characters.
    """
    finals = [row for row in rows if row.get("kind") == "final" and row["noise"]]
    names = list(finals[0]["steps_to"]) if finals else []
    note = ["", "to Nx: first evaluated step within N times the same training without noise"]
    note += ["gap: to that training at the last step, nats per token (95 %, over documents)"]
    header = ["layer", "seed", "noised", "best", "at step", "last", *(f"to {n}x" for n in names)]
    lines = [[*header, "gap"]]
    for row in finals:
        reached = row["steps_to_control"]
        steps = [_step(reached[name]) if reached else "-" for name in names]
        ppl = [_ppl(row[name]) for name in ("noised_ppl", "best_ppl", "final_ppl")]
        cells = [str(row["layer"]), str(row["seed"]), *ppl[:2], _step(row["best_step"]), ppl[2]]
        lines.append([*cells, *steps, _gap(row)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join([*table, *note])


def _curves_section(record, finals, baseline_ppl, paper) -> Section:
    thresholds = record.summary.get("thresholds") or [
        f"{value:g}" for value in record.config["thresholds"]
    ]
    warnings = [f"Warning: {words}." for words in record.summary.get("warnings", ())]
    point = next(iter(curves(record.rows).values()))[0]
    if point["train_text"] == point["text"] and not warnings:
        warnings.append(_UPPER_BOUND)
    for each in record.summary.get("diverged", ()):
        warnings.append(f"Layer {each['layer']}, seed {each['seed']}: {each['reason']}.")
    gaps = gaps_to_control(record.rows)
    content: list[Table | Picture] = []
    if gaps:
        content.append(_gaps_table(gaps, finals, thresholds))
        content.append(_gaps_picture(gaps))
    if any(len(curve) > 1 for curve in curves(record.rows).values()):
        drawn = figures.recovery_curves(record.rows, baseline_ppl, thresholds)
        content.append(
            Picture(
                "recovery_curves",
                drawn[0].figure,
                "Perplexity over steps for each layer, with noise and without.",
                "Lines end in a cross where a curve stopped being finite.",
            )
        )
    drawn = figures.damage_and_recovery(record.rows, finals, baseline_ppl, paper)
    content.append(
        Picture(
            "damage",
            drawn.figure,
            "Perplexity of each layer with noise, of all seeds, and the lowest after training.",
            "How far the grey dots of a layer lie apart is chance: seeds of equal noise."
            + (" Diamonds: AH Table 5, whose baseline is another one." if paper else ""),
        )
    )
    said = (*warnings, _METHOD, _CONTROL, *(() if gaps or not finals else (_NO_CONTROL,)))
    if finals:
        said += (_PAPER_STEPS,)
        content.append(_steps_table(finals, thresholds, paper))
    return Section("What layers recover", said, tuple(content))


def _gaps_table(gaps: Mapping[int, Row], finals, thresholds) -> Table:
    rows = []
    for layer, gap in gaps.items():
        own = [row for row in finals if row["layer"] == layer and row["noise"]]
        steps = [
            ", ".join(_step(row["steps_to_control"][name]) for row in own) for name in thresholds
        ]
        ends = gap["ci95"]
        interval = "" if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"
        cells = [f"{gap['mean']:+.3f}", interval, f"{gap['low']:+.3f} to {gap['high']:+.3f}"]
        rows.append(
            (
                Cell(str(layer), layer),
                Cell(str(gap["seeds"]), gap["seeds"]),
                *(Cell(cell.replace("-", "−"), gap["mean"]) for cell in cells),
                *map(Cell, steps),
            )
        )
    header = ("layer", "seeds", "gap", "95 %", "lowest to highest seed")
    return Table(
        "Gap to the same training without noise at the last step, nats per token, by layer",
        (*header, *(f"steps to {name}× of it" for name in thresholds)),
        tuple(rows),
        sortable=True,
        note="Mean over noise seeds; intervals are over seeds and documents together, and need two "
        "seeds. Steps are of each seed in turn. Intervals are of one layer each: of many layers "
        "some miss by chance.",
    )


def _gaps_picture(gaps: Mapping[int, Row]) -> Picture:
    return Picture(
        "gaps",
        figures.gaps(gaps).figure,
        "What has not recovered at the last step: gap to the same training without noise.",
        "Bars reach from the lowest to the highest noise seed; thin lines are 95 % intervals over "
        "seeds and documents, cut where they leave the frame.",
    )


def _steps_table(finals, thresholds, paper) -> Table:
    header = ["layer", "seed", "with noise", *(f"steps to {name}×" for name in thresholds)]
    header += ["lowest", "at step", "last", "gap to no noise, nats per token (95 %)"]
    rows = []
    for row in finals:
        if not row["noise"]:
            continue
        cells = [Cell(str(row["layer"]), row["layer"]), Cell(str(row["seed"]))]
        cells.append(Cell(_ppl(row["noised_ppl"]), row["noised_ppl"]))
        cells += [_step_cell(row["steps_to"][name]) for name in thresholds]
        cells += [Cell(_ppl(row["best_ppl"]), row["best_ppl"]), _step_cell(row["best_step"])]
        cells += [Cell(_ppl(row["final_ppl"]), row["final_ppl"])]
        cells.append(Cell(_gap(row).replace("-", "−"), row["gap_to_control_nats"]))
        rows.append((*cells, *_paper_cells(paper, row["layer"])))
    if paper:
        header += ["AH Table 5: with noise", "to 2×", "to 1.5×", "to 1.1×", "last"]
    note = "The paper counts against a baseline of 22.60 and trains on other text." if paper else ""
    return Table(
        "Steps to multiples of the undamaged model's perplexity",
        tuple(header),
        tuple(rows),
        sortable=True,
        note=note,
    )


def _paper_cells(paper, layer: int) -> tuple[Cell, ...]:
    if not paper:
        return ()
    values = paper.get(str(layer))
    if values is None:
        return (Cell(),) * 5
    noised, *steps, final = values
    return (Cell(_ppl(noised), noised), *map(_step_cell, steps), Cell(_ppl(final), final))


def _importance_section(finals, degradation, summary) -> Section:
    threshold = summary["thresholds"][-1]
    words = {
        "noised": "the perplexity with noise",
        "gap": "the gap to the same training without noise",
        "steps": f"the steps to {threshold}× of that training",
    }
    sentences = []
    for name, phrase in words.items():
        found = summary["importance"][name]
        if found["value"] is not None:
            ends = found["ci95"]
            interval = f" (95 %: {ends[0]:+.2f} to {ends[1]:+.2f})" if ends else ""
            sentences.append(f"{phrase} {found['value']:+.2f}{interval}".replace("-", "−"))
    text = "Rank correlation with the degradation of the neighbour mean, over "
    text += f"{summary['importance']['noised']['layers']} layers: " + "; ".join(sentences) + "."
    drawn = figures.against_importance(finals, degradation, threshold)
    picture = Picture(
        "importance",
        drawn[0].figure,
        "Perplexity with noise and steps to recover against the importance of each layer.",
        "Numbers are layers. The first and the last layer have no neighbour mean.",
    )
    return Section("Recovery and importance", (text,), (picture,))


def _budget_section(summary) -> Section:
    found, shares = summary["budget"], {int(k): v for k, v in summary["shares"].items()}
    text = [_BUDGET.format(threshold=summary["thresholds"][-1])]
    line = f"Over {found['layers']} layers: {found['ours']:,.0f} of {found['uniform']:,} steps"
    line += f", {found['saved_percent']:.0f} % saved"
    content: list[Table | Picture] = []
    if found["groups"]:
        ends = f"{found['published_low']:,.0f} to {found['published_high']:,.0f}"
        line += f"; AH Table 10 over the same layers {ends}"
        content.append(_budget_table(found))
    drawn = figures.budgets(shares, found["groups"])
    content.append(
        Picture(
            "budget",
            drawn.figure,
            "Share of the steps of each layer from its recovery, beside that of the paper.",
        )
    )
    return Section("Budgets", (*text, f"{line}."), tuple(content))


def _budget_table(found: Row) -> Table:
    rows = [
        (
            Cell(group["group"].replace("_", " ")),
            Cell(", ".join(map(str, group["layers"])) or "none measured"),
            Cell("" if group["ours"] is None else f"{group['ours']:.2f}", group["ours"]),
            Cell(f"{group['low']:.2f} to {group['high']:.2f}", group["low"]),
        )
        for group in found["groups"]
    ]
    return Table(
        "Mean R(l) of the groups of AH Table 10",
        ("group", "layers measured", "from recovery", "AH Table 10"),
        tuple(rows),
    )


def _step_cell(step: int | None) -> Cell:
    return Cell(_step(step), 1e9 if step is None else step)


def _step(step: int | None) -> str:
    return "never" if step is None else str(step)


def _ppl(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:,.2f}" if value < 1e7 else f"{value:.2e}"


def _gap(row: Row) -> str:
    value, ends = row["gap_to_control_nats"], row["gap_ci95"]
    if value is None:
        return "-"
    return f"{value:+.3f}" + (f" ({ends[0]:+.3f} to {ends[1]:+.3f})" if ends else "")
