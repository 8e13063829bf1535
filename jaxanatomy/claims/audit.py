"""The audit: every claim against the rows of finished experiments of one model."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxanatomy.claims import (
    contradictions,
    depth_growth,
    developmental,
    growth_costs,
    importance,
    manipulation,
    recovery,
    weights,
)
from jaxanatomy.claims.core import VERDICTS, Claim, Evidence, weights_of
from jaxanatomy.claims.quantities import ERROR
from jaxanatomy.errors import InputError
from jaxanatomy.provenance import row_hash
from jaxanatomy.records import RunRecord, read_run

CLAIMS: tuple[Claim, ...] = (
    *importance.CLAIMS,
    *weights.CLAIMS,
    *manipulation.CLAIMS,
    *recovery.CLAIMS,
    *developmental.CLAIMS,
    *depth_growth.CLAIMS,
    *growth_costs.CLAIMS,
    *contradictions.CLAIMS,
)

EXPERIMENTS = tuple(dict.fromkeys(name for claim in CLAIMS for name in claim.needs))


def error_of(claim: Claim) -> float:
    """The error that a claim may make: the claims on one run share 5 %."""
    looks = Counter(name for each in CLAIMS if each.is_measured for name in each.needs)
    return ERROR / max([1, *(looks[name] for name in claim.needs)])


def gather(folders: Iterable[str | Path]) -> Evidence:
    """Reads the runs of one model.

    Args:
      folders: Of runs of different experiments, finished or not.

    Raises:
      InputError: A folder has no run or no rows that claims are about, two are of one
        experiment, or the runs are of different weights or of different texts of one name.
    """
    records: dict[str, RunRecord] = {}
    for folder in folders:
        try:
            record = read_run(folder)
        except InputError as error:
            raise InputError(
                f"{error}; name the runs that you have as --config.runs=DIR,DIR"
            ) from None
        name = record.experiment
        if name not in EXPERIMENTS or not record.rows:
            raise InputError(
                f"expected a run of {', '.join(EXPERIMENTS)} with rows; {folder} is one of "
                f"{name or 'no experiment'} with {len(record.rows)} rows; leave it out"
            )
        if name in records:
            raise InputError(
                f"expected one run of each experiment; {records[name].folder} and {folder} are "
                f"both of {name}; name one of them"
            )
        records[name] = record
    if not records:
        raise InputError("runs must name at least one folder of a run; got none")
    _require_one_model(records)
    _require_one_text(records)
    return Evidence(records)


def _require_one_model(records: Mapping[str, RunRecord]) -> None:
    """Runs that train their own models from scratch go with those of any checkpoint."""
    first, *others = [each for each in records.values() if weights_of(each.provenance)] or [None]
    for other in others:
        own, its = weights_of(first.provenance), weights_of(other.provenance)
        if own != its:
            raise InputError(
                f"expected runs of one model; {first.folder} is of {_model(first)}, {other.folder} "
                f"of {_model(other)} ({own!s:.8} and {its!s:.8}); audit each model on its own"
            )


def _require_one_text(records: Mapping[str, RunRecord]) -> None:
    """A text of one name must be the same text in all runs."""
    seen: dict[str, tuple[Any, RunRecord]] = {}
    for record in records.values():
        texts = record.provenance.get("data_sha256")
        for name, sha256 in texts.items() if isinstance(texts, Mapping) else ():
            own, first = seen.setdefault(name, (sha256, record))
            if sha256 != own:
                raise InputError(
                    f"expected runs on one text {name!r}; {first.folder} and {record.folder} have "
                    f"different ones of this name ({own!s:.8} and {sha256!s:.8}); measure one of "
                    "them again, or leave it out"
                )


def _model(record: RunRecord) -> str:
    return str(record.provenance.get("model") or "an unknown model")


def audit(evidence: Evidence, claims: Iterable[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """A row for each claim.

    Returns:
      Rows with `claim`, `source`, `statement`, `paper`, `measured`, `null`, `rule`, `verdict`,
      `reason`, `model`, `text`, `needs` (the experiments that it reads) and `about` ("model" or
      "figures": whether it is measured, or arithmetic alone).
    """
    records = evidence.records.values()
    models = sorted({_model(record) for record in records if weights_of(record.provenance)})
    hashes = {
        name: [row["hash"] for row in record.rows] for name, record in evidence.records.items()
    }
    rows = []
    for claim in claims:
        error = error_of(claim)
        found = claim.finding(evidence, error)
        needs = claim.needs
        words = f" All intervals: error {error:.2g}, {ERROR:.0%} shared by the claims on one run."
        rule = claim.rule + (words if claim.is_measured else "")
        open_ = [name for name in needs if name in evidence.records]
        open_ = [name for name in open_ if not evidence.records[name].summary]
        note = f"; the {' and '.join(open_)} run is not finished" if open_ else ""
        rows.append(
            {
                "hash": row_hash(
                    claim=claim.id, rule=rule, evidence={name: hashes.get(name) for name in needs}
                ),
                "claim": claim.id,
                "source": claim.source,
                "statement": claim.statement,
                "paper": claim.paper,
                "measured": found.measured,
                "null": found.null,
                "rule": rule,
                "verdict": found.verdict,
                "reason": found.reason + note,
                "model": ", ".join(models),
                "text": found.text,
                "needs": list(needs),
                "about": "model" if claim.is_measured else "figures",
            }
        )
    return rows


def summarise(evidence: Evidence, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of verdicts, apart for claims that are measured and arithmetic, and the runs."""
    counts = {"model": Counter(), "figures": Counter()}
    for row in rows:
        counts[row["about"]][row["verdict"]] += 1
    return {
        "verdicts": {
            name: {verdict: count[verdict] for verdict in VERDICTS}
            for name, count in counts.items()
        },
        "papers_model": evidence.is_papers_model,
        "runs": {
            name: {
                "folder": str(record.folder),
                "rows": len(record.rows),
                "finished": bool(record.summary),
                "code_version": record.provenance.get("code_version"),
            }
            for name, record in evidence.records.items()
        },
    }
