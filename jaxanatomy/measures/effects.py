"""Effects of one layer on later ones and on the output (DG section 4.3, appendix B).

A source, a layer or its attention or MLP, writes nothing at some token positions. What is read is
how far the contribution of each later layer moves, and how far the predicted distribution does.

| | |
| --- | --- |
| spread `propagated` | later layers see the changed stream, and pass the change on |
| spread `local` | each later layer sees the clean stream less what the source wrote; no more |
| when `current` | erased at all positions, read at all |
| when `future` | erased up to a boundary t, read beyond it: what attention carries forward |

Convention `paper`: erased at positions 0 .. t, read from t + 1 on. Convention `as_published`, of
the code that the paper builds on (Csordás et al. 2025, arXiv 2505.13898): position 0 is never
erased; for future effects erased at 1 .. t - 1, read from t on.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError, choose, require_unique
from jaxanatomy.interventions.variants import (
    ALL,
    OTHERS,
    Combination,
    Positions,
    Step,
    Steps,
    Variant,
    baseline_steps,
    closed,
    window_lengths,
)
from jaxanatomy.measures.losses import finite
from jaxanatomy.records import Row
from jaxanatomy.sweep import Beside, Context, Measured, Reading
from jaxanatomy.sweep.reading import END

CONVENTIONS = {
    "paper": "erased at positions 0 .. t, read beyond t (DG appendix B)",
    "as_published": "erased at 1 .. t - 1, read from t on; position 0 is never erased",
}
PARTS = {"layer": ("attention", "mlp"), "attention": ("attention",), "mlp": ("mlp",)}
PROPAGATED, LOCAL = "propagated", "local"
SPREADS = (PROPAGATED, LOCAL)
CURRENT, FUTURE = "current", "future"
WHENS = (CURRENT, FUTURE)
BOUNDARIES = ("1/4", "1/2", "3/4")  # of the tokens of a prompt
SMALLEST = 1e-6  # what a contribution's norm counts at least


def layer_change(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    """A measure beside the unedited model: |c - c'| / max(|c|, 1e-6) at each token, [C, R, T].

    c is what a layer adds to the residual stream, its output less its input.
    """
    before, after, (clean_before, clean_after) = streams
    clean_CRTD = clean_after - clean_before
    moved_CRT = jnp.linalg.norm(after - before - clean_CRTD, axis=-1)
    return moved_CRT / jnp.maximum(jnp.linalg.norm(clean_CRTD, axis=-1), SMALLEST)


def probabilities(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    """The predicted distribution at each token, [C, R, T, V]."""
    scores = model.logits(context.config, context.head, streams[0], context.dtype)
    return jax.nn.softmax(scores, axis=-1)


def output_change(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    """A measure beside the unedited end: L2 of the change of the distribution, [C, R, T].

    Whole distributions, of one stream at a time: the sum of squares has no digits to spare.
    """
    x_CRTD, clean_1RTV = streams

    def of_one(x_RTD: jax.Array) -> jax.Array:
        return jnp.linalg.norm(probabilities((x_RTD,), context) - clean_1RTV[0], axis=-1)

    return jax.lax.map(of_one, x_CRTD)


LAYER_CHANGE = Reading(Beside(layer_change), ("block_in", "block_out"))
OUTPUT_CHANGE = Reading(Beside(output_change, probabilities), END)


def readings(spread: str) -> dict[str, Reading]:
    """What is read of the variants of a spread; a local effect has no output."""
    both = {"effect": LAYER_CHANGE, "output": OUTPUT_CHANGE}
    return both if spread == PROPAGATED else {"effect": LAYER_CHANGE}


def boundary_at(position_RT: np.ndarray, boundary: str) -> np.ndarray:
    """The boundary t in each position's window: "1/4" is T // 4 of its T tokens, "12" is 12."""
    above, _, below = boundary.partition("/")
    if not below:
        return np.full_like(position_RT, int(above))
    return window_lengths(position_RT) * int(above) // int(below)


@functools.cache
def erased(convention: str, boundary: str | None) -> Positions:
    """Where a source writes nothing; without a boundary of current effects.

    They are positions of tokens in their windows, the same for all channels of a token.
    """
    if convention == "paper":
        if boundary is None:
            return ALL
        return Positions(f"up_to_{boundary}", lambda p_RT: p_RT <= boundary_at(p_RT, boundary))
    if boundary is None:
        return OTHERS
    name = f"others_before_{boundary}"
    return Positions(name, lambda p_RT: (p_RT > 0) & (p_RT < boundary_at(p_RT, boundary)))


