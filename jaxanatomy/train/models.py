"""What training ends with, as folders that other tools open."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import jax

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.export import export_hf
from jaxanatomy.weights.tokenizer import Tokenizer


def save_models(
    config: ModelConfig,
    params: tree.Params,
    tokenizer: Tokenizer | None,
    folders: Mapping[int, Path],
    replicas: bool,
) -> None:
    """Writes a Hugging Face folder for each seed; what lies there of an earlier start goes.

    Args:
      config: The architecture; LN-scaling is folded into the norms.
      params: On the host, layers stacked, with an axis M if there are replicas.
      tokenizer: Of the text.
      folders: By index of the seed; those that are not named are left out.
      replicas: Whether there is an axis M.

    Raises:
      InputError: A folder cannot be written.
    """
    for at, folder in folders.items():
        own = jax.tree.map(lambda leaf, at=at: leaf[at], params) if replicas else params
        own = tree.with_layers(own, tree.unstack(own["layers"]))
        shutil.rmtree(folder, ignore_errors=True)
        export_hf(Checkpoint(config, own, tokenizer, folder.name, ""), folder)
