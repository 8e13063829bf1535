import math

import numpy as np
import pytest

from jaxanatomy.config import LayerShape, Llama3RopeScaling
from jaxanatomy.errors import InputError
from jaxanatomy.weights import families, gguf_config
from jaxanatomy.weights.tensors import StoredTensor

FIELDS = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 128,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 48,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
    "llama.rope.freq_base": 100000.0,
}
EMBEDDING = {"token_embd.weight": StoredTensor((300, 32), lambda start, stop: None)}


def test_a_file_row_for_every_row():
    # Two heads of width 6: pairs (0, 1), (2, 3), (4, 5) of the file become (0, 3), (1, 4), (2, 5).
    order = gguf_config.rotary_row_order(2, 6)
    assert order.tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_metadata_gives_the_architecture():
    config, weights = gguf_config.from_metadata(FIELDS, EMBEDDING)
    assert config.layers == (LayerShape(4, 2, 48),) * 2
    assert (config.vocab_size, config.hidden_size, config.head_dim) == (300, 32, 8)
    assert (config.rope_theta, config.norm_epsilon) == (1e5, 1e-5)
    assert config.context_length == 128
    assert config.tie_embeddings
    assert weights == EMBEDDING
    untied = {**EMBEDDING, "output.weight": EMBEDDING["token_embd.weight"]}
    assert not gguf_config.from_metadata(FIELDS, untied)[0].tie_embeddings


def test_layers_may_differ_and_numbers_may_be_absent():
    fields = {**FIELDS, "llama.feed_forward_length": [48, 64], "llama.vocab_size": 301}
    fields |= {"llama.attention.head_count": [4, 2], "llama.attention.key_length": 16}
    del fields["llama.attention.head_count_kv"], fields["llama.rope.freq_base"]
    config, _ = gguf_config.from_metadata(fields, {})
    assert config.layers == (LayerShape(4, 4, 48), LayerShape(2, 2, 64))
    assert (config.vocab_size, config.head_dim, config.rope_theta) == (301, 16, 10000.0)
    orders = gguf_config.row_orders(config)
    assert (
        orders["layers/1/attention/q_proj/kernel"].tolist()
        == gguf_config.rotary_row_order(2, 16).tolist()
    )
    assert len(orders) == 4


def test_names_are_those_of_llama_cpp():
    config, _ = gguf_config.from_metadata(FIELDS, EMBEDDING)
    names = gguf_config.names(config)
    assert names["embed/embedding"] == "token_embd.weight"
    assert names["layers/1/attention/o_proj/kernel"] == "blk.1.attn_output.weight"
    assert names["layers/0/mlp_norm/scale"] == "blk.0.ffn_norm.weight"
    assert len(set(names.values())) == len(names) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"llama.logit_scale": 2.0}, "keys that are not understood: llama.logit_scale"),
        ({"llama.block_count": None}, "the GGUF must have llama.block_count"),
        ({"llama.block_count": 0}, "block_count of the model must be a positive integer; got 0"),
        ({"llama.expert_count": 8}, "expected llama.expert_count=0; got 8"),
        ({"llama.rope.scaling.type": "yarn"}, "expected llama.rope.scaling.type='none'"),
        ({"llama.rope.dimension_count": 4, "llama.attention.key_length": 8}, "one width for keys"),
        ({"llama.feed_forward_length": [48]}, "feed_forward_length of the GGUF must have 2 values"),
        ({"llama.attention.head_count": 5}, "must be a multiple of head_count; got 32 and 5"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change, message):
    with pytest.raises(InputError) as caught:
        gguf_config.from_metadata({**FIELDS, **change}, EMBEDDING)
    assert message in str(caught.value)


def test_another_architecture_is_refused():
    with pytest.raises(InputError, match="unknown GGUF architecture 'gemma3'; known: llama"):
        families.for_gguf({"general.architecture": "gemma3"})
    with pytest.raises(InputError, match=r"neither llama.vocab_size nor token_embd.weight"):
        gguf_config.from_metadata(FIELDS, {})


def factors_by_band(factor, theta, head_dim):
    """Llama 3.1's rule, one frequency at a time."""
    result = []
    for j in range(head_dim // 2):
        wavelength = 2 * math.pi * theta ** (2 * j / head_dim)
        if wavelength < 8192 / 4:
            result.append(1.0)
        elif wavelength > 8192 / 1:
            result.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            result.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(result, np.float32)


def with_factors(factors):
    tensor = StoredTensor(factors.shape, lambda start, stop: factors[start:stop])
    return {**EMBEDDING, "rope_freqs.weight": tensor}


def test_stored_rope_factors_of_llama_3_are_recognised():
    factors = factors_by_band(32.0, 5e5, 64)
    assert 0 < (factors == 1).sum() < (factors < 32).sum() < 32  # all three bands
    fields = {**FIELDS, "llama.rope.freq_base": 5e5, "llama.rope.dimension_count": 64}
    config, weights = gguf_config.from_metadata(fields, with_factors(factors))
    assert config.rope_scaling == Llama3RopeScaling(32.0, 1.0, 4.0, 8192)
    assert weights == EMBEDDING
    factors[20] *= 1.01
    with pytest.raises(InputError, match=r"rope_freqs.weight of the GGUF are not the factors"):
        gguf_config.from_metadata(fields, with_factors(factors))
