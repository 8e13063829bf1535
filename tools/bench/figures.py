"""What the benchmarks make of their measurements: the lines of a table, and when nothing counts.

`results` are plain numbers: `seconds`, those of each contender, ours first; `peak_bytes` of
each; `product_rates`, the float32 product peak before and after each round, in flop/s; and
`work`, the FLOP of the matrix products of one of our rounds.
"""

import itertools
import math
import statistics
import sys

LARGEST_DRIFT = 0.10
UNQUIET = 3


def say(text):
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)


def require_quiet(results):
    """Ends the program with status 3 when the product peak moved while it measured."""
    first, second = halves(results)
    drift = second / first - 1
    if abs(drift) > LARGEST_DRIFT:
        say(
            f"the machine is not quiet: the product peak moved from {first / 1e9:.0f} to "
            f"{second / 1e9:.0f} GFLOP/s ({drift:+.0%}); stop other work and run again"
        )
        sys.exit(UNQUIET)


def halves(results):
    """Median product rates of the first and the second half of the rounds."""
    rates = list(itertools.chain(*results["product_rates"]))
    middle = len(rates) // 2
    return statistics.median(rates[:middle]), statistics.median(rates[middle:])


def relative(own, theirs):
    """The difference of two numbers relative to the first; infinite where one is not finite."""
    return abs(theirs / own - 1) if math.isfinite(own) and math.isfinite(theirs) else math.inf


def medians(results):
    """Seconds of each contender, ours first."""
    return {name: statistics.median(values) for name, values in results["seconds"].items()}


def time_lines(results):
    """Seconds, their range, the ratio to ours and the memory of each contender."""
    seconds = medians(results)
    own = next(iter(seconds.values()))
    width = max(map(len, seconds)) + 2
    lines = [f"{'':{width}}{'seconds':>9}{'(range)':>16}{'ratio':>8}{'memory':>10}"]
    for name, values in results["seconds"].items():
        spread = f"({min(values):.2f}-{max(values):.2f})"
        memory = f"{results['peak_bytes'][name] / 1e9:.2f} GB"
        lines.append(
            f"{name:{width}}{seconds[name]:9.2f}{spread:>16}{seconds[name] / own:8.2f}{memory:>10}"
        )
    return lines


def rate_line(label, results):
    """What our work comes to in a second, and as a share of the product peak."""
    first, second = halves(results)
    peak = statistics.median(itertools.chain(*results["product_rates"]))
    rate = results["work"] / next(iter(medians(results).values()))
    return (
        f"{label} {results['work'] / 1e9:.0f} GFLOP: {rate / 1e9:.0f} GFLOP/s, "
        f"{rate / peak:.1%} of the product peak {peak / 1e9:.0f} "
        f"(halves {first / 1e9:.0f}, {second / 1e9:.0f})"
    )
