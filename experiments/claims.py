"""Claims: which claims of the papers hold on a checkpoint, each decided by a written rule.

Reads the rows of finished runs and measures nothing. Every claim is shown with the paper's
figure, ours, its null or control, and a rule with its threshold; the verdict is "holds",
"does not hold", "cannot tell" or "not measured". Some claims are arithmetic on the papers' figures.

    python -m experiments.claims --config=configs/claims.py --workdir=runs/claims

A claim whose experiment is not among the runs is listed as not measured. Each model is audited
separately; several runs of one experiment on one model are read together. A second audit in the
same folder replaces the first, even if the runs or the code have changed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.claims import audit as claims
from jaxanatomy.claims.evidence import gather, weights_of
from jaxanatomy.errors import InputError
from jaxanatomy.records import is_run_config, read_config


def run(config: ConfigDict, workdir: Path) -> None:
    """Tests every claim; the rows are written anew each time, from the runs as they are."""
    evidence = gather(config.runs, claims.EXPERIMENTS)
    made = {
        "config": config.to_dict(),
        "provenance": runs.provenance("claims", **_models([each.model for each in evidence])),
    }
    rows = claims.audit(evidence)
    there = _earlier(workdir, made) or made
    with runs.Run.open(workdir, there["config"], there["provenance"]) as results:
        # Not appended: when a run has got further, its claims replace the older ones.
        results.replace(made["config"], made["provenance"], rows)
        report.conclude(results, claims.summarise(evidence, rows))


def _models(made: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What a record of provenance says of the models: of several their ids and hashes."""
    fields = ("model", "weights_sha256", "architecture")
    found = [{name: one[name] for name in fields if name in one} for one in made if one]
    if len(found) <= 1:
        return found[0] if found else {}
    names = dict.fromkeys(str(one["model"]) for one in found)
    hashes = dict.fromkeys(one.get("weights_sha256") for one in found)
    return {"model": ", ".join(names), "weights_sha256": [*hashes]}


def _earlier(workdir: Path, made: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier audit of this model in the folder recorded; None if there is none.

    An audit measures nothing, so it may replace one of other runs or by other code; what is
    no audit stays, for `Run.open` refuses the folder.
    """
    path = Path(workdir) / "config.json"
    if not path.exists() or not is_run_config(path):
        return None
    there = read_config(Path(workdir))
    if there["provenance"].get("experiment") != "claims":
        return None
    old, new = (weights_of(each["provenance"]) for each in (there, made))
    if old and new and old != new:
        raise InputError(
            f"expected an audit of one model in {workdir}; the one that is there is of "
            f"{there['provenance'].get('model')}, this one of {made['provenance'].get('model')} "
            f"({old!s:.8} and {new!s:.8}); choose another workdir"
        )
    return there


def dry_run(config: ConfigDict) -> str:
    """The runs that were found, and how many claims they can decide."""
    evidence = gather(config.runs, claims.EXPERIMENTS)
    lines = [
        f"{run.experiment}: {run.folder}, {len(run.rows):,} rows"
        + ("" if run.summary else ", not finished")
        for each in evidence
        for run in each.runs
    ]
    there = {name for each in evidence for name in each.records}
    testable = [claim for claim in claims.CLAIMS if there.issuperset(claim.needs)]
    return "\n".join([*lines, f"claims with their runs: {len(testable)} of {len(claims.CLAIMS)}"])


def describe() -> str:
    """Every claim, by the experiment that it needs, a line each."""
    sections: dict[str, dict[str, str]] = {}
    for claim in claims.CLAIMS:
        title = " and ".join(claim.needs) or "the papers' own figures"
        sections.setdefault(title, {})[claim.id] = claim.statement
    return cli.format_sections(sections)


if __name__ == "__main__":
    cli.run_experiment("claims", run)
