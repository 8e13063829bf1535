"""Whether training waits for its data: steps on a mixture against steps on one batch.

    python tools/bench_input.py [--config growth_small] [--steps 40] [--repeats 5] [--json FILE]

Trains the baseline of a config of depth growth, one seed: on the config's mixture, and on a
batch that never changes. Rounds of both in turn, each from the first step; what is compiled
in the first round serves all. Printed are the median seconds of a step of both over the
rounds, their ratio, and how many tokens a second the mixture gives when nothing trains.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import tempfile
import time

from jaxanatomy import config_files, host
from jaxanatomy.data.pipeline import THREADS, Pipeline
from jaxanatomy.growth.depth_arms import BASELINE
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures.tuning import MAIN
from jaxanatomy.train.arm_plan import Trial
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.depth_plan import depth_plan
from jaxanatomy.train.setup import Setup
from jaxanatomy.train.trainer import Trainer

MIXTURE, ONE_BATCH = "mixture", "one batch"


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


def measure(config, steps: int, repeats: int) -> dict:
    """The figures of `summary`, from rounds of both kinds of steps.

    Args:
      config: Of `experiments.depth_growth`.
      steps: Of each kind in a round.
      repeats: Rounds.
    """
    config.arms = (BASELINE,)
    plan = depth_plan(config)
    trial = Trial(MAIN, config.learning_rates[0], seed=0)
    pipeline = plan.pipeline(0, steps)
    options = dataclasses.replace(plan.options, checkpoint_every=steps)
    setup = dataclasses.replace(
        plan.setup(BASELINE, [trial]), stages=(Stage(plan.model, steps),), options=options
    )
    seconds: dict[str, list[float]] = {MIXTURE: [], ONE_BATCH: []}
    for _ in range(repeats):
        for kind, found in seconds.items():
            stream = pipeline.batches()
            stream = OneBatch(stream.next()) if kind == ONE_BATCH else stream
            found.append(_step_seconds(setup, stream))
    return {
        "batch_size": config.batch_size,
        "seq_len": config.model.context_length,
        "seconds": seconds,
        "tokens_per_second": [_tokens_per_second(pipeline, steps) for _ in range(repeats)],
        "threads": THREADS,
        "cpus": os.cpu_count(),
    }


def summary(results: dict) -> str:
    """What a person reads."""
    medians = {kind: statistics.median(found) for kind, found in results["seconds"].items()}
    lines = [
        f"{kind:12}{1000 * medians[kind]:9.1f} ms a step "
        f"({1000 * min(found):.1f} to {1000 * max(found):.1f})"
        for kind, found in results["seconds"].items()
    ]
    rates = results["tokens_per_second"]
    trained = results["batch_size"] * results["seq_len"] / medians[ONE_BATCH]
    lines.append(f"{'ratio':12}{medians[MIXTURE] / medians[ONE_BATCH]:9.3f}")
    lines.append(
        f"the mixture alone: {statistics.median(rates):,.0f} tokens a second "
        f"({min(rates):,.0f} to {max(rates):,.0f}); training reads {trained:,.0f}"
    )
    return "\n".join(lines)


def main(argv=None) -> None:
    """Reads the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="growth_small", help="in configs/ (%(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="of each kind (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    given = parser.parse_args(argv)
    if given.steps < 1 or given.repeats < 1:
        parser.error("--steps and --repeats must be at least 1")
    host.keep_freed_memory()  # as the command line does
    results = measure(config_files.shipped(given.config), given.steps, given.repeats)
    print(summary(results))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


def _step_seconds(setup: Setup, stream) -> float:
    """The mean time of a step, waiting for its batch included."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        note = Every(None, lambda state: seconds.append(state.account.seconds))
        Trainer(setup, [stream]).train(pathlib.Path(folder), [note])
    return seconds[-1] / setup.steps


def _tokens_per_second(pipeline: Pipeline, steps: int) -> float:
    batches = pipeline.batches()
    batches.next()  # waits for threads to start
    began = time.perf_counter()
    for _ in range(steps):
        batches.next()
    return steps * pipeline.batch_size * pipeline.seq_len / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
