"""Recovery as a transformers user writes it: one replica after the other.

It gets what a competent user gives it: float32, frozen parameters, the clean activations
below each trained layer cached for each batch, gradients of the layer's own parameters alone
(autograd goes back through the layers above for that, and computes no weight gradients
there), SDPA attention, a mask made once for each batch, logits only at positions whose next
token is scored, and the fused AdamW.
"""

import copy
import json

import numpy as np
import torch
from bench.torch_loops import MATRICES, Text, additive_mask, load_model, perplexity
from torch.nn.functional import cross_entropy


class Recovery:
    """Replicas of a model that train one noised layer each (AH section 3.6).

    Attributes:
      layers: Which layers, one replica for each.
    """

    def __init__(self, model, layers, texts, sigma):
        """Adds the noise, and computes what lies below the trained layers.

        Args:
          model: A frozen `LlamaForCausalLM`.
          layers: Which layers; that is the seed of their noise, too.
          texts: Batches to train on, in order and again.
          sigma: Size of the noise against the std of each matrix.
        """
        self.layers, self._model, self._texts = layers, model, texts
        self._own = [_noised(model.model.layers[layer], sigma, seed=layer) for layer in layers]
        self._optimisers = [
            torch.optim.AdamW(
                own.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01, fused=True
            )
            for own in self._own
        ]
        self._clean = [self._below(text) for text in texts]

    def step(self, number):
        """One step of every replica; the mean loss of each before it."""
        text, clean = (these[number % len(self._texts)] for these in (self._texts, self._clean))
        losses = []
        for layer, own, optimiser in zip(self.layers, self._own, self._optimisers, strict=True):
            loss = cross_entropy(self._logits(text, clean, layer, own), text.target_P)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(own.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
        return losses

    @torch.no_grad()
    def perplexities(self, text):
        """Of each replica on a text."""
        clean = self._below(text)
        return [
            perplexity(self._logits(text, clean, layer, own), text.target_P)
            for layer, own in zip(self.layers, self._own, strict=True)
        ]

    @torch.no_grad()
    def _below(self, text):
        """The rotary tables, and the stream that enters each layer up to the last trained one."""
        base = self._model.model
        entering = [base.embed_tokens(text.token_BT)]
        rotary = base.rotary_emb(entering[0], text.position_BT)
        for layer in range(max(self.layers)):
            entering.append(_apply(base.layers[layer], entering[-1], rotary, text))
        return rotary, entering

    def _logits(self, text, clean, layer, own):
        rotary, entering = clean
        base, x_BTD = self._model.model, entering[layer]
        for module in [own, *base.layers[layer + 1 :]]:
            x_BTD = _apply(module, x_BTD, rotary, text)
        return self._model.lm_head(base.norm(x_BTD[text.predict_BT]))


def open_loop(folder):
    """The loop over the exported model and batches."""
    task = json.loads((folder / "training.json").read_text())
    texts = [_read(folder / f"batch_{index}.npz") for index in range(task["batches"])]
    recovery = Recovery(load_model(folder), task["layers"], texts, task["sigma"])
    return {"step": recovery.step}


def _apply(module, x_BTD, rotary, text):
    return module(
        x_BTD,
        attention_mask=text.mask_11TT,
        position_ids=text.position_BT,
        position_embeddings=rotary,
    )


def _noised(module, sigma, seed):
    """A copy that trains: W + sigma std(W) Z, Z from one NumPy generator for all matrices."""
    module = copy.deepcopy(module).requires_grad_(True)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name in MATRICES:
            weight = module.get_submodule(name).weight
            noise = torch.from_numpy(generator.standard_normal(weight.shape, dtype=np.float32))
            weight.add_(noise, alpha=sigma * weight.double().std(correction=0).item())
    return module


def _read(path):
    """A packed row of documents that are blind to each other."""
    with np.load(path) as arrays:
        token_BT, position_BT, segment_BT = (
            torch.from_numpy(arrays[name].astype(np.int64))
            for name in ("token_RT", "position_RT", "segment_RT")
        )
        predict_P = torch.from_numpy(np.sort(arrays["predict_P"][arrays["document_P"] >= 0]))
    (segment_T,) = segment_BT
    same_TT = segment_T[:, None] == segment_T
    predict_BT = torch.zeros(token_BT.shape, dtype=torch.bool)
    predict_BT[0, predict_P] = True
    return Text(
        token_BT,
        position_BT,
        additive_mask(same_TT & torch.ones_like(same_TT).tril()),
        predict_BT,
        token_BT[0, predict_P + 1],
    )
