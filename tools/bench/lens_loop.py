"""The importance map as a TransformerLens user writes it.

TransformerLens 4 wraps a transformers model in a `TransformerBridge`. Without
`enable_compatibility_mode` it leaves the weights as they are (nothing folded or
centred), so the same matrices can be averaged. The loop calls the model and reads whole
logits, because its forward gives nothing else; its `start_at_layer` still runs the
layers below, so there is no cached variant. Attention is eager, as it asks for. It takes
the same masks and positions as the transformers loops, padded or packed.
"""

import torch
from bench import tokens
from bench.torch_loops import LAYOUTS, load_model, neighbour_mean, perplexity
from transformer_lens.model_bridge.sources import build_bridge_from_module


def open_loop(folder, layout):
    """The loop over a bridged model."""
    model, text = load_model(folder, attention="eager"), LAYOUTS[layout](tokens.read(folder))
    bridge = build_bridge_from_module(
        model, "LlamaForCausalLM", hf_config=model.config, dtype=torch.float32, device="cpu"
    )

    def score():
        logits_BTV = bridge(
            text.token_BT,
            attention_mask=text.mask_11TT,
            position_ids=text.position_BT,
            use_cache=False,
        )
        return perplexity(logits_BTV[text.predict_BT], text.target_P)

    @torch.inference_mode()
    def importance_map():
        perplexities = [score()]
        for layer in range(1, len(bridge.blocks) - 1):
            with neighbour_mean(bridge.blocks, layer, _matrices):
                perplexities.append(score())
        return perplexities

    return {"map": importance_map}


def _matrices(block):
    attention, mlp = block.attn, block.mlp
    read = [attention.q, attention.k, attention.v, mlp.gate, getattr(mlp, "in")]
    return [part.weight for part in (*read, attention.o, mlp.out)]
