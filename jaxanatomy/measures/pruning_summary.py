"""What a run of pruning comes to: which proxies may be trusted, and what the plan costs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.proxies import PROXIES
from jaxanatomy.measures.proxy_audit import ERROR, Agreement, Quantity, agreements, weakest
from jaxanatomy.measures.pruning import NONE, PLAN, RANDOM, REMOVAL
from jaxanatomy.measures.statistics.estimates import paired_difference
from jaxanatomy.measures.statistics.many_looks import differences
from jaxanatomy.records import Row

DAMAGES = {"nll": "unit_nll", "kl": "unit_kl"}
_OF_PLAN = ("way", "size", "layers", "variant", "bytes_saved", "ppl")
_OF_PLAN += ("degradation_percent", "ci95", "kl", "kl_ci95")


def summarise(rows: Sequence[Row], selection: str, judgement: str) -> dict[str, Any]:
    """The figures that the experiment is about.

    Args:
      rows: Of a whole run.
      selection: The text that chose.
      judgement: The one that chose nothing.

    Returns:
      `selection` and `judgement` with `text`, `ppl` (unchanged), `tokens`, `units` (documents, or
      blocks where they are few); `audit`, `plan`, and `seconds`, the rows of that kind.
    """
    chose = [row for row in rows if row["text"] == selection]
    plans = [row for row in rows if row["kind"] == PLAN]
    (before,) = [row for row in chose if row["kind"] == BASELINE]
    (unchanged,) = [row for row in plans if row["way"] == NONE]
    return {
        "selection": _of_text(before),
        "judgement": _of_text(unchanged),
        "audit": audit(chose),
        "plan": plan(plans),
        "seconds": [
            {name: value for name, value in row.items() if name not in ("hash", "model", "text")}
            for row in sorted(_last_timed(rows), key=lambda row: row["size"])
        ],
    }


def _last_timed(rows: Sequence[Row]) -> list[Row]:
    """The rows of kind "seconds", those of the last number of rounds where a run went on."""
    timed = [row for row in rows if row["kind"] == "seconds"]
    return [row for row in timed if row["rounds"] == timed[-1]["rounds"]]


def audit(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How far each proxy may be trusted, by length of the cuts.

    Args:
      rows: Of one text, those of the unchanged model, of removals and of proxies.

    Returns:
      By `proxy`, `size`, `damage` (nll, kl) and `ends` (whether cuts with the first or the last
      layer are among them) `spearman`, `ci` (over documents) and `p`; `verdict`, the weakest of
      the four looks at a proxy and size; see `proxy_audit`. Of a proxy that is fitted `error`, its
      own standard error (rms over the cuts) as a share of the deviation of its values.
    """
    (baseline,) = [row for row in rows if row["kind"] == BASELINE]
    found = []
    for size in sorted({row["size"] for row in rows if row["kind"] == REMOVAL}):
        own = [row for row in rows if row["size"] == size]
        cuts = sorted((row for row in own if row["kind"] == REMOVAL), key=lambda row: row["layers"])
        looks = _looks(cuts, baseline, {name: _quantity(own, name) for name in PROXIES})
        for name in PROXIES:
            verdict = weakest([found_there[name].verdict for found_there in looks.values()])
            error = _own_error([row for row in own if row.get("proxy") == name])
            found += [
                {
                    "proxy": name,
                    "size": size,
                    "damage": damage,
                    "ends": ends,
                    "spearman": finite(found_there[name].correlation.value),
                    "ci": found_there[name].correlation.ends,
                    "p": finite(found_there[name].p),
                    "verdict": verdict,
                    **error,
                }
                for (damage, ends), found_there in looks.items()
            ]
    return found


def _own_error(rows: Sequence[Row]) -> dict[str, float | None]:
    """What the fit of a proxy alone makes of its order: about 1, and that is noise."""
    if "error" not in rows[0]:
        return {}
    value_V, error_V = (np.array([row[f] for row in rows], float) for f in ("value", "error"))
    spread = value_V.std()
    return {"error": finite(np.sqrt((error_V**2).mean()) / spread) if spread else None}


def _looks(
    cuts: Sequence[Row], baseline: Row, proxies: dict[str, Quantity]
) -> dict[tuple[str, bool], dict[str, Agreement]]:
    """The agreements of all proxies by damage, with and without the ends of the model."""
    last, size = cuts[-1]["layers"][-1], cuts[-1]["size"]
    is_inner_V = np.array([not {0, last} & {*row["layers"]} for row in cuts])
    found = {}
    for damage, field in DAMAGES.items():
        cost = Quantity.of_sums(*differences(cuts, baseline, field))
        for ends, kept_V in ((True, np.ones(len(cuts), bool)), (False, is_inner_V)):
            kept = {name: each.at(kept_V) for name, each in proxies.items()}
            apart = (last + 1 if ends else last - 1) // size
            found[damage, ends] = agreements(cost.at(kept_V), kept, apart)
    return found


def _quantity(rows: Sequence[Row], proxy: str) -> Quantity:
    """A proxy of all cuts of one length, by their first layer."""
    own = sorted((row for row in rows if row.get("proxy") == proxy), key=lambda row: row["start"])
    if "unit_value" in own[0]:
        sums_VU = np.array([row["unit_value"] for row in own], np.float64)
        return Quantity.of_sums(sums_VU, own[0]["unit_tokens"])
    return Quantity(np.array([row["value"] for row in own], np.float64))


def plan(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What each choice costs on the text that chose nothing.

    Args:
      rows: Of kind "plan".

    Returns:
      The rows by `way` and `size`, as far as `_OF_PLAN` names their fields, with
      `random_beaten`: how many of the random choices of as many layers lose more, each by an
      interval over documents at a level that pays for all of them and for the number of ways.
    """
    others = (row for row in rows if row["way"] != NONE)
    chosen = sorted(others, key=lambda row: (row["way"], row["size"]))
    return [
        {**{name: row[name] for name in _OF_PLAN}, **_beside_random(row, chosen)} for row in chosen
    ]


def _beside_random(row: Row, chosen: Sequence[Row]) -> dict[str, int]:
    random = [each for each in chosen if each["way"].startswith(RANDOM)]
    drawn = [each for each in random if each["size"] == row["size"]]
    if not drawn or row["way"].startswith(RANDOM):
        return {}
    ways = len({each["way"] for each in chosen} - {each["way"] for each in random})
    level = 1 - ERROR / (ways * len(drawn))
    beaten = [paired_difference(each, row, level).low > 0 for each in drawn]
    return {"random_beaten": sum(beaten), "random_orders": len(drawn)}


def _of_text(row: Row) -> dict[str, Any]:
    units = {"units": len(row["unit_tokens"])}
    return {"text": row["text"], "ppl": row["ppl"], "tokens": row["tokens"]} | units
