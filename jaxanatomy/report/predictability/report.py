"""The report of the predictability experiment: do earlier layers foretell later ones?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.report.cells import number, shortened
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table, file_name
from jaxanatomy.report.importance.glance import signed
from jaxanatomy.report.predictability import figures
from jaxanatomy.report.predictability.figures import ELEMENTWISE, READING_TITLES

Row = Mapping[str, Any]
_METHOD = (
    "A ridge regression (penalty 1, free intercept) on l, l², sin(lπ/N) and cos(lπ/N) predicts "
    "each sampled parameter of layer t from the layers before it (AH section 3.3). R² is 1 for a "
    "perfect prediction, 0 for one as good as the mean of the layer's own values, and below 0 "
    "for a worse one. The paper does not say on which layers it scores, so six readings of its "
    "text stand side by side."
)
_NULLS = (
    "Every figure stands beside two nulls. Gaussian noise: independent values with each layer's "
    "mean and standard deviation, in which no parameter says anything about another. Random "
    "order: the real layers shuffled, in which depth says nothing. A high R² that the noise has "
    "as well says nothing about weights: a regression that has seen its target (in_sample, "
    "target_included) fits noise in part, and sorted noise equals other sorted noise."
)


def predictability_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of this experiment; None if it is of another."""
    rows = record.rows
    if not any(row.get("reading") in {*READING_TITLES, "function"} for row in rows):
        return None
    same_model = table1_of({"config": record.config, "provenance": record.provenance})
    paper = paper_table("table2_r2") if same_model else None
    means = figures.mean_rows(rows)
    sections = []
    if means:
        sections.append(_weights_section(rows, means, paper))
    texts = list(dict.fromkeys(r["text"] for r in rows if r.get("reading") == "function"))
    if texts:
        sections.append(_function_section(rows, texts, record.summary, bool(same_model)))
    names = " and ".join(map(shortened, texts))
    lead = f"{len(rows):,} rows: {len(figures.components_of(rows))} matrices of each layer" + (
        f"; function tested on {names}" if names else ""
    )
    title = str(record.provenance.get("model") or "this model")
    return Report("Predictability of layers", title, f"{lead}.", tuple(sections))


def summary_table(summary: Mapping[str, Any]) -> str:
    """What a run prints at its end: mean R2 over that of noise, then the sets of layers.

    Args:
      summary: `summary.json` of a run.

    Returns:
      Lines of at most 100 ASCII characters.
    """
    lines = []
    if summary["weights"]:
        widths = {name: max(len(name), 13) + 1 for name in READING_TITLES}
        header = "".join(name.rjust(width) for name, width in widths.items())
        lines += ["R2, mean over targets: weights / Gaussian noise", "", 10 * " " + header]
    for component, readings in summary["weights"].items():
        cells = (_pair(readings[name]).rjust(width) for name, width in widths.items())
        lines.append(f"{component:10}" + "".join(cells))
    for text, found in summary["function"].items():
        heading = f"{shortened(text)}: baseline perplexity {_plain(found['baseline_ppl'])}"
        lines += ["", heading, f"  {'layers':14}{'predicted':>14}{'deleted':>14}"]
        lines += [
            f"  {name:14}{_plain(each['predicted_ppl']):>14}{_plain(each['zero_ppl']):>14}"
            for name, each in found["sets"].items()
        ]
    return "\n".join(lines)


def _weights_section(
    rows: Sequence[Row],
    means: Mapping[tuple[str, str], Row],
    paper: Mapping[str, Sequence[float]] | None,
) -> Section:
    names = figures.components_of(rows)
    words = tuple(
        sentence for name in READING_TITLES if (sentence := _sentence(name, names, means))
    )
    beside = " Diamonds: the averages of AH Table 2." if paper else ""
    picture = Picture(
        "r2_readings",
        figures.readings(rows, paper)[0].figure,
        "Mean R² of six readings for each matrix beside Gaussian noise. " + " ".join(words),
        "Each panel has its own scale. Red dots on grey: the weights do what noise of the same "
        "moments does." + beside,
    )
    by_target = Picture(
        "r2_targets",
        figures.targets(rows)[0].figure,
        "R² by target layer for four readings; dots are the weights, lines Gaussian noise.",
        "Fitted readings fall with t because four features fit few layers better than many.",
    )
    content = (
        _mean_table(names, means, paper),
        _best_table(names, means, paper),
        picture,
        by_target,
    )
    return Section("Do weights foretell weights", (_METHOD, _NULLS, *words), content)


