"""Recovery: how far each layer recovers from noise, and how fast, with all the others frozen.

The method (AH sections 3.6 and 4.5, with controls): noise of half a matrix's standard
deviation on the seven matrices of one layer, then AdamW on that layer alone; perplexity on
another text every few steps. All layers train at once. Training alone lowers the perplexity,
so every curve is compared with the same training without noise, and the gap to it is what has
not recovered. Every layer is measured under several draws of noise. The steps that a layer takes
to come near that training give a budget, shown beside AH Table 10.

    python -m experiments.recovery --config=configs/recovery.py --workdir=runs/recovery

`rows.jsonl` has the importance map, a row for each point of each curve and a row of kind
"final" for each curve; `report.html` shows them. A run that was killed resumes from its last
checkpoint to the same curves.
"""

import dataclasses
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.data.packing import TextBatch, gather_predictions
from jaxanatomy.data.text import SOURCES, TEXTS, Text, load_text
from jaxanatomy.errors import InputError, require_positive, require_whole
from jaxanatomy.growth.budgets import budget, recovery_shares
from jaxanatomy.interventions import cells
from jaxanatomy.measures import recovery
from jaxanatomy.measures.losses import finite
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.progress import format_duration
from jaxanatomy.ranges import parse_layers
from jaxanatomy.study import Study, StudyPart, StudySettings, tokenise
from jaxanatomy.sweep import SweepOptions, cost
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.recovery.curves import StepPlan, noised_points, train_curves
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.trainer import RecoveryTrainer, Replica, recovery_step_flops
from jaxanatomy.weights import describe_model_ids, open_model

MAY_CHANGE_ON_RESUME = (
    "num_seeds",
    "num_noise_seeds",
    "train.devices",
    "train.backend",
    "train.tokens_per_call",
    "train.clean_megabytes",
    "checkpoint_every",
)
SEED_STRIDE = 1000


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    plan = _plan(config)
    for warning in plan.warnings:
        print("warning:", warning, file=sys.stderr)
    with runs.Run.open(
        workdir, config.to_dict(), plan.provenance(), MAY_CHANGE_ON_RESUME
    ) as results:
        plan.study.measure(results)
        _measure_curves(config, plan, results)
        results.append(_final_rows(config, plan, results.rows))
        report.conclude(results, _summary(config, plan, results.rows))


def dry_run(config: ConfigDict) -> str:
    """The replicas, and what they would cost."""
    plan = _plan(config)
    return plan.describe()


