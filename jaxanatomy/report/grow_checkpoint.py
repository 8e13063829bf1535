"""The report of a grown checkpoint: what copied layers cost before any training."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.growth.maps import OPERATORS
from jaxanatomy.growth.variants import NULLS
from jaxanatomy.report import style
from jaxanatomy.report.cells import shortened
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table, file_name

Row = Mapping[str, Any]
_METHOD = (
    "A map inserts copies of layers into a trained model (DG section 3.1); nothing is trained. "
    "The dashed line is the model as it was. insert_zero must lie on it: its new layers write "
    "nothing. The nulls have as many new layers as the chosen map: random_layers copies any "
    "layers of the model to their places, random_order the same ones in another order, and "
    "random_place copies blocks after themselves as lidas does, but anywhere. A map whose choice "
    "of layers matters lies below the first null, one in which their order matters below the "
    "second, and one that is right about the middle below the third."
)
_CAPTION = (
    "Red: the map of the folder. Lines: 95 % intervals, paired over documents "
    "against the model as it was. Grey: single draws of a null. A cross: not finite."
)


def grow_checkpoint_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of this experiment; None if it is of another."""
    rows = [row for row in record.rows if {"operator", "draw"} <= row.keys()]
    if not rows:
        return None
    summary = record.summary or {}
    chosen = str(record.config.get("operator", ""))
    sections = []
    for text in dict.fromkeys(row["text"] for row in rows):
        own = [row for row in rows if row["text"] == text]
        picture = Picture(
            file_name("growth", text),
            growth_figure(own, chosen),
            f"Perplexity on {text} after each growth map, beside the model as it was and nulls.",
            _CAPTION,
        )
        found = (summary.get("texts") or {}).get(text)
        content = (picture, _table(text, found, chosen)) if found else (picture,)
        sections.append(Section(f"Perplexity on {shortened(text)}", (), content))
    sections[0] = Section(sections[0].title, (_METHOD, *_folder(summary)), sections[0].content)
    title = str(record.provenance.get("model") or "this model")
    lead = f"{chosen} to {record.config.get('layers')} layers; {len(rows)} rows."
    return Report("Growth of a trained model", title, lead, tuple(sections))


def growth_figure(rows: Sequence[Row], chosen: str):
    """Perplexity of each map and of each draw of the nulls, on one text."""
    names = [name for name in (*OPERATORS, *NULLS) if any(row["operator"] == name for row in rows)]
    (base,) = [row["ppl"] for row in rows if row["operator"] == "none"]
    with style.styled():
        (ax,) = style.new_figure(6.4, 0.9 + 0.32 * len(names))
        finite = [row["ppl"] for row in rows if row["ppl"] is not None]
        for at, name in enumerate(names):
            own = [row for row in rows if row["operator"] == name]
            for row in own:
                if row["ppl"] is None:
                    ax.plot(max(finite), at, "x", color=style.CROSS)
                    continue
                colour = style.CROSS if name == chosen else style.INK
                if row["draw"] is not None:
                    colour = style.MUTED
                elif row["ci95"] and base:
                    ends = [base * (1 + end / 100) for end in row["ci95"]]
                    ax.plot(ends, [at, at], color=colour, linewidth=1.2)
                ax.plot(row["ppl"], at, "o", color=colour, markersize=4.5, alpha=0.85)
        if base:
            ax.axvline(base, color=style.MUTED, linewidth=0.9, linestyle="--")
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: style.compact(value))
        ax.xaxis.set_minor_formatter(lambda value, _: "")
        ax.set_xlabel("perplexity, log scale")
        ax.grid(axis="x", color=style.FAINT, linewidth=0.6)
        ax.tick_params(axis="y", length=0)
    return ax.figure


def _folder(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What was written, in words."""
    if not summary:
        return ()
    words = (
        f"The folder {summary['folder']} holds {summary['layers_after']} layers, was "
        f"{summary['layers_before']}, in {summary['dtype']}; read back, its perplexity on "
        f"{shortened(summary['text'])} is {_number(summary['ppl_after'])}, was "
        f"{_number(summary['ppl_before'])}; the largest change of a logit is "
        f"{summary['largest_change_of_a_logit']:.3g}. Layers: "
        f"{', '.join(map(str, summary['sources']))}."
    )
    absent = (f"Not measured: {reason}." for reason in summary["absent"].values())
    return (words, *absent)


def _table(text: str, found: Mapping[str, Any], chosen: str) -> Table:
    """Operators against the model as it was and the chosen one; nulls by counts."""
    rows = [(Cell("as it was"), Cell(_number(found["baseline_ppl"])), Cell(), Cell())]
    for name, each in found["operators"].items():
        difference = "this one" if name == chosen else _interval(each["difference"])
        percent = each["degradation_percent"]
        change = "none" if percent is None else f"{percent:+,.1f} %".replace("-", "−")
        cells = (Cell(_number(each["ppl"]), each["ppl"]), Cell(change, percent), Cell(difference))
        rows.append((Cell(name), *cells))
    for name, each in found["nulls"].items():
        known = [ppl for ppl in each["ppl"] if ppl is not None]
        if known:
            ends = f"{_number(min(known))} to {_number(max(known))}"
            words = f"better than {each['better']}, worse than {each['worse']} of {each['draws']}"
            rows.append((Cell(name), Cell(ends), Cell(), Cell(words)))
    return Table(
        f"{shortened(text)}: perplexity over {found['tokens']:,} tokens",
        ("map", "perplexity", "change", f"{chosen} less this, nats per token (95 %)"),
        tuple(rows),
        note="Below 0 the chosen map is the better one. Better or worse than a draw: with the "
        "whole interval of the paired difference.",
    )


def _interval(found: Sequence[float | None]) -> str:
    if None in found:
        return "none"
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*found).replace("-", "−")


def _number(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2e}"
