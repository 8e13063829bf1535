"""The runs that claims are tested against: of each model apart, of one experiment together."""

import dataclasses
import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxanatomy.claims.rows import Row, plainly
from jaxanatomy.errors import InputError
from jaxanatomy.experiment import experiment_of
from jaxanatomy.papers import table1_of
from jaxanatomy.records import RunRecord, read_run

# Figures in which such rows must agree, to rounding.
_LOSSES = ("nll", "loss", "eval_nll", "final_nll")
_FIGURES = (*_LOSSES, "value", "null_value", "r2", "null_r2", "argmax_changed", "petaflops")
ROUNDING = {"rel_tol": 1e-5, "abs_tol": 1e-6}
# Fields of the configs of what trains that choose what to train and to read, or say how to run;
# the others decide what becomes of it.
_CHOSEN = (
    "arms",
    "layers",
    "controls",
    "seeds",
    "num_seeds",
    "num_noise_seeds",
    "tuning_seeds",
)
_READ = (
    "importance",
    "thresholds",
    "save_models",
    "tensorboard",
    "train",
    "distributed",
    "roles_every",
)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The runs of one model, or of models that are trained alike from scratch.

    Attributes:
      records: By the experiment's name; several runs of one as one.
      runs: As they were read.
    """

    records: Mapping[str, RunRecord]
    runs: Sequence[RunRecord] = ()

    @functools.cached_property
    def model(self) -> Mapping[str, Any]:
        """The provenance of a run of the model; empty if all train their own from scratch."""
        made = (record.provenance for record in self.records.values())
        return next(filter(weights_of, made), {})

    @functools.cached_property
    def is_papers_model(self) -> bool:
        """Whether the runs are of SmolLM2-135M's architecture with trained weights."""
        return any(
            table1_of({"config": record.config, "provenance": record.provenance}) is not None
            for record in self.records.values()
        )


def weights_of(provenance: Mapping[str, Any]) -> Any:
    """What tells models apart; None for a run that trains its own from scratch."""
    return provenance.get("weights_sha256") or provenance.get("model")


def gather(folders: Iterable[str | Path], experiments: Collection[str]) -> list[Evidence]:
    """Reads runs and sorts them by what they are of.

    Runs of one model go together, and those of one experiment among them are read as one run. What
    is trained from scratch goes together if it is trained alike; so does recovery.

    Args:
      folders: Of runs, finished or not.
      experiments: Those that claims are about.

    Raises:
      InputError: A folder has no run or no rows that claims are about, or runs measured different
        texts of one name, or different figures for one thing.
    """
    runs = [_read(folder, experiments) for folder in dict.fromkeys(folders)]
    if not runs:
        raise InputError("runs must name at least one folder of a run; got none")
    _require_one_text(runs)
    groups: list[list[RunRecord]] = []
    for run in runs:
        place = next((group for group in groups if _goes_with(run, group)), None)
        if place is None:
            groups.append(place := [])
        place.append(run)
    return [Evidence(_by_experiment(group), group) for group in groups]


def _by_experiment(runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
    names = dict.fromkeys(run.experiment for run in runs)
    return {name: joined([run for run in runs if run.experiment == name]) for name in names}


def _goes_with(run: RunRecord, group: Sequence[RunRecord]) -> bool:
    """Whether a run is of the model of others, and trained as those of its experiment."""
    if weights_of(run.provenance) != weights_of(group[0].provenance):
        return False
    if not experiment_of(run).trains:
        return True
    others = (other for other in group if other.experiment == run.experiment)
    return all(_training(run) == _training(other) for other in others)


def _training(run: RunRecord) -> tuple[Any, ...]:
    """What decides how a run's models come out, and whether it warns of what it trained on."""
    config = {name: value for name, value in run.config.items() if name not in (*_CHOSEN, *_READ)}
    made = run.provenance.get("architecture"), run.provenance.get("tokenizer_sha256")
    return config, made, bool(run.summary.get("warnings"))


def _read(folder: str | Path, experiments: Collection[str]) -> RunRecord:
    try:
        run = read_run(folder)
    except InputError as error:
        raise InputError(f"{error}; name the runs that you have as --config.runs=DIR,DIR") from None
    if run.experiment not in experiments or not run.rows:
        raise InputError(
            f"expected a run of {', '.join(experiments)} with rows; {folder} is one of "
            f"{run.experiment or 'no experiment'} with {len(run.rows)} rows; leave it out"
        )
    return run


def _require_one_text(runs: Iterable[RunRecord]) -> None:
    """A text of one name must be the same text in all runs."""
    seen: dict[str, tuple[Any, RunRecord]] = {}
    for run in runs:
        texts = run.provenance.get("data_sha256")
        for name, sha256 in texts.items() if isinstance(texts, Mapping) else ():
            own, first = seen.setdefault(name, (sha256, run))
            if sha256 != own:
                raise InputError(
                    f"expected runs on one text {name!r}; {first.folder} and {run.folder} have "
                    f"different ones of this name ({own!s:.8} and {sha256!s:.8}); measure one of "
                    "them again, or leave it out"
                )


def joined(runs: Sequence[RunRecord]) -> RunRecord:
    """Several runs of one experiment on one model as one: each measurement once.

    Lists of the configs and summaries are put together, such as seeds and calibrations; it is
    finished when all are.

    Raises:
      InputError: Two runs have different figures for one measurement.
    """
    first, *others = runs
    if not others:
        return first
    names = experiment_of(first).key
    rows, seen = list(first.rows), {key_of(row, names): (row, first) for row in first.rows}
    for run in others:
        new = {}
        for row in run.rows:
            key = key_of(row, names)
            if key in seen:
                _require_same(row, run, *seen[key], names)
            else:
                rows.append(row)
                new[key] = row, run
        seen |= new
    return dataclasses.replace(
        first,
        rows=rows,
        config=functools.reduce(_merged, (run.config for run in runs)),
        summary=functools.reduce(_merged, (run.summary for run in runs))
        if all(run.summary for run in runs)
        else {},
    )


def key_of(row: Row, names: Iterable[str]) -> tuple[Any, ...]:
    """What names a row among those of its experiment."""
    return tuple(plainly(row.get(name)) for name in names)


def _require_same(
    row: Row, run: RunRecord, other: Row, first: RunRecord, names: Iterable[str]
) -> None:
    for field in _FIGURES:
        own, its = row.get(field), other.get(field)
        if own != its and (None in (own, its) or not math.isclose(own, its, **ROUNDING)):
            name = ", ".join(str(row[each]) for each in names if row.get(each) is not None)
            raise InputError(
                f"expected one {field} of {name}; {first.folder} has {its} and {run.folder} {own}; "
                "measure one of them again, or audit them apart, each in a workdir of its own"
            )


def _merged(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of both; of lists all items, of other fields that both have the first's."""
    merged = {**two, **one}
    for name in one.keys() & two.keys():
        if isinstance(one[name], list | tuple) and isinstance(two[name], list | tuple):
            merged[name] = [*one[name], *(each for each in two[name] if each not in one[name])]
    return merged
