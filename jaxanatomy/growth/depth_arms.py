"""The arms of depth growth: constant depths, growth, LN-scaling, controls (DG section 3.2).

An arm is a name of `ARMS`, after it what differs from the settings of all arms:

    lidas   lidas_b1   midas_prop2   lidas_zero_moments   ln_scaling_lidas_equal_flops
    flat_3  flat_3_equal_flops   expand_1_at_50

An arm has one name, as models and rows are found by it: options in the order of `OPTIONS`, numbers
without zeros that say nothing.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.growth.apply import grown_config
from jaxanatomy.growth.flops import growth_flops
from jaxanatomy.growth.maps import OPERATORS, GrowthMap, growth_map
from jaxanatomy.growth.stages import MOMENTS, Stage, depth_stages, total_flops

BASELINE = "baseline"
LN_SCALING = "ln_scaling"
EQUAL_FLOPS, EQUAL_SECONDS = "_equal_flops", "_equal_seconds"
SHALLOW, MEAN_DEPTH, FLAT, EXPAND = "shallow", "mean_depth", "flat_D", "expand_D_at_P"
ALIGNED, RANDOM, FRESH = "aligned", "random_copies", "fresh_layers"
# Arms that insert layers where LIDAS does.
_AS_LIDAS = {
    ALIGNED: "as lidas, but a new layer is the mean of its source and of the layer that follows "
    "it, neurons and heads matched first",
    RANDOM: "control: as lidas, but the new layers are copies of random other layers; one draw for "
    "all seeds",
    FRESH: "control: as lidas, but new layers have initial weights",
}
_GROWING = {name: operator.help for name, operator in OPERATORS.items()} | _AS_LIDAS
ARMS = {
    BASELINE: "all layers from the first step on",
    SHALLOW: "control: never more layers than a growing model starts with",
    MEAN_DEPTH: "control: the constant depth that comes nearest to a growing model's FLOPs in as "
    "many steps",
    FLAT: "D layers from the first step to the last",
    LN_SCALING: "the baseline with the outputs of the norms of layer l divided by sqrt(l)",
    **_GROWING,
    EXPAND: "D layers for P % of the steps, then all at once, each copied to the places above it "
    "(one-step expansion, arXiv 2511.04981)",
    **{f"{LN_SCALING}_{name}": f"both: LN-scaling, and {name}" for name in OPERATORS},
}
OPTIONS = {
    "_bN": "N layers a growth step",
    "_propA": "the steps of a stage by PROP-A",
    **{f"_{name}_moments": what for name, what in MOMENTS.items()},
    EQUAL_FLOPS: "as many steps as the baseline's FLOPs buy",
    EQUAL_SECONDS: "as many steps as the baseline's time buys, where a step takes as long as its "
    "layers and step_overhead more",
}
_NUMBER = "0|[1-9][0-9]{0,5}"
_BASE = (
    rf"(?P<base>flat_(?P<depth>{_NUMBER})|expand_(?P<first>{_NUMBER})_at_(?P<share>{_NUMBER})"
    rf"|{'|'.join(sorted((name for name in ARMS if name.islower()), key=len, reverse=True))})"
)
_PATTERN = re.compile(
    rf"{_BASE}(?:_b(?P<block>{_NUMBER}))?(?:_prop(?P<alpha>(?:{_NUMBER})(?:\.[0-9]{{0,5}}[1-9])?))?"
    rf"(?:_(?P<moments>{'|'.join(MOMENTS)})_moments)?(?:_equal_(?P<equal>flops|seconds))?"
)


@dataclasses.dataclass(frozen=True)
class DepthArmSettings:
    """What all arms share.

    Attributes:
      steps: Of the baseline, and of every arm that is compared at equal steps.
      block: Layers b that a growth step adds; the depth at the start, too.
      growth_fraction: Share of the steps in which PROP-alpha spreads the stages; what is left
        is trained at the last depth.
      alpha: Of PROP-alpha.
      batch_size: Sequences of a batch.
      seq_len: Tokens of each.
      moments: What becomes of the moments when a model grows, one of `stages.MOMENTS`.
      step_overhead: The time of a step beside its layers, in layers.
    """

    steps: int
    block: int
    growth_fraction: float = 0.85
    alpha: float = 1.0
    batch_size: int = 8
    seq_len: int = 256
    moments: str = "copy"
    step_overhead: float = 0.0

    def __post_init__(self):
        require_whole("steps", self.steps)
        require_whole("block", self.block)
        choose("policy for moments", self.moments, MOMENTS)
        if not 0 < self.growth_fraction <= 1:
            raise InputError(
                f"growth_fraction must be above 0 and 1 at most; got {self.growth_fraction}; the "
                "paper's is 0.85"
            )
        if not 0 <= self.step_overhead < float("inf"):
            raise InputError(
                f"step_overhead must be a number of layers, 0 or above; got {self.step_overhead}"
            )


@dataclasses.dataclass(frozen=True)
class Arm:
    """What the name of an arm says.

    Attributes:
      base: One of `ARMS`, without LN-scaling.
      ln_scaling: Whether with it.
      depth: D of `flat_D` and `expand_D_at_P`.
      share: P / 100.
      changes: Fields of the settings that it has of its own.
      equal: "flops", "seconds", or nothing: equal steps.
    """

    base: str
    ln_scaling: bool = False
    depth: int = 0
    share: float = 0.0
    changes: tuple[tuple[str, Any], ...] = ()
    equal: str = ""

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """Reads a name.

        Raises:
          InputError: It is none.
        """
        found = _PATTERN.fullmatch(name)
        if found is None:
            raise _no_arm(name)
        scaled = found["base"].startswith(LN_SCALING)
        base = found["base"].removeprefix(LN_SCALING).removeprefix("_") or BASELINE
        base = FLAT if found["depth"] else EXPAND if found["first"] else base
        read = {"block": int, "alpha": float, "moments": str}
        changes = tuple((key, kind(found[key])) for key, kind in read.items() if found[key])
        arm = cls(
            base,
            scaled,
            int(found["depth"] or found["first"] or 0),
            int(found["share"] or 0) / 100,
            changes,
            found["equal"] or "",
        )
        unused = [key for key, _ in changes if key not in arm.options]
        if unused:
            raise InputError(f"arm {name!r} makes no use of {unused[0]}; leave it out of its name")
        if arm.equal and base == BASELINE:
            raise InputError(f"arm {name!r} is what others are made equal to; leave 'equal' out")
        if base == EXPAND and not 0 < arm.share < 1:
            raise InputError(f"arm {name!r} must expand at 1 to 99 % of its steps")
        return arm

    @property
    def grows(self) -> bool:
        """Whether its model gains layers while it trains."""
        return self.base == EXPAND or self.base in _GROWING

    @property
    def options(self) -> tuple[str, ...]:
        """The fields of the settings that it may have of its own."""
        if self.base == EXPAND:  # grows once, and says when
            return ("moments",)
        if self.base == FRESH:  # new layers have none
            return ("block", "alpha")
        return ("block", "alpha", "moments") if self.grows else ()


def _no_arm(name: str) -> InputError:
    """What to write in place of a name that is none."""
    plain = re.sub(r"(?<=[a-z_])0+(?=[0-9])|(?<=[0-9])\.0+(?![0-9])", "", name)
    base = re.match(rf"{_BASE}(?=_)", name)
    if _PATTERN.fullmatch(plain):
        hint = f"write {plain!r}"
    elif base and base["base"] == LN_SCALING:
        hint = f"{LN_SCALING} stands alone or before {', '.join(OPERATORS)}"
    elif base:
        hint = f"{base['base']!r} is one; after it may come, in this order: {', '.join(OPTIONS)}"
    elif name in ARMS:
        hint = "write numbers for its capital letters"
    else:
        try:
            choose("arm", name, ARMS)
        except InputError as error:
            return error
    return InputError(f"unknown arm {name!r}; {hint}")


def grows(name: str) -> bool:
    """Whether an arm's model gains layers while it trains."""
    return Arm.parse(name).grows


