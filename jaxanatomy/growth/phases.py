"""The Growth Transformer and its phases of training (AH section 4.6, Tables 6 and 7).

A phase says which layers train, which are initialised from a copy, and its share of the steps.
`stages` turns phases into what is to be done, one after the other: which layers are in the
model, which of them train, and for how many steps.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.growth.maps import GrowthMap
from jaxanatomy.growth.stages import Stage, split_steps

# AH Table 6: width of the FFN of each layer, in multiples of the residual width.
MULTIPLIERS = (1, 4, 4, 1, 4, 4, 1, 2, 4, 4, 2, 1)
CORE = (4, 5)

# When the core trains: the text of section 4.6.2 and Table 7 differ.
CORE_READINGS = {
    "text": "the core trains in phases 1, 2, 3 and 6 (AH section 4.6.2)",
    "table": "the core trains in phases 1 and 6 alone (AH Table 7)",
}
NOT_YET_GROWN = {
    "absent": "a layer that is not grown yet is not in the model: the identity",
    "frozen": "it stands in its place with random weights that do not train",
}


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
      name: The paper's name.
      epochs: Its share of the steps, in proportion to the other phases'; 0: it only grows.
      train: Layers that train. One that is not there yet enters with the phase, as a clone
        if `clone` says so, else with its random initial weights.
      clone: Pairs (layer, the layer that it is cloned from).
      noise: Standard deviation of Gaussian noise on each matrix of a clone, as a share of
        the matrix's own.
      ffn_scale: Factor on what a clone's FFN writes (its down projection).
      embedding: Whether the embedding, which is the head too, and the final norm train.
    """

    name: str
    epochs: int
    train: tuple[int, ...]
    clone: tuple[tuple[int, int], ...] = ()
    noise: float = 0.0
    ffn_scale: float = 1.0
    embedding: bool = False


def growth_transformer(vocab_size: int = 494, context_length: int = 32) -> ModelConfig:
    """The architecture of AH Table 6: 9,570,048 parameters with 494 words.

    Four heads of 64 without grouping; the paper does not give the heads, but its parameter
    counts leave 4 D^2 for attention.
    """
    width = 256
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        head_dim=64,
        layers=tuple(LayerShape(4, 4, multiplier * width) for multiplier in MULTIPLIERS),
        context_length=context_length,
    )


def developmental_phases(core: str = "text") -> tuple[Phase, ...]:
    """The six phases of AH Table 7.

    The paper does not say what becomes of the embedding; here it and the final norm train
    whenever the core does. Nor does it say where L0, L3, L6 and L11 are cloned from: the
    nearest layer that has been trained, of two the lower one, with noise of 0.01 standard
    deviations.

    Args:
      core: One of `CORE_READINGS`.

    Raises:
      InputError: No such reading.
    """
    choose("reading of the core's phases", core, CORE_READINGS)
    extra, follows = (CORE, True) if core == "text" else ((), False)
    connective = (0, 3, 6, 11)
    trained = (*CORE, 1, 2, 8, 9, 7, 10)
    nearest = tuple((layer, nearest_layer(layer, trained)) for layer in connective)
    return (
        Phase("gastrulation", 30, CORE, embedding=True),
        Phase("neurulation", 20, (1, 2, *extra), clone=((1, 4), (2, 5)), embedding=follows),
        Phase("organogenesis", 20, (8, 9, *extra), clone=((8, 4), (9, 5)), embedding=follows),
        Phase("growth", 12, (7, 10), clone=((7, 5), (10, 9))),
        Phase("connective", 6, connective, clone=nearest, noise=0.01, ffn_scale=0.5),
        Phase("maturation", 15, tuple(range(len(MULTIPLIERS))), embedding=True),
    )


def uniform_phases(num_layers: int) -> tuple[Phase, ...]:
    """The baseline: every layer trains at every step."""
    return (Phase("uniform", 1, tuple(range(num_layers)), embedding=True),)


def core_phases() -> tuple[Phase, ...]:
    """A control: the core alone, at every step; nothing grows."""
    return (Phase("core", 1, CORE, embedding=True),)


