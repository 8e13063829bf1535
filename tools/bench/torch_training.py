"""A training step as a transformers user writes it, and as a careful one does.

Both get float32, SDPA attention without a mask (which makes it causal), no KV cache and the
fused AdamW, the fastest of torch's on a CPU.
"""

import json

import numpy as np
import torch
from bench.torch_loops import load_model

CHUNK = 256  # positions whose scores are alive at a time


def open_plain(folder):
    """The loss as transformers computes it from `labels`."""

    def loss(model, token_BT):
        return model(token_BT, labels=token_BT, use_cache=False).loss

    return _open(folder, loss)


def open_careful(folder):
    """The head in chunks, and freed memory kept, as this package does."""
    from jaxanatomy import host

    host.keep_freed_memory()

    def loss(model, token_BT):
        h_BTD = model.model(token_BT, use_cache=False).last_hidden_state[:, :-1]
        target_P = token_BT[:, 1:].reshape(-1)
        return ChunkedLoss.apply(h_BTD.reshape(len(target_P), -1), model.lm_head.weight, target_P)

    return _open(folder, loss)


class ChunkedLoss(torch.autograd.Function):
    """Mean cross-entropy of a head; both gradients are computed on the way forward.

    Whole scores are [P, V]; here a chunk of positions has them at a time, and they become
    their own gradient in place.
    """

    @staticmethod
    def forward(ctx, h_PD, weight_VD, target_P):
        """The mean loss of `target_P`."""
        total, dh_PD, dweight_VD = 0.0, torch.empty_like(h_PD), torch.zeros_like(weight_VD)
        for start in range(0, len(h_PD), CHUNK):
            h_CD, place_C1 = h_PD[start : start + CHUNK], target_P[start : start + CHUNK, None]
            score_CV = h_CD @ weight_VD.T
            norm_C1 = score_CV.logsumexp(-1, keepdim=True)
            total += (norm_C1 - score_CV.gather(1, place_C1)).sum()
            score_CV.sub_(norm_C1).exp_()
            score_CV.scatter_add_(1, place_C1, torch.full(place_C1.shape, -1.0))
            torch.mm(score_CV, weight_VD, out=dh_PD[start : start + CHUNK])
            dweight_VD.addmm_(score_CV.T, h_CD)
        ctx.save_for_backward(dh_PD / len(h_PD), dweight_VD / len(h_PD))
        return total / len(h_PD)

    @staticmethod
    def backward(ctx, above):
        """Gradients of both, scaled by that of the loss."""
        dh_PD, dweight_VD = ctx.saved_tensors
        return dh_PD * above, dweight_VD * above, None


def _open(folder, loss):
    task = json.loads((folder / "pretraining.json").read_text())
    batches = torch.from_numpy(np.load(folder / "batches.npy"))
    model = load_model(folder).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        task["learning_rate"],
        betas=(0.9, 0.999),
        weight_decay=0.01,
        fused=True,
    )

    def step(number):
        value = loss(model, batches[number % len(batches)])
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return [value.item()]

    return {"step": step}
