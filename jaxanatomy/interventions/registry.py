"""Every intervention by its name: the place where a new one is entered."""

import dataclasses
import re
from typing import Any

from jaxanatomy import tree
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.blends import blend, distance_weights
from jaxanatomy.interventions.copies import copy
from jaxanatomy.interventions.intervention import Arguments, At, Intervention, seeded
from jaxanatomy.interventions.low_rank import low_rank, own_svd
from jaxanatomy.interventions.means import aligned_mean, neighbour_mean, rescaled_mean
from jaxanatomy.interventions.noise import matched_noise, perturb
from jaxanatomy.interventions.orders import cut, early_exit, repeat, reverse, swap
from jaxanatomy.interventions.permute import permuted_rows
from jaxanatomy.interventions.predicted import predicted, predicted_noise
from jaxanatomy.interventions.scale import scale
from jaxanatomy.interventions.sources import Earlier, Offsets, Outside
from jaxanatomy.interventions.zero import zero

_BOTH = Offsets((-1, 1), at_ends=True)


def _head_dim(at: At) -> Arguments:
    return {"head_dim": at.config.head_dim}


def _nearness(at: At) -> Arguments:
    return {"weights": distance_weights(abs(source - at.layer) for source in at.sources)}


def _depth(at: At) -> Arguments:
    return {"num_layers": at.config.num_layers}


def _depth_and_draw(at: At) -> Arguments:
    return {"num_layers": at.config.num_layers, "seed": at.draw}


def _layer_and_draw(at: At) -> Arguments:
    return {"layer": at.layer, "seed": at.draw}


_ALL = (
    Intervention("zero", "all weights zero: the layer is skipped", changes=zero),
    Intervention("neighbour_mean", "mean of the two neighbouring layers", neighbour_mean, _BOTH),
    Intervention(
        "neighbour_mean_with_norms",
        "neighbour_mean, the norm weights too",
        neighbour_mean,
        _BOTH,
        components=None,
    ),
    Intervention(
        "rescaled_mean",
        "neighbour_mean, each matrix scaled to the norm of the original",
        rescaled_mean,
        _BOTH,
    ),
    Intervention(
        "aligned_mean",
        "neighbour_mean after neurons and heads were matched with the layer's own",
        aligned_mean,
        _BOTH,
        arguments=_head_dim,
        on_host=True,
    ),
    Intervention("copy_previous", "copy of the layer before", copy, Offsets((-1,))),
    Intervention("copy_next", "copy of the layer after", copy, Offsets((1,))),
    Intervention("clone", "copy of the nearest layer that does not change", copy, Outside(1)),
    Intervention(
        "clone_high",
        "clone, of two equally near layers the higher one",
        copy,
        Outside(1, higher=True),
    ),
    Intervention(
        "clone_with_norms",
        "clone, the norm weights too",
        copy,
        Outside(1),
        components=None,
    ),
    *(
        Intervention(
            f"blend_{count}",
            f"the {count} nearest layers that do not change, weighted by 1/distance",
            blend,
            Outside(count),
            arguments=_nearness,
        )
        for count in (2, 4)
    ),
    Intervention("scale", "all seven matrices times ALPHA", scale, takes="alpha"),
    Intervention(
        "scale_output",
        "o_proj and down_proj times ALPHA: what the layer writes, exactly",
        scale,
        takes="alpha",
        components=tree.WRITING,
    ),
    Intervention(
        "low_rank",
        "singular vectors of the nearest layer that does not change, singular values of its own",
        low_rank,
        Outside(1),
        takes="rank",
        on_host=True,
    ),
    Intervention(
        "own_svd", "its own largest singular values alone", own_svd, takes="rank", on_host=True
    ),
    Intervention(
        "predicted",
        "what ridge regression on the earlier layers predicts",
        predicted,
        Earlier(),
        arguments=_depth,
        on_host=True,
    ),
    Intervention(
        "predicted_noise",
        "noise as large as the error of that prediction, added to its own weights",
        predicted_noise,
        Earlier(),
        arguments=_depth_and_draw,
        is_random=True,
        on_host=True,
    ),
    Intervention(
        "matched_noise",
        "Gaussian noise with each matrix's mean and standard deviation",
        matched_noise,
        arguments=seeded(10_000),
        is_random=True,
        on_host=True,
    ),
    Intervention(
        "permuted_rows",
        "each matrix's output rows in random order",
        permuted_rows,
        arguments=seeded(20_000),
        is_random=True,
        on_host=True,
    ),
    Intervention(
        "perturb",
        "noise of ALPHA times each matrix's standard deviation, added to its own weights",
        perturb,
        takes="alpha",
        arguments=_layer_and_draw,
        is_random=True,
        on_host=True,
    ),
    Intervention("cut", "the layers are left out", changes=cut),
    Intervention("repeat", "the span is applied twice", changes=repeat),
    Intervention(
        "repeat_damped",
        "the change that the second time makes is added times ALPHA",
        takes="alpha",
        changes=repeat,
    ),
    Intervention("swap", "the halves of the span change places", changes=swap),
    Intervention("reverse", "the span is applied in reverse order", changes=reverse),
    Intervention("exit", "the model is read out after the layer", changes=early_exit),
)
INTERVENTIONS = {intervention.name: intervention for intervention in _ALL}

_EXAMPLES = {"alpha": 0.9, "rank": "half"}


def choose_intervention(given: str | Intervention) -> Intervention:
    """The intervention of a name, with its setting and its draw: "scale_0.9", "perturb_0.01#2".

    An `Intervention` of the user's own passes as it is.

    Raises:
      InputError: No such name (the message has the closest one), a setting that is missing, a
        draw of what is not drawn, an intervention of one's own under a name that is taken.
    """
    if isinstance(given, Intervention):
        known = INTERVENTIONS.get(given.name)
        if known and dataclasses.replace(given, draw=0, setting=None) != known:
            raise InputError(
                f"the name {given.name!r} belongs to a built-in intervention; "
                "give your own another name"
            )
        return given
    name, mark, draw = str(given).partition("#")
    found = _with_setting(name)
    if not mark:
        return found
    if not found.is_random or not re.fullmatch(r"[1-9]\d{0,3}", draw):
        drawn = ", ".join(each.form for each in _ALL if each.is_random)
        raise InputError(
            f"a draw is named as matched_noise#2, a number from 1 after what draws ({drawn}); "
            f"got {given!r}"
        )
    return dataclasses.replace(found, draw=int(draw))


def describe_interventions() -> list[tuple[str, str]]:
    """(name, one line of help with the layers at which it exists), for listings."""
    lines = [(i.form, f"{i.help} ({i.sources.where})") for i in _ALL]
    return [*lines, ("NAME#DRAW", "another draw of what is random, for example matched_noise#2")]


def _with_setting(name: str) -> Intervention:
    found = INTERVENTIONS.get(name)
    if found and found.takes:
        raise InputError(
            f"intervention {name!r} needs {found.takes}; got none; put it into the name: "
            f"'{name}_{_EXAMPLES[found.takes]}'"
        )
    head, _, setting = name.rpartition("_")
    if found is None and head in INTERVENTIONS and INTERVENTIONS[head].takes:
        return INTERVENTIONS[head].with_setting(_number(setting))
    return found or INTERVENTIONS[choose("intervention", name, [each.form for each in _ALL])]


def _number(text: str) -> Any:
    """A number if the text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
