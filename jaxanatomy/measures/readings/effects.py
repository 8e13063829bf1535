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

A variant is a source. One stream has its current and all its future effects, each at a place of
the text: what is erased up to a boundary is, up to there, what is erased at all tokens. So the
source is silent in the trunk of each prompt, where current effects are read, and not in the
branches from each boundary on, where future ones are (`branched`, `data.branches`).
"""

import fractions
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.data import branches
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError, choose, require_unique
from jaxanatomy.interventions.variants import (
    Combination,
    Positions,
    Step,
    Steps,
    Variant,
    baseline_steps,
    closed,
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
Place = tuple[str, str | None]  # when, and the boundary of a future effect


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


def places(
    whens: Iterable[str] = WHENS, boundaries: Iterable[str] = BOUNDARIES
) -> tuple[Place, ...]:
    """Where effects are read: current ones once, future ones at each boundary.

    Raises:
      InputError: A when is unknown.
    """
    of = {CURRENT: (None,), FUTURE: tuple(boundaries)}
    return tuple((when, each) for when in whens for each in of[choose("when", when, WHENS)])


def branched(
    config: ModelConfig, batches: Sequence[TextBatch], convention: str, places: Sequence[Place]
) -> tuple[TextBatch, ...]:
    """Prompts as effects are read: with a branch for each place that has a boundary."""
    starts = [
        functools.partial(_read_from, convention, boundary)
        for _, boundary in places
        if boundary is not None
    ]
    whole = len(starts) < len(places)
    return branches.branch(batches, starts, whole=whole, share=not config.has_windows)


def _branch_of(places: Sequence[Place]) -> dict[Place, int]:
    """Where each place is read: the trunk, or the branches in their order."""
    numbers = itertools.count(1)
    return {place: branches.TRUNK if place[1] is None else next(numbers) for place in places}


def _read_from(convention: str, boundary: str, tokens: int) -> int:
    """The first position that is read: "1/4" is a boundary at T // 4 of T tokens, "12" at 12."""
    above, _, below = boundary.partition("/")
    t = tokens * int(above) // int(below) if below else int(above)
    return t + 1 if convention == "paper" else t


ERASED = {
    "paper": Positions("trunk", branches.is_trunk),
    "as_published": Positions(
        "others_of_trunk", lambda text: branches.is_trunk(text) & (text.position_RT > 0)
    ),
}


def require_boundaries(
    boundaries: Sequence[str], convention: str, batches: Sequence[TextBatch]
) -> None:
    """Refuses boundaries that leave a prompt nothing to erase or nothing to read.

    Raises:
      InputError: A boundary of another form or given twice, perhaps in other words, as 1/4 and 2/8
        are; a prompt that is too short for it, or longer than a window.
    """
    choose("convention", convention, CONVENTIONS)
    require_unique("boundaries", boundaries)
    known: dict[tuple[bool, fractions.Fraction], str] = {}
    for boundary in boundaries:
        part = re.fullmatch(r"(\d{1,9})/(\d{1,9})", boundary)
        index = re.fullmatch(r"\d{1,9}", boundary)
        if not (int(part[1]) < int(part[2]) if part else index):
            raise InputError(
                "a boundary is a part of a prompt below 1 as in '1/4', or the index of a token "
                f"as in '12'; got {boundary!r}"
            )
        same = known.setdefault((part is None, fractions.Fraction(boundary)), boundary)
        if same != boundary:
            raise InputError(f"boundaries {same} and {boundary} are the same one; leave one out")
    lengths = {window: len(token_T) for window, token_T in branches.windows(batches).items()}
    least = {"paper": 1, "as_published": 2}[convention]  # position 0 is erased, or 1 is
    prompts = set()
    for prompt, window in _prompts(batches):
        if prompt in prompts:
            raise InputError(
                f"a prompt must fit into one window; prompt {prompt} does not; raise "
                "packing.window or shorten it"
            )
        prompts.add(prompt)
        for boundary in boundaries:
            if not least <= _read_from(convention, boundary, lengths[window]) < lengths[window]:
                raise InputError(
                    f"boundary {boundary} needs a token to erase and one to read in every "
                    f"prompt; prompt {prompt} has {lengths[window]} tokens; leave it out or "
                    "choose another boundary"
                )