def _titles() -> list[str]:
    """The readings as headings, which may break at a space."""
    return [name.replace("_", " ") for name in READING_TITLES]


def _sentence(reading: str, names: Sequence[str], means: Mapping) -> str:
    """How one reading compares with its null, over the components."""
    found = {name: means[name, reading] for name in names if (name, reading) in means}
    known = {name: row for name, row in found.items() if math.isfinite(number(row, "r2"))}
    if not known:
        return ""
    r2 = [row["r2"] for row in known.values()]
    noise = [row["null_r2"] for row in known.values()]
    above = [name for name, row in known.items() if row["r2"] > row["null_high"]]
    below = [name for name, row in known.items() if row["r2"] < row["null_low"]]
    inside = len(known) - len(above) - len(below)
    words = f"{reading}: R² {_span(r2)} against {_span(noise)} of noise; "
    words += f"inside the noise's 95 % band in {inside} of {len(known)} matrices"
    for names_, side in ((above, "above"), (below, "below")):
        if names_:
            words += f", {side} it in {', '.join(names_)}"
    if reading in ELEMENTWISE:
        gain = max(row["r2"] - row["null_r2"] for row in known.values())
        words += f" (largest gain over noise {_number(gain)})"
    return f"{words}."


def _mean_table(names, means, paper) -> Table:
    header = ["matrix", *_titles()]
    rows = []
    for name in names:
        cells = [_beside(means.get((name, reading))) for reading in READING_TITLES]
        rows.append((Cell(name), *cells, *_paper_cell(paper, name, 0)))
    return Table(
        "Mean R² over targets (middle 95 % of Gaussian noise)",
        (*header, *(["AH Table 2, average"] if paper else [])),
        tuple(rows),
        note="The band is rough: it has as many draws as the config says (null_draws), and one "
        "figure in twenty lies outside it by chance.",
    )


def _best_table(names, means, paper) -> Table:
    rows = []
    for name in names:
        cells = []
        for reading in READING_TITLES:
            row = means.get((name, reading), {})
            best = number(row, "best")
            words = f"{_number(best)} ({_number(number(row, 'null_best'))})"
            cells.append(Cell(words, best if math.isfinite(best) else None))
        rows.append((Cell(name), *cells, *_paper_cell(paper, name, 1)))
    return Table(
        "Best R² of a target (the best of Gaussian noise, mean of its draws)",
        ("matrix", *_titles(), *(["AH Table 2, best"] if paper else [])),
        tuple(rows),
        folded=True,
    )


def _function_section(
    rows: Sequence[Row], texts: Sequence[str], summary: Mapping[str, Any], same_model: bool
) -> Section:
    words = [
        "The seven matrices of a layer are replaced by their predictions from all layers before "
        "it, unedited; norm weights stay. Deleting the same layers is the control: a prediction "
        "that carries any of a layer's function should do better than nothing."
    ]
    if same_model:
        ppl = paper_table("table2_ppl")
        words.append(
            f"The paper reports a perplexity of {ppl['predicted_1']:.2f} with one predicted layer "
            f"and above {ppl['predicted_9_at_least']:,} with nine or more, against "
            f"{ppl['baseline']:.2f}; it names neither the layers nor their control (AH section "
            "4.2)."
        )
    content = []
    for text in texts:
        found = (summary.get("function") or {}).get(text) or {}
        words += filter(None, [_count(text, found.get("single_layers") or {})])
        words += filter(None, [_noise_count(text, found.get("sets") or {})])
        content.append(
            Picture(
                file_name("function", text),
                figures.function_test(rows, text)[0].figure,
                f"Perplexity on {text} with predicted and with deleted layers, log scale.",
                "Dots: matrices predicted; squares: the layer deleted; triangles, the control: "
                "Gaussian noise as large as the error of the prediction. Lines: 95 % intervals of "
                "a paired bootstrap over documents against the baseline. A cross at the top: "
                "not finite. Layers 0 and 1 have too few before them to be predicted.",
            )
        )
        if found.get("sets"):
            content.append(_sets_table(text, found["sets"]))
    return Section("Do predicted weights work", tuple(words), tuple(content))


