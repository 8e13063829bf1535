"""The audit: every claim against the rows of experiments, for each model apart."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy import experiment
from jaxanatomy.claims import figures_ah, figures_dg, figures_lr
from jaxanatomy.claims.core import VERDICTS, Claim
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.claims.quantities import ERROR
from jaxanatomy.provenance import row_hash
from jaxanatomy.records import as_written_now

CLAIMS: tuple[Claim, ...] = (
    *(claim for each in experiment.EXPERIMENTS.values() for claim in each.claims),
    *figures_dg.CLAIMS,
    *figures_ah.CLAIMS,
    *figures_lr.CLAIMS,
)

EXPERIMENTS = tuple(dict.fromkeys(name for claim in CLAIMS for name in claim.needs))


def error_of(claim: Claim) -> float:
    """The error that a claim may make: the claims on one run share 5 %."""
    looks = Counter(name for each in CLAIMS if each.is_measured for name in each.needs)
    return ERROR / max([1, *(looks[name] for name in claim.needs)])


def audit(evidence: Sequence[Evidence], claims: Iterable[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """A row for each claim, and for each model whose runs it reads.

    Returns:
      Rows with `claim`, `source`, `statement`, `paper`, `measured`, `null`, `rule`, `verdict`,
      `reason`, `model` (empty where the claim is about no checkpoint), `text`, `needs` (the
      experiments that it reads) and `about` ("model" or "figures": whether it is measured, or
      arithmetic alone).
    """
    rows = []
    for claim in claims:
        own = [each for each in evidence if claim.needs and each.records.keys() >= {*claim.needs}]
        own = own or [Evidence({})]
        names = _names(own, claim.needs)
        rows += [_row(claim, each, name) for each, name in zip(own, names, strict=True)]
    return rows


def _names(evidence: Sequence[Evidence], experiments: Sequence[str]) -> list[str]:
    """The ids of the models; of those that share an id, or have none, with the runs' folders."""
    models = [str(each.model.get("model") or "") for each in evidence]
    names = []
    for each, model in zip(evidence, models, strict=True):
        folders = [str(run.folder) for run in each.runs if run.experiment in experiments]
        among = [f"in {', '.join(folders)}"] if models.count(model) > 1 else []
        names.append(" ".join(filter(None, [model, *among])))
    return names


def _row(claim: Claim, evidence: Evidence, model: str) -> dict[str, Any]:
    error = error_of(claim)
    records = {name: evidence.records.get(name) for name in claim.needs}
    with as_written_now(filter(None, records.values())):
        found = claim.finding(evidence, error)
    words = f" All intervals: error {error:.2g}, {ERROR:.0%} shared by the claims on one run."
    rule = claim.rule + (words if claim.is_measured else "")
    open_ = [name for name, record in records.items() if record and not record.summary]
    note = f"; the {' and '.join(open_)} run is not finished" if open_ else ""
    hashes = {
        name: record and [row["hash"] for row in record.rows] for name, record in records.items()
    }
    return {
        "hash": row_hash(claim=claim.id, rule=rule, model=model, evidence=hashes),
        "claim": claim.id,
        "source": claim.source,
        "statement": claim.statement,
        "paper": claim.paper,
        "measured": found.measured,
        "null": found.null,
        "rule": rule,
        "verdict": found.verdict,
        "reason": found.reason + note,
        "model": model,
        "text": found.text,
        "needs": list(claim.needs),
        "about": "model" if claim.is_measured else "figures",
    }


def summarise(evidence: Sequence[Evidence], rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of verdicts, apart for claims that are measured and arithmetic, and the runs."""
    counts = {"model": Counter(), "figures": Counter()}
    for row in rows:
        counts[row["about"]][row["verdict"]] += 1
    return {
        "verdicts": {
            name: {verdict: count[verdict] for verdict in VERDICTS}
            for name, count in counts.items()
        },
        "papers_model": any(each.is_papers_model for each in evidence),
        "runs": [
            {
                "experiment": run.experiment,
                "model": run.provenance.get("model"),
                "folder": str(run.folder),
                "rows": len(run.rows),
                "finished": bool(run.summary),
                "code_version": run.provenance.get("code_version"),
            }
            for each in evidence
            for run in each.runs
        ],
    }
