"""What training pays beside its steps: for its data, alarms, looks at roles and a policy.

    python tools/bench_overheads.py [--config growth_small] [--steps 100] [--repeats 5]
        [--clock wall] [--json FILE]

Trains the arm of constant depth of a config, as many seeds side by side as it has:

| kind | what | held against |
| --- | --- | --- |
| one batch | a batch that never changes | |
| data | the config's data | one batch |
| alarms | the same, with a check every `--steps` | data |
| roles | the same, with a look at roles every `--steps` | data |
| policy | the same, with the proposals of `learned_policy` (of role_moves) | data |

Rounds of all kinds in turn, each twice `--steps` from the first one. The first half is not timed,
so that all is compiled; the second is, with what is done at its end. `--clock cpu` counts what the
process takes of all cores, which says more where other work shares them.
Printed are medians over rounds with their ranges: milliseconds a step, and the ratio in the same
round; and how long a batch of each seed takes when nothing trains.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import tempfile
import time

from jaxanatomy import config_files, host
from jaxanatomy.growth.depth_arms import BASELINE
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures.arms.role_moves import UNIFORM
from jaxanatomy.train.alarms import Watch
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.depth_plan import depth_plan
from jaxanatomy.train.hop_plan import hop_plan
from jaxanatomy.train.layer_roles import RoleWatch
from jaxanatomy.train.role_arms import ARMS
from jaxanatomy.train.role_plan import role_plan
from jaxanatomy.train.trainer import Trainer

PLANS = {
    "growth_small": depth_plan,
    "khop_growth": hop_plan,
    "role_moves": functools.partial(role_plan, kinds=ARMS),
}
ONE_BATCH, DATA, ALARMS, ROLES, POLICY = "one batch", "data", "alarms", "roles", "policy"
LEARNED = "learned_policy"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class OneBatch:
    """A stream that gives a batch again and again."""

    def __init__(self, batch):
        self._batch = batch

    def next(self):
        return self._batch

    def state(self):
        return {}

    def restore(self, state):
        del state


def measure(name: str, steps: int, repeats: int, clock: str = "wall") -> dict:
    """The figures of `summary`.

    Args:
      name: Of a config.
      steps: Of each kind in a round, and between checks.
      repeats: Rounds.
      clock: Of `CLOCKS`.
    """
    now = CLOCKS[clock]
    config = config_files.shipped(name)
    arm = UNIFORM if "policy" in config else BASELINE
    config.arms, config.steps = (arm,), 2 * steps
    plan = PLANS[name](config)
    trials = plan.main(config.learning_rates[0])[: None if config.train.vmap_seeds else 1]
    watches = _watches(plan, trials, steps)
    seconds: dict[str, list[float]] = {kind: [] for kind in watches}
    for _ in range(repeats):
        for kind, callbacks in watches.items():
            streams = plan.streams(arm, trials)
            if kind == ONE_BATCH:
                streams = [OneBatch(stream.next()) for stream in streams]
            setup = dataclasses.replace(
                plan.setup(arm, trials),
                stages=(Stage(plan.model, 2 * steps),),
                options=dataclasses.replace(plan.options, checkpoint_every=2 * steps),
            )
            seconds[kind].append(_step_seconds(setup, streams, callbacks(), now))
    return {
        "config": name,
        "seeds": len(trials),
        "steps": steps,
        "clock": clock,
        "seconds": seconds,
        "batch_seconds": [
            _batch_seconds(plan.streams(arm, trials), steps, now) for _ in range(repeats)
        ],
        "cpus": os.cpu_count(),
    }


def _watches(plan, trials, steps: int) -> dict:
    """By kind what makes the callbacks of a run."""

    def ignore(*_):
        """Rows are not what is timed."""

    alarms = dataclasses.replace(plan.alarms, every=steps)
    found = {
        ONE_BATCH: list,
        DATA: list,
        ALARMS: lambda: Watch(alarms, ignore).callbacks(),
        ROLES: lambda: RoleWatch(steps, ignore).callbacks(),
    }
    if "policy" in plan.config:
        found[POLICY] = lambda: ARMS[LEARNED].callbacks(plan, trials, ignore)
    return found


def _step_seconds(setup, streams, callbacks, now) -> float:
    """The mean time of a step of the second half of a run, with all that its callbacks take."""
    at = {}

    def note(state):
        at[state.step] = now()

    half = Every(setup.steps // 2, lambda state: None)  # where a chunk must end
    with tempfile.TemporaryDirectory() as folder:
        watched = [half, *callbacks, Every(None, note)]
        Trainer(setup, streams).train(pathlib.Path(folder), watched)
    return (at[setup.steps] - at[setup.steps // 2]) / (setup.steps // 2)


def _batch_seconds(streams, steps: int, now) -> float:
    """The mean time until all seeds have a batch, when nothing trains."""
    for stream in streams:
        stream.next()  # waits for threads to start
    began = now()
    for _ in range(steps):
        for stream in streams:
            stream.next()
    return (now() - began) / steps


def summary(results: dict) -> str:
    """What a person reads."""
    seconds, steps = results["seconds"], results["steps"]
    lines = [
        f"{results['config']}, {results['seeds']} seeds side by side, {steps} steps, "
        f"{results['clock']} time, medians of {len(seconds[DATA])} rounds"
    ]
    for kind, found in seconds.items():
        line = f"{kind:10}{1000 * statistics.median(found):9.2f} ms a step {_range(found, 1000)}"
        if kind != ONE_BATCH:
            other = ONE_BATCH if kind == DATA else DATA
            ratios = [own / its for own, its in zip(found, seconds[other], strict=True)]
            line += f"  {statistics.median(ratios):.3f} of {other} {_range(ratios)}"
        lines.append(line)
    alone = results["batch_seconds"]
    lines.append(f"{'alone':10}{1000 * statistics.median(alone):9.2f} ms a batch of each seed")
    return "\n".join(lines)


def _range(values: list[float], unit: float = 1.0) -> str:
    return f"({unit * min(values):.3f} to {unit * max(values):.3f})"


def main(argv=None) -> None:
    """Reads the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="growth_small", choices=PLANS, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="of each kind (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="(%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    given = parser.parse_args(argv)
    if given.steps < 20 or given.repeats < 1:
        parser.error("--steps must be at least 20 and --repeats 1: a policy needs some proposals")
    host.keep_freed_memory()  # as the command line does
    results = measure(given.config, given.steps, given.repeats, given.clock)
    print(summary(results))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
