"""Files of other families that do not fit their configs are refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from fuzz import bounded, damaged_json, reads_or_refuses
from hypothesis import given

from jaxanatomy import weights
from jaxanatomy.errors import InputError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BIAS, NORM = "model.layers.1.self_attn.q_proj.bias", "model.layers.2.self_attn.k_norm.weight"


def damaged(kind, folder, change=lambda arrays: None, **fields):
    """A copy of a golden model with other tensors, or other fields."""
    settings = json.loads((GOLDEN / kind / "config.json").read_text()) | fields
    arrays = safetensors.numpy.load_file(GOLDEN / kind / "model.safetensors")
    change(arrays)
    folder.mkdir()
    safetensors.numpy.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    return f"file:{folder}"


def swap(kind):
    """The name of a family on another one's tensors."""
    named = {"mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}
    return {"architectures": [f"{named[kind]}ForCausalLM"], "model_type": kind}


@pytest.mark.parametrize(
    ("kind", "change", "fields", "message"),
    [
        ("qwen2", lambda arrays: arrays.pop(BIAS), {}, f"1 missing: {BIAS};"),
        (
            "qwen2",
            lambda arrays: arrays.update({BIAS: np.ones(35, np.float32)}),
            {},
            f"1 of another shape: {BIAS} (35,) instead of (36,)",
        ),
        (
            "qwen2",
            lambda arrays: arrays.update({BIAS: np.full(36, np.nan, np.float32)}),
            {},
            f"NaN or Inf as float32 in {BIAS}",
        ),
        (
            "qwen3",
            lambda arrays: arrays.update({BIAS: np.ones(48, np.float32)}),
            {},
            f"1 not known to this architecture: {BIAS}",
        ),
        ("qwen3", lambda arrays: None, {"attention_bias": True}, "12 missing: model.layers.0"),
        ("qwen3", lambda arrays: arrays.pop(NORM), {}, f"1 missing: {NORM};"),
        (
            "qwen3",
            lambda arrays: arrays.update({NORM: np.ones(8, np.float32)}),
            {},
            f"1 of another shape: {NORM} (8,) instead of (12,)",
        ),
        ("qwen3", lambda arrays: None, {"head_dim": 10}, "of another shape"),
        ("llama_biases", lambda arrays: None, {"mlp_bias": False}, "9 not known to this archi"),
        (
            "mistral",
            lambda arrays: arrays.update({"model.layers.0.self_attn.o_proj.bias": np.ones(32)}),
            {},
            "1 not known to this architecture: model.layers.0.self_attn.o_proj.bias",
        ),
        ("mistral", lambda arrays: None, {"num_key_value_heads": None}, "of another shape"),
        ("qwen3", lambda arrays: None, swap("qwen2"), "not understood: attention_bias"),
        ("qwen2", lambda arrays: None, swap("qwen3"), "missing: model.layers.0.self_attn.k_norm"),
        ("qwen2", lambda arrays: None, swap("mistral"), "not understood: layer_types, max_window"),
        ("mistral", lambda arrays: None, swap("llama"), "expected sliding_window=None"),
    ],
)
def test_files_that_do_not_fit_their_config(kind, change, fields, message, tmp_path):
    with pytest.raises(InputError) as caught:
        weights.load(damaged(kind, tmp_path / "model", change, **fields))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama_biases", "mistral", "qwen2", "qwen3"])
def test_any_config_is_read_or_refused(kind, tmp_path):
    model_id = damaged(kind, tmp_path / "model")
    fields = json.loads((GOLDEN / kind / "config.json").read_text())

    @given(damaged_json(fields))
    @bounded(150)
    def check(content):
        (tmp_path / "model" / "config.json").write_bytes(content)
        reads_or_refuses(weights.load, model_id)

    check()
