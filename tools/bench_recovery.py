"""Times the training of the recovery experiment against a torch loop, in one run.

    python tools/bench_recovery.py [--repeats 3] [--threads 2] [--layers 0 14 29] [--json FILE]

Needs the `[bench]` extra. The task is a step of `configs/recovery.py:paper`: one replica for
each of the 13 layers of AH Table 5, with noise in its layer, trains that layer on a batch
of `paragraphs` by AdamW after clipping, in float32 on the CPU. Contenders:

| name | what |
| --- | --- |
| recovery | this package: all replicas at once, on a tape |
| recovery_torch | one replica after the other, from cached clean activations; only the layer |
| | has weight gradients (`tools/bench/torch_recovery.py`) |

Each runs in a process of its own, with the same cores, on the same exported weights and the
same batches, and waits while the other is timed. First a step on every batch, which is not
timed: it compiles, and it fills the caches of both. Then rounds of one step each, in turn,
between two measurements of the float32 product peak. Reported are medians over rounds,
the ratio, the most memory each process ever had resident, and the share of the product peak
that the matrix products of a step amount to.

The run ends with status 3 and no figures when the machine was not quiet, as
`tools/bench_sweep.py` does, and with status 1 when any loss of any step differs by more
than 1e-4 relative.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import math
import pathlib
import statistics
import sys
import tempfile

from bench.processes import Worker, WorkerError
from bench.worker import EXPORT, TRAINERS
from bench_sweep import DEFAULT_MODEL, halves, require_quiet, say

OURS, THEIRS = TRAINERS
PAPER = (0, 1, 3, 5, 8, 10, 11, 14, 17, 23, 24, 27, 29)  # AH Table 5
TEXT, TOKENS = "paragraphs", 128
LARGEST_DEVIATION = 1e-4


def main(argv=None):
    """Parses the command line and ends with a status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model id (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores for each (%(default)s)")
    parser.add_argument("--batches", type=int, default=2, help="batches, in turn (%(default)s)")
    parser.add_argument("--layers", type=int, nargs="+", default=PAPER, help="(of AH Table 5)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    options = parser.parse_args(argv)
    if options.repeats < 2:
        parser.error("--repeats must be at least 2: drift is measured between two halves")
    if importlib.util.find_spec("torch") is None:
        parser.error('torch is not installed: pip install -e ".[bench]"')
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(pathlib.Path(folder), options)
    except WorkerError as error:
        sys.exit(f"error: {error}")
    check(results)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def measure(folder, options):
    """Trains with both; returns plain numbers, see `check` and `table`."""
    say("exporting model and batches")
    with Worker(EXPORT, folder, options.threads) as exporter:
        exporter.ask("export", options.model)
        exporter.ask(
            *("export_training", options.model, TEXT, TOKENS, options.batches),
            list(options.layers),
        )
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in TRAINERS:
            say(f"starting {name}")
            workers[name] = stack.enter_context(Worker(name, folder, options.threads))
        answers, peaks = {name: [] for name in TRAINERS}, []
        for number in range(options.batches + options.repeats):
            before = workers[OURS].ask("product")["value"]
            for name, worker in workers.items():
                answers[name].append(worker.ask("step", number))
                warm = " (warm-up)" if number < options.batches else ""
                say(f"{name}: step {number} {answers[name][-1]['seconds']:.2f} s{warm}")
            if number >= options.batches:
                peaks.append([before, workers[OURS].ask("product")["value"]])
        work = workers[OURS].ask("work")["value"]
    return {
        "model": options.model,
        "threads": options.threads,
        "layers": list(options.layers),
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
    """The largest relative difference of any loss, and where."""
    ours, theirs = (results["losses"][name] for name in (OURS, THEIRS))
    return max(
        (_deviation(own, their_loss), f"step {step}, layer {layer}")
        for step, (row, their_row) in enumerate(zip(ours, theirs, strict=True))
        for layer, own, their_loss in zip(results["layers"], row, their_row, strict=True)
    )


def _deviation(own, theirs):
    return abs(theirs / own - 1) if math.isfinite(own) and math.isfinite(theirs) else math.inf


def table(results):
    """The figures as text."""
    seconds = {name: statistics.median(values) for name, values in results["seconds"].items()}
    own, layers = seconds[OURS], results["layers"]
    lines = [
        f"a step of {len(layers)} layers of {results['model']}, {results['threads']} threads, "
        f"medians of {len(results['product_rates'])}",
        f"{'':16}{'seconds':>9}{'(range)':>16}{'ratio':>8}{'memory':>10}",
    ]
    for name, values in results["seconds"].items():
        spread = f"({min(values):.2f}-{max(values):.2f})"
        memory = f"{results['peak_bytes'][name] / 1e9:.2f} GB"
        lines.append(
            f"{name:16}{seconds[name]:9.2f}{spread:>16}{seconds[name] / own:8.2f}{memory:>10}"
        )
    first, second = halves(results)
    peak = statistics.median(itertools.chain(*results["product_rates"]))
    rate = results["work"] / own
    deviation, where = largest_deviation(results)
    lines += [
        f"matrix products {results['work'] / 1e9:.0f} GFLOP: {rate / 1e9:.0f} GFLOP/s, "
        f"{rate / peak:.1%} of the product peak {peak / 1e9:.0f} "
        f"(halves {first / 1e9:.0f}, {second / 1e9:.0f})",
        f"largest difference of a loss: {deviation:.2g} relative ({where})",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
