"""The page of a grown checkpoint: what copied layers cost before any training."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxanatomy.growth.maps import OPERATORS
from jaxanatomy.growth.variants import NULLS
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import EFFECT, PPL, estimate, joined, perplexity_of
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import perplexity, shortened

CHOSEN, OTHER, NULL = "the map of the folder", "another map", "a draw of a null"


def maps(record: RunRecord) -> list[v.Row]:
    """The perplexity of each map with its interval, and of each draw of the nulls."""
    bases = {row["text"]: row["ppl"] for row in record.rows if row["operator"] == "none"}
    order = (*OPERATORS, *NULLS)
    found = []
    for row in sorted(
        (row for row in record.rows if row["operator"] in order),
        key=lambda row: order.index(row["operator"]),
    ):
        name, base = row["operator"], bases.get(row["text"])
        kind = CHOSEN if name == record.config.get("operator") else OTHER
        own = {"panel": row["text"], "map": name, "base": base}
        if name in NULLS:
            found.append(own | {"ppl": row["ppl"], "kind": NULL})
        else:
            found.append(own | {"ppl": perplexity_of(row, base), "kind": kind})
    return found


def operators(record: RunRecord) -> list[v.Row]:
    """Each map against the model as it was, and the chosen one less it."""
    found: list[v.Row] = []
    for text, each in _texts(record):
        shared = {"panel": text, "tokens": each["tokens"]}
        found.append({"map": "as it was", "ppl": each["baseline_ppl"], **shared})
        for name, own in each["operators"].items():
            value, *ends = own["difference"]
            is_chosen = name == record.config.get("operator")
            row = {"map": name, **joined(own), **shared}
            row["difference"] = "the folder" if is_chosen else estimate(value, ends)
            found.append(row)
    return found


def nulls(record: RunRecord) -> list[v.Row]:
    """The draws of each null: their median and range, and how the chosen map compares."""
    found = []
    for text, each in _texts(record):
        for name, own in each["nulls"].items():
            finite = [ppl for ppl in own["ppl"] if ppl is not None]
            if finite:
                ends = {"lowest": min(finite), "highest": max(finite)}
                counts = {key: own[key] for key in ("draws", "better", "worse")}
                middle = float(np.median(finite))
                found.append({"panel": text, "null": name, "median": middle, **ends, **counts})
    return found


def _texts(record: RunRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from (record.summary.get("texts") or {}).items()


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
    return f"Grown by {record.config.get('operator')} to {record.config.get('num_layers')} layers."


GROWTH = v.Strip(
    "growth",
    maps,
    place=v.Axis("map", scale="names"),
    measure=v.Axis("ppl", "perplexity", "log"),
    levels=(v.Level("base", "the model as it was", style.MUTED, dashed=True),),
    palette=v.Palette("kind", {CHOSEN: style.CROSS, OTHER: style.INK, NULL: style.MUTED}),
    share=False,
    caption=(
        "Intervals, 95 %, are paired over documents against the model as it was; a draw of a null "
        "has none."
    ),
)
MAPS = v.Table(
    "maps",
    operators,
    "perplexity after each map",
    cells=(
        v.Column("map", "map"),
        PPL,
        v.Column("tokens", "tokens", ","),
        EFFECT,
        v.Column("folder less this, nats per token (95 %)", "difference", "+.3f"),
    ),
    note="Differences are paired over documents; below 0 the folder's is better.",
    printed=True,
)
DRAWS = v.Table(
    "nulls",
    nulls,
    "perplexity of the draws of each null",
    cells=(
        v.Column("null", "null"),
        v.Column("median", "median", perplexity),
        v.Column("lowest", "lowest", perplexity),
        v.Column("highest", "highest", perplexity),
        v.Column("draws", "draws"),
        v.Column("folder better", "better"),
        v.Column("folder worse", "worse"),
    ),
    note="Better or worse than a draw: with the whole 95 % interval of the paired difference.",
    printed=True,
)

PAGE = Page(
    "Growth of a trained model",
    lead,
    Section(
        "Perplexity before any training",
        folder,
        "A map inserts copies of layers into a trained model (DG section 3.1); nothing is trained. "
        "insert_zero must lie on the dashed line: its new layers write nothing. The nulls have as "
        "many new layers as the map of the folder: random_layers copies any layers of the model to "
        "their places, random_order the same ones in another order, and random_place copies blocks "
        "after themselves as lidas does, but anywhere. A map whose choice of layers matters lies "
        "below the first null, one in which their order matters below the second, and one that is "
        "right about the middle below the third.",
        GROWTH,
        MAPS,
        DRAWS,
    ),
)