def describe() -> str:
    """Texts and model ids, a line each."""
    sections = {
        "texts": {**TEXTS, **SOURCES, "evaluation": "train_text only: the evaluation text"},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Validated settings; nothing is loaded.

    Attributes:
      study: The undamaged model, and the importance map, on the evaluation text.
      text: The evaluation text.
      train_text: The training text.
      train: Its batches.
      groups: Replicas that train, as they train together: the same ones if seeds are added.
      others: Groups of replicas whose noise is measured, and that do not train.
      steps: When to do what.
      optimiser: Of every replica.
      options: How to run.
      warnings: What the reader of the report has to know.
    """

    study: Study
    text: Text
    train_text: Text
    train: Sequence[TextBatch]
    groups: list[list[Replica]]
    others: list[list[Replica]]
    steps: StepPlan
    optimiser: Optimiser
    options: RecoveryOptions
    warnings: list[str]

    def provenance(self) -> dict[str, Any]:
        """Of both texts."""
        found = self.study.provenance()
        hashes = {self.text.name: self.text.sha256, self.train_text.name: self.train_text.sha256}
        return {**found, "data_sha256": hashes}

    def describe(self) -> str:
        """Replicas, work and expected time."""
        replicas = [replica for group in self.groups for replica in group]
        work = self.steps.total * recovery_step_flops(self.study.config, replicas, self.train[0])
        seconds = work / (cost.EFFICIENCY * cost.measure_peak())
        noisy = sum(replica.noise for replica in replicas)
        others = sum(map(len, self.others))
        lines = [
            f"recovery on {self.train_text.name}: {noisy} replicas with noise, "
            f"{len(replicas) - noisy} without, in {len(self.groups)} groups",
            f"  without training                 {others} more replicas with noise",
            f"  steps                            {self.steps.total}, evaluated every "
            f"{self.steps.eval_every} on {self.text.name}",
            f"  matrix products                  {work / 1e12:,.2f} TFLOP",
            f"  expected time                    {format_duration(seconds)} (at "
            f"{cost.EFFICIENCY:.0%} of the product peak measured now)",
            *(f"  warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join([*lines, "", self.study.describe()])


def _plan(config: ConfigDict) -> _Plan:
    """Refuses what cannot be trained."""
    for name, least in (("num_seeds", 1), ("num_noise_seeds", 0), ("batch_tokens", 2)):
        require_whole(name, config[name], least)
    require_positive("sigma", config.sigma, or_zero=True, remedy="AH has 0.5")
    recovery.check_thresholds(config.thresholds)
    steps = StepPlan(config.steps, config.eval_every, config.checkpoint_every)
    optimiser, options = Optimiser(**config.optimiser), RecoveryOptions(**config.train)
    source, text = open_model(config.model), load_text(config.eval_text)
    upper_bound = config.train_text == "evaluation"
    train_text = text if upper_bound else load_text(config.train_text)
    layers = sorted(parse_layers(config.layers or None, source.config.num_layers))
    window = min(config.batch_tokens, source.config.context_length)
    train = tokenise(source, train_text, window=window, tokens_per_batch=config.batch_tokens)
    settings = StudySettings(
        experiment="recovery",
        options=SweepOptions(dtype=options.dtype, precision=options.precision),
    )
    variants = cells.main_map(source.config) if config.importance else []
    groups, others = _replicas(config, layers)
    return _Plan(
        study=Study(source, [StudyPart(text, variants)], settings),
        text=text,
        train_text=train_text,
        train=train,
        groups=groups,
        others=others,
        steps=steps,
        optimiser=optimiser,
        options=options,
        warnings=_warnings(text, train_text, upper_bound),
    )


def _replicas(config: ConfigDict, layers: list[int]) -> tuple[list, list]:
    """Groups of neighbouring layers that train, and groups whose noise is measured alone.

    No group has two seeds, so that those of one stay as they are when others are added.
    """
    seeds = max(config.num_seeds, config.num_noise_seeds)
    noisy = [[Replica(layer, layer + SEED_STRIDE * j) for layer in layers] for j in range(seeds)]
    controls = [[Replica(layer)] if config.controls else [] for layer in layers]
    first = [
        replica
        for control, own in zip(controls, noisy[0], strict=True)
        for replica in (*control, own)
    ]
    trained, size = config.num_seeds, config.train.group_size
    return tuple(
        [own[start : start + size] for own in parts for start in range(0, len(own), size)]
        for parts in ([first, *noisy[1:trained]], noisy[trained:])
    )


def _measure_curves(config: ConfigDict, plan: _Plan, results) -> None:
    """The rows of all curves that are not there yet, group by group."""
    rows = _CurveRows(config, plan)
    groups = [group for group in plan.groups if not rows.complete(group, results)]
    others = [group for group in plan.others if not rows.started(group, results)]
    if not groups and not others:
        return
    trainer = RecoveryTrainer(
        plan.study.config,
        {replica.layer for group in (*groups, *others) for replica in group},
        plan.train,
        plan.study.batches(plan.text),
        plan.optimiser,
        plan.options,
    )
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(plan.study.load)
        trainer.compile()
        trainer.place(loading.result().params)
    for group in others:
        results.append(rows.of(noised_points(trainer, group, config.sigma)))
    with runs.Progress(len(groups) * plan.steps.total, "training") as progress:
        for group in groups:
            folder = results.path("checkpoints") / f"group_{plan.groups.index(group)}"
            train_curves(
                trainer,
                group,
                config.sigma,
                plan.steps,
                folder,
                emit=lambda points: results.append(rows.of(points)),
                progress=progress.update,
                has_points=lambda step, group=group: rows.complete(group, results, step),
            )


class _CurveRows:
    """Rows of points, and which of them a run has."""

    def __init__(self, config: ConfigDict, plan: _Plan):
        self._plan = plan
        batches = plan.study.batches(plan.text)
        _, self._document_P, _ = gather_predictions(batches, [b.target_P for b in batches])
        self._settings = {
            **{name: config[name] for name in ("sigma", "eval_every", "batch_tokens")},
            "optimiser": dataclasses.asdict(plan.optimiser),
            "train_data": plan.train_text.sha256,
        }

    def of(self, points) -> list[dict[str, Any]]:
        """A row for each point."""
        rows = []
        for point in points:
            row = {"hash": self._hash(point.replica, point.step), **self._labels(point.replica)}
            row |= {"train_text": self._plan.train_text.name, "step": point.step}
            row |= {"loss": finite(point.loss)}
            row |= recovery.evaluation_fields(point.nll_P, self._document_P)
            row |= {"reason": point.reason} if point.reason else {}
            rows.append(row | {"text": self._plan.text.name})
        return rows

    def started(self, group, results) -> bool:
        """Whether all replicas of a group have their first point."""
        return all(results.done(self._hash(replica, 0)) for replica in group)

    def complete(self, group, results, last: int | None = None) -> bool:
        """Whether a group has all its points up to step `last`, or where they diverged."""
        diverged = {
            (row["layer"], row["seed"]): row["step"]
            for row in results.rows
            if "kind" not in row and recovery.has_diverged([row])
        }

        def steps(replica) -> list[int]:
            end = diverged.get(tuple(self._labels(replica).values())[:2], self._plan.steps.total)
            return self._plan.steps.evaluations(end if last is None else min(last, end))

        return all(
            results.done(self._hash(replica, step)) for replica in group for step in steps(replica)
        )

    def _labels(self, replica) -> dict[str, Any]:
        seed = replica.seed if replica.noise else None
        return {"layer": replica.layer, "seed": seed, "noise": replica.noise}

    def _hash(self, replica, step: int) -> str:
        study, text = self._plan.study, self._plan.text
        what = {"layer": replica.layer, "noise_seed": replica.seed, "step": step}
        return study.row_hash(text, **self._settings, **what)


def _final_rows(config: ConfigDict, plan: _Plan, rows) -> list[dict[str, Any]]:
    """What each curve that trained comes to."""
    found = recovery.curves(rows)
    finals = []
    for (layer, seed), curve in found.items():
        if not recovery.has_ended(curve, plan.steps.total):
            continue  # noise that does not train, or no longer since it was killed
        control = None if seed is None else found.get((layer, None))
        row = recovery.final_row(curve, control, _baseline_ppl(rows), config.thresholds)
        what = {"kind": row["kind"], "curve": [point["hash"] for point in curve]}
        what |= {"control": [point["hash"] for point in control or ()]}
        what |= {"thresholds": list(config.thresholds)}
        finals.append({"hash": plan.study.row_hash(plan.text, **what), **row})
    return finals


def _summary(config: ConfigDict, plan: _Plan, rows) -> dict[str, Any]:
    """The figures that the experiment is about."""
    finals = [row for row in rows if row.get("kind") == "final"]
    degradation = {
        row["layer"]: row["degradation_percent"]
        for row in rows
        if row.get("intervention") == "neighbour_mean"
    }
    last = f"{config.thresholds[-1]:g}"
    table = paper_table("table10_budget")
    same_model = table1_of({**config.to_dict(), **plan.study.config.to_dict()})
    groups = table["groups"] if same_model else ()
    shares = recovery_shares(finals, last, plan.steps.total)
    return {
        "text": plan.text.name,
        "train_text": plan.train_text.name,
        "steps": plan.steps.total,
        "thresholds": [f"{value:g}" for value in config.thresholds],
        "baseline_ppl": _baseline_ppl(rows),
        "warnings": plan.warnings,
        "diverged": [
            {name: row[name] for name in ("layer", "seed", "reason")}
            for row in finals
            if "reason" in row
        ],
        "noise": recovery.noise_spread(rows),
        "gaps": recovery.gaps_to_control(recovery.of_ended(rows, plan.steps.total)),
        "importance": recovery.recovery_against_importance(finals, degradation, last),
        "shares": shares,
        "budget": budget(shares, groups, table["steps_per_layer"]),
    }


def _baseline_ppl(rows) -> float:
    """Perplexity of the undamaged model."""
    (row,) = (row for row in rows if row.get("variant") == "baseline")
    if row["ppl"] is None:
        raise InputError(
            f"the undamaged model must have a finite perplexity; {row['reason']}; choose "
            "another model or text"
        )
    return row["ppl"]


def _warnings(text, train_text, upper_bound: bool) -> list[str]:
    shared = set(text.documents) & set(train_text.documents)
    if not shared or upper_bound:
        return []
    return [
        f"{len(shared)} of {len(text.documents)} documents of the evaluation text {text.name} are "
        f"in the training text {train_text.name}, too: the curves show learning by heart, no "
        "recovery; train_text=evaluation says that it is meant"
    ]


if __name__ == "__main__":
    cli.run_experiment("recovery", run)
