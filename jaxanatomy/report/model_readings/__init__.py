"""How arms compute at their end, on the page of every experiment that reads its trained models.

DG section 4: Figures 1 and 3 to 7 as far as small models carry them.
"""

import functools
from collections.abc import Callable, Sequence

from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.arms import LOOKS, OPERATORS
from jaxanatomy.report.common import ARM, by_layer
from jaxanatomy.report.model_readings import rows
from jaxanatomy.report.sections import Section, Words
from jaxanatomy.words import listed

LOOPS = v.Strip(
    "loops",
    rows.loops,
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("once", "times the loss without", "log"),
    marks=(
        v.Mark("once", "once more", "o", style.PAPER, -0.2),
        v.Mark("twice", "twice more", "s", style.CROSS),
        v.Mark("damped", "once more, at half strength", "D", style.MUTED, 0.2),
    ),
    levels=(v.Level(1.0),),
    caption=(
        "Left of 1 the model is better with its middle block applied again, of as many layers in "
        "every arm (block of the config), also where the name says another size. Intervals are "
        "over seeds, and hold for all of this figure at once."
    ),
)
DEPTH = v.Strip(
    "depth_differences",
    rows.depth_differences,
    facet="reading",
    columns=2,
    size=(4.4, 1.7),
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("difference", "less the baseline's"),
    levels=(v.Level(0.0),),
    share=False,
    caption=(
        "h is the stream before a layer, a what its attention adds. Differences seed by seed; "
        "intervals are over seeds and hold for all arms of a panel at once. Arms of another depth "
        "are left out. Where answers may be guessed, of arms that answer less than a quarter of "
        "what guessing leaves only the weights are compared."
    ),
)
DEPTH_TABLE = v.Table(
    "depth_readings",
    rows.depth_values,
    "How deep trained models compute, mean over seeds",
    cells=(
        v.Column("reading", "reading"),
        ARM,
        v.Column("mean, lowest and highest seed", "value", ".3g"),
        v.Column("less the baseline's (95 %)", "difference", "+.3g"),
    ),
    note=(
        "Depth score: the layer, counted from 0, at which what layers do for answers at later "
        "tokens stands on average. Late exits, after a layer of the second half: the share of "
        "answers that are the final ones; overlap, on text: the share of the final five likeliest "
        "tokens among the five likeliest there. Symmetry: 1 where blocks mirrored at the centre "
        "are as alike as each other, about 0 by chance. Periodicity: how much more alike layers a "
        "block apart are than layers one more or one less apart. Effect of first attention: what "
        "later layers change without that of a block's first layer, cos(a, h) of it, and how much "
        "more |a| / |h| the last layer of a block has than the first: means over inner blocks. "
        "Blocks are of as many layers in every arm."
    ),
    printed=True,
)
DEPTH_PROFILE = by_layer(
    "depth_profile",
    rows.depth_profile,
    rows.PROFILE,
    x=v.Axis("layer", "layer", "names"),
    series=OPERATORS,
    dashes=LOOKS,
    size=(3.2, 2.5),
    caption=(
        "Means over seeds and their ranges; h is the stream before the layer, a what attention "
        "writes, m what the MLP writes (DG Figure 4)."
    ),
)
SIMILARITY = v.Heatmap(
    "block_similarity",
    rows.similarities,
    columns=3,
    x=v.Axis("layer", "first layer of a block"),
    y=v.Axis("other", "first layer"),
    cell=v.Axis("value", "cosine of two blocks' FFN weights", "diverging"),
    numbers=False,
    caption=(
        "Blocks of as many layers as a growth step adds (DG Figure 7a), but of as many in arms "
        "whose names say another size (_b1, _b3), so that arms compare; means over seeds."
    ),
)
EFFECTS = tuple(
    v.Heatmap(
        f"effects_{name}",
        functools.partial(rows.effects, name),
        columns=3,
        x=v.Axis("layer", "effect at layer"),
        y=v.Axis("other", "silenced"),
        cell=v.Axis("value", label),
        numbers=False,
        caption=f"{caption}; means over seeds.",
    )
    for name, label, caption in (
        (
            "later",
            "mean relative change at later tokens",
            "A layer writes nothing up to a boundary, and layers pass the change on (DG Figure 5a)",
        ),
        (
            "later_local",
            "mean relative change at later tokens",
            "The same, but each later layer sees that change alone (DG Figure 5b)",
        ),
        (
            "attention",
            "mean relative change at all tokens",
            "The attention of a layer writes nothing at all (DG Figure 7b)",
        ),
    )
)


def edits(
    y: v.Axis, lead: str, made: Callable[[RunRecord], Sequence[v.Row]] = rows.edits
) -> v.Curves:
    """What each edit does, in a panel of each kind.

    Args:
      y: What is drawn, a field of `rows.edits`.
      lead: The caption's first words.
      made: Which of these rows.
    """
    return v.Curves(
        "edits",
        made,
        columns=4,
        x=v.Axis("layer", "layer", "names"),
        y=y,
        series=OPERATORS,
        dashes=LOOKS,
        band=y.field,
        size=(2.6, 2.7),
        caption=(
            f"{lead}; means over seeds and their ranges. Of exchanged blocks and reversed layers "
            "the layer is the first."
        ),
    )


def sections(*edited: v.View, read_on: Words) -> tuple[Section, ...]:
    """What edits cost, and how deep arms compute.

    Args:
      edited: Views of edits: `edits`, and those of exits.
      read_on: A sentence on what depth is read on.
    """
    return (
        Section(
            "The middle block applied again",
            "Nothing is trained for it. A model whose layers were copied from each other might "
            "take one more pass as one more layer (arXiv 2602.16490); what flat models make of it "
            "is the control.",
            LOOPS,
        ),
        Section(
            "Which layers a trained model needs",
            "Nothing is trained for this either. A model that uses its depth loses answers without "
            "its late layers; one whose blocks are copies of each other might not mind their "
            "order, and yet that of the layers in them (DG sections 4.1 to 4.3).",
            *edited,
        ),
        Section(
            "How deep trained models compute",
            read_on,
            DEPTH,
            DEPTH_TABLE,
            DEPTH_PROFILE,
            *EFFECTS,
            SIMILARITY,
        ),
    )


def unread(record: RunRecord) -> str:
    """Which arms have nothing on their page, as their models were not read."""
    names = rows.unread(record)
    if not names:
        return ""
    return (
        f"Not read at their end, so that edits and depth lack them: {listed(names)}. Their rows "
        "are of an earlier version, depth_sequences is 0, or what was read is not finite."
    )
