"""The report of the importance experiment: its sections, with how to read each figure."""

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.measures.importance import CATEGORIES
from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.papers import table1_of
from jaxanatomy.report import plot
from jaxanatomy.report.cells import (
    NEIGHBOUR_MEAN,
    Cells,
    by_text,
    category,
    interval,
    is_certain,
    label,
    number,
)
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table, file_name
from jaxanatomy.report.importance.controls import ratios
from jaxanatomy.report.importance.draws import random_tables
from jaxanatomy.report.importance.glance import chip, first_token_layers, glance, main_rows, signed
from jaxanatomy.report.importance.positions import position_cells

_MAP_CAPTION = (
    "Each bar is a layer. Its seven matrices are replaced by the mean of the two neighbouring "
    "layers' matrices (norm weights stay), and the perplexity of the text is compared with the "
    "unedited model's (AH section 3.2). Thick lines are each layer's own 95 % interval, paired "
    "over documents, or over blocks of 64 tokens where there are fewer than five documents: a "
    "category is settled only if the whole line lies in it. Thin lines hold for all layers at "
    "once: what is picked after looking, an anti-layer above all, is judged by them. Black dashes "
    "leave out the first prediction of each document, which dominates on short documents. Bars "
    "below zero are improvements. Hatched layers have one neighbour, which was copied, so they do "
    "not compare with the others."
)
_PAPER_CAPTION = (
    " Diamonds are AH Table 1, measured by its author on the base model and other sentences; "
    "its first and last layer were not ablated there and have none."
)
_HEAT_CAPTION = (
    "Numbers are changes of perplexity in percent; k is thousands, M millions. A colour means "
    "the same percentage in every figure: white no effect, blue an improvement. "
)

_LAST = sys.float_info.max  # sorts last; JavaScript reads no "inf"


