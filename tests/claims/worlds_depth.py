"""Worlds of the claims about how deep arms compute, of every experiment that reads its models."""

import khop_growth_run as run
import numpy as np
from claims.worlds import WORLDS, Worlds
from claims.worlds_training import deep, same
from report.depth_growth_rows import text_edits

from jaxanatomy.claims.computed_depth import LEAST
from jaxanatomy.claims.depth_growth import SETTING

SPREAD = 0.05  # of readings and costs over seeds
GROWN, SCALED = ("midas", "lidas"), ("ln_scaling", "ln_scaling_lidas")
IS_FIRST = np.arange(6) % 2 == 0  # of a block of two layers
# Arms that do nothing; intervals of so many reach some four spreads.
OTHERS = ("midas", "lidas", "shallow", "fresh_layers", "aligned", "stack_top", "mean_depth")


def noisy(generator, value):
    """A value, or one for each layer, with what a seed does to it."""
    return (value + SPREAD * generator.normal(size=np.shape(value))).tolist()


def enter_depth(setting, make, least, far):
    """Enters the two worlds of each of `claims.computed_depth.depth_claims`.

    Args:
      setting: Of the claims.
      make: A world, of arms that it has besides, with `depth`, readings by name and function of
        the arm, and what edits cost, `cut`, `swapped`, `across`, functions of the arm.
      least: A cost at the threshold.
      far: Twice what a run can show.
    """

    def lost(edit, amount, arms=GROWN):
        return make((), **{edit: lambda arm: amount * (arm in arms)})

    def reads(names, true, nothing=0.0, arms=GROWN, layers=1.0, more=(), is_false=False):
        """Readings of some arms, `layers` times them where each layer has one; of others 0."""

        def world(value):
            of = [(name, lambda arm: value * (arm in arms) * layers) for name in names]
            return make(more, depth=of)

        return Worlds(world(true), world(nothing), is_false)

    lidas, midas = ("lidas",), ("midas",)
    periodic = ["attention_norm_periodicity", "attention_cosine_periodicity"]
    worlds = {
        "grown_models_need_late_layers": Worlds(lost("cut", far), lost("cut", least)),
        "grown_models_keep_swapped_blocks": Worlds(lost("swapped", -far), lost("swapped", -least)),
        # A difference of two edits, each with noise of its own.
        "midas_minds_reversals_across_blocks": Worlds(
            lost("across", far, midas), lost("across", least, midas)
        ),
        # An exit loses what a layer that is left out does.
        "grown_models_finish_later": Worlds(lost("cut", far), lost("cut", LEAST / 100)),
        "grown_models_have_higher_depth_scores": reads(["depth_score"], far),
        # A model whose score is higher by the margin has a higher one, as some draws tell.
        "ln_scaling_no_deeper": reads(
            ["depth_score"], -far, setting.deeper, SCALED[:1], more=SCALED, is_false=True
        ),
        "growth_deepens_ln_scaling": reads(["depth_score"], far, arms=SCALED[1:], more=SCALED),
        "blocks_of_grown_models_are_alike": reads(["block_similarity"], far),
        "lidas_blocks_more_alike_than_midas": reads(["block_similarity"], far, arms=lidas),
        "lidas_blocks_more_symmetric_than_midas": reads(["block_symmetry"], far, arms=lidas),
        "first_attention_of_blocks_does_more_in_lidas": reads(["first_attention"], far, arms=lidas),
        "attention_repeats_in_grown_models": reads(periodic, far),
        # A difference of two layers, each with noise of its own.
        "attention_rises_within_blocks": reads(["attention_norm"], 2 * far, layers=~IS_FIRST),
        "first_attention_of_blocks_less_aligned_in_midas": reads(
            ["attention_cosine"], -far, arms=midas, layers=1.0 * IS_FIRST
        ),
    }
    WORLDS.update({f"{setting.prefix}{id}": own for id, own in worlds.items()})


def text(more, depth=(), **lost):
    """Rows of a run on text, whose arms have equal losses; arguments as `enter_depth` gives."""

    def fields(generator, arm):
        less = {name: noisy(generator, of(arm)) for name, of in lost.items()}
        own = {name: noisy(generator, of(arm)) for name, of in depth}
        return {"edited": text_edits(arm, 3.0, **less), "depth": run.depth_of(arm, **own)}

    return deep(same, (*OTHERS, *more), fields=fields)


enter_depth(SETTING, text, SETTING.least, 12 * SPREAD)