def shallow_beside(name: str) -> str:
    """The control of an arm that grows, which stays shallow, in the same steps, FLOPs or time."""
    equal = Arm.parse(name).equal
    return f"{SHALLOW}_equal_{equal}" if equal else SHALLOW


def comparisons(names: Collection[str]) -> list[tuple[str, str]]:
    """Which arms are compared: all with the baseline, those that grow with a shallow one."""
    pairs = [(arm, BASELINE) for arm in names if arm != BASELINE]
    pairs += [(arm, shallow_beside(arm)) for arm in names if grows(arm)]
    return [pair for pair in pairs if pair[1] in names]


def describe(name: str) -> str:
    """What an arm is, in words."""
    arm = Arm.parse(name)
    words = [ARMS[f"{LN_SCALING}_{arm.base}" if arm.ln_scaling and arm.grows else arm.base]]
    if arm.ln_scaling and not arm.grows:
        words = [ARMS[LN_SCALING]]
    options = {"block": "_bN", "alpha": "_propA"}
    words += [
        OPTIONS[options.get(key, f"_{value}_moments")]
        .replace("N", str(value))
        .replace("PROP-A", f"PROP-{value}")
        for key, value in arm.changes
    ]
    return "; ".join([*words, *([OPTIONS[f"_equal_{arm.equal}"]] if arm.equal else [])])


