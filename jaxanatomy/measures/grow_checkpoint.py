"""What growing a trained model costs before any training: summary of the rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.growth.maps import OPERATORS
from jaxanatomy.growth.variants import NULLS
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import paired_difference
from jaxanatomy.records import Row

_FIGURES = ("ppl", "degradation_percent", "ci95", "reason")


def summarise(rows: Sequence[Mapping[str, Any]], operator: str) -> dict[str, Any]:
    """The figures that the experiment is about, for each text.

    Args:
      rows: Of a run: the ungrown model, the operators, the draws of the nulls.
      operator: The one whose nulls were drawn.

    Returns:
      By text: `baseline_ppl`; `operators`, for each its perplexity, its degradation with the
      interval, and `difference` (low, high) in nats per token by which `operator` loses more;
      `nulls`, for each the perplexities of its draws, and of how many draws `operator` is
      `better` and `worse` with the whole 95 % interval of the paired difference.
    """
    found = {}
    for text in dict.fromkeys(row["text"] for row in rows):
        own = [row for row in rows if row["text"] == text]
        by_name = {row["operator"]: row for row in own if row["draw"] is None}
        chosen = by_name[operator]

        def against(row: Row, chosen: Row = chosen) -> list[float | None]:
            found = paired_difference(chosen, row)
            return [finite(each) for each in (found.value, found.low, found.high)]

        operators = {
            name: {key: by_name[name].get(key) for key in _FIGURES}
            | {"difference": against(by_name[name])}
            for name in OPERATORS
            if name in by_name
        }
        nulls = {}
        for name in NULLS:
            drawn = sorted((r for r in own if r["operator"] == name), key=lambda r: r["draw"])
            ends = [against(row) for row in drawn]
            nulls[name] = {
                "draws": len(drawn),
                "ppl": [row["ppl"] for row in drawn],
                "better": sum(high is not None and high < 0 for _, _, high in ends),
                "worse": sum(low is not None and low > 0 for _, low, _ in ends),
            }
        found[text] = {
            "baseline_ppl": by_name["none"]["ppl"],
            "tokens": chosen["tokens"],
            "operators": operators,
            "nulls": nulls,
        }
    return found
