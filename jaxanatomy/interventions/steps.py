"""What a step does to a layer: the same for the sweep and for a model that is written."""

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


def closed_parts(config: ModelConfig, step: Step) -> tuple[frozenset[int], bool]:
    """The query heads that a step closes, and whether it closes the MLP.

    Raises:
      InputError: It closes something else, or a head that the layer does not have.
    """
    num_heads, heads = config.layers[step.layer].num_heads, set()
    for name in step.closed:
        head = head_index(name)
        if name == "attention":
            heads.update(range(num_heads))
        elif head is not None and head < num_heads:
            heads.add(head)
        elif name != "mlp":
            raise InputError(
                f"a step closes 'attention', 'mlp' or 'head_0' .. 'head_{num_heads - 1}'; "
                f"got {name!r} at layer {step.layer}"
            )
    return frozenset(heads), "mlp" in step.closed
