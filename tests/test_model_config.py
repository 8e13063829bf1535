"""Architectures as values: validation, counts, JSON."""

import dataclasses
import json

import jax
import pytest
from naive import CONFIG, MIXED_SHAPES

from jaxanatomy import model
from jaxanatomy.config import LayerShape, Llama3RopeScaling, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.model import layer_parameter_count, parameter_count

LLAMA3 = dataclasses.replace(
    MIXED_SHAPES,
    rope_theta=500_000.0,
    rope_scaling=Llama3RopeScaling(8.0, 1.0, 4.0, 8192),
    norm_epsilon=1e-6,
    tie_embeddings=False,
)


@pytest.mark.parametrize("config", [CONFIG, MIXED_SHAPES, LLAMA3])
def test_json_and_back(config):
    again = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)  # jit caches programs by it
    assert isinstance(again.layers[0], LayerShape)


def test_from_dict_leaves_its_argument_alone():
    fields = LLAMA3.to_dict()
    ModelConfig.from_dict(fields)
    assert fields == LLAMA3.to_dict()


def test_heads_share_the_width_unless_told_otherwise():
    shape = {"num_layers": 2, "num_heads": 3, "num_kv_heads": 1, "ffn_width": 5, "vocab_size": 7}
    assert ModelConfig.uniform(**shape, hidden_size=12).head_dim == 4
    assert ModelConfig.uniform(**shape, hidden_size=12, head_dim=6).head_dim == 6
    with pytest.raises(InputError, match="multiple of num_heads; got 14 and 3; change one"):
        ModelConfig.uniform(**shape, hidden_size=14)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "head_dim", "context_length"])
@pytest.mark.parametrize("value", [0, -2, 2.0, None])
def test_sizes_are_positive_integers(name, value):
    with pytest.raises(InputError, match=rf"ModelConfig\.{name} must be a positive.*got {value}"):
        dataclasses.replace(CONFIG, **{name: value})


@pytest.mark.parametrize("name", ["num_heads", "num_kv_heads", "ffn_width"])
def test_sizes_of_layers_are_positive_integers(name):
    with pytest.raises(InputError, match=rf"LayerShape\.{name} must be a positive.*got 0"):
        dataclasses.replace(LayerShape(4, 2, 8), **{name: 0})


def test_heads_share_kv_heads_evenly():
    with pytest.raises(InputError, match="multiple of num_kv_heads; got 4 and 3"):
        LayerShape(num_heads=4, num_kv_heads=3, ffn_width=8)


def test_a_model_has_layers():
    with pytest.raises(InputError, match="at least one LayerShape; got none"):
        CONFIG.with_layers([])


def test_rope_needs_pairs():
    with pytest.raises(InputError, match="head_dim must be even for RoPE; got 5"):
        dataclasses.replace(CONFIG, head_dim=5)


@pytest.mark.parametrize("name", ["rope_theta", "norm_epsilon"])
@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_the_base_of_rope_and_the_epsilon_of_norms_are_numbers_that_work(name, value):
    with pytest.raises(InputError, match=rf"{name} .*; got .*{value}"):
        dataclasses.replace(CONFIG, **{name: value})


def test_shapes_of_layers():
    assert (CONFIG.num_layers, CONFIG.is_uniform, CONFIG.max_heads) == (5, True, 4)
    assert (MIXED_SHAPES.num_layers, MIXED_SHAPES.is_uniform) == (4, False)
    last = MIXED_SHAPES.with_layers(MIXED_SHAPES.layers[2:3])
    assert (last.num_layers, last.max_heads, last.is_uniform) == (1, 2, True)
    assert MIXED_SHAPES.num_layers == 4


def test_counts_by_hand():
    # q and o 2 * 16 * 16, k and v 2 * 16 * 8, the MLP 3 * 16 * 24, two norms of 16.
    assert layer_parameter_count(CONFIG, 0) == 512 + 256 + 1152 + 32
    assert parameter_count(CONFIG) == 5 * 1952 + 101 * 16 + 16
    untied = dataclasses.replace(CONFIG, tie_embeddings=False)
    assert parameter_count(untied) == parameter_count(CONFIG) + 101 * 16


def test_growth_transformer_of_the_paper_has_9_570_048_parameters():
    # AH Table 6: FFN widths are these multiples of the residual width of 256.
    multiples = [1, 4, 4, 1, 4, 4, 1, 2, 4, 4, 2, 1]
    config = ModelConfig(
        vocab_size=494,
        hidden_size=256,
        head_dim=64,
        layers=tuple(LayerShape(4, 4, 256 * multiple) for multiple in multiples),
    )
    assert parameter_count(config) == 9_570_048
    params = jax.eval_shape(lambda: model.init(config, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 9_570_048


LLAMA3_FIELDS = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name in LLAMA3_FIELDS for value in (0, -1.0, "8", None, True)),
        {"factor": float("nan")},
        {"low_freq_factor": 4.0},
        {"original_context_length": 0},
        {"original_context_length": 1.5},
    ],
)
def test_a_scaling_of_rope_that_does_not_work_is_refused(change):
    with pytest.raises(InputError, match=r"RoPE scaling|RopeScaling"):
        Llama3RopeScaling(**({"original_context_length": 8192} | LLAMA3_FIELDS | change))


@pytest.mark.parametrize("depth", [10_001, 1_000_000, 10**30])
def test_an_absurd_depth_is_refused_before_there_is_an_object_for_each_layer(depth):
    with pytest.raises(InputError, match=r"at most 10,000 layers; got (10,001|1,000,000|about)"):
        ModelConfig.uniform(depth, 4, 2, 96, vocab_size=320, hidden_size=64)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "head_dim", "context_length"])
@pytest.mark.parametrize("value", [2**33, 10**20, True])
def test_absurd_sizes_are_refused(name, value):
    with pytest.raises(InputError, match=rf"ModelConfig\.{name} must be (at most|a positive)"):
        dataclasses.replace(CONFIG, **{name: value})


def test_sizes_that_are_absurd_together_are_refused():
    with pytest.raises(InputError, match=r"at most .* parameters; these sizes give"):
        dataclasses.replace(CONFIG, vocab_size=2**30, hidden_size=2**20)
