"""Training of one layer by `jax.value_and_grad` through the whole model: the oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree


def naive_loss(config, layer, own, params, token_RT, position_RT, segment_RT, predicted):
    """Mean loss over the predicted tokens with layer `layer` replaced by `own`."""
    blocks = list(params["layers"])
    blocks[layer] = own
    params = tree.with_layers(params, blocks)
    x_RTD = model.hidden(config, params, token_RT, position_RT, segment_RT)
    scores = model.logits(config, params, x_RTD).reshape(-1, config.vocab_size)
    predict_P, target_P, valid_P = predicted
    nll_P = -jax.nn.log_softmax(scores)[predict_P, target_P]
    return jnp.where(valid_P, nll_P, 0).sum() / valid_P.sum()


def arrays(batch):
    predicted = (batch.predict_P, batch.target_P, batch.document_P >= 0)
    return batch.token_RT, batch.position_RT, batch.segment_RT, predicted


def naive_training(
    config, params, layer, own, batches, evaluation, steps, *, clip_norm, eps=1e-8, **adamw
):
    """Losses before each step, and the loss on `evaluation` after the last."""
    optimiser = optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(b1=0.9, b2=0.999, eps=eps, weight_decay=0.01, **adamw),
    )
    params, own = jax.tree.map(jnp.asarray, (params, own))
    loss_of = functools.partial(naive_loss, config, layer)

    @jax.jit
    def update(own, moments, batch):
        loss, gradient = jax.value_and_grad(loss_of)(own, params, *batch)
        updates, moments = optimiser.update(gradient, moments, own)
        return optax.apply_updates(own, updates), moments, loss

    moments, losses = jax.jit(optimiser.init)(own), []
    for step in range(steps):
        own, moments, loss = update(own, moments, arrays(batches[step % len(batches)]))
        losses.append(float(loss))
    _, _, final = update(own, moments, arrays(evaluation))
    return np.array(losses), float(final)


def first_moments(trainer, group):
    """Adam's first moments of each replica, [replicas, parameters of a layer]."""
    states = [lane for state in group.states for lane in trainer.lanes.fetch(state)]
    found = [optax.tree.get(moments, "mu") for _, moments in states[: len(group.replicas)]]
    return np.array([flat(moments) for moments in found])


def flat(block):
    """All parameters of a layer in one row."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(block)])
