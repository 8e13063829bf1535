"""A choice of layers as other tools take it: a mergekit configuration, a llama.cpp command."""

import itertools
import shlex
from collections.abc import Sequence

from jaxanatomy.weights.sources import parse


def mergekit_config(model_id: str, layers: Sequence[int], dtype: str) -> str:
    """A passthrough merge of runs of layers, YAML as `mergekit-yaml FILE FOLDER` reads it.

    Args:
      model_id: The model.
      layers: Its layers in the order in which they are applied; any may come again.
      dtype: Of the written tensors.
    """
    kind = parse(model_id)
    if kind.kind == "hf":
        model, note = kind.name + (f"@{kind.version}" if kind.version else ""), []
    elif kind.kind == "file" and not kind.name.endswith(".gguf"):
        model, note = kind.name, []
    else:
        model = "PATH_OR_NAME"
        note = [f"# mergekit reads Hugging Face folders: name that of {model_id} as PATH_OR_NAME."]
    slices = [
        line
        for first, last in _runs(layers)
        for line in (
            "  - sources:",
            f'      - model: "{model}"',
            f"        layer_range: [{first}, {last + 1}]  # the second number is left out",
        )
    ]
    return "\n".join(
        [*note, "merge_method: passthrough", f"dtype: {dtype}", "slices:", *slices, ""]
    )


def llama_quantize_command(model_id: str, layers: Sequence[int], num_layers: int) -> str | None:
    """The command that leaves out the same layers of a .gguf and copies all else as it is.

    Args:
      model_id: The model.
      layers: The layers that stay.
      num_layers: How many it has.

    Returns:
      None where none is left out, or the others are not in their order: llama-quantize can only
      leave layers out.
    """
    if list(layers) != sorted({*layers}) or len(layers) == num_layers:
        return None
    kind = parse(model_id)
    is_gguf = kind.kind == "file" and kind.name.endswith(".gguf")
    model = shlex.quote(kind.name) if is_gguf else "MODEL.gguf"
    pruned = ",".join(str(layer) for layer in range(num_layers) if layer not in layers)
    return f"llama-quantize --prune-layers {pruned} {model} pruned.gguf COPY"


def _runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """The first and the last layer of each run of layers that follow one another."""
    groups = itertools.groupby(enumerate(layers), key=lambda pair: pair[1] - pair[0])
    runs = [[layer for _, layer in group] for _, group in groups]
    return [(run[0], run[-1]) for run in runs]