@functools.cache
def eligible(convention: str, boundary: str | None) -> Positions:
    """Where effects are read."""
    if boundary is None:
        return ALL
    if convention == "paper":
        return Positions(f"after_{boundary}", lambda p_RT: p_RT > boundary_at(p_RT, boundary))
    return Positions(f"from_{boundary}", lambda p_RT: p_RT >= boundary_at(p_RT, boundary))


def require_boundaries(
    boundaries: Sequence[str], convention: str, batches: Sequence[TextBatch]
) -> None:
    """Refuses boundaries that leave a prompt nothing to erase or nothing to read.

    Raises:
      InputError: A boundary of another form or given twice; a prompt that is too short for it, or
        longer than a window.
    """
    choose("convention", convention, CONVENTIONS)
    require_unique("boundaries", boundaries)
    for boundary in boundaries:
        part = re.fullmatch(r"(\d{1,9})/(\d{1,9})", boundary)
        index = re.fullmatch(r"\d{1,9}", boundary)
        if not (int(part[1]) < int(part[2]) if part else index):
            raise InputError(
                "a boundary is a part of a prompt below 1 as in '1/4', or the index of a token "
                f"as in '12'; got {boundary!r}"
            )
    prompts = set()
    for batch in batches:
        for prompt, own_RT in _windows(batch):
            if prompt in prompts:
                raise InputError(
                    f"a prompt must fit into one window; prompt {prompt} does not; raise "
                    "packing.window or shorten it"
                )
            prompts.add(prompt)
            for boundary, kind in itertools.product(boundaries, (erased, eligible)):
                if not (kind(convention, boundary).select(batch.position_RT) & own_RT).any():
                    raise InputError(
                        f"boundary {boundary} needs a token to erase and one to read in every "
                        f"prompt; prompt {prompt} has {own_RT.sum()} tokens; leave it out or "
                        "choose another boundary"
                    )


def _windows(batch: TextBatch) -> Iterator[tuple[int, np.ndarray]]:
    """For each window that is predicted its document, and where it lies, bool [R, T]."""
    window_P = batch.segment_RT.ravel()[batch.predict_P]
    known_P = batch.document_P >= 0
    pairs = dict(zip(window_P[known_P].tolist(), batch.document_P[known_P].tolist(), strict=True))
    for window, document in pairs.items():
        yield document, batch.segment_RT == window


@dataclasses.dataclass(frozen=True)
class _Erasure:
    """What a variant erases; the labels of its rows."""

    convention: str
    part: str
    spread: str
    when: str
    boundary: str | None
    source: int

    @property
    def name(self) -> str:
        return "/".join(str(each) for each in dataclasses.astuple(self) if each is not None)


def effect_variants(
    config: ModelConfig,
    spread: str,
    *,
    convention: str = "paper",
    parts: Iterable[str] = tuple(PARTS),
    whens: Iterable[str] = WHENS,
    boundaries: Iterable[str] = BOUNDARIES,
) -> list[Variant]:
    """One variant for each source, part and boundary, to be read by `readings(spread)`.

    Args:
      config: The model.
      spread: One of `SPREADS`.
      convention: One of `CONVENTIONS`.
      parts: Of `PARTS`: what writes nothing.
      whens: Of `WHENS`.
      boundaries: Of future effects.

    Raises:
      InputError: A name is unknown, or local effects are asked of a model of one layer.
    """
    choose("spread", spread, SPREADS)
    if spread == LOCAL and config.num_layers < 2:
        raise InputError(
            f"local effects need two layers or more; got {config.num_layers}; leave {LOCAL!r} out "
            "of spreads"
        )
    choose("convention", convention, CONVENTIONS)
    whens = [choose("when", when, WHENS) for when in whens]
    places = [(when, boundary) for when in whens for boundary in _of(when, boundaries)]
    sources = range(config.num_layers - (spread == LOCAL))  # the last layer has none after it
    found = []
    for source, part, (when, boundary) in itertools.product(sources, parts, places):
        erasure = _Erasure(convention, choose("part", part, PARTS), spread, when, boundary, source)
        where = erased(convention, boundary)
        make = _local if spread == LOCAL else _propagated
        steps = make(baseline_steps(config.num_layers), source, part, where)
        found.append(Variant(erasure.name, steps, labels=dataclasses.asdict(erasure)))
    return found


