"""The importance map as a TransformerLens user writes it.

TransformerLens 4 wraps a transformers model in a `TransformerBridge`. Without
`enable_compatibility_mode` it leaves the weights as they are (nothing folded or
centred), so the same matrices can be averaged. The loop calls the model on the padded
batch and reads whole logits, because its forward gives nothing else; its
`start_at_layer` still runs the layers below, so there is no cached variant. A mask is
passed (it is faster than without one here), and attention is eager, as it asks for.
"""

import torch
from bench import tokens
from bench.torch_loops import load_model, neighbour_mean, padded, perplexity
from transformer_lens.model_bridge.sources import build_bridge_from_module


def open_loop(folder):
    """The loop over a bridged model."""
    model = load_model(folder, attention="eager")
    bridge = build_bridge_from_module(
        model, "LlamaForCausalLM", hf_config=model.config, dtype=torch.float32, device="cpu"
    )
    sentences = tokens.read(folder)
    text = padded(sentences)
    lengths_B1 = torch.tensor([[len(sentence)] for sentence in sentences])
    mask_BT = (torch.arange(text.token_BT.shape[1]) < lengths_B1).long()

    def score():
        logits_BTV = bridge(text.token_BT, attention_mask=mask_BT, use_cache=False)
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
