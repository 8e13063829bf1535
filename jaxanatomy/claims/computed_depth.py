"""How deep trained arms compute: what DG section 4 and its appendices claim, on any trained arms.

One list of claims for every experiment whose final rows have `edited` and `depth`; a `Setting`
says what differs: the rows, what an edit costs, and from what size on a difference counts.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from jaxanatomy.claims.arms import against, compared, require_tuned
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL, Rule, not_above
from jaxanatomy.growth.depth_arms import BASELINE, LN_SCALING
from jaxanatomy.growth.maps import depths, lidas, midas
from jaxanatomy.measures.arms.computed_depth import (
    COSINE_PERIOD,
    FIRST_ATTENTION,
    FIRST_COSINE,
    NORM_PERIOD,
    NORM_RISE,
    SCORE,
    SIMILARITY,
    SYMMETRY,
    depth_readings,
)
from jaxanatomy.measures.arms.depth_edits import ACROSS, COSTS, LATE, PAIRS, BySeed
from jaxanatomy.measures.arms.finals import Finals
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.measures.statistics.seed_spread import seed_spread
from jaxanatomy.words import PLAIN, threshold

MIDAS, LIDAS = "midas", "lidas"
GROWN = (MIDAS, LIDAS)
LN_LIDAS = f"{LN_SCALING}_{LIDAS}"
LEAST = 3.0  # points of a share of answers: other held-out sequences would move it by about one


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the arms of an experiment are read on.

    Attributes:
      finals: Their final rows, `with_values` of `readings`.
      prefix: Of the claims' ids.
      unit: Of what an edit costs.
      scale: What it is multiplied by.
      lost: What it costs, after "more".
      cost_of: What of, after its name.
      least: From what difference of costs on a claim holds.
      deeper: Layers of depth score. A choice, as the paper draws scores and prints none: lower by
        any amount is what it says, and a tie is no gain in depth either.
      exits: The reading of late exits.
      finish_later: The claim about them.
      exits_printed: What the paper has of it.
    """

    finals: Rows
    prefix: str
    unit: str
    scale: float
    lost: str
    cost_of: str
    least: float
    deeper: float
    exits: str
    finish_later: str
    exits_printed: str

    @property
    def amount(self) -> str:
        """The least difference of costs, in words."""
        return threshold(self.least, self.unit)

    def costs_above(self, other: str, edit: str) -> Quantity:
        """How much more than another arm's an edit costs, one of `depth_edits.COSTS`."""

        def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
            return less_than(own, its, edit, level).map(lambda each: self.scale * each)

        words = f"the {edit}{self.cost_of}, less that of {{other}}"
        return against(other, words, self.unit, of, edit)

    def claim(
        self,
        id: str,
        source: str,
        statement: str,
        paper: str,
        arms: Sequence[str],
        *rules: tuple[Quantity, Rule],
    ) -> Claim:
        """That arms meet rules; those of some arms that a run has."""
        criteria = tuple(compared(self.finals, those_trained(*arms), *each) for each in rules)
        id = f"{self.prefix}{id}"
        return Claim(id, source, statement, paper, criteria if len(rules) > 1 else criteria[0])


def readings(by_arm: Finals) -> dict[str, BySeed]:
    """All that is read of how arms compute, by name: what edits cost, and `depth_readings`."""
    return {**{name: of(by_arm) for name, of in COSTS.items()}, **depth_readings(by_arm)}


def with_values(rows: Iterable[Row], values: Mapping[str, BySeed]) -> list[Row]:
    """Final rows with values by arm and seed, and what seeds do to each (`spreads`)."""
    spreads = {name: seed_spread(own, of_difference=True) for name, own in values.items()}
    return [
        {**row, "spreads": spreads}
        | {name: own.get(row["arm"], {}).get(row["seed"]) for name, own in values.items()}
        for row in rows
    ]


def less_than(own: Sequence[Row], its: Sequence[Row], field: str, level: float) -> Estimate:
    """A field of one arm less that of another, seed by seed."""
    require_tuned(own, its)
    less = [row[field] - paired[field] for row, paired in zip(own, its, strict=True)]
    arms = own[0]["arm"], its[0]["arm"]
    return own[0]["spreads"][field].mean(less, arms, level)


