"""Times a whole training step against transformers in torch, in one run on one machine.

    python tools/bench_train.py [--batch_size 4] [--seq_len 256] [--repeats 3] [--threads 2]
        [--json FILE]

Needs the `[bench]` extra. A step: forward, backward, clipping by the global norm, AdamW; all
parameters train, in float32 on the CPU. The model has the shape of SmolLM2-135M (30 layers
of width 576, vocabulary of 49,152, tied) and random weights; the batches are random tokens,
one document in each row. Contenders:

| name | what |
| --- | --- |
| train | this package: a chunk of one step of `train/loop.py` |
| train_torch | `LlamaForCausalLM`, its loss by `labels=`, SDPA attention, the fused AdamW |
| train_torch_careful | the same, the head's loss and gradient in one pass over chunks of |
| | positions, and an allocator that keeps what is freed (`tools/bench/torch_training.py`) |

Each runs in a process of its own, with the same cores, from the same exported weights on the
same batches, and waits while another is timed. First a step on every batch, which is not
timed. Then rounds of one step each, in turn, between two measurements of the float32 product
peak. Reported are medians over rounds, the ratio to `train`, the most memory each process
ever had resident, and the share of the product peak that the matrix products of a step
(`growth/flops.py`) amount to.

The run ends with status 3 and no figures when the machine was not quiet, as
`tools/bench_sweep.py` does, and with status 1 when any loss of any step differs by more
than 1e-4 relative.
"""

from bench import figures, rounds
from bench.processes import Worker
from bench.worker import EXPORT, PRETRAINERS


def main(argv=None):
    """Parses the command line and ends with a status."""
    parser = rounds.parser(__doc__)
    parser.add_argument(
        "--batch_size", type=int, default=4, help="sequences of a batch (%(default)s)"
    )
    parser.add_argument("--seq_len", type=int, default=256, help="tokens of each (%(default)s)")
    parser.add_argument("--layers", type=int, default=30, help="of the model (%(default)s)")
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="(%(default)s)")
    parser.add_argument("--remat", default="none", choices=("none", "dots", "full"))
    options = rounds.parse(parser, argv)
    if options.batch_size < 1 or options.seq_len < 2 or options.layers < 1:
        parser.error("--batch_size and --layers must be at least 1, --seq_len at least 2")
    rounds.run(measure, rounds.check, table, options)


def measure(folder, options):
    """Trains with all; returns plain numbers, see `rounds.check` and `table`."""
    figures.say("exporting model and batches")
    names = ("batch_size", "seq_len", "batches", "learning_rate", "remat")
    task = {name: getattr(options, name) for name in names}
    with Worker(EXPORT, folder, options.threads) as exporter:
        exporter.ask("export_pretraining", options.layers, task)
    shape = {"layers": options.layers, **task, "labels": [""]}
    return shape | rounds.measure(folder, list(PRETRAINERS), options)


def table(results):
    """The figures as text."""
    return "\n".join(
        [
            f"a step of {results['batch_size']} rows of {results['seq_len']} tokens through "
            f"{results['layers']} layers, {results['threads']} threads, medians of "
            f"{len(results['product_rates'])}",
            *figures.time_lines(results),
            figures.rate_line("matrix products", results),
            rounds.deviation_line(results),
        ]
    )


if __name__ == "__main__":
    main()
