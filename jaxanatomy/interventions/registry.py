"""Every intervention by its name: the place where a new one is entered."""

import dataclasses
import re

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.copies import copy
from jaxanatomy.interventions.intervention import Arguments, Intervention
from jaxanatomy.interventions.means import aligned_mean, neighbour_mean, rescaled_mean
from jaxanatomy.interventions.noise import matched_noise
from jaxanatomy.interventions.permute import permuted_rows
from jaxanatomy.interventions.scale import scale
from jaxanatomy.interventions.zero import zero_steps


def _head_dim(config: ModelConfig, layer: int) -> Arguments:
    del layer
    return {"head_dim": config.head_dim}


_BOTH = {"sources": (-1, 1), "at_ends": True}

_ALL = (
    Intervention("neighbour_mean", "mean of the two neighbouring layers", neighbour_mean, **_BOTH),
    Intervention(
        "neighbour_mean_with_norms",
        "neighbour_mean, the norm weights too",
        neighbour_mean,
        components=None,
        **_BOTH,
    ),
    Intervention("zero", "all weights zero: the layer is skipped", steps=zero_steps),
    Intervention("copy_previous", "copy of the layer before", copy, sources=(-1,)),
    Intervention("copy_next", "copy of the layer after", copy, sources=(1,)),
    Intervention(
        "rescaled_mean",
        "neighbour_mean, each matrix scaled to the norm of the original",
        rescaled_mean,
        **_BOTH,
    ),
    Intervention(
        "aligned_mean",
        "neighbour_mean after neurons and heads were matched with the layer's own",
        aligned_mean,
        arguments=_head_dim,
        on_host=True,
        **_BOTH,
    ),
    Intervention(
        "matched_noise",
        "Gaussian noise with each matrix's mean and standard deviation",
        matched_noise,
        seed=10_000,
        on_host=True,
    ),
    Intervention(
        "permuted_rows",
        "each matrix's output rows in random order",
        permuted_rows,
        seed=20_000,
        on_host=True,
    ),
)
INTERVENTIONS = {intervention.name: intervention for intervention in _ALL}

_NUMBER = r"\d*\.?\d+"


def scaled(alpha: float, *, output_only: bool = False) -> Intervention:
    """The weights times alpha; `output_only`: those of o_proj and down_proj alone.

    Scaling the output alone multiplies what the layer writes by alpha, exactly.
    """
    name = "scale_output" if output_only else "scale"
    return Intervention(
        f"{name}_{alpha:g}",
        f"{'o_proj and down_proj' if output_only else 'all seven matrices'} times {alpha:g}",
        scale,
        components=("o_proj", "down_proj") if output_only else tree.MATRICES,
        arguments=lambda config, layer: {"alpha": float(alpha)},
    )


def choose_intervention(intervention: str | Intervention) -> Intervention:
    """The intervention of a name: those of `INTERVENTIONS`, scale_ALPHA, scale_output_ALPHA.

    One that draws may name its draw: "matched_noise#2". An `Intervention` of the user's own
    passes as it is.

    Raises:
      InputError: no such name (the message has the closest one), a draw of what is not
        drawn, or an intervention of one's own under a name that is taken.
    """
    if isinstance(intervention, Intervention):
        own = dataclasses.replace(intervention, draw=0)
        if INTERVENTIONS.get(intervention.name, own) != own:
            raise InputError(
                f"the name {intervention.name!r} belongs to a built-in intervention; "
                "give your own another name"
            )
        return intervention
    match = re.fullmatch(rf"scale(_output)?_({_NUMBER})", str(intervention))
    if match:
        return scaled(float(match.group(2)), output_only=bool(match.group(1)))
    name, mark, draw = str(intervention).partition("#")
    known = choose("intervention", name, [*INTERVENTIONS, "scale_0.9", "scale_output_0.9"])
    found = INTERVENTIONS[known]
    if not mark:
        return found
    if found.seed is None or not re.fullmatch(r"[1-9]\d{0,3}", draw):
        drawn = ", ".join(i.name for i in _ALL if i.seed is not None)
        raise InputError(
            f"a draw is named as matched_noise#2, a number from 1 after what draws ({drawn}); "
            f"got {intervention!r}"
        )
    return dataclasses.replace(found, draw=int(draw))


def describe_interventions() -> list[tuple[str, str]]:
    """(name, one line of help with the layers at which it exists), for listings."""
    lines = [(i.name, f"{i.help} ({i.where()})") for i in INTERVENTIONS.values()]
    return [
        *lines,
        ("NAME#DRAW", "another draw of what is random, for example matched_noise#2"),
        ("scale_ALPHA", "all seven matrices times ALPHA, for example scale_0.9 (every layer)"),
        ("scale_output_ALPHA", "o_proj and down_proj times ALPHA (every layer)"),
    ]
