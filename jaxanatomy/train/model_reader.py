"""What is read of the models that arms leave: how they take edits, and how deep they compute."""

import dataclasses
from typing import Any

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.train.arm_plan import Fields, Trained
from jaxanatomy.train.depth_edits import Editor
from jaxanatomy.train.depth_reader import DepthReader
from jaxanatomy.train.eval_set import EvalSet


@dataclasses.dataclass(frozen=True)
class ModelReader:
    """Reads trained models at their end.

    Every arm is read in blocks of one size, also one that grows by another (`lidas_b3`): arms
    compare only if the same is done to them.

    Attributes:
      editor: What is done to them at inference.
      depth_reader: How deep they compute.
    """

    editor: Editor
    depth_reader: DepthReader

    @classmethod
    def of(cls, block: int, edited_on: EvalSet, read_on: EvalSet, dtype: str) -> "ModelReader":
        """In blocks of so many layers, on one set for edits and one for depth."""
        return cls(Editor(block, edited_on, dtype), DepthReader(block, read_on, dtype))

    def read(self, config: ModelConfig, params: tree.Params) -> dict[str, Any]:
        """`edited` and `depth` of a model: `Editor.score` and `DepthReader.read`."""
        return {
            "edited": self.editor.score(config, params),
            "depth": self.depth_reader.read(config, params),
        }

    def fields(self, trained: Trained) -> list[Fields]:
        """The same of each trial, None where it has diverged."""
        unread = {"edited": None, "depth": None}
        config = trained.end.config
        return [unread if own is None else self.read(config, own) for own in trained.models]