def _prompts(batches: Sequence[TextBatch]) -> list[tuple[int, int]]:
    """The document and the window of each window that is predicted."""
    found = {}
    for batch in batches:
        known_P = batch.document_P >= 0
        window_P = batch.segment_RT.ravel()[batch.predict_P[known_P]]
        found |= dict.fromkeys(
            zip(batch.document_P[known_P].tolist(), window_P.tolist(), strict=True)
        )
    return list(found)


def effect_variants(
    config: ModelConfig,
    spread: str,
    *,
    convention: str = "paper",
    parts: Iterable[str] = tuple(PARTS),
) -> list[Variant]:
    """One variant for each source and part, to be read by `readings(spread)` of `branched` text.

    Args:
      config: The model.
      spread: One of `SPREADS`.
      convention: One of `CONVENTIONS`.
      parts: Of `PARTS`: what writes nothing.

    Raises:
      InputError: A name is unknown, or local effects are asked of a model of one layer.
    """
    choose("spread", spread, SPREADS)
    if spread == LOCAL and config.num_layers < 2:
        raise InputError(
            f"local effects need two layers or more; got {config.num_layers}; leave {LOCAL!r} out "
            "of spreads"
        )
    where = ERASED[choose("convention", convention, CONVENTIONS)]
    make = _local if spread == LOCAL else _propagated
    clean, found = baseline_steps(config.num_layers), []
    sources = range(config.num_layers - (spread == LOCAL))  # the last layer has none after it
    for source, part in itertools.product(sources, parts):
        labels = {"convention": convention, "part": choose("part", part, PARTS), "spread": spread}
        name = "/".join((*labels.values(), str(source)))
        steps = make(clean, source, part, where)
        found.append(Variant(name, steps, labels={**labels, "source": source}))
    return found


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


def units(variant: Variant, places: Sequence[Place], num_layers: int) -> list[str]:
    """What the rows of a variant are of: each later layer, and the output if it is read."""
    labels = variant.labels
    later = [f"target {layer}" for layer in range(labels["source"] + 1, num_layers)]
    later += ["output"] * (labels["spread"] == PROPAGATED)
    return [" ".join((*filter(None, place), each)) for place in places for each in later]


def effect_rows(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    places: Sequence[Place],
    text: str,
) -> list[Row]:
    """Rows of kind "effect", one for each variant, place and later layer, and of kind "output".

    Args:
      measured: What `Sweep.run` returned of `readings`.
      variants: Of `effect_variants`.
      places: Those that the text was `branched` for.
      text: Name of the text.

    Returns:
      Rows with the labels of their variant, `when`, `boundary`, `target` (None for the output),
      `value`, the largest change over prompts and eligible positions; `mean`, the mean over
      prompts of the mean over eligible positions; `examples`, the largest of each prompt. What is
      not finite is None.
    """
    effect = measured["effect"]
    read = {place: effect.branches == branch for place, branch in _branch_of(places).items()}
    rows = []
    for variant, ((when, boundary), read_N) in itertools.product(variants, read.items()):
        labels = {**variant.labels, "when": when, "boundary": boundary, "text": text}
        document_N, source = effect.documents[read_N], labels["source"]
        later = effect[variant.name][source + 1 :, read_N]
        for target, value_N in enumerate(later, start=source + 1):
            found = _over_prompts(value_N, document_N)
            rows.append({"kind": "effect", **labels, "target": target, **found})
        if "output" in measured:
            found = _over_prompts(measured["output"][variant.name][read_N], document_N)
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
