"""The page of surgery: what cuts, repeats, swaps and reversals of layers cost."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.measures.statistics.estimates import BLOCK_TOKENS, MIN_DOCUMENTS
from jaxanatomy.measures.surgery import CUT, baselines, looked_at, operations
from jaxanatomy.ranges import write_ranges
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import CELL, CHANGE, PPL, counted, joined, once, only
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import percent, perplexity

OPERATIONS = {
    CUT: "left out",
    "repeat": "applied twice",
    "swap": "exchanged with the next block",
    "reverse": "reversed",
}
DAMPED = "repeat_damped_"
CURVES = (CUT, "swap", "reverse")  # operations of DG's figure
# Lengths that have a curve: DG's.
LENGTHS = {1: "#0072B2", 2: "#009E73", 3: "#CC79A7", 4: "#E69F00", 8: "#AE2320"}
SIMULTANEOUS = (
    "Intervals are simultaneous: with probability 0.95 all variants of a panel lie inside theirs."
)
EFFECT = v.Column("change (95 %, simultaneous)", "change", percent)
KL = v.Column("KL, nats (95 %, simultaneous)", "kl", ".3f")
LAYERS = v.Column("layers", "layers")


@once
def variants(record: RunRecord) -> list[v.Row]:
    """Every variant with both readings and the panel that it stands in.

    `length` is what an operation is named by: of a swap the layers of one block.
    """
    base = baselines(record.rows)
    several = len(base) > 1
    return [
        {
            **row,
            "panel": ", ".join([_words(op), text] if several else [_words(op)]),
            "operation": _words(op),
            "layers": _layers(row),
            "length": row["size"] // 2 if op == "swap" else row["size"],
            "undecided": not row["told_apart"],
        }
        for (text, op), own in operations(record.rows).items()
        if text in base
        for row in looked_at(own, base[text])
    ]


def maps(record: RunRecord) -> list[v.Row]:
    """The variants of operations that were tried at every length up to some."""
    return [row for own in _panels(record).values() if _has_every_length(own) for row in own]


curves = only(variants, lambda row: row["op"] in CURVES and row["length"] in LENGTHS)


def best(record: RunRecord, is_cut: bool) -> list[v.Row]:
    """The variant of each length that costs least, of a finished run."""
    return [
        {
            **joined(row),
            "panel": panel,
            "operation": _words(op),
            "layers": _layers(row),
            **({"starts": write_ranges(row["may_be_best"])} if is_cut else {}),
        }
        for panel, op, digest in _digests(record)
        if (op == CUT) == is_cut
        for row in digest["best"]
    ]


def counts(record: RunRecord) -> list[v.Row]:
    """By operation how many variants are told apart from the unchanged model."""
    return [
        {**digest, "panel": panel, "operation": _words(op)}
        for panel, op, digest in _digests(record)
    ]


def headline(record: RunRecord) -> str:
    """What the unchanged model scores, on how much text."""
    return " ".join(
        f"Perplexity {perplexity(found['baseline_ppl'])} on {text} ({_extent(found)})."
        for text, found in record.summary.get("texts", {}).items()
    )


def _extent(found: Mapping[str, Any]) -> str:
    """What intervals are over: documents, or blocks of too few of them."""
    documents, units = (
        f"{found[name]} {noun}{'s' * (found[name] > 1)}"
        for name, noun in (("documents", "document"), ("units", "block"))
    )
    if found["documents"] >= MIN_DOCUMENTS:
        return documents
    return f"{documents}; intervals over {units} of {BLOCK_TOKENS} tokens"


def _digests(record: RunRecord) -> list[tuple[str, str, dict]]:
    """Of a finished run the panel, the operation, and what the summary says of it."""
    texts = record.summary.get("texts", {})
    return [
        (text if len(texts) > 1 else "", op, digest)
        for text, found in texts.items()
        for op, digest in found["operations"].items()
    ]


def _panels(record: RunRecord) -> dict[str, list[v.Row]]:
    found: dict[str, list[v.Row]] = {}
    for row in variants(record):
        found.setdefault(row["panel"], []).append(row)
    return found


def _has_every_length(rows: Sequence[v.Row]) -> bool:
    lengths = {row["length"] for row in rows}
    return len(lengths) > 2 and lengths == set(range(min(lengths), max(lengths) + 1))


def _words(op: str) -> str:
    if op.startswith(DAMPED):
        return f"applied twice, the second change × {op.removeprefix(DAMPED)}"
    return OPERATIONS[op]


def _layers(row: v.Row) -> str:
    first, last = row["start"], row["start"] + row["size"] - 1
    return f"L{first}" if first == last else f"L{first}–L{last}"


def _map(name: str, cell: v.Axis, caption: str, dot: str = "") -> v.Heatmap:
    return v.Heatmap(
        name,
        maps,
        columns=2,
        x=v.Axis("start", "first layer"),
        y=v.Axis("length", "layers"),
        cell=cell,
        dot=dot,
        numbers=False,
        size=(4.8, 4.3),
        caption=caption,
    )


def _best(name: str, title: str, is_main: bool) -> v.Table:
    return v.Table(
        name,
        functools.partial(best, is_cut=is_main),
        title,
        cells=(
            *(() if is_main else (v.Column("operation", "operation"),)),
            LAYERS,
            v.Column("number", "size", "d"),
            PPL,
            EFFECT,
            KL,
            v.Column("may be the best: first layers", "starts"),
        ),
        note=f"{SIMULTANEOUS} May be the best: not told apart from the best of its length.",
        printed=is_main,
        folded=not is_main,
    )


CHANGES = _map(
    "surgery",
    CELL,
    "A dot: not told apart from the unchanged model. " + SIMULTANEOUS + " Of a swap the layers "
    "of each block count. A colour means the same percentage in every figure: white no effect, "
    "blue an improvement; crossed out: not finite.",
    dot="undecided",
)
DIVERGENCES = _map(
    "surgery_kl",
    v.Axis("kl", "KL(unchanged || variant), nats a token", "log"),
    "How far predictions move, whether or not the text likes it.",
)
ORDER = v.Curves(
    "order",
    curves,
    facet="panel",
    columns=3,
    x=v.Axis("start", "first layer"),
    y=CHANGE,
    series=v.Palette("length", LENGTHS, {n: f"{n} layer{'s' * (n > 1)}" for n in LENGTHS}),
    levels=(v.Level(0.0, colour=style.MUTED),),
    band="change",
    size=(4.4, 3.4),
    caption=f"{SIMULTANEOUS} Of a swap the layers of each block count.",
)
COUNTS = v.Table(
    "told_apart",
    counts,
    "Variants told apart from the unchanged model by intervals that hold together",
    cells=(
        v.Column("operation", "operation"),
        v.Column("variants", "variants", "d"),
        v.Column("worse", "worse", "d"),
        v.Column("better", "better", "d"),
        v.Column("lower perplexity, told apart or not", "below", "d"),
    ),
    note="With probability 0.95 for each operation on each text by itself, not for all of them.",
    printed=True,
)
BEST_CUTS = _best(
    "best_cuts",
    "Of each length the layers that cost least to leave out",
    True,
)
BEST_OTHERS = _best(
    "best_others",
    "Of each length the change of order that costs least",
    False,
)
EVERYTHING = v.Table(
    "variants",
    variants,
    "All variants",
    cells=(v.Column("operation", "operation"), LAYERS, PPL, EFFECT, KL),
    facet="",
    folded=True,
)

PAGE = Page(
    "Surgery",
    lambda record: counted(variants(record), changes="variant", operations="op", texts="text"),
    Section("What it costs", headline, COUNTS, CHANGES),
    Section("The cheapest cuts", BEST_CUTS, BEST_OTHERS),
    Section("Order", "The sizes of DG's figures.", ORDER),
    Section("How far predictions move", DIVERGENCES),
    Section("Everything", EVERYTHING),
)