def restarted_phases(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """A control: every layer trains at every step, in phases as long as the given ones.

    Nothing grows where a phase begins, but the optimiser starts anew.
    """
    everything = tuple(range(len(MULTIPLIERS)))
    return tuple(Phase(phase.name, phase.epochs, everything, embedding=True) for phase in phases)


def clone_init_phases(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """A control: all clones are made before the first step, then every layer trains."""
    *growing, last = phases
    return (*(dataclasses.replace(phase, epochs=0) for phase in growing), last)


def reordered_phases(phases: Sequence[Phase], order: Sequence[int]) -> tuple[Phase, ...]:
    """A control: the same phases with the same shares, the growing ones in another order.

    What comes first starts from random weights, and trains the embedding. Every later layer
    is a clone, of the phase's own source where that is there already, else of the nearest
    layer that is there (of two the lower one). The core trains in the phases that name it
    once it is there.

    Args:
      phases: The last one, in which all layers train, stays last.
      order: Which of the others come first, second, ...

    Raises:
      InputError: `order` is no permutation of them.
    """
    *growing, last = phases
    if sorted(order) != list(range(len(growing))):
        raise InputError(
            f"an order of phases must hold each of 0 .. {len(growing) - 1} once; got {tuple(order)}"
        )
    present: set[int] = set()
    found = []
    for phase in (growing[index] for index in order):
        sources = dict(phase.clone)
        own = _own_layers(phase, growing)
        born = [layer for layer in own if layer not in present]
        clone = tuple(
            (
                layer,
                sources[layer] if sources.get(layer) in present else nearest_layer(layer, present),
            )
            for layer in (born if present else ())
        )
        train = tuple(layer for layer in phase.train if layer in present or layer in born)
        embedding = not present or (phase.embedding and set(CORE) <= {*present, *born})
        found.append(dataclasses.replace(phase, train=train, clone=clone, embedding=embedding))
        present |= set(born)
    return (*found, last)


def _own_layers(phase: Phase, growing: Sequence[Phase]) -> list[int]:
    """The layers that a phase brings in Table 7's order: those of no earlier phase."""
    earlier = {layer for each in growing[: growing.index(phase)] for layer in each.train}
    return [layer for layer in phase.train if layer not in earlier]


def nearest_layer(layer: int, others: Collection[int]) -> int:
    """The nearest of some layers; of two equally near the lower one."""
    return min(others, key=lambda other: (abs(other - layer), other))


def stages(
    config: ModelConfig,
    phases: Sequence[Phase],
    steps: int,
    not_yet_grown: str = "absent",
    whole: bool = True,
) -> tuple[Stage, ...]:
    """What phases come to on a model.

    Args:
      config: The architecture at the end.
      phases: In order.
      steps: Of all phases together.
      not_yet_grown: One of `NOT_YET_GROWN`.
      whole: Whether every layer must have grown at the end.

    Raises:
      InputError: Steps do not suffice; a phase names a layer that the model does not have,
        trains none, clones a layer that is there or from one that is not or whose heads
        differ; or layers are missing at the end.
    """
    choose("way of layers that are not grown yet", not_yet_grown, NOT_YET_GROWN)
    counts = split_steps(steps, [phase.epochs for phase in phases])
    everything = tuple(range(config.num_layers))
    present: set[int] = set()
    before, found = everything, []  # the initial model has every layer
    for phase, count in zip(phases, counts, strict=True):
        _require_layers(config, phase)
        _require_clones(config, phase, present)
        present |= set(phase.train) | {layer for layer, _ in phase.clone}
        layers = tuple(sorted(present)) if not_yet_grown == "absent" else everything
        fresh = tuple(layer for layer in layers if layer not in {*before, *dict(phase.clone)})
        found.append(
            Stage(
                config=config.with_layers(config.layers[layer] for layer in layers),
                steps=count,
                growth=_growth(before, layers, dict(phase.clone), fresh),
                layers=layers,
                train=tuple(sorted(phase.train)),
                train_ends=phase.embedding,
                noise=phase.noise,
                ffn_scale=phase.ffn_scale,
                fresh=fresh,
                moments="restart",
                name=phase.name,
            )
        )
        before = layers
    missing = sorted(set(everything) - present)
    if missing and whole:
        raise InputError(
            f"the phases must grow every layer; {_names(missing)} never enters; name it in a phase"
        )
    return tuple(found)


def _growth(
    before: Sequence[int], layers: Sequence[int], clone: Mapping[int, int], fresh: Collection[int]
) -> GrowthMap:
    """The map from the layers of one stage to those of the next."""
    sources = [before[0] if layer in fresh else clone.get(layer, layer) for layer in layers]
    return GrowthMap(
        tuple(map(before.index, sources)),
        depth=len(before),
        new=tuple(at for at, layer in enumerate(layers) if layer in clone or layer in fresh),
    )


def _require_layers(config: ModelConfig, phase: Phase) -> None:
    named = [*phase.train, *(layer for pair in phase.clone for layer in pair)]
    outside = [layer for layer in named if not 0 <= layer < config.num_layers]
    if outside:
        raise InputError(
            f"phase {phase.name!r} names {_names(outside)}; the model has layers 0 to "
            f"{config.num_layers - 1}"
        )
    if not phase.train or len(set(phase.train)) < len(phase.train):
        raise InputError(
            f"phase {phase.name!r} must train at least one layer, each named once; got "
            f"{phase.train}"
        )


def _require_clones(config: ModelConfig, phase: Phase, present: Collection[int]) -> None:
    for layer, source in phase.clone:
        if source not in present:
            there = _names(sorted(present)) or "none"
            raise InputError(
                f"phase {phase.name!r} clones L{layer} from L{source}, which does not exist yet; "
                f"grown so far: {there}; grow it first or clone another"
            )
        if layer in present:
            raise InputError(
                f"phase {phase.name!r} clones L{layer}, which is there already; take it out"
            )
        own, other = config.layers[layer], config.layers[source]
        resized = dataclasses.replace(other, ffn_width=own.ffn_width)
        if own.weight_shape != resized.weight_shape:
            raise InputError(
                f"phase {phase.name!r} clones L{layer} from L{source}, whose attention has another "
                f"shape: {other.summary}, not {own.summary}; clone a layer of the same attention"
            )


def _names(layers: Iterable[int]) -> str:
    return ", ".join(f"L{layer}" for layer in layers)
