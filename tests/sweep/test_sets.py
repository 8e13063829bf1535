"""Sets of layers that are edited at once: what the sweep runs is what is distinct, once."""

from naive import CONFIG, naive_nll, random_params, text

from jaxanatomy.interventions.grid import manipulation_grid
from jaxanatomy.interventions.perturbations import perturbation_variants
from jaxanatomy.interventions.variants import baseline, baseline_steps
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import Sweep, SweepOptions

INNER = {1: 3.0, 2: 1.0, 3: 2.0}


def test_the_applications_that_run_are_the_distinct_ones():
    variants = [*manipulation_grid(CONFIG, INNER), *perturbation_variants(CONFIG, (0.1,))]
    options = SweepOptions(widths=(1,), chunk_size=1000)
    anchor = baseline(CONFIG.num_layers)
    sweep = Sweep(CONFIG, variants, [text()], {"nll": nll}, options, anchor=anchor)
    sweep.place(random_params(CONFIG))
    sweep.compile()
    calls = []

    def counted(program):
        def call(*args):
            calls.append(program)
            return program(*args)

        return call

    # With one stream in a call, calls of "apply" are layer applications.
    sweep._programs = {
        key: counted(program) if key[0] == "apply" else program
        for key, program in sweep._programs.items()
    }
    readings = sweep.run(0)
    beginnings = {
        steps[: end + 1]
        for steps in [baseline_steps(CONFIG.num_layers), *(each.steps for each in variants)]
        for end in range(len(steps))
    }
    assert len(calls) == len(beginnings)
    assert sweep.distinct_applications == sweep.executed_applications == len(beginnings)
    assert len(beginnings) < 0.75 * sum(len(variant.steps) for variant in variants)
    worst = max(variants, key=lambda variant: len(variant.labels["layers"]))
    expected = naive_nll(CONFIG, random_params(CONFIG), worst.steps, text())
    assert abs(readings["nll"][worst.name] - expected).max() < 1e-5 * abs(expected).max()
