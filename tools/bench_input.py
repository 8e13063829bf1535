"""How fast the input pipeline is on its own, in tokens a second.

    python tools/bench_input.py --mixture=offline --rows=8 --length=256

Prints one JSON line: tokens a second as the median of `--repeats` stretches of `--steps`
batches, and what it was measured on. Training waits for data where the loop is faster.
"""

import argparse
import json
import os
import statistics
import time

from jaxanatomy.data.bpe import DEFAULT_SIZE, offline_tokenizer
from jaxanatomy.data.mixture import MIXTURES, Schedule, parse_mixture
from jaxanatomy.data.pipeline import THREADS, Pipeline


def measure(mixture, vocab_size: int, rows: int, length: int, steps: int, repeats: int) -> dict:
    """Times batches of a mixture after the first, which waits for threads to start.

    Args:
      mixture: As `parse_mixture` reads it.
      vocab_size: Of the offline tokenizer.
      rows: Rows of a batch.
      length: Tokens of a row.
      steps: Batches of a stretch.
      repeats: Stretches.
    """
    started = time.perf_counter()
    tokenizer = offline_tokenizer(vocab_size)
    schedule = Schedule(((0, parse_mixture(mixture)),))
    batches = Pipeline(schedule, tokenizer, rows=rows, length=length).batches()
    next(batches)
    ready = time.perf_counter() - started
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(steps):
            next(batches)
        rates.append(steps * rows * length / (time.perf_counter() - started))
    return {
        "mixture": mixture,
        "rows": rows,
        "length": length,
        "tokens_per_second": round(statistics.median(rates)),
        "slowest": round(min(rates)),
        "fastest": round(max(rates)),
        "first_batch_seconds": round(ready, 2),
        "threads": THREADS,
        "cpus": os.cpu_count(),
    }


def main() -> None:
    """Reads the command line and prints a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = ", ".join(MIXTURES)
    parser.add_argument("--mixture", default="offline", help=f"{known}, or 'WEIGHT SOURCE,...'")
    parser.add_argument("--vocab_size", type=int, default=DEFAULT_SIZE)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    given = vars(parser.parse_args())
    if given["mixture"] not in MIXTURES:
        given["mixture"] = given["mixture"].split(",")
    print(json.dumps(measure(**given)))


if __name__ == "__main__":
    main()