def _of(when: str, boundaries: Iterable[str]) -> tuple[str | None, ...]:
    return (None,) if when == CURRENT else tuple(boundaries)


def _propagated(clean: Steps, source: int, part: str, where: Positions) -> Steps:
    """The model whose source writes nothing at some positions."""
    silent = Step(source, factors=closed(*PARTS[part]), positions=where)
    return (*clean[:source], silent, *clean[source + 1 :])


def _local(clean: Steps, source: int, part: str, where: Positions) -> Steps:
    """Every later layer on the clean stream less what the source wrote at some positions.

    What a part wrote is the difference of two streams: with it, and without it.
    """
    before, after = clean[:source], clean[: source + 1]
    between = (*before, Step(source, factors=closed("mlp")))
    full, less = {
        "layer": (after, before),
        "attention": (between, before),
        "mlp": (after, between),
    }[part]
    steps = [*after]
    for target in range(source + 1, len(clean)):
        terms = ((1, clean[:target]), (-1, full), (1, less))
        steps += [Combination(terms, where, from_text=True), clean[target]]
    return tuple(steps)


def units(variant: Variant, num_layers: int) -> list[str]:
    """What the rows of a variant are of: each later layer, and the output if it is read."""
    labels = variant.labels
    later = [f"target {layer}" for layer in range(labels["source"] + 1, num_layers)]
    return later + ["output"] * (labels["spread"] == PROPAGATED)


def effect_rows(
    measured: Mapping[str, Measured], variants: Sequence[Variant], *, text: str
) -> list[Row]:
    """Rows of kind "effect", one for each variant and later layer, and of kind "output".

    Args:
      measured: What `Sweep.run` returned of `readings`.
      variants: Of `effect_variants`.
      text: Name of the text.

    Returns:
      Rows with the labels of their variant, `target` (None for the output), `value`, the largest
      change over prompts and eligible positions; `mean`, the mean over prompts of the mean over
      eligible positions; `examples`, the largest of each prompt. What is not finite is None.
    """
    effect = measured["effect"]
    rows = []
    for variant in variants:
        labels = {**variant.labels, "text": text}
        where = eligible(labels["convention"], labels["boundary"])
        counted_N = where.select(effect.positions[None])[0]
        document_N = effect.documents[counted_N]
        later = effect[variant.name][labels["source"] + 1 :, counted_N]
        for target, value_N in enumerate(later, start=labels["source"] + 1):
            found = _over_prompts(value_N, document_N)
            rows.append({"kind": "effect", **labels, "target": target, **found})
        if "output" in measured:
            found = _over_prompts(measured["output"][variant.name][counted_N], document_N)
            rows.append({"kind": "output", **labels, "target": None, **found})
    return rows


def _over_prompts(value_N: np.ndarray, document_N: np.ndarray) -> Row:
    """Over positions in the order of the text: those of a prompt stand together."""
    _, start_E, count_E = np.unique(document_N, return_index=True, return_counts=True)
    value_N = value_N.astype(np.float64)
    largest_E = np.maximum.reduceat(value_N, start_E)
    mean_E = np.add.reduceat(value_N, start_E) / count_E
    return {
        "value": finite(largest_E.max()),
        "mean": finite(mean_E.mean()),
        "examples": [finite(float(f"{each:.7g}")) for each in largest_E],
    }


def heatmaps(rows: Iterable[Row]) -> dict[tuple[str, str, str, str], dict[str, np.ndarray]]:
    """Effects as matrices [source, target], NaN where the target does not come after the source.

    Args:
      rows: Those of one model and text; others than kind "effect" are passed over.

    Returns:
      By convention, part, spread and when: `value`, the largest over boundaries, and `mean`, the
      mean over them.
    """
    groups: dict[tuple, dict[tuple[int, int], list[Row]]] = {}
    for row in rows:
        if row["kind"] == "effect":
            key = tuple(row[name] for name in ("convention", "part", "spread", "when"))
            cells = groups.setdefault(key, {})
            cells.setdefault((row["source"], row["target"]), []).append(row)
    found = {}
    for key, cells in groups.items():
        size = 1 + max(target for _, target in cells)
        value_LL, mean_LL = np.full((2, size, size), np.nan)
        for place, own in cells.items():
            value_LL[place] = max(_number(row["value"]) for row in own)
            mean_LL[place] = np.mean([_number(row["mean"]) for row in own])
        found[key] = {"value": value_LL, "mean": mean_LL}
    return found


def _number(value: float | None) -> float:
    return np.inf if value is None else value
