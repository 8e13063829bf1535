"""The page of a grown checkpoint: what copied layers cost before any training."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxanatomy.growth.maps import OPERATORS
from jaxanatomy.growth.variants import NULLS
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.common import INTERVAL, PPL, with_ends
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import Axis, Column, Level, Mark, Palette, Row, Strip, Table
from jaxanatomy.words import percent, perplexity, shortened

CHOSEN, OTHER, NULL = "the map of the folder", "another map", "a draw of a null"


def maps(record: RunRecord) -> list[Row]:
    """The perplexity of each map with its interval, and of each draw of the nulls."""
    bases = {row["text"]: row["ppl"] for row in record.rows if row["operator"] == "none"}
    chosen = record.config.get("operator")
    found = []
    for name in (*OPERATORS, *NULLS):
        for row in record.rows:
            if row["operator"] != name:
                continue
            base = bases.get(row["text"])
            kind = NULL if name in NULLS else CHOSEN if name == chosen else OTHER
            ends = row["ci95"] if base and name not in NULLS else None
            found.append(
                {"text": row["text"], "map": name, "ppl": row["ppl"], "base": base, "kind": kind}
                | with_ends({"ci95": ends and [base * (1 + end / 100) for end in ends]})
            )
    return found


def operators(record: RunRecord) -> list[Row]:
    """Each map against the model as it was, and the chosen one less it."""
    found = []
    for text, each in _texts(record):
        tokens = {"tokens": each["tokens"]}
        found.append({"text": text, "map": "as it was", "ppl": each["baseline_ppl"]} | tokens)
        for name, own in each["operators"].items():
            row = {"text": text, "map": name, "ppl": own["ppl"], **tokens}
            row |= {"change": own["degradation_percent"], "ci95": own["ci95"]}
            less = dict(
                zip(("difference", "less_low", "less_high"), own["difference"], strict=True)
            )
            is_chosen = name == record.config.get("operator")
            found.append(with_ends(row | ({"difference": "the folder"} if is_chosen else less)))
    return found


def nulls(record: RunRecord) -> list[Row]:
    """The draws of each null: their median and range, and how the chosen map compares."""
    found = []
    for text, each in _texts(record):
        for name, own in each["nulls"].items():
            finite = [ppl for ppl in own["ppl"] if ppl is not None]
            if finite:
                ends = {"lowest": min(finite), "highest": max(finite)}
                counts = {key: own[key] for key in ("draws", "better", "worse")}
                middle = float(np.median(finite))
                found.append({"text": text, "null": name, "median": middle, **ends, **counts})
    return found


def folder(record: RunRecord) -> str:
    """What was written, and what reading it back gave."""
    summary = record.summary
    if not summary:
        return ""
    absent = "".join(f" Not measured: {reason}." for reason in summary["absent"].values())
    return (
        f"The folder {summary['folder']} holds {summary['layers_after']} layers, was "
        f"{summary['layers_before']}, in {summary['dtype']}; read back, its perplexity on "
        f"{shortened(summary['text'])} is {perplexity(summary['ppl_after'])}, was "
        f"{perplexity(summary['ppl_before'])}; the largest change of a logit is "
        f"{summary['largest_change_of_a_logit']:.3g}. Layers: "
        f"{', '.join(map(str, summary['sources']))}.{absent}"
    )


def lead(record: RunRecord) -> str:
    """The map of the folder."""
    return f"Grown by {record.config.get('operator')} to {record.config.get('layers')} layers."


def _texts(record: RunRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from (record.summary.get("texts") or {}).items()


PAGE = Page(
    kind="Growth of a trained model",
    lead=lead,
    sections=(
        Section(
            "Perplexity before any training",
            (
                folder,
                "A map inserts copies of layers into a trained model (DG section 3.1); nothing is "
                "trained. insert_zero must lie on the dashed line: its new layers write nothing. "
                "The nulls have as many new layers as the map of the folder: random_layers copies "
                "any layers of the model to their places, random_order the same ones in another "
                "order, and random_place copies blocks after themselves as lidas does, but "
                "anywhere. A map whose choice of layers matters lies below the first null, one in "
                "which their order matters below the second, and one that is right about the "
                "middle below the third.",
            ),
            (
                Strip(
                    name="growth",
                    rows=maps,
                    place=Axis(
                        "map", scale="names", names={name: name for name in (*OPERATORS, *NULLS)}
                    ),
                    measure=Axis("ppl", "perplexity", "log"),
                    marks=(Mark("ppl", "", colour=""),),
                    spans=(INTERVAL,),
                    levels=(Level("base", "the model as it was", style.MUTED, dashed=True),),
                    palette=Palette(
                        "kind", {CHOSEN: style.CROSS, OTHER: style.INK, NULL: style.MUTED}
                    ),
                    share=False,
                    caption=(
                        "Intervals are paired over documents against the model as it was; a draw "
                        "of a null has none."
                    ),
                ),
                Table(
                    name="maps",
                    rows=operators,
                    title="perplexity after each map",
                    cells=(
                        Column("map", "map"),
                        PPL,
                        Column("tokens", "tokens", ","),
                        Column("change (95 %)", "change", percent, "low", "high"),
                        Column(
                            "folder less this, nats per token (95 %)",
                            "difference",
                            "+.3f",
                            "less_low",
                            "less_high",
                        ),
                    ),
                    note="Differences are paired over documents; below 0 the folder's is better.",
                    printed=True,
                ),
                Table(
                    name="nulls",
                    rows=nulls,
                    title="perplexity of the draws of each null",
                    cells=(
                        Column("null", "null"),
                        Column("median", "median", perplexity),
                        Column("lowest", "lowest", perplexity),
                        Column("highest", "highest", perplexity),
                        Column("draws", "draws"),
                        Column("folder better", "better"),
                        Column("folder worse", "worse"),
                    ),
                    note=(
                        "Better or worse than a draw: with the whole 95 % interval of the paired "
                        "difference."
                    ),
                    printed=True,
                ),
            ),
        ),
    ),
)
