"""Rounds of training steps: each contender in turn, the others waiting."""

import argparse
import contextlib
import importlib.util
import json
import pathlib
import sys
import tempfile

from bench.figures import relative, require_quiet, say
from bench.processes import Worker, WorkerError

LARGEST_DEVIATION = 1e-4


def parser(description):
    """What every benchmark of training takes on its command line."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--repeats", type=int, default=3, help="timed steps (%(default)s)")
    made.add_argument("--threads", type=int, default=2, help="cores for each (%(default)s)")
    made.add_argument("--batches", type=int, default=2, help="batches, in turn (%(default)s)")
    made.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    return made


def parse(made, arguments):
    """Reads the command line; ends with status 2 when it cannot be followed."""
    options = made.parse_args(arguments)
    if options.repeats < 2:
        made.error("--repeats must be at least 2: drift is measured between two halves")
    if options.threads < 1 or options.batches < 1:
        made.error("--threads and --batches must be at least 1")
    if importlib.util.find_spec("torch") is None:
        made.error('torch is not installed: pip install -e ".[bench]"')
    return options


def run(measure, check, table, options):
    """Measures, checks, prints the table, and writes the figures where `--json` says."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(pathlib.Path(folder), options)
    except WorkerError as error:
        sys.exit(f"error: {error}")
    check(results)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def measure(folder, names, options):
    """Steps on every batch that are not timed, then rounds of one timed step of each.

    Args:
      folder: Holds what the contenders read.
      names: Of contenders of `worker.TRAINERS`, ours first.
      options: Of `parse`.

    Returns:
      The results that `figures` reads; `losses` are what each step answered.
    """
    ours = names[0]
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in names:
            say(f"starting {name}")
            workers[name] = stack.enter_context(Worker(name, folder, options.threads))
        answers, peaks = {name: [] for name in names}, []
        for number in range(options.batches + options.repeats):
            before = workers[ours].ask("product")["value"]
            for name, worker in workers.items():
                answers[name].append(worker.ask("step", number))
                warm = " (warm-up)" if number < options.batches else ""
                say(f"{name}: step {number} {answers[name][-1]['seconds']:.2f} s{warm}")
            if number >= options.batches:
                peaks.append([before, workers[ours].ask("product")["value"]])
        work = workers[ours].ask("work")["value"]
    return {
        "threads": options.threads,
        "seconds": {
            name: [one["seconds"] for one in found[options.batches :]]
            for name, found in answers.items()
        },
        "peak_bytes": {name: found[-1]["peak_bytes"] for name, found in answers.items()},
        "losses": {name: [one["value"] for one in found] for name, found in answers.items()},
        "product_rates": peaks,
        "work": work,
    }


def check(results):
    """Ends the program when the figures do not count."""
    require_quiet(results)
    deviation, where = largest_deviation(results)
    if not deviation <= LARGEST_DEVIATION:
        sys.exit(f"error: losses differ by {deviation:.2g} relative: {where}")


def largest_deviation(results):
    """The largest relative difference of any loss from ours, and where."""
    (_, ours), *others = results["losses"].items()
    labels = results["labels"]
    return max(
        (relative(own, theirs), f"{name}, step {step}{label and ', '}{label}")
        for name, found in others
        for step, (row, their_row) in enumerate(zip(ours, found, strict=True))
        for label, own, theirs in zip(labels, row, their_row, strict=True)
    )


def deviation_line(results):
    """How well the contenders agree."""
    deviation, where = largest_deviation(results)
    return f"largest difference of a loss: {deviation:.2g} relative ({where})"
