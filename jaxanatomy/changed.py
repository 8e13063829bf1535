"""A changed model as a Hugging Face folder of a run: written, read back, beside what it was."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxanatomy import api
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.text import Text
from jaxanatomy.model import parameter_count
from jaxanatomy.runs import Run
from jaxanatomy.weights import Checkpoint, cache, load
from jaxanatomy.weights.export import as_dtype, export_hf

FOLDER = "model"


def write_folder(run: Run, make: Callable[[], Checkpoint], dtype: np.dtype) -> Path:
    """The folder of a changed model in a run's own; it is written unless it is there.

    Args:
      run: Holds the lock.
      make: Changes the model.
      dtype: Of the tensors.
    """
    folder = run.path(FOLDER)
    if not folder.exists():  # it appears whole, so what is there is complete
        for stale in folder.parent.glob(f".{FOLDER}.part-*"):
            shutil.rmtree(stale)  # of a killed run
        export_hf(as_dtype(make(), dtype), folder)
    return folder


def sizes(before: ModelConfig, after: ModelConfig) -> dict[str, int]:
    """`layers_before`, `layers_after`, `parameters_before` and `parameters_after`."""
    return {
        "layers_before": before.num_layers,
        "layers_after": after.num_layers,
        "parameters_before": parameter_count(before),
        "parameters_after": parameter_count(after),
    }


def compare(
    original: Checkpoint, folder: Path, dtype: np.dtype, text: Text | None
) -> tuple[Checkpoint, dict[str, Any]]:
    """Reads the folder back, and measures both models on a text.

    Returns:
      The model as it reads; `folder`, `dtype`, `bytes` and `sha256` of its weights; with a text
      its name, `tokens`, `ppl_before` and `ppl_after`, and a `reason` where one is not finite.
    """
    weights, written = folder / "model.safetensors", load(f"file:{folder}")
    found: dict[str, Any] = {
        "folder": FOLDER,
        "dtype": str(dtype),
        "bytes": weights.stat().st_size,
        "sha256": cache.file_sha256(weights),
    }
    if text is not None:
        before, after = (api.sweep(model, [], text)[0] for model in (original, written))
        found |= {"text": text.name, "tokens": before["tokens"]}
        found |= {"ppl_before": before["ppl"], "ppl_after": after["ppl"]}
        if None in (before["ppl"], after["ppl"]):
            found["reason"] = before.get("reason") or after["reason"]
    return written, found
