"""The one optimiser: a direction of optax after clipping, decay and rates by pattern.

    settings = Optimiser(beta2=0.95, decay_norms_and_embeddings=False)
    settings = Optimiser(rate_factors=(("layers/[01]/.*", 0.1),))
    optimiser = make(settings, params)

It has no learning rate: the loop multiplies by that of each step, decay included, as torch and
optax do. Parameters are named by their path, each layer by its number, "embed/embedding",
"layers/3/attention/q_proj/kernel"; a pattern is a regular expression of a whole name. Of the
patterns the first that fits counts, as in big_vision's `wd_mults`.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import tree
from jaxanatomy.errors import InputError, choose, require_positive
from jaxanatomy.tree import PyTree

Factors = tuple[tuple[str, float], ...]

# How the clipped gradient becomes a direction; their moments have the shapes of the parameters.
DIRECTIONS: dict[str, Callable[["Optimiser"], optax.GradientTransformation]] = {
    "adamw": lambda own: optax.scale_by_adam(own.beta1, own.beta2, eps=own.epsilon),
    "nadamw": lambda own: optax.scale_by_adam(own.beta1, own.beta2, eps=own.epsilon, nesterov=True),
    "radam": lambda own: optax.scale_by_radam(own.beta1, own.beta2, eps=own.epsilon),
    "lion": lambda own: optax.scale_by_lion(own.beta1, own.beta2),
    "sgd": lambda own: optax.trace(own.beta1),
}
_NOT_DECAYED: Factors = ((r"(.*/)?(\w*norm/.*|bias)", 0.0), (r"(un)?embed/.*", 0.0))


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """Settings (AH section 3.6; what it leaves open is PyTorch's default).

    Attributes:
      name: One of `DIRECTIONS`.
      learning_rate: Of training at one rate; where there is a schedule, that counts.
      beta1: Decay of the first moment; the momentum of "sgd".
      beta2: Decay of the second moment.
      epsilon: Added to the root of the second moment.
      weight_decay: Decoupled; times the learning rate.
      decay_norms_and_embeddings: Whether norms, biases, embedding and head decay as matrices do.
      decay_factors: Pairs (pattern, factor on the decay of what it fits), or "PATTERN=FACTOR".
      rate_factors: The same for the learning rate.
      clip_norm: Largest global norm of the gradient of all that is trained together.
    """

    name: str = "adamw"
    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    decay_norms_and_embeddings: bool = True
    decay_factors: Factors = ()
    rate_factors: Factors = ()
    clip_norm: float = 1.0

    def __post_init__(self):
        choose("optimiser", self.name, DIRECTIONS)
        for name in ("learning_rate", "epsilon", "clip_norm"):
            require_positive(f"optimiser.{name}", getattr(self, name))
        require_positive("optimiser.weight_decay", self.weight_decay, or_zero=True)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"optimiser.{name} must be at least 0 and below 1; got {getattr(self, name)}"
                )
        for name in ("decay_factors", "rate_factors"):
            given = getattr(self, name)
            if not isinstance(given, Iterable) or isinstance(given, str):
                raise InputError(f"optimiser.{name} must hold items PATTERN=FACTOR; got {given!r}")
            parsed = tuple(_parse_factor(name, each) for each in given)
            object.__setattr__(self, name, parsed)

    @property
    def by_name(self) -> bool:
        """Whether parameters are told apart by their names."""
        return bool(self.patterns) or not self.decay_norms_and_embeddings

    @property
    def patterns(self) -> list[str]:
        """Those of all factors."""
        return [pattern for pattern, _ in (*self.decay_factors, *self.rate_factors)]


# The columns of factors in an optimiser's state: each matrix with its bias, and the norms.
COLUMNS = (*tree.MATRICES, "other")


class LayerRates(NamedTuple):
    """The part of an optimiser's state that says how fast each layer learns.

    Attributes:
      layer_rates: Factors on the learning rate by layer and `COLUMNS`, [N, C]; growth leaves them
        where they are.
    """

    layer_rates: jax.Array


class LayerDecays(NamedTuple):
    """The part that says how fast each layer decays.

    Attributes:
      layer_decays: Factors on the decay, likewise [N, C].
    """

    layer_decays: jax.Array


def make(
    settings: Optimiser,
    params: PyTree,
    names: Iterable[str] | None = None,
    layer_factors: int = 0,
) -> optax.GradientTransformation:
    """The optimiser of a model, without learning rate.

    Equal settings give the same object for models whose layers are numbered alike, so that
    programs compiled for it are found again.

    Args:
      settings: What to make.
      params: Parameters, or their shapes, layers stacked; or those of one layer.
      names: All that patterns may fit, where a model has only some of them now.
      layer_factors: Layers N that have factors in the state (`LayerRates`, `LayerDecays`), 1 at
        first; at least those of the model, or 0 for none.

    Raises:
      InputError: A pattern fits no parameter.
    """
    if not settings.by_name and not layer_factors:
        return _chain(settings, (), 0)
    names = parameter_names(params) if names is None else list(names)
    for pattern in settings.patterns:
        if not any(re.fullmatch(pattern, name) for name in names):
            raise InputError(
                f"expected a pattern of the optimiser to fit a parameter; {pattern!r} fits none; "
                f"names are like {names[0]} and {names[-1]}"
            )
    return _chain(settings, _first_layers(params), layer_factors)


def with_layer_factors(moments: PyTree, **factors: np.ndarray) -> PyTree:
    """An optimiser's state with other factors by layer and component.

    Args:
      moments: The state of one that was made with `layer_factors`.
      factors: `layer_rates` and `layer_decays`, [N, C] by layer and `COLUMNS`; with an axis M
        before if seeds train side by side.
    """

    def put(name: str, factor: np.ndarray) -> jax.Array:
        now = optax.tree.get(moments, name)
        return jax.device_put(np.asarray(factor, now.dtype).reshape(now.shape), now.sharding)

    changed = {name: put(name, factor) for name, factor in factors.items()}
    return optax.tree.set(moments, **changed)


def parameter_names(params: PyTree) -> list[str]:
    """The names of all parameters, one for each layer of a stack."""
    first = _first_layers(params)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [name for path, leaf in leaves for name in _names(path, leaf, first)]


@functools.cache
def _chain(
    settings: Optimiser, first_layers: tuple[int, ...], layers: int
) -> optax.GradientTransformation:
    exempt = () if settings.decay_norms_and_embeddings else _NOT_DECAYED
    decays = (*settings.decay_factors, *exempt)
    parts = [
        _clip_by_global_norm(settings.clip_norm),
        DIRECTIONS[settings.name](settings),
        _decayed(settings.weight_decay, decays, first_layers, layers),
    ]
    if settings.rate_factors:
        parts.append(_scaled(settings.rate_factors, first_layers))
    if layers:
        parts.append(_by_layer(first_layers, layers))
    return optax.chain(*parts)


def _clip_by_global_norm(clip_norm: float) -> optax.GradientTransformation:
    """optax's, with one factor for all leaves.

    What optax divides is written to memory before the moments read it; a product is not.
    """

    def update(
        gradient: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, PyTree]:
        factor = jnp.minimum(1.0, clip_norm / optax.tree.norm(gradient))
        return jax.tree.map(lambda leaf: factor * leaf, gradient), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _decayed(
    weight_decay: float, factors: Factors, first_layers: tuple[int, ...], layers: int
) -> optax.GradientTransformation:
    if not factors and not layers:
        return optax.add_decayed_weights(weight_decay)

    def init(params: PyTree) -> LayerDecays | optax.EmptyState:
        return LayerDecays(jnp.ones((layers, len(COLUMNS)))) if layers else optax.EmptyState()

    def update(updates: PyTree, state: Any, params: PyTree) -> tuple[PyTree, Any]:
        def add(path: tuple, update: jax.Array, leaf: jax.Array) -> jax.Array:
            factor = weight_decay * _factor(path, leaf, factors, first_layers)
            if layers:
                factor = factor * _of_layers(path, leaf, state.layer_decays, first_layers)
            return update + factor * leaf

        return jax.tree.map_with_path(add, updates, params), state

    return optax.GradientTransformation(init, update)


def _scaled(factors: Factors, first_layers: tuple[int, ...]) -> optax.GradientTransformation:
    def scale(path: tuple, update: jax.Array) -> jax.Array:
        return _factor(path, update, factors, first_layers) * update

    return optax.stateless(lambda updates, params: jax.tree.map_with_path(scale, updates))


def _by_layer(first_layers: tuple[int, ...], layers: int) -> optax.GradientTransformation:
    def update(
        updates: PyTree, state: LayerRates, params: PyTree | None = None
    ) -> tuple[PyTree, LayerRates]:
        def scale(path: tuple, leaf: jax.Array) -> jax.Array:
            return _of_layers(path, leaf, state.layer_rates, first_layers) * leaf

        return jax.tree.map_with_path(scale, updates), state

    def init(params: PyTree) -> LayerRates:
        return LayerRates(jnp.ones((layers, len(COLUMNS))))

    return optax.GradientTransformation(init, update)


def _of_layers(
    path: tuple, leaf: jax.Array, factor_NC: jax.Array, first_layers: tuple[int, ...]
) -> jax.Array | float:
    """The factors of a stack at a path, one for each of its layers; 1 for what is in no layer."""
    if path[0].key != "layers":
        return 1.0
    names = [key.key for key in path[2:]]
    column = next((at for at, name in enumerate(tree.MATRICES) if name in names), -1)
    first = first_layers[path[1].idx]
    factor_L = factor_NC[first : first + len(leaf), column]
    return factor_L.reshape(-1, *[1] * (leaf.ndim - 1))


def _factor(
    path: tuple, leaf: jax.Array, factors: Factors, first_layers: tuple[int, ...]
) -> np.ndarray:
    """What the leaf at a path is multiplied by: a number, or one for each layer of a stack."""
    names = _names(path, leaf, first_layers)
    found = np.array([_first_fit(name, factors) for name in names], leaf.dtype)
    return found[0] if len(found) == 1 else found.reshape(-1, *[1] * (leaf.ndim - 1))


def _first_fit(name: str, factors: Factors) -> float:
    return next((factor for pattern, factor in factors if re.fullmatch(pattern, name)), 1.0)


def _first_layers(params: PyTree) -> tuple[int, ...]:
    """The number of the first layer of each stack; nothing for what has no layers."""
    layers = params.get("layers", ()) if isinstance(params, dict) else ()
    counts = [jax.tree.leaves(stack)[0].shape[0] for stack in layers]
    return tuple(itertools.accumulate(counts, initial=0))[:-1]


def _names(path: tuple, leaf: Any, first_layers: tuple[int, ...]) -> list[str]:
    """The name of a leaf; of a stack that of each of its layers."""
    keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
    if keys[0] != "layers" or not first_layers:
        return ["/".join(keys)]
    first = first_layers[int(keys[1])]
    rest = "/".join(keys[2:])
    return [f"layers/{layer}/{rest}" for layer in range(first, first + leaf.shape[0])]


def _parse_factor(field: str, given: str | tuple[str, float]) -> tuple[str, float]:
    """A pattern and its factor, each checked."""
    try:
        pattern, factor = given.rpartition("=")[::2] if isinstance(given, str) else given
        re.compile(pattern)
        factor = float(factor)
    except re.error as error:
        raise InputError(
            f"optimiser.{field} must hold regular expressions; {pattern!r}: {error}"
        ) from error
    except (TypeError, ValueError) as error:
        raise InputError(f"optimiser.{field} must be PATTERN=FACTOR; got {given!r}") from error
    require_positive(f"optimiser.{field} of {pattern!r}", factor, or_zero=True)
    return pattern, factor
