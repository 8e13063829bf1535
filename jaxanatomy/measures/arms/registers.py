"""What becomes of registers: how far their rows move, and what they take of attention (LR 9)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy.interventions.variants import after
from jaxanatomy.measures.arms.finals import Finals, difference_fields, living
from jaxanatomy.measures.arms.tuning import of_purpose
from jaxanatomy.measures.statistics.estimates import Estimate, seeds_interval
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Reading, mean

KIND = "registers"  # of rows
REGISTERS, FREQUENT = "registers", "frequent"
ROWS = {
    REGISTERS: "the registers",
    FREQUENT: "as many of the most frequent tokens",
}
ON_REGISTERS, ON_FIRST = "attention_on_registers", "attention_on_first"


def movement(before_RD: np.ndarray, now_RD: np.ndarray) -> dict[str, float]:
    """How far rows of an embedding have moved.

    Returns:
      `rms` of their entries now; `rms_change`, that less what it was, which is what LR measured
      and which a vector that turns keeps; `moved`, the RMS of the changes of the entries.
    """
    before, now, change = (
        float(np.sqrt(np.square(x, dtype=np.float64).mean()))
        for x in (before_RD, now_RD, np.subtract(now_RD, before_RD, dtype=np.float64))
    )
    return {"rms": now, "rms_change": now - before, "moved": change}


def adam_paths(rate_E: np.ndarray) -> dict[str, float]:
    """How far an entry would go by Adam's rates alone: a step of Adam is as large as its rate.

    Returns:
      `straight`, the sum of the rates: where the gradient always points one way; `walk`, the root
      of the sum of their squares: where its sign is noise.
    """
    rate_E = np.asarray(rate_E, np.float64)
    return {"straight": float(rate_E.sum()), "walk": float(np.sqrt((rate_E**2).sum()))}


def attention_readings(registers: int) -> dict[str, Reading]:
    """By layer the attention on all registers, and on the first token of the text.

    Mean over heads and over queries beyond that token, each window alone.

    Args:
      registers: R, before every window; may be 0.
    """

    def mass(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
        weight_CRTS, text = streams[0].mean(axis=2), context.text
        same_RTS = text.segment_RT[:, :, None] == text.segment_RT[:, None]
        key_R1S = text.position_RT[:, None]
        chosen = {ON_REGISTERS: key_R1S < registers, ON_FIRST: key_R1S == registers}
        return {
            name: (weight_CRTS * (same_RTS & keys_R1S)[None]).sum(axis=-1)
            for name, keys_R1S in chosen.items()
        }

    return {
        name: Reading(mass, "attention", mean(after(registers)), part=name)
        for name in (ON_REGISTERS, ON_FIRST)
    }


def summarise_registers(rows: Iterable[Row], by_arm: Finals) -> dict[str, dict[str, Any]]:
    """What becomes of registers by arm, those without registers beside; means over living seeds.

    Args:
      rows: Of the run.
      by_arm: Its final rows by arm and seed.

    Returns:
      By arm `attention_on_registers` and `attention_on_first`, shares, means over layers too, each
      with `mean`, `low`, `high` and `seeds` (95 % over seeds); and where there are registers, of
      each of `ROWS` at the last point `moved` and `rms_change` likewise, and `times_less`, how
      many times less they have moved than in a straight line at Adam's rates (geometric mean; None
      if they have not moved); `straight` and `walk`, the paths of `adam_paths`.
    """
    last, found = last_moves(rows), {}
    for arm, seeds in by_arm.items():
        alive = living(seeds)
        own: dict[str, Any] = {
            name: _over_seeds([float(np.mean(row[name])) for row in alive.values()])
            for name in (ON_REGISTERS, ON_FIRST)
            if all(name in row for row in alive.values())
        }
        moves = [last[arm, seed] for seed in alive if (arm, seed) in last]
        if moves:
            own |= {name: moves[0][name] for name in ("straight", "walk")}
            own |= {name: _moved(moves, name) for name in ROWS}
        if own and alive:
            found[arm] = own
    return found


def last_moves(rows: Iterable[Row]) -> dict[tuple[str, int], Row]:
    """The last row of the results that follows registers, by arm and seed."""
    ordered = sorted(of_purpose(rows, KIND), key=lambda row: row["step"])
    return {(row["arm"], row["seed"]): row for row in ordered}


def times_less(moves: Iterable[Row], name: str, level: float = 0.95) -> Estimate | None:
    """How many times less rows have moved than straight on, over seeds; None if not at all."""
    pairs = [(row["straight"], row[name]["moved"]) for row in moves]
    if not all(moved for _, moved in pairs):
        return None
    return seeds_interval([np.log(far / moved) for far, moved in pairs], level).map(np.exp)


def _moved(moves: Sequence[Row], name: str) -> dict[str, Any]:
    ratio = times_less(moves, name)
    return {
        field: _over_seeds([row[name][field] for row in moves]) for field in ("moved", "rms_change")
    } | {"times_less": ratio and difference_fields((ratio, len(moves)))}


def _over_seeds(values: Sequence[float]) -> Mapping[str, Any]:
    return difference_fields((seeds_interval(values), len(values)))
