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

from bench import figures, rounds
from bench.processes import Worker
from bench.worker import EXPORT, TRAINERS
from bench_sweep import DEFAULT_MODEL

PAPER = (0, 1, 3, 5, 8, 10, 11, 14, 17, 23, 24, 27, 29)  # AH Table 5
TEXT, TOKENS = "paragraphs", 128


def main(argv=None):
    """Parses the command line and ends with a status."""
    parser = rounds.parser(__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model id (%(default)s)")
    parser.add_argument("--layers", type=int, nargs="+", default=PAPER, help="(of AH Table 5)")
    options = rounds.parse(parser, argv)
    rounds.run(measure, rounds.check, table, options)


def measure(folder, options):
    """Trains with both; returns plain numbers, see `rounds.check` and `table`."""
    figures.say("exporting model and batches")
    with Worker(EXPORT, folder, options.threads) as exporter:
        exporter.ask("export", options.model)
        exporter.ask(
            "export_training",
            options.model,
            TEXT,
            TOKENS,
            options.batches,
            list(options.layers),
        )
    shape = {"model": options.model, "labels": [f"layer {layer}" for layer in options.layers]}
    return shape | rounds.measure(folder, list(TRAINERS), options)


def table(results):
    """The figures as text."""
    return "\n".join(
        [
            f"a step of {len(results['labels'])} layers of {results['model']}, "
            f"{results['threads']} threads, medians of {len(results['product_rates'])}",
            *figures.time_lines(results),
            figures.rate_line("matrix products", results),
            rounds.deviation_line(results),
        ]
    )


if __name__ == "__main__":
    main()