def depth_arms(
    names: Sequence[str], config: ModelConfig, settings: DepthArmSettings
) -> dict[str, tuple[Stage, ...]]:
    """The stages of several arms, as `depth_arm` has them.

    Raises:
      InputError: The block is too large for the model to grow; two names are of one arm, whose
        results would count twice.
    """
    if 2 * settings.block > config.num_layers:
        raise InputError(
            f"block must be at most half of the model's {config.num_layers} layers, so that there "
            f"is something to grow; got {settings.block}; lower it or raise num_layers"
        )
    known: dict[Any, str] = {}
    for name in names:
        arm = Arm.parse(name)
        own = dataclasses.replace(settings, **dict(arm.changes))
        arm = dataclasses.replace(arm, changes=())
        if arm.base in (BASELINE, SHALLOW, MEAN_DEPTH, FLAT):
            depth = _constant_depth(arm, config, settings)
            equal = arm.equal if depth < config.num_layers else ""
            arm = dataclasses.replace(arm, base=FLAT, depth=depth, equal=equal)
        other = known.setdefault((arm, own), name)
        if other != name:
            raise InputError(f"arms {other!r} and {name!r} are the same; leave one of them out")
    return {name: depth_arm(name, config, settings) for name in names}


def depth_arm(name: str, config: ModelConfig, settings: DepthArmSettings) -> tuple[Stage, ...]:
    """The stages of an arm; the first takes its layers from a model of full depth.

    Args:
      name: As above.
      config: The architecture at the end, without LN-scaling; layers of one shape.
      settings: What all arms share.

    Raises:
      InputError: No such arm; its depth is not reached; fewer steps than stages.
    """
    arm = Arm.parse(name)
    config = dataclasses.replace(config, ln_scaling=arm.ln_scaling)
    settings = dataclasses.replace(settings, **dict(arm.changes))
    if arm.depth > config.num_layers - (arm.base == EXPAND):
        raise InputError(
            f"arm {name!r} has {arm.depth} layers of a model of {config.num_layers}; "
            f"{'fewer' if arm.base == EXPAND else 'as many or fewer'} are needed"
        )
    if arm.base in (FLAT, EXPAND) and arm.depth < 1:
        raise InputError(f"arm {name!r} needs a layer or more")
    make = functools.partial(_stages, arm, config, settings)
    cost = functools.partial(_flops if arm.equal == "flops" else _seconds, settings)
    try:
        if not arm.equal:
            return make(settings.steps)
        return _nearest(make, cost, cost((Stage(config, settings.steps),)), settings.steps)
    except InputError as error:  # of many arms it says which
        raise InputError(f"arm {name!r}: {error}") from error


