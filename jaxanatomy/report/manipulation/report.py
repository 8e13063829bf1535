"""The report of the manipulation experiment: its sections, with how to read each figure."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from jaxanatomy.report import plot
from jaxanatomy.report.cells import Row, number, percent, signed
from jaxanatomy.report.document import Picture, Report, Section, Table, file_name
from jaxanatomy.report.manipulation import tables, words
from jaxanatomy.report.manipulation.attention import attention_means
from jaxanatomy.report.manipulation.figures import scaled_sets
from jaxanatomy.report.manipulation.grids import grid_sets, paired_methods
from jaxanatomy.report.manipulation.rows import (
    Trials,
    by_text,
    least_sets,
    main_sets,
    random_sets,
)

_COLOURS = (
    "Numbers are changes of perplexity in percent; k is thousands, M millions. A colour means "
    "the same percentage in every figure: white no effect, blue an improvement. Empty: not "
    "measured. Crossed out (n/f): the perplexity is not finite. "
)


def manipulation_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of the manipulation experiment; None if it is of another."""
    rows = record.rows
    if not any("strategy" in row for row in rows) or any("reading" in row for row in rows):
        return None
    texts = [trials for trials in by_text(rows) if trials.rows]
    if not texts:
        return None
    published = tables.Published(record)
    summary = record.summary
    sections = [
        _survival(texts, published),
        _dose(texts, published),
        _sets(texts),
        _pairs(texts, published, record),
        _layers(texts),
        _improvements(texts, summary.get("calibration")),
        _compounding(texts, summary.get("compounding")),
        _attention(rows, summary.get("attention")),
        Section("All rows", (), tuple(map(tables.all_rows_table, texts))),
    ]
    measured = sum(len(trials.rows) for trials in texts)
    names = " and ".join(trials.text for trials in texts if trials.text)
    return Report(
        kind="Layer manipulation",
        title=str(record.provenance.get("model") or "this model"),
        lead=f"{measured:,} changes of whole sets of layers{f', on {names}' if names else ''}.",
        sections=tuple(section for section in sections if section),
    )


def manipulation_table(rows: Iterable[Row]) -> str:
    """The terminal's table: for each text, every strategy on the main sets.

    Args:
      rows: Rows of a manipulation run.

    Returns:
      Lines of ASCII characters: change of perplexity in percent, "-" where not measured and
      "n/f" where not finite.
    """
    return "\n\n".join(_terminal(trials) for trials in by_text(rows) if main_sets(trials))


def _terminal(trials: Trials) -> str:
    sets, methods = main_sets(trials), tables.tabled_methods(trials)
    columns = [["change %", *(method.label.replace("×", "x") for method in methods)]]
    width = max(map(len, columns[0]))
    columns = [[text.ljust(width) for text in columns[0]]]
    for name in sets:
        texts = [name, *(percent(trials.value(method, name)) for method in methods)]
        width = max(map(len, texts))
        columns.append([text.rjust(width) for text in texts])
    lines = ["  ".join(parts) for parts in zip(*columns, strict=True)]
    ppl = number(trials.baseline or {}, "ppl")
    heading = trials.name or "text"
    return "\n".join([heading + (f": baseline {ppl:.4f}" if math.isfinite(ppl) else ""), *lines])


def _survival(texts: Sequence[Trials], published: tables.Published) -> Section | None:
    texts = [trials for trials in texts if main_sets(trials)]
    rule = (
        "All layers of a set are changed at once. A model survives if its perplexity less than "
        "doubles; that is a point estimate, its interval stands in the table."
    )
    if published:
        rule += (
            " AH section 4.4 finds one viable strategy, scaling by 0.9 "
            f"({signed(published.by_alpha[0.9])} %)."
        )
    content = tuple(tables.strategy_table(trials, published) for trials in texts)
    text = (rule, *map(words.survivors, texts))
    return Section("What survives", text, content) if content else None


def _dose(texts: Sequence[Trials], published: tables.Published) -> Section | None:
    texts = [trials for trials in texts if scaled_sets(trials)]
    if not texts:
        return None
    found = tuple(filter(None, map(words.collapse, texts)))
    caption = (
        "All layers of a set are multiplied by α; the dose grows to the right. Solid: all seven "
        "matrices; dashed: o_proj and down_proj alone, so that what the layers write is scaled and "
        "nothing else. Bands are 95 % intervals, paired over documents, crosses at "
        "the upper edge perplexities that are not finite. “measured” is the control for the "
        "paper's set: at least nine layers, without the first and the last. A curve says nothing "
        "about a single layer of its set."
    )
    if published:
        caption += (
            " Diamonds: AH Table 4 (base model, other sentences), from its perplexities and the "
            "baseline of 22.60 that it prints; its own percentages belong to a lower one."
        )
    picture = Picture(
        "manipulation",
        _figure(plot.manipulation(texts, paper=published.by_alpha)),
        "Line chart of the change of perplexity against the factor α. " + " ".join(found),
        caption,
    )
    return Section("Dose and response", found, (picture,))


