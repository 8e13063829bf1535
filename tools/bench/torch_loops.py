"""The importance map as a transformers user writes it: a loop that edits weights in place.

Four contenders: text padded or packed, and every variant from the embedding or from a
cache of the unedited hidden states. All of them get what a competent user gives them:
float32, `inference_mode`, frozen parameters, SDPA attention, no KV cache, a mask made
once, and logits only at positions whose next token is scored.
"""

import contextlib
import dataclasses
import math

import torch
from bench import tokens
from torch.nn.functional import cross_entropy

MATRICES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


@dataclasses.dataclass(frozen=True)
class Text:
    """A batch of the sentences.

    Attributes:
      token_BT: Token ids, 0 where padding.
      position_BT: Position of each token in its sentence.
      mask_11TT: Additive attention mask in float32. With padding on the right it is causal
        only: real tokens never see what comes after them.
      predict_BT: Whether the token after this one is scored.
      target_P: Those tokens.
    """

    token_BT: torch.Tensor
    position_BT: torch.Tensor
    mask_11TT: torch.Tensor
    predict_BT: torch.Tensor
    target_P: torch.Tensor


def padded(sentences):
    """One row for each sentence."""
    rows = [torch.tensor(sentence) for sentence in sentences]
    token_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    T = token_BT.shape[1]
    lengths_B1 = torch.tensor([[len(row)] for row in rows])
    return Text(
        token_BT,
        torch.arange(T).expand(len(rows), T),
        additive_mask(torch.ones(T, T, dtype=torch.bool).tril()),
        torch.arange(T) < lengths_B1 - 1,
        torch.cat([row[1:] for row in rows]),
    )


def packed(sentences):
    """All sentences in one row, each blind to the others."""
    rows = [torch.tensor(sentence) for sentence in sentences]
    segment_T = torch.cat([torch.full((len(row),), index) for index, row in enumerate(rows)])
    same_TT = segment_T[:, None] == segment_T
    return Text(
        torch.cat(rows)[None],
        torch.cat([torch.arange(len(row)) for row in rows])[None],
        additive_mask(same_TT & torch.ones_like(same_TT).tril()),
        torch.cat([torch.arange(len(row)) < len(row) - 1 for row in rows])[None],
        torch.cat([row[1:] for row in rows]),
    )


def additive_mask(allowed_TT):
    """What to add to the scores of [batch, heads, T, T]."""
    zero, least = torch.tensor(0.0), torch.tensor(torch.finfo(torch.float32).min)
    return torch.where(allowed_TT, zero, least)[None, None]


LAYOUTS = {"padded": padded, "packed": packed}


def open_loop(folder, layout):
    """The plain loop: every variant runs through the whole model."""
    model, text = _load(folder, layout)

    def hidden():
        return model.model(
            text.token_BT,
            attention_mask=text.mask_11TT,
            position_ids=text.position_BT,
            use_cache=False,
        ).last_hidden_state

    @torch.inference_mode()
    def importance_map():
        perplexities = [_perplexity(model, hidden(), text)]
        for layer in range(1, len(model.model.layers) - 1):
            with neighbour_mean(model.model.layers, layer, _matrices):
                perplexities.append(_perplexity(model, hidden(), text))
        return perplexities

    return {"map": importance_map}


def open_cached_loop(folder, layout):
    """The loop that starts each variant from the unedited stream that enters its layer."""
    model, text = _load(folder, layout)
    layers, norm = model.model.layers, model.model.norm

    def apply(index, x_BTD, rotary):
        return layers[index](
            x_BTD,
            attention_mask=text.mask_11TT,
            position_ids=text.position_BT,
            position_embeddings=rotary,
        )

    @torch.inference_mode()
    def importance_map():
        entering = [model.model.embed_tokens(text.token_BT)]
        rotary = model.model.rotary_emb(entering[0], text.position_BT)
        for index in range(len(layers)):
            entering.append(apply(index, entering[-1], rotary))
        perplexities = [_perplexity(model, norm(entering[-1]), text)]
        for layer in range(1, len(layers) - 1):
            with neighbour_mean(layers, layer, _matrices):
                x_BTD = entering[layer]
                for index in range(layer, len(layers)):
                    x_BTD = apply(index, x_BTD, rotary)
                perplexities.append(_perplexity(model, norm(x_BTD), text))
        return perplexities

    return {"map": importance_map}


@contextlib.contextmanager
def neighbour_mean(blocks, layer, matrices):
    """Within the block, the matrices of `layer` are the means of its neighbours'.

    Args:
      blocks: The layers.
      layer: Which one to edit; it has two neighbours.
      matrices: Gives the weights of a block, a list of tensors.
    """
    below, own, above = (matrices(blocks[index]) for index in (layer - 1, layer, layer + 1))
    saved = [weight.clone() for weight in own]
    for weight, one, other in zip(own, below, above, strict=True):
        torch.add(one, other, out=weight).mul_(0.5)
    yield
    for weight, original in zip(own, saved, strict=True):
        weight.copy_(original)


def load_model(folder, attention="sdpa"):
    """The exported model, frozen."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, attn_implementation=attention
    )
    return model.eval().requires_grad_(False)


def perplexity(logits_PV, target_P):
    """exp of the mean negative log-likelihood."""
    nll = cross_entropy(logits_PV, target_P, reduction="none").double()
    return math.exp(nll.mean())


def _load(folder, layout):
    return load_model(folder), LAYOUTS[layout](tokens.read(folder))


def _matrices(block):
    return [block.get_submodule(name).weight for name in MATRICES]


def _perplexity(model, normed_BTD, text):
    return perplexity(model.lm_head(normed_BTD[text.predict_BT]), text.target_P)