def _stages(
    arm: Arm, config: ModelConfig, settings: DepthArmSettings, steps: int
) -> tuple[Stage, ...]:
    """The stages of an arm in so many steps."""
    if not arm.grows:
        return (_first(config, _constant_depth(arm, config, settings), steps),)
    if arm.base == EXPAND:
        first, depth = round(arm.share * steps), config.num_layers
        if not 0 < first < steps:
            raise InputError(f"{steps} steps are too few to expand within; raise the steps")
        growth = GrowthMap(tuple(place * arm.depth // depth for place in range(depth)))
        grown = Stage(config, steps - first, growth, moments=settings.moments)
        return (_first(config, arm.depth, first), grown)
    (depth, count), *rest = _depths(config, settings, steps)
    stages = [_first(config, depth, count)]
    for _, count in rest:
        stages.append(_grown(arm, stages[-1], count, settings))
    return tuple(stages)


def _first(config: ModelConfig, depth: int, steps: int) -> Stage:
    """A first stage of the first layers of the whole model."""
    if depth == config.num_layers:
        return Stage(config, steps)
    layers = tuple(range(depth))
    taken = GrowthMap(layers, depth=config.num_layers, new=())
    return Stage(config.with_layers(config.layers[:depth]), steps, taken)


def _grown(arm: Arm, before: Stage, steps: int, settings: DepthArmSettings) -> Stage:
    """The stage after a growth step."""
    depth = before.config.num_layers
    growth = growth_map("lidas" if arm.base in _AS_LIDAS else arm.base, depth, settings.block)
    if arm.base == RANDOM:
        growth = _random_copies(growth)
    config = grown_config(before.config, growth)
    if arm.base == FRESH:
        # Numbers that no layer has yet: their initial weights are those of the whole model.
        numbers = [before.layers[source] for source in growth.sources]
        fresh = tuple(range(depth, depth + len(growth.inserted)))
        for place, number in zip(growth.inserted, fresh, strict=True):
            numbers[place] = number
        return Stage(config, steps, growth, tuple(numbers), fresh=fresh, moments="zero")
    return Stage(config, steps, growth, aligned=arm.base == ALIGNED, moments=settings.moments)


def _random_copies(growth: GrowthMap) -> GrowthMap:
    """The same places, other sources if there are; drawn by the depth: the same in every seed."""
    drawn = np.random.default_rng(growth.num_sources)
    sources, layers = list(growth.sources), range(growth.num_sources)
    for place in growth.inserted:
        others = [layer for layer in layers if layer != sources[place]] or [*layers]
        sources[place] = int(drawn.choice(others))
    return GrowthMap(tuple(sources), depth=growth.num_sources, new=growth.inserted)


def _constant_depth(arm: Arm, config: ModelConfig, settings: DepthArmSettings) -> int:
    """Layers of an arm that does not grow."""
    if arm.base == FLAT:
        return arm.depth
    if arm.base == SHALLOW:
        return min(settings.block, config.num_layers)
    if arm.base != MEAN_DEPTH:
        return config.num_layers
    shape = settings.batch_size, settings.seq_len
    spent = growth_flops(config, _depths(config, settings, settings.steps), *shape)
    return min(
        range(1, config.num_layers + 1),
        key=lambda depth: abs(growth_flops(config, [(depth, settings.steps)], *shape) - spent),
    )


def _depths(config: ModelConfig, settings: DepthArmSettings, steps: int):
    growing = round(settings.growth_fraction * steps)
    return depth_stages(
        settings.block, config.num_layers, settings.block, growing, steps, settings.alpha
    )


def _flops(settings: DepthArmSettings, stages: Sequence[Stage]) -> float:
    return total_flops(stages, settings.batch_size, settings.seq_len)


def _seconds(settings: DepthArmSettings, stages: Sequence[Stage]) -> float:
    """Time, in that of a layer and step."""
    return sum(stage.steps * (stage.config.num_layers + settings.step_overhead) for stage in stages)


def _nearest(
    make: Callable[[int], tuple[Stage, ...]],
    cost: Callable[[Sequence[Stage]], float],
    budget: float,
    least: int,
) -> tuple[Stage, ...]:
    """Stages that cost what comes nearest to a budget, in `least` steps or more."""
    guess = round(least * budget / cost(make(least)))
    # Stages are rounded to whole steps: the best of the neighbours that suffice for them.
    tried = range(max(least, guess - 3), max(least, guess + 3) + 1)
    return min(map(make, tried), key=lambda stages: abs(cost(stages) - budget))