def importance_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of the importance experiment; None if it is of another."""
    if not any("intervention" in row for row in record.rows):
        return None
    texts = [cells for cells in by_text(record.rows) if cells.cells]
    if not texts:
        return None
    model = str(record.provenance.get("model") or "this model")
    paper = table1_of({"config": record.config, "provenance": record.provenance})
    sections = [
        Section("Which layers matter", _headlines(texts), (glance(texts, record.summary),)),
        _map_section(texts, paper),
        _controls_section(texts),
        _first_token_section(texts),
        _parts_section(texts),
        _heads_section(texts),
        Section("All layers", (), tuple(_layer_table(cells, paper) for cells in texts)),
    ]
    layers = max(len(cells.layers) for cells in texts)
    names = " and ".join(cells.text for cells in texts if cells.text)
    lead = f"{len(record.rows):,} measurements on {layers} layers" + (
        f", on {names}" if names else ""
    )
    return Report(
        kind="Layer importance",
        title=model,
        lead=f"{lead}.",
        sections=tuple(section for section in sections if section and section.content),
    )


def _headlines(texts: Sequence[Cells]) -> tuple[str, ...]:
    """What stands out, in sentences; the extremes from the text with the most tokens."""
    longest = max(texts, key=lambda cells: (cells.baseline or {}).get("tokens") or 0)
    rows = sorted(main_rows(longest), key=lambda row: number(row, "degradation_percent"))
    if not rows:
        return ()
    on = f"On {longest.text}, " if longest.text else ""
    words = f"{on}{_extreme(longest, rows[-1], 'most')} {_extreme(longest, rows[0], 'least')}"
    words = words.replace(". layer", ". Layer") if on else words[:1].upper() + words[1:]
    settled = " and ".join(map(_settled, texts))
    words += f" The category is settled for {settled}."
    return (words, *filter(None, map(_caution, texts)))


def _extreme(cells: Cells, row: Mapping[str, Any], which: str) -> str:
    """A layer is said to matter most or least only if it is told apart from all others."""
    looks = cells.looks
    may = () if looks is None else looks.most if which == "most" else looks.least
    found = f"layer {row['layer']}"
    if len(may) == 1:
        return f"{found} matters {which} ({_effect(row)}), told apart from all others."
    rest = ", ".join(str(layer) for layer in may if layer != row["layer"])
    words = f"it is not told apart from {rest}" if rest else "no layer is told apart"
    size = "largest" if which == "most" else "smallest"
    return f"{found} has the {size} effect ({_effect(row)}); {words}."


def _settled(cells: Cells) -> str:
    rows = main_rows(cells)
    words = f"{sum(map(is_certain, rows))} of {len(rows)} layers"
    words += f" on {cells.text}" if cells.text else ""
    if cells.looks is None:
        return f"{words} by their own intervals"
    return f"{words} by their own intervals, {len(cells.looks.settled)} by those that hold at once"


def _caution(cells: Cells) -> str:
    """What the controls and the attribution add, where they were measured."""
    words = []
    skipped = ratios(cells, "zero")
    if skipped and cells.main == NEIGHBOUR_MEAN:
        milder = [layer for layer, ratio in skipped.items() if ratio < 1]
        apart = sum(_is_milder(cells, "zero", layer) for layer in milder)
        words.append(
            f"skipping the layer altogether gives a lower perplexity than its neighbour mean in "
            f"{len(milder)} of {len(skipped)} layers (median ratio "
            f"×{statistics.median(skipped.values()):.2f}); in {apart} of them the 95 % "
            "interval of the difference over documents lies below 0, each by itself."
        )
    layers = ", ".join(map(str, first_token_layers(cells)))
    if layers:
        words.append(f"Acting mainly through the first token: {layers}.")
    sentence = " ".join(words)
    on = f"On {cells.text}, " if cells.text and skipped else ""
    return on + sentence if on else sentence[:1].upper() + sentence[1:]


def _is_milder(cells: Cells, control: str, layer: int) -> bool:
    """Whether a control harms less than the neighbour mean, by the interval of the difference."""
    rows = (cells.row(name, layer) for name in (control, NEIGHBOUR_MEAN))
    return paired_difference(*rows).high < 0


def _effect(row: Mapping[str, Any]) -> str:
    value, ends = number(row, "degradation_percent"), interval(row)
    if math.isinf(value):
        return "its perplexity is not finite"
    words = f"{signed(value)} % perplexity"
    return f"{words}, 95 % interval {signed(ends[0])} to {signed(ends[1])} %" if ends else words


def _map_section(texts: Sequence[Cells], paper: list[float] | None) -> Section:
    panels = plot.importance(texts, paper=paper)
    words = [f"{_on(cells)}{_counts(cells)}" for cells in texts]
    picture = Picture(
        "importance",
        _figure(panels),
        "Bar chart of the change of perplexity per layer. " + " ".join(words),
        _MAP_CAPTION + (_PAPER_CAPTION if paper else ""),
    )
    return Section("Importance map", (), (picture,))


def _counts(cells: Cells) -> str:
    parts = []
    for name in reversed(CATEGORIES):
        layers = [str(row["layer"]) for row in main_rows(cells) if category(row) == name]
        parts.append(f"{name}: {', '.join(layers) or 'none'}")
    return "; ".join(parts) + "."


def _controls_section(texts: Sequence[Cells]) -> Section | None:
    content = []
    for cells in texts:
        if len(cells.interventions) < 2:
            continue
        names = ", ".join(map(label, cells.interventions))
        content.append(
            Picture(
                file_name("controls", cells.text),
                _figure(plot.controls([cells])),
                f"{_on(cells)}heatmap of the change of perplexity, layer by intervention: {names}.",
                _HEAT_CAPTION + "Empty: not defined at this layer, or not measured. Crossed out "
                "(n/f): the perplexity is not finite. Of what is random the median draw.",
            )
        )
        if cells.has(NEIGHBOUR_MEAN):
            content.append(
                Picture(
                    file_name("control_ratios", cells.text),
                    _figure(plot.control_ratios([cells])),
                    f"{_on(cells)}for each control, its perplexity over that of the neighbour "
                    "mean, a dot for each inner layer.",
                    "Where zero (the layer skipped) lies clearly left of 1, the neighbour mean "
                    "does harm of its own beyond removing the layer. The rescaled mean undoes the "
                    "loss of norm, the aligned mean the mixing of neurons; matched noise and "
                    "permuted rows keep a layer's statistics and nothing else. Colours are the "
                    "categories of the importance map; numbers name outlying layers. Of "
                    "what is random the dot is the median draw, the line spans the draws. "
                    "These are point estimates: a ratio near 1 decides nothing on a short text.",
                )
            )
        content += random_tables(cells)
    text = (
        "A neighbour mean is not a clean removal: it shrinks norms (two independent matrices "
        "average to 0.71 of the norm) and mixes neurons that do not correspond. The controls "
        "tell how much of a layer's importance is due to that."
    )
    return Section("What the controls say", (text,), tuple(content)) if content else None


def _first_token_section(texts: Sequence[Cells]) -> Section | None:
    content = []
    for cells in texts:
        for intervention, scope in position_cells(cells):
            axes = plot.first_token([cells], intervention=intervention, scope=scope)
            is_main = intervention == NEIGHBOUR_MEAN and scope == "layer"
            found = ", ".join(map(str, first_token_layers(cells))) if is_main else ""
            content.append(
                Picture(
                    file_name("first_token", intervention, scope, cells.text),
                    _figure(axes),
                    f"{_on(cells)}change of perplexity per layer when {label(intervention)} of "
                    f"{'the layer' if scope == 'layer' else label(scope)} acts at the first token "
                    "only and at all others only."
                    + (f" Far larger at the first token: layers {found}." if found else ""),
                )
            )
    text = (
        "The same edit, acting on the first token of each document alone (circles) and on all "
        "other tokens alone (squares). A circle far above its square: the layer matters through "
        "the first token, as a layer does that writes the attention sink there. An edit at "
        "some tokens selects outputs: the edited layer's stand there, the unedited layer's "
        "elsewhere, both computed from the same input. The two effects need not add up to the "
        "effect at all tokens (dash)."
    )
    return Section("First token or the others", (text,), tuple(content)) if content else None


def _parts_section(texts: Sequence[Cells]) -> Section | None:
    content = []
    for cells in texts:
        for intervention in (NEIGHBOUR_MEAN, "zero"):
            if len(cells.scopes(intervention)) < 2:
                continue
            content.append(
                Picture(
                    file_name("scopes", intervention, cells.text),
                    _figure(plot.scopes([cells], intervention=intervention)),
                    f"{_on(cells)}heatmap of the change of perplexity under "
                    f"{label(intervention)}, layer by part of the layer.",
                )
            )
    text = (
        _HEAT_CAPTION + "Each row edits one part alone; effects of parts do not add up to the "
        "layer's, since parts can stand in for each other. Under zero some rows must be equal: "
        "a product with one factor zero is zero whichever factor it is, so q_proj equals k_proj; "
        "v_proj, o_proj and attention are equal; and so are gate_proj, up_proj, down_proj and MLP."
    )
    return Section("Parts of layers", (text,), tuple(content)) if content else None


def _heads_section(texts: Sequence[Cells]) -> Section | None:
    content = [
        Picture(
            file_name("heads", cells.text),
            _figure(plot.heads([cells])),
            f"{_on(cells)}heatmap of the change of perplexity when one query head is zeroed, "
            "layer by head.",
            _HEAT_CAPTION + "One head's slice of the input of o_proj is zeroed at a time. Heads "
            f"that back each other up look harmless one by one. {_head_noise(cells)}",
        )
        for cells in texts
        if cells.heads("zero")
    ]
    return Section("Heads", (), tuple(content)) if content else None


def _head_noise(cells: Cells) -> str:
    rows = [
        cells.row("zero", layer, head) for head in cells.heads("zero") for layer in cells.layers
    ]
    ends = [interval(row) for row in rows if row]
    held = sum(low <= 0 <= high for low, high in filter(None, ends))
    return f"The 95 % interval holds 0 for {held} of these {len(ends)} heads."


def _layer_table(cells: Cells, paper: list[float] | None) -> Table:
    """Every layer with its readings; sortable."""
    main, change = cells.main, "degradation_percent"
    columns = {
        "perplexity": cells.profile(main, field="ppl"),
        "without first predictions (%)": cells.profile(main, field=f"{change}_without_first"),
        "zero (%)": cells.profile("zero"),
        "at first token (%)": cells.profile(NEIGHBOUR_MEAN, "layer", "first"),
        "at others (%)": cells.profile(NEIGHBOUR_MEAN, "layer", "others"),
        "AH Table 1 (%)": (paper or [])[: len(cells.layers)],
    }
    columns = {name: v for name, v in columns.items() if not all(map(math.isnan, v))}
    rows = []
    for layer, value in zip(cells.layers, cells.profile(main), strict=True):
        row = cells.row(main, layer)
        numbers = [_number(values[layer], name) for name, values in columns.items()]
        head = (Cell(str(layer), layer), _verdict(cells, row), _number(value, "change"))
        head += (_interval(interval(row) if row else None), _interval(_band(cells, layer)))
        rows.append((*head, *numbers))
    return Table(
        caption=f"{_on(cells)}{label(main)} of each layer, and the readings beside it",
        header=(
            *("layer", "category", "change (%)", "95 % interval (%)", "all layers at once (%)"),
            *columns,
        ),
        rows=tuple(rows),
        sortable=True,
    )


def _number(value: float, column: str) -> Cell:
    if math.isnan(value):
        return Cell("–", -_LAST)
    if math.isinf(value):
        return Cell("not finite", _LAST)
    if column == "perplexity":
        return Cell(f"{value:,.2f}", value)
    return Cell(signed(value), value)


def _verdict(cells: Cells, row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell("not measured", -1)
    name = category(row)
    rank = CATEGORIES.index(name) if name in CATEGORIES else -1
    is_better = bool(cells.looks) and row["layer"] in cells.looks.anti_layers
    words = ["boundary"] * bool(row.get("boundary")) + ["anti-layer"] * is_better
    words += [str(row["reason"])] if row.get("reason") else []
    kind = "better" if is_better else name
    return Cell(", ".join(words), rank, (chip(row, kind, name),))


def _band(cells: Cells, layer: int) -> Sequence[float] | None:
    """A layer's part of the band that holds for all layers, in percent."""
    found = cells.looks and cells.looks.band.get(layer)
    return found.degradation_percent().ends if found else None


def _interval(ends: Sequence[float] | None) -> Cell:
    if ends is None:
        return Cell("–", -_LAST)
    return Cell(f"{signed(ends[0])} to {signed(ends[1])}", ends[0])


def _on(cells: Cells) -> str:
    return f"{cells.text}: " if cells.text else ""


def _figure(panels: Any) -> Any:
    return (panels[0] if isinstance(panels, tuple) else panels).figure
