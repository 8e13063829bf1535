"""The models that arms leave behind."""

import shutil
from pathlib import Path

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.export import export_hf
from jaxanatomy.weights.tokenizer import Tokenizer


def save_model(
    config: ModelConfig, params: tree.Params, tokenizer: Tokenizer | None, folder: Path
) -> None:
    """Writes a Hugging Face folder; what lies there of an earlier start goes.

    Args:
      config: The architecture.
      params: A block for each layer, on the host.
      tokenizer: None where a model has none.
      folder: Named as the model.
    """
    shutil.rmtree(folder, ignore_errors=True)
    export_hf(Checkpoint(config, params, tokenizer, folder.name, ""), folder)