def _count(text: str, single: Mapping[str, int]) -> str:
    if not single.get("compared"):
        return ""
    return (
        f"On {shortened(text)}, of {single['compared']} single layers predicting is worse than "
        f"deleting in {single['predicted_worse']} and better in {single['predicted_better']} "
        "(whole 95 % interval of the paired difference)."
    )


def _noise_count(text: str, sets: Mapping[str, Row]) -> str:
    """In how many single layers the error of a prediction does more than noise of its size."""
    single = [each for each in sets.values() if len(each["layers"]) == 1 and "noise_ppl" in each]
    ends = [each["noise_ci95"] for each in single if each["noise_ci95"]]
    if not single:
        return ""
    return (
        f"Against Gaussian noise as large as the error of the prediction, of {len(single)} single "
        f"layers of {shortened(text)} predicting is worse in {sum(low > 0 for low, _ in ends)} and "
        f"better in {sum(high < 0 for _, high in ends)}: what the direction of the error does. A "
        "prediction near zero errs by the layer itself, as deleting it does, so better than noise "
        "is no success; only deleting says whether a prediction knows anything."
    )


def _sets_table(text: str, sets: Mapping[str, Row]) -> Table:
    has_noise = any("noise_ppl" in each for each in sets.values())
    header = ["set", "layers", "predicted", "deleted", "difference in nats per token (95 %)"]
    note = "Difference of mean NLLs, predicted minus deleted: above 0 predicting is worse."
    if has_noise:
        header += ["noise as large as the error", "difference from it"]
        note += " The noise is the control: Gaussian, of the norm of the error of the prediction."
    rows = []
    for name, each in sets.items():
        cells = [_perplexity(each, "predicted"), _perplexity(each, "zero"), _difference(each)]
        if has_noise and "noise_ppl" in each:
            cells += [_perplexity(each, "noise"), _difference(each, "noise_")]
        elif has_noise:
            cells += [Cell("not measured")] * 2
        rows.append((Cell(name), Cell(", ".join(map(str, each["layers"]))), *cells))
    title = f"{shortened(text)}: perplexity (change in percent)"
    return Table(title, tuple(header), tuple(rows), note=note, folded=True)


def _difference(each: Row, control: str = "") -> Cell:
    difference, ends = each[f"{control}difference"], each[f"{control}ci95"]
    words = "not finite" if difference is None else f"{difference:+.3f}".replace("-", "−")
    if ends:
        words += " ({:+.3f} to {:+.3f})".format(*ends).replace("-", "−")
    return Cell(words, difference)


def _perplexity(each: Row, strategy: str) -> Cell:
    ppl, percent = each[f"{strategy}_ppl"], each[f"{strategy}_percent"]
    words = _plain(ppl)
    return Cell(words if percent is None else f"{words} ({signed(percent)} %)", ppl)


def _paper_cell(paper, name: str, index: int) -> tuple[Cell, ...]:
    if not paper:
        return ()
    values = paper.get(name)
    return (Cell(_number(values[index]), values[index]) if values else Cell(),)


def _beside(row: Row | None) -> Cell:
    """An R2 with the band of its null."""
    r2 = number(row or {}, "r2")
    if not row or not math.isfinite(r2):
        return Cell((row or {}).get("reason", "not measured"))
    band = f"{_number(row['null_low'])} to {_number(row['null_high'])}"
    return Cell(f"{_number(r2)} ({band})", r2)


def _span(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    """Three decimals with a minus sign."""
    return f"{value:.3f}".replace("-", "−") if math.isfinite(value) else "none"


def _plain(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:,.2f}" if value < 1e7 else f"{value:.2e}"


def _pair(row: Row) -> str:
    values = (row["r2"], row["null_r2"])
    return "/".join("none" if value is None else f"{value:.3f}" for value in values)
