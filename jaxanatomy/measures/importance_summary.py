"""What the rows of the importance experiment say, in a few figures."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.measures.importance import CATEGORIES
from jaxanatomy.measures.losses import finite, mean_nll
from jaxanatomy.measures.statistics.draws import median_draw, spread_over_draws
from jaxanatomy.measures.statistics.estimates import spearman, spearman_interval
from jaxanatomy.measures.statistics.many_looks import look_at_map, looks_summary
from jaxanatomy.records import Row

MAIN = "neighbour_mean"


def summarise(rows: Iterable[Row], reference: Sequence[float] | None = None) -> dict[str, Any]:
    """The figures that the importance experiment is about.

    Layers with two neighbours are compared; the boundary ones are listed apart.

    Args:
      rows: Rows of one text, from `importance_rows`; any part of the protocol.
      reference: Degradation in percent of every layer to compare with, first to last,
        for example AH Table 1.

    Returns:
      A dict ready for JSON: `text`, `baseline_ppl`, `variants`, `categories`,
      `most_important`, `least_important` and `anti_layers` of the main map, `map` (what it
      says looked at whole, `many_looks.looks_summary`; anti-layers are claimed from its band
      alone), `boundary`, `rank_correlation` with the reference, `first_token` and `controls`.
      Parts whose rows are missing are empty or None.

    Raises:
      InputError: rows of several texts, no baseline, or a reference that is too short.
    """
    rows = list(rows)
    texts = sorted({str(row["text"]) for row in rows})
    baselines = [row for row in rows if row["variant"] == "baseline"]
    if len(texts) != 1 or len(baselines) != 1:
        raise InputError(
            "a summary needs the rows of one text with one baseline; got "
            f"texts {texts} and {len(baselines)} baselines; select the rows of one text"
        )
    baseline = baselines[0]
    main = [row for row in _cells(rows, MAIN) if not row["boundary"]]
    looks = look_at_map(main, baseline)
    by_loss = sorted(main, key=mean_nll, reverse=True)
    return {
        "text": texts[0],
        "baseline_ppl": baseline["ppl"],
        "variants": len(rows),
        "categories": _count_categories(main),
        "most_important": [_layer_and_degradation(row) for row in by_loss[:5]],
        "least_important": [_layer_and_degradation(row) for row in by_loss[:-6:-1]],
        "anti_layers": list(looks.anti_layers) if looks else [],
        "map": looks and looks_summary(looks),
        "boundary": [_layer_and_degradation(row) for row in _cells(rows, MAIN) if row["boundary"]],
        "rank_correlation": _agreement(main, reference),
        "first_token": {name: first_token_shares(rows, baseline, name) for name in (MAIN, "zero")},
        "controls": compare_controls(rows),
    }


def first_token_shares(rows: Iterable[Row], baseline: Row, intervention: str) -> list[Row]:
    """How much of a layer's effect is its effect at the first token.

    Returns:
      For each layer that has both readings: degradation at the first token alone
      (`first`), at the others alone (`others`), and `share`, the first token's part of
      the two increases of the mean NLL (a decrease counts as none; None if neither
      increases).
    """
    rows = list(rows)
    others = {row["layer"]: row for row in _cells(rows, intervention, "others")}
    shares = []
    for first in _cells(rows, intervention, "first"):
        other = others.get(first["layer"])
        if other is None:
            continue
        rises = [max(0.0, mean_nll(row) - mean_nll(baseline)) for row in (first, other)]
        shares.append(
            {
                "layer": first["layer"],
                "first": first["degradation_percent"],
                "others": other["degradation_percent"],
                "share": finite(rises[0] / sum(rises)) if sum(rises) > 0 else None,
            }
        )
    return shares


def compare_controls(rows: Iterable[Row]) -> dict[str, Row]:
    """Each intervention on whole layers beside the neighbour mean.

    A neighbour mean has smaller norms than the original and mixes unaligned neurons. If
    that alone made layers look important, the rescaled and the aligned mean would be
    clearly milder, and the controls would rank the layers otherwise.

    Returns:
      For each intervention, over the inner layers that it shares with the neighbour
      mean: `layers` compared, `median_degradation_percent`, `median_difference` of the
      mean NLL to the neighbour mean (nats per token), `milder` (layers that it harms
      less) and `rank_correlation` with the neighbour mean. What is random is compared by the
      median draw of each layer; `draws` are their number and `median_spread_over_draws` the
      factor from the mildest to the worst draw's perplexity, at the median layer.
    """
    rows = list(rows)
    main = {row["layer"]: row for row in _cells(rows, MAIN) if not row["boundary"]}
    names = dict.fromkeys(row["intervention"] for row in rows if row["variant"] != "baseline")
    controls = {}
    for name in names:
        by_layer: dict[int, list[Row]] = {}
        for row in _cells(rows, name):
            if row["layer"] in main:
                by_layer.setdefault(row["layer"], []).append(row)
        shared = [median_draw(drawn) for drawn in by_layer.values()]
        if not shared or name == MAIN:
            continue
        own = np.array([mean_nll(row) for row in shared])
        mean = np.array([mean_nll(main[row["layer"]]) for row in shared])
        degradations = [_degradation(row) for row in shared]
        known = np.isfinite(own) & np.isfinite(mean)
        differences = own[known] - mean[known]
        controls[name] = {
            "layers": len(shared),
            "median_degradation_percent": finite(np.median(degradations)),
            "median_difference": finite(np.median(differences)) if len(differences) else None,
            "milder": int((own < mean).sum()),
            "rank_correlation": finite(spearman(own, mean)) if len(shared) > 1 else None,
            **_over_draws(list(by_layer.values())),
        }
    return controls


def _over_draws(drawn: Sequence[Sequence[Row]]) -> Row:
    """How much the draws of a random control differ; nothing for one that is not random."""
    if all(row.get("draw") is None for rows in drawn for row in rows):
        return {}
    spread = np.median([spread_over_draws(rows) for rows in drawn])
    return {"draws": max(map(len, drawn)), "median_spread_over_draws": finite(spread)}


def _agreement(main: list[Row], reference: Sequence[float] | None) -> Row | None:
    """Rank correlation of the main map with a list of published degradations."""
    if reference is None or len(main) < 2:
        return None
    last = max(row["layer"] for row in main)
    if len(reference) <= last:
        raise InputError(
            f"the reference must have a value for each layer up to {last}; got {len(reference)}"
        )
    own = [mean_nll(row) for row in main]
    published = [reference[row["layer"]] for row in main]
    found = spearman_interval(own, published)
    return {"layers": len(main), "value": finite(found.value), "ci95": found.ends}


def _cells(rows: Iterable[Row], intervention: str, positions: str = "all") -> list[Row]:
    """The rows of one intervention on whole layers, by layer."""
    chosen = [
        row
        for row in rows
        if row["intervention"] == intervention
        and row["scope"] == "layer"
        and row["positions"] == positions
    ]
    return sorted(chosen, key=lambda row: row["layer"])


def _count_categories(main: list[Row]) -> dict[str, int]:
    counts = Counter(row["category"] for row in main)
    return {category: counts[category] for category in CATEGORIES}


def _layer_and_degradation(row: Row) -> Row:
    return {"layer": row["layer"], "degradation_percent": row["degradation_percent"]}


def _degradation(row: Row) -> float:
    value = row["degradation_percent"]
    return math.inf if value is None else value
