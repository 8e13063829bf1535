"""Writes `tests/golden/`: tiny random models and what transformers computes from them.

    python tools/make_golden.py [--folder tests/golden] [--kinds qwen2 qwen3]

Needs the `[parity]` extra (torch); the tests that read the files do not. Each kind of
model is a Hugging Face folder, `KIND/config.json` and `KIND/model.safetensors`, beside
`KIND/expected.npz`:

| array | shape | what |
| --- | --- | --- |
| `token_BT` | [2, 12] | token ids; the second row ends in the model's largest id |
| `position_BT` | [2, 12] | 0 .. 11; and a row with gaps, which RoPE must follow |
| `logits_BTV` | [2, 12, 97] | at `position_BT` |
| `hidden_NBTD` | [4, 2, 12, D] | embedding, then the residual stream after each layer |
| `continuation_BT` | [2, 8] | greedy continuation of `token_BT` at ordinary positions |

The weights are drawn by NumPy from fixed seeds, so the files do not depend on the version
of torch. They are wide (standard deviation 0.2, norms around 1 by 0.3), so that logits vary
by several units and a wrong rotation, permutation or norm shows in the first digits.
Transformers runs in float64 as far as it lets one (its norms, softmax and rotary tables
stay float32); results are stored as float32.
"""

import argparse
import pathlib

import numpy as np

VOCABULARY, LAYERS = 97, 3
SEQUENCES, TOKENS, CONTINUATION = 2, 12, 8
GAPS = (0, 1, 2, 5, 6, 9, 10, 20, 21, 40, 41, 70)
# The greedy continuation must not hang on rounding: least gap of the two largest logits.
LEAST_MARGIN = 1e-3

_SHAPE = dict(
    hidden_size=32,
    intermediate_size=24,
    num_attention_heads=4,
    num_key_value_heads=4,
    rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)

# What each kind changes in `_SHAPE`. Between them: multi-head, multi-query and grouped
# attention, tied and untied heads, heads that do not fill the residual width, a group of
# three, another epsilon, plain RoPE of two bases and Llama-3 scaling with wavelengths on
# both sides of its bounds and between them; biases of all matrices, and of q, k and v; a norm
# of queries and keys; windows in all layers, and in some.
KINDS = {
    "mha_tied": {},
    "mqa_untied": dict(num_key_value_heads=1, tie_word_embeddings=False, rms_norm_eps=1e-3),
    "gqa_tied": dict(
        hidden_size=36,
        num_attention_heads=6,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    ),
    "gqa_untied": dict(head_dim=12, num_key_value_heads=2, tie_word_embeddings=False),
    "llama3_rope": dict(
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "llama_biases": dict(num_key_value_heads=2, attention_bias=True, mlp_bias=True),
    "mistral": dict(
        model_type="mistral",
        num_key_value_heads=2,
        sliding_window=5,
        tie_word_embeddings=False,
    ),
    "qwen2": dict(
        model_type="qwen2",
        hidden_size=36,
        num_attention_heads=6,
        num_key_value_heads=2,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    ),
    "qwen3": dict(
        model_type="qwen3",
        head_dim=12,
        num_key_value_heads=2,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=False,
    ),
}

# Taken so that the continuations vary and no step of them hangs on rounding.
SEEDS = {
    "mha_tied": 12,
    "mqa_untied": 0,
    "gqa_tied": 3,
    "gqa_untied": 4,
    "llama3_rope": 24,
    "llama_biases": 6,
    "mistral": 1,
    "qwen2": 2,
    "qwen3": 9,
}


def tiny_model(kind, seed):
    """A model of one of `KINDS` in float32, its weights drawn from `seed`."""
    import torch
    import transformers

    fields = {
        "vocab_size": VOCABULARY,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
        "attn_implementation": "eager",
        **_SHAPE,
        **KINDS[kind],
    }
    config = transformers.AutoConfig.for_model(**{"model_type": "llama", **fields})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            draw = random.normal(size=tuple(parameter.shape))
            values = 1 + 0.3 * draw if "norm" in name else 0.2 * draw
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    return model


def inputs(seed):
    """Random token ids and positions, int64 [B, T]."""
    token_BT = np.random.default_rng(seed).integers(0, VOCABULARY, (SEQUENCES, TOKENS))
    token_BT[-1, -1] = VOCABULARY - 1
    return token_BT, np.stack([np.arange(TOKENS), np.asarray(GAPS)])


def expected(model, token_BT, position_BT):
    """What transformers computes: logits, residual streams and the greedy continuation."""
    import torch

    token, position = torch.from_numpy(token_BT), torch.from_numpy(position_BT)
    model = model.double()
    streams = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: streams.append(output))
        for layer in (model.model.embed_tokens, *model.model.layers)
    ]
    # A mask is given so that transformers does not take the gaps for packed documents.
    mask = torch.ones_like(token)
    with torch.no_grad():
        logits = model(token, attention_mask=mask, position_ids=position, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return {
        "logits_BTV": logits.numpy().astype(np.float32),
        "hidden_NBTD": np.stack([stream.numpy() for stream in streams]).astype(np.float32),
        "continuation_BT": _continue(model, token),
    }


def _continue(model, token):
    """Greedy continuation, by whole forwards and by transformers' own generation."""
    import torch

    grown = token
    for _ in range(CONTINUATION):
        with torch.no_grad():
            logits = model(grown, use_cache=False).logits[:, -1]
        first, second = logits.topk(2).values.unbind(-1)
        if (first - second).min() < LEAST_MARGIN:
            raise SystemExit("the greedy continuation hangs on rounding; take another seed")
        grown = torch.cat([grown, logits.argmax(-1, keepdim=True)], 1)
    generated = model.generate(
        token, attention_mask=torch.ones_like(token), max_new_tokens=CONTINUATION, do_sample=False
    )
    if not torch.equal(generated, grown):
        raise SystemExit("transformers' generation differs from its own forward")
    return grown[:, token.shape[1] :].numpy().astype(np.int32)


def write(kind, seed, folder):
    """Writes the folder of one kind."""
    model = tiny_model(kind, seed)
    model.save_pretrained(folder / kind)
    (folder / kind / "generation_config.json").unlink(missing_ok=True)
    token_BT, position_BT = inputs(seed)
    arrays = expected(tiny_model(kind, seed), token_BT, position_BT)
    np.savez_compressed(
        folder / kind / "expected.npz",
        token_BT=token_BT.astype(np.int32),
        position_BT=position_BT.astype(np.int32),
        **arrays,
    )


def main():
    """Writes every kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("tests/golden"))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, help="all by default")
    arguments = parser.parse_args()
    folder = arguments.folder
    for kind, seed in SEEDS.items():
        if arguments.kinds and kind not in arguments.kinds:
            continue
        write(kind, seed, folder)
        size = sum(path.stat().st_size for path in (folder / kind).iterdir())
        print(f"{folder / kind}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
