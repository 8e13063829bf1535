"""Times LAMBADA against lm-evaluation-harness's own adapter of transformers, in one run.

    python tools/bench_eval.py lambada.jsonl [--questions 300] [--repeats 2] [--threads 2]

Needs the `[bench]` and `[eval]` extras. The task is the last word of each passage, as
log-likelihood requests of the harness, in float32 on the CPU. Contenders:

| name | what |
| --- | --- |
| evaluate | this package: `jaxanatomy.harness`, one sweep |
| evaluate_hf | `hf` of the harness, one request at a time, as it is by default |
| evaluate_hf_16 | the same with batches of 16, sorted by length |

Each runs in a process of its own, with the same cores, on the same exported weights, and waits
while another is timed. First a step that is not timed: it compiles. Then rounds of all requests,
in turn, between two measurements of the float32 product peak. Reported are medians over rounds,
ratios, memory, and the share of the product peak that the matrix products of our sweep amount to.

The run ends with status 3 and no figures when the machine was not quiet, as
`tools/bench_sweep.py` does, and with status 1 when a log-likelihood differs by more than 1e-3 nats,
or the accuracies are not equal.
"""

import math
import sys

from bench import figures, rounds
from bench.processes import Worker
from bench.worker import EVALUATORS, EXPORT
from bench_sweep import DEFAULT_MODEL

LARGEST_DEVIATION = 1e-3  # nats


def main(argv=None):
    """Parses the command line and ends with a status."""
    parser = rounds.parser(__doc__)
    parser.add_argument("file", help="LAMBADA as .jsonl")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model id (%(default)s)")
    parser.add_argument("--questions", type=int, default=300, help="passages (%(default)s)")
    parser.set_defaults(batches=1, repeats=2)
    rounds.run(measure, check, table, rounds.parse(parser, argv))


def measure(folder, options):
    """Asks all contenders; returns plain numbers, `losses` being the answers of each step."""
    figures.say("exporting model and requests")
    with Worker(EXPORT, folder, options.threads) as exporter:
        exporter.ask("export", options.model)
        exporter.ask("export_questions", options.file, options.questions)
    shape = {"model": options.model, "questions": options.questions}
    return shape | rounds.measure(folder, list(EVALUATORS), options)


def accuracies(results):
    """The share of greedy answers of each contender, in every step the same."""
    return {
        name: sum(greedy for _, greedy in steps[-1]) / len(steps[-1])
        for name, steps in results["losses"].items()
    }


def deviation(results):
    """The largest difference of a log-likelihood from ours, in nats; infinite for no number."""
    ours, *others = results["losses"].values()
    return max(
        abs(own - theirs) if math.isfinite(own - theirs) else math.inf
        for steps in others
        for step, their_step in zip(ours, steps, strict=True)
        for (own, _), (theirs, _) in zip(step, their_step, strict=True)
    )


def check(results):
    """Ends the program when the figures do not count."""
    figures.require_quiet(results)
    if not deviation(results) <= LARGEST_DEVIATION:
        sys.exit(f"error: log-likelihoods differ by {deviation(results):.2g} nats")
    if len(set(accuracies(results).values())) > 1:
        sys.exit(f"error: accuracies differ: {accuracies(results)}")


def table(results):
    """The figures as text."""
    (accuracy,) = set(accuracies(results).values())
    return "\n".join(
        [
            f"{results['questions']} passages, {results['model']}, {results['threads']} threads, "
            f"medians of {len(results['product_rates'])}",
            *figures.time_lines(results),
            figures.rate_line("matrix products", results),
            f"accuracy {accuracy:.4f} for all; largest difference of a log-likelihood "
            f"{deviation(results):.1e} nats",
        ]
    )


if __name__ == "__main__":
    main()