def reads_above(other: str, reading: str) -> Quantity:
    """A reading of `measures.arms.computed_depth` less that of another arm."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        return less_than(own, its, reading, level)

    return against(other, f"the {reading} less that of {{other}}", PLAIN, of, reading)


def those_trained(*arms: str) -> Callable[[Table], Sequence[str]]:
    """Those of some arms that a run has; all where it has none."""
    return lambda table: [arm for arm in arms if table.find({"arm": arm})] or arms


def unlike(quantity: Quantity) -> Quantity:
    """A comparison of LIDAS with MIDAS, which decides nothing where they grow the same model."""

    def read(part: Part, level: float) -> Estimate:
        layers, block = len(part.table.layers), part.table.record.config.get("block")
        before = depths(block, layers, block)[:-1] if layers and block else ()
        if before and all(midas(depth, block) == lidas(depth, block) for depth in before):
            raise MissingError("both insert the same layers at every growth step")
        return quantity.of(part, level)

    return dataclasses.replace(quantity, of=read)


def depth_claims(setting: Setting) -> tuple[Claim, ...]:
    """All claims of DG section 4, with figures of appendices D and E."""
    return (
        *_on_use(setting),
        *_on_orders(setting),
        *_on_ln_scaling(setting),
        *_on_patterns(setting),
        *_on_blocks(setting),
    )


def _on_use(setting: Setting) -> tuple[Claim, ...]:
    return (
        setting.claim(
            "grown_models_need_late_layers",
            "DG section 4.1, Figures 1 and 8",
            f"Leaving out a layer of the second half costs grown models more {setting.lost} than "
            f"it costs the baseline, by {setting.amount} or more.",
            "read off figures: baseline little, MIDAS and LIDAS substantially more",
            GROWN,
            (setting.costs_above(BASELINE, LATE), ALL.above(setting.least)),
        ),
        setting.claim(
            "grown_models_have_higher_depth_scores",
            "DG section 4.1, Figures 1A and 14A",
            "Grown models have a higher depth score than the baseline: later layers do more for "
            "later tokens.",
            "read off figures: higher for MIDAS and LIDAS in seven of eight",
            GROWN,
            (reads_above(BASELINE, SCORE), ALL.above(0.0)),
        ),
        setting.claim(
            "grown_models_finish_later",
            "DG section 4.1, Figures 1B and 14B",
            f"{setting.finish_later}, by {LEAST:g} points or more.",
            setting.exits_printed,
            GROWN,
            (reads_above(BASELINE, setting.exits), ALL.below(-LEAST / 100)),
        ),
    )


def _on_orders(setting: Setting) -> tuple[Claim, ...]:
    return (
        setting.claim(
            "grown_models_keep_swapped_blocks",
            "DG section 4.2, Figure 3",
            "Exchanging two blocks of two layers, the first layer left in its place, costs grown "
            f"models less {setting.lost} than it costs the baseline, by {setting.amount} or more.",
            "read off figures: 'the degradation in performance for MIDAS is much smaller'",
            GROWN,
            (setting.costs_above(BASELINE, PAIRS), ALL.below(-setting.least)),
        ),
        setting.claim(
            "midas_minds_reversals_across_blocks",
            "DG section 4.3, Figures 6, 11 and 18",
            "In MIDAS reversing the order of layers costs more where it begins inside a block than "
            "where it begins with the first layer of one, by more than in the baseline, by "
            f"{setting.amount} or more.",
            "read off figures: 'MIDAS is especially sensitive to reversing the order across grown "
            "blocks'; of four layers in blocks of four, here of two blocks",
            (MIDAS,),
            (setting.costs_above(BASELINE, ACROSS), ALL.above(setting.least)),
        ),
    )


def _on_ln_scaling(setting: Setting) -> tuple[Claim, ...]:
    return (
        setting.claim(
            "ln_scaling_no_deeper",
            "DG section 4.1 and appendix E, Figures 1A and 14A",
            "LN-scaling has no higher depth score than the baseline, to "
            f"{setting.deeper:g} layers, and is not told to have one.",
            "read off figures: 'LN-Scaling shows a lower depth score'",
            (LN_SCALING,),
            (reads_above(BASELINE, SCORE), not_above(ALL, setting.deeper)),
        ),
        setting.claim(
            "growth_deepens_ln_scaling",
            "DG appendix E, Figures 27 and 28",
            "LN-scaling with LIDAS has a higher depth score than LN-scaling alone.",
            "read off figures: 'growing can also increase the depth usage of architectures using "
            "LN-Scaling'",
            (LN_LIDAS,),
            (reads_above(LN_SCALING, SCORE), ALL.above(0.0)),
        ),
    )


def _on_patterns(setting: Setting) -> tuple[Claim, ...]:
    return (
        setting.claim(
            "attention_repeats_in_grown_models",
            "DG section 4.3, Figures 4, 23 and 24",
            "What attention adds, in norm and cosine, repeats itself from block to block in grown "
            "models, more than in the baseline.",
            "read off figures: 'a highly cyclical pattern in the middle'",
            GROWN,
            (reads_above(BASELINE, NORM_PERIOD), ALL.above(0.0)),
            (reads_above(BASELINE, COSINE_PERIOD), ALL.above(0.0)),
        ),
        setting.claim(
            "attention_rises_within_blocks",
            "DG section 4.3, Figures 4, 23 and 24",
            "From the first layer of a central block to its last, what attention adds grows "
            "against the stream, in grown models more than in the baseline.",
            "read off figures: 'always grows from its lowest point at the first layer of every "
            "block to its highest point at the last'",
            GROWN,
            (reads_above(BASELINE, NORM_RISE), ALL.above(0.0)),
        ),
        setting.claim(
            "first_attention_of_blocks_less_aligned_in_midas",
            "DG section 4.3, Figure 4",
            "What the attention of a central block's first layer adds has a lower cosine to the "
            "stream in MIDAS than in LIDAS.",
            "read off figures: MIDAS 'very low'; in LIDAS it 'never drops as low'",
            (MIDAS,),
            (unlike(reads_above(LIDAS, FIRST_COSINE)), ALL.below(0.0)),
        ),
        setting.claim(
            "first_attention_of_blocks_does_more_in_lidas",
            "DG section 4.4, Figures 7b and 21",
            "Without the attention of a central block's first layer later layers write something "
            "else, in LIDAS more than in MIDAS.",
            "read off figures: 'a lower effect on the following layers' current computations in "
            "MIDAS'",
            (LIDAS,),
            (unlike(reads_above(MIDAS, FIRST_ATTENTION)), ALL.above(0.0)),
        ),
    )


def _on_blocks(setting: Setting) -> tuple[Claim, ...]:
    source = "DG section 4.4, Figures 7a and 22"
    return (
        setting.claim(
            "blocks_of_grown_models_are_alike",
            source,
            "The FFN weights of grown models' blocks are more alike than those of the baseline's.",
            "read off figures; 'we omit the baseline as its weight similarities are all close to "
            "zero'",
            GROWN,
            (reads_above(BASELINE, SIMILARITY), ALL.above(0.0)),
        ),
        setting.claim(
            "lidas_blocks_more_alike_than_midas",
            source,
            "The FFN weights of LIDAS's blocks are more alike than those of MIDAS's.",
            "read off figures: 'in LIDAS, inter-block cosine similarities are higher'",
            (LIDAS,),
            (unlike(reads_above(MIDAS, SIMILARITY)), ALL.above(0.0)),
        ),
        setting.claim(
            "lidas_blocks_more_symmetric_than_midas",
            source,
            "In LIDAS blocks are more symmetric about the model's centre than in MIDAS.",
            "read off figures",
            (LIDAS,),
            (unlike(reads_above(MIDAS, SYMMETRY)), ALL.above(0.0)),
        ),
    )
