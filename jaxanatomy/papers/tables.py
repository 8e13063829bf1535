"""The figures of the papers that we show beside our own (AH Tables 1 to 10, DG 1, 7, 8, LR sections
5 to 9)."""

import copy
import functools
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jaxanatomy.errors import choose

NEAR = 10.0  # perplexities within this factor of each other are of one size


@functools.cache
def _paper() -> dict[str, Any]:
    return json.loads(resources.files(__package__).joinpath("tables.json").read_text())


def paper_table(name: str) -> Any:
    """One table of the paper as plain numbers; components under our names.

    Args:
      name: For example "table1" (printed degradations and categories), "table2_r2"
        ({component: [average, best]}), "table3_delta_correlation" ({component: value}),
        "table4_ppl" ({strategy: perplexity}) or "table5_recovery"; those of DG begin with "dg_",
        those of LR with "lr_".

    Returns:
      A new copy, so that a reader may change it.

    Raises:
      InputError: There is no such table.
    """
    return copy.deepcopy(_paper()[choose("table of the paper", name, _paper())])


def table1() -> list[float]:
    """Degradation per layer in percent (AH Table 1); NaN where it was not measured.

    The paper prints 0.0 for the first and the last layer, which have one neighbour only.
    """
    table = _paper()["table1"]
    return [
        math.nan if layer in table["not_ablated"] else value
        for layer, value in enumerate(table["degradation_percent"])
    ]


def table1_of(config: Mapping[str, Any]) -> list[float] | None:
    """`table1()` when a run is of the paper's model with trained weights, else None.

    SmolLM-135M has the same shapes; the RoPE base tells it from SmolLM2-135M.

    Args:
      config: Anything nested that holds a `ModelConfig.to_dict()` at some depth, such as a
        run's `config.json`, and the model's id under "model".
    """
    model, id = _paper()["model"], find(config, "model")
    if isinstance(id, str) and id.startswith("random:"):
        return None
    architecture = _find_holder(config, "hidden_size") or {}
    found = {
        "num_layers": len(architecture.get("layers") or ()),
        "hidden_size": architecture.get("hidden_size"),
        "vocab_size": architecture.get("vocab_size"),
        "rope_theta": architecture.get("rope_theta"),
    }
    return table1() if all(found[key] == model[key] for key in found) else None


def is_near(degradation: float, printed: float) -> bool:
    """Whether a degradation is of the size of one that the paper prints.

    Perplexities over their own baselines are compared: within a factor `NEAR`. Ours and
    the paper's baseline differ, so neither bare perplexities nor percentages compare.

    Args:
      degradation: In percent; what is not finite is near to nothing.
      printed: The paper's, in percent.
    """
    if not math.isfinite(degradation):
        return False
    return abs(math.log10((100 + degradation) / (100 + printed))) <= math.log10(NEAR)


def find(tree: Any, key: str) -> Any:
    """The first value under `key` in nested dicts and lists, outermost first, or None."""
    return (_find_holder(tree, key) or {}).get(key)


def _find_holder(tree: Any, key: str) -> Mapping[str, Any] | None:
    """The outermost mapping that has the key."""
    level = [tree]
    while level:
        for node in level:
            if isinstance(node, Mapping) and key in node:
                return node
        level = [child for node in level for child in _children(node)]
    return None


def _children(node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        return list(node.values())
    return list(node) if isinstance(node, list | tuple) else []
