"""Alarms put to the test: training runs with faults injected on purpose, and healthy runs.

The method (LR section 8 says that weights show a failing run long before its loss does): each fault
sets in at a known step, strongly or weakly, in twenty seeds of a small model, beside twins of the
same seeds without it. The levels of the alarms are chosen on healthy runs of other seeds. Measured
are how many faults are found before the loss is twice the twin's, how many steps before, and how
often an alarm is false; and the same for the simplest alarm, a jump of the loss or of the
gradient's norm.

    python -m experiments.alarms --config=configs/alarms.py --workdir=runs/alarms

`rows.jsonl` has one row for each run with the readings of every step; a run that was killed trains
the faults that have no rows yet.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.data import facts
from jaxanatomy.errors import InputError, choose, require_each_once, require_unique, require_whole
from jaxanatomy.measures.arms.alarms import CALIBRATION, SCORE, summarise
from jaxanatomy.measures.arms.tuning import require_seeds
from jaxanatomy.progress import Progress
from jaxanatomy.train.alarm_readings import KINDS, MIN_PEERS, PEER_KINDS
from jaxanatomy.train.alarms import Alarms
from jaxanatomy.train.documents import Documents
from jaxanatomy.train.faults import FAULTS, TWINS, FaultPlan, train_fault
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import TrainOptions

# What rows do not depend on: a run may go on with other values.
MAY_CHANGE_ON_RESUME = (
    "faults",
    "seeds",
    "healthy_seeds",
    "calibration_seeds",
    "intervals",
    "margin",
    "shipped",
)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what has no rows yet, then writes summary, figures and report."""
    plan, told = _plan(config)
    provenance = runs.provenance(
        "alarms", architecture=plan.model.to_dict(), data_sha256=told.sha256
    )
    with runs.Run.open(workdir, config.to_dict(), provenance, MAY_CHANGE_ON_RESUME) as results:
        groups = _groups(config)
        work = sum(plan.run_steps(fault) for fault, *_ in groups)
        with Progress(work, "faults") as progress:
            for fault, purpose, seeds in groups:
                _train(plan, fault, purpose, seeds, results, progress)
        shipped = {kind: config.shipped[kind][0] for kind in KINDS if config.shipped[kind]}
        report.conclude(results, summarise(results.rows, shipped, config.intervals, config.margin))


def dry_run(config: ConfigDict) -> str:
    """The faults, their seeds and steps."""
    plan, _ = _plan(config)
    return "\n".join(
        f"{fault} ({purpose}): {len(seeds)} seeds, {plan.run_steps(fault)} steps each"
        for fault, purpose, seeds in _groups(config)
    )


def describe() -> str:
    """Faults and alarms, a line each."""
    faults = {name: fault.help for name, fault in FAULTS.items()}
    return cli.format_sections({"faults": faults, "alarms": KINDS})


def _groups(config: ConfigDict) -> list[tuple[str, str, tuple[int, ...]]]:
    """(fault, purpose, seeds) of runs that train side by side."""
    healthy = (*config.seeds, *config.healthy_seeds)
    groups = [(twin, CALIBRATION, config.calibration_seeds) for twin in TWINS]
    groups += [(twin, SCORE, healthy) for twin in TWINS]
    return groups + [(fault, SCORE, config.seeds) for fault in config.faults]


def _train(plan, fault, purpose, seeds, results: runs.Run, progress: Progress) -> None:
    """Trains the seeds of a fault that have no rows."""
    hashes = {seed: _hash(plan, fault, purpose, seed) for seed in seeds}
    left = [seed for seed in seeds if not results.done(hashes[seed])]
    folder = results.path("checkpoints") / f"{fault}_{purpose}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed within
    if not left:
        progress.update(plan.run_steps(fault))
        return
    found = train_fault(plan, fault, left, folder, progress.update)
    labels = {"kind": "run", "fault": fault, "twin": FAULTS[fault].twin, "purpose": purpose}
    results.append(
        {"hash": hashes[seed], **labels, "seed": seed, **fields}
        for seed, fields in zip(left, found, strict=True)
    )
    shutil.rmtree(folder.parent, ignore_errors=True)


def _hash(plan: FaultPlan, fault: str, purpose: str, seed: int) -> str:
    return runs.row_hash(
        code=runs.code_version("alarms"),
        plan=plan.identity,
        fault=dataclasses.asdict(FAULTS[fault]),
        run=[fault, purpose, seed],
    )


def _plan(config: ConfigDict) -> tuple[FaultPlan, Any]:
    """How runs are trained, and the sentences.

    Raises:
      InputError: Something in the config does not fit; the message says what.
    """
    _check(config)
    told = facts.facts()
    words = facts.word_tokenizer(told.train, _VOCABULARY)
    length = facts.longest_row(told.train)
    model = ModelConfig.uniform(**config.model, vocab_size=_VOCABULARY, context_length=length)
    token_NT = facts.rows(told.train, words, length)
    orders = {
        seed: facts.batch_order(len(told.train), config.batch_size, config.steps, seed)
        for seed in (*config.seeds, *config.healthy_seeds, *config.calibration_seeds)
    }
    pad = facts.SPECIAL.index(facts.PAD)
    plan = FaultPlan(
        model=model,
        steps=config.steps,
        fault_step=config.fault_step,
        after=config.after,
        schedule=WarmupStableDecay(config.learning_rate, config.warmup, config.cooldown),
        optimiser=Optimiser(**config.optimiser),
        options=TrainOptions(steps_per_call=1, checkpoint_every=config.steps),
        documents=Documents.fitting(token_NT, pad, 1, orders.values()),
        orders=orders,
        placement=Placement.over(jax.devices()[:1]),
    )
    return plan, told


_VOCABULARY = 494  # words of the facts, as AH Table 6 has it


def _check(config: ConfigDict) -> None:
    for name in ("faults", "seeds", "calibration_seeds", "intervals"):
        require_each_once(name, config[name])
    require_unique("healthy_seeds", config.healthy_seeds)  # there may be none
    require_seeds(
        **{name: config[name] for name in ("seeds", "healthy_seeds", "calibration_seeds")}
    )
    for fault in config.faults:
        choose("fault", fault, [name for name in FAULTS if name not in TWINS])
    for name in ("steps", "fault_step", "after", "batch_size"):
        require_whole(name, config[name])
    for interval in config.intervals:
        require_whole("intervals", interval)
    if config.model.num_layers < MIN_PEERS:
        raise InputError(
            f"model.num_layers must be {MIN_PEERS} or more, as {', '.join(PEER_KINDS)} compare a "
            f"layer with its peers; got {config.model.num_layers}; raise model.num_layers"
        )
    if min(len(config.seeds), len(config.calibration_seeds)) < 2:
        raise InputError("seeds and calibration_seeds must be two or more each; add seeds")
    if config.fault_step + config.after > config.steps:
        raise InputError(
            f"a fault at step {config.fault_step} with {config.after} steps after it must end "
            f"within the schedule of {config.steps} steps; raise steps or lower the others"
        )
    if config.margin < 1:
        raise InputError(f"margin must be 1 or more; got {config.margin}")
    Alarms(**config.shipped)


if __name__ == "__main__":
    cli.run_experiment("alarms", run)
