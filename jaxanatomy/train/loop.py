"""The training loop: compiled steps on a state that is donated.

    optimiser = make(Optimiser(), trained)
    state = start(optimiser, trained)
    for batches, rates in chunks:
        state, trace = run_steps(loss, optimiser, state, frozen, batches, rates, count)

A call runs a chunk of steps in one program. Learning rates come as numbers, one for each
step, so one program serves every schedule; `count` says how many of the chunk's steps are
run, so one program serves the odd chunk at the end of a phase, too.

Replicas: with a leading axis M on state, parameters and rates, and on the second axis of
the batches, the same program trains M models side by side (`replicas=True`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxanatomy.reprs import repr_in_one_line
from jaxanatomy.tree import PyTree

Loss = Callable[[PyTree, PyTree, PyTree], jax.Array]


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
      params: The parameters that train.
      moments: The optimiser's state.
      alive: bool; False once a loss or a gradient was not finite. The parameters are then
        those before that step, and stay so; the moments mean nothing then.
    """

    params: PyTree
    moments: PyTree
    alive: jax.Array

    __repr__ = repr_in_one_line


class Trace(NamedTuple):
    """What was seen at each step of a chunk; float32, [E] or [E, M].

    NaN for steps that were not run, and for a replica that is no longer alive.

    Attributes:
      loss: Of the batch, before the step.
      gradient_norm: Global norm of its gradient, before clipping.
      update_norm: Global norm of what the step takes from the parameters.
    """

    loss: jax.Array
    gradient_norm: jax.Array
    update_norm: jax.Array

    __repr__ = repr_in_one_line


def start(optimiser: optax.GradientTransformation, params: PyTree) -> TrainState:
    """A state before its first step; `run_steps` is given the memory of the parameters."""
    return TrainState(params, jax.jit(optimiser.init)(params), jnp.bool_(True))


_STATIC = ("loss", "optimiser", "replicas", "grad_accum_steps", "place", "make_batch")


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames=("state",))
def run_steps(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    state: TrainState,
    frozen: PyTree,
    batches: PyTree,
    rates: jax.Array,
    count: int | jax.Array,
    replicas: bool = False,
    grad_accum_steps: int = 1,
    place: Callable[[PyTree], PyTree] | None = None,
    make_batch: Callable[[PyTree], PyTree] | None = None,
) -> tuple[TrainState, Trace]:
    """Runs the first `count` steps of a chunk of E.

    Args:
      loss: `loss(trained, frozen, batch)`, a scalar; hashable.
      optimiser: Without learning rate; hashable.
      state: Of `start`; donated.
      frozen: Parameters without gradients, the loss's second argument.
      batches: One batch for each step, leaves [E, ...] or [E, M, ...].
      rates: Learning rates, [E] or [E, M].
      count: Steps to run, at most E.
      replicas: Whether there is an axis M of replicas.
      grad_accum_steps: Parts that a batch's rows are cut into; their gradients are summed, so
        that only one part's activations are alive. `loss.weight(batch)` weighs the parts.
      place: Keeps a tree where it is on the devices of a mesh; see `train.mesh`. Hashable.
      make_batch: Makes the batch of a step from what `batches` has of it: data made by rule,
        inside of the program. Hashable; None: it is the batch.

    Returns:
      (state, trace), the trace's arrays of the shape of `rates`.
    """
    step = functools.partial(_step, loss, optimiser, grad_accum_steps)
    if replicas:
        step = jax.vmap(step)

    def body(at: jax.Array, carry: tuple[TrainState, Trace]) -> tuple[TrainState, Trace]:
        state, trace = carry
        batch = jax.tree.map(lambda leaf: leaf[at], batches)
        if make_batch is not None:
            batch = (jax.vmap(make_batch) if replicas else make_batch)(batch)
        state, found = step(state, frozen, batch, rates[at])
        trace = jax.tree.map(lambda all_E, one: all_E.at[at].set(one), trace, found)
        return (state, trace) if place is None else place((state, trace))

    nothing = jnp.full(rates.shape, jnp.nan, jnp.float32)
    return jax.lax.fori_loop(0, count, body, (state, Trace(nothing, nothing, nothing)))


def _step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    grad_accum_steps: int,
    state: TrainState,
    frozen: PyTree,
    batch: PyTree,
    rate: jax.Array,
) -> tuple[TrainState, Trace]:
    value, gradient = _gradient(loss, grad_accum_steps, state.params, frozen, batch)
    norm = optax.tree.norm(gradient)  # one number that says whether all of it is finite
    alive = state.alive & jnp.isfinite(value) & jnp.isfinite(norm)
    update, moments = optimiser.update(gradient, state.moments, state.params)
    # Keeping the moments of what has stopped as well would copy all of them at every step.
    params = jax.tree.map(
        lambda leaf, change: jnp.where(alive, leaf - rate * change, leaf), state.params, update
    )
    change_norm = rate * optax.tree.norm(update)
    seen = Trace(value, norm.astype(jnp.float32), change_norm.astype(jnp.float32))
    seen = jax.tree.map(lambda value: jnp.where(state.alive, value, jnp.nan), seen)
    return TrainState(params, moments, alive), seen


def _gradient(
    loss: Loss, grad_accum_steps: int, params: PyTree, frozen: PyTree, batch: PyTree
) -> tuple[jax.Array, PyTree]:
    """The loss of a batch and its gradient, summed over parts of the batch's rows."""
    if grad_accum_steps == 1:
        return jax.value_and_grad(loss)(params, frozen, batch)
    # Part a holds rows a, a + A, ...: rows that lie on several devices stay there.
    parts = jax.tree.map(
        lambda leaf: leaf.reshape(-1, grad_accum_steps, *leaf.shape[1:]).swapaxes(0, 1), batch
    )
    share_A = jax.vmap(loss.weight)(parts)
    share_A = share_A / share_A.sum()

    def add(sums: tuple[jax.Array, PyTree], part: tuple[PyTree, jax.Array]):
        batch, share = part
        found = jax.value_and_grad(loss)(params, frozen, batch)
        # A part without predictions has no mean.
        return jax.tree.map(
            lambda total, one: total + jnp.where(share > 0, share * one, 0), sums, found
        ), None

    nothing = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
    sums, _ = jax.lax.scan(add, nothing, (parts, share_A))
    return sums
