"""What a step does to a layer: the same for the sweep and for a model that is written."""

import math
from collections.abc import Callable, Mapping

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.scopes import head_index
from jaxanatomy.interventions.variants import Step


def edited_arrays(
    function: Callable[..., tree.BlockParams],
    scope: tuple[str, ...],
    arguments: tuple,
    own: tree.BlockParams,
    *others: tree.BlockParams,
) -> Mapping[str, tree.Array]:
    """What an edit puts in place of the components in its scope, in their dtype.

    Args:
      function: As `scope` and `arguments`, a field of an `Edit`.
      scope: The components.
      arguments: Keyword arguments of the function as pairs.
      own: The unedited block of the layer.
      *others: The unedited blocks of the edit's sources.

    Raises:
      InputError: The function does not keep a shape.
    """
    arrays = tree.components(function(own, *others, **dict(arguments)), scope)
    for name, array in arrays.items():
        expected = tree.get(own, name).shape
        if array.shape != expected:
            raise InputError(
                f"an intervention must keep shapes; {function.__name__} gave {name} "
                f"{array.shape} for {expected}"
            )
    return {name: array.astype(tree.get(own, name).dtype) for name, array in arrays.items()}


def part_factors(config: ModelConfig, step: Step) -> tuple[float, ...]:
    """What a step multiplies the parts of its layer by: each query head, attention, the MLP.

    Attention's own factor is that of what it writes beside its heads, the bias of o_proj; where
    there is none, 0 if no head writes anything, else 1.

    Raises:
      InputError: A factor of something else, of a head that the layer does not have, or one
        that is not finite.
    """
    shape = config.layers[step.layer]
    heads, sublayers = [1.0] * shape.num_heads, {"attention": 1.0, "mlp": 1.0}
    for name, factor in step.factors:
        head = head_index(name)
        known = name in sublayers or (head is not None and head < len(heads))
        if not known or not math.isfinite(factor):
            raise InputError(
                "a step has finite factors of 'attention', 'mlp' or 'head_0' .. "
                f"'head_{len(heads) - 1}'; got {name!r} times {factor} at layer {step.layer}"
            )
        if head is None:
            sublayers[name] = factor
        else:
            heads[head] = factor
    heads = [factor * sublayers["attention"] for factor in heads]
    if "o_proj" not in shape.biases:
        sublayers["attention"] = float(any(heads))
    return (*heads, sublayers["attention"], sublayers["mlp"])