def _sets(texts: Sequence[Trials]) -> Section | None:
    content = tuple(
        Picture(
            file_name("manipulation_sets", trials.text),
            _figure(plot.manipulation_sets([trials])),
            f"{tables.on(trials)}heatmap of the change of perplexity, strategy by set of layers.",
            _COLOURS
            + "Left of the line: the measured set, the paper's, the paper's without its first and "
            "last layer; right of it the k inner layers whose neighbour mean costs least. Scale "
            "× 0 equals zero by construction. The sets were chosen on the first text, where the "
            "least important layers therefore look a little better than they are. A cell has no "
            "interval here; see the last table.",
        )
        for trials in texts
        if grid_sets(trials)
    )
    return Section("Strategies on sets", (), content) if content else None


def _pairs(texts: Sequence[Trials], published: tables.Published, record: Any) -> Section | None:
    texts = [trials for trials in texts if paired_methods(trials)]
    if not texts:
        return None
    found = [
        near
        for trials in texts
        for method in paired_methods(trials)
        if (
            near := words.near_pairs(
                trials, method, published, words.boundary_of(trials, record.provenance)
            )
        )
    ]
    caption = (
        _COLOURS
        + "Two layers are changed at once: the first stands at the left, the second above; pairs "
        "with the outermost layers fill the first row and the last column. A pair's effect is not "
        "the sum of its layers' effects."
    )
    if published:
        caption += (
            " The framed cell is what AH Table 4 prints for two layers that it does not name, on "
            "another model and other sentences: a pair near it need not be the paper's."
        )
    picture = Picture(
        "manipulation_pairs",
        _figure(plot.manipulation_pairs(texts, paper=published.pairs)),
        "Triangular heatmaps of the change of perplexity for two layers. " + " ".join(found),
        caption,
    )
    return Section("Pairs of layers", tuple(found), (picture,))


def _layers(texts: Sequence[Trials]) -> Section | None:
    texts = [trials for trials in texts if least_sets(trials)]
    if not texts:
        return None
    found = tuple(map(words.enough, texts))
    picture = Picture(
        "manipulation_layers",
        _figure(plot.manipulation_layers(texts)),
        "Line chart of the change of perplexity against the number of layers. " + " ".join(found),
        "Layers are added from the least important on, by their neighbour mean on the first text. "
        "The zero line, the control, is the unedited model. Of scaling two doses are shown, of low "
        "rank and own SVD the mildest; the heatmap has all. Point estimates: curves that lie close "
        "are not told apart. Other layers, or these in another order, would give other curves.",
    )
    return Section("Number of layers", found, (picture,))


def _improvements(texts: Sequence[Trials], entries: Any) -> Section:
    text, title = tuple(map(words.better, texts)), "Improvements and temperature"
    if not entries:
        return Section(title, text)
    explained = sum(entry.get("explained_by_calibration") is True for entry in entries)
    reading = (
        "A model that is too sure of itself gains from any change that makes it less sure. So "
        "variant and baseline each get the temperature that suits them best on another text, and "
        f"are compared again: that explains {explained} of {len(entries)} improvements, because "
        "the calibrated baseline is at least as good as the variant was, or because the interval "
        "of what is left holds 0. An improvement that stays is one on this text; among so many "
        "variants some stay by chance."
    )
    return Section(title, (*text, reading), (tables.calibration_table(entries),))


def _compounding(texts: Sequence[Trials], summary: Any) -> Section | None:
    texts = [trials for trials in texts if random_sets(trials)]
    if not texts:
        return None
    picture = Picture(
        "compounding",
        _figure(plot.compounding(texts)),
        "Line chart, both axes logarithmic: change of perplexity against the number of layers "
        "with noise, a line for each size of the noise, beside effects that add up.",
        "Gaussian noise, so many percent of each matrix's standard deviation, is added to more "
        "and more layers in random order. Dots are single draws, lines their means. Dashed, the "
        "null: losses add up, the mean rise by one layer times the number of layers (absent where "
        "that mean is not above 0). A line that climbs faster: errors compound; slower: they "
        "cancel. Open triangles at the lower edge: a mean that a logarithmic axis cannot show, not "
        "above 0. Random noise says nothing about errors with a direction, such as those of "
        "predicted weights.",
    )
    found = [words.growth(alpha, entry) for alpha, entry in (summary or {}).items()]
    content = (picture, tables.compounding_table(summary)) if summary else (picture,)
    return Section("Does a small error compound?", tuple(filter(None, found)), content)


def _attention(rows: Sequence[Row], summary: Any) -> Section | None:
    content: list[Picture | Table] = []
    if attention_means(rows):
        picture = Picture(
            "attention_shift",
            _figure(plot.attention_shift(rows)),
            "Line charts by layer, logarithmic: how far attention moves when noise is added to "
            "q_proj or k_proj, for several sizes of noise and for nothing but noise.",
            "Above: total variation, the share of attention that goes to another token, mean over "
            "heads and queries. Below: the share of queries whose most attended token is another "
            "one. This layer's matrix alone changes; the stream that it reads does not. Dotted: "
            "the matrix replaced by noise of its mean and spread, the full scale. That attention "
            "moves does not say that it moves to a wrong token, nor that the output changes.",
        )
        content.append(picture)
    if summary:
        content.append(tables.attention_table(summary))
    found = [words.redirected(component, doses) for component, doses in (summary or {}).items()]
    title = "Does 1 % redirect attention?"
    return Section(title, tuple(filter(None, found)), tuple(content)) if content else None


def _figure(panels: Any) -> Any:
    return (panels[0] if isinstance(panels, tuple) else panels).figure
