"""What every training step did: lines of `metrics.jsonl`, and TensorBoard's files beside them.

    with Metrics(run.folder, "midas", seeds=[0, 1], tensorboard=True) as metrics:
        trainer.train(folder, [Every(None, metrics.log)])

    lines = read_metrics(run.folder)

A line has `arm`, `seed`, `stage`, `step` (steps done, this one included), `learning_rate`,
`loss` and `gradient_norm` (before the step, and before clipping), `update_norm` (of what the step
takes from the parameters), `tokens`, `flops` and `seconds` (so far, as in the rows of a run),
`tokens_per_second` and `mfu` of the call that the step was in, and `reason`, which says why
something is null; after the last step of a call also what callbacks before this one had to log.

A run that was killed resumes from a checkpoint before its last lines. The first lines of the
new start take their place, so that every step is there once.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.measures.losses import finite
from jaxanatomy.plain_json import parse_json, to_json
from jaxanatomy.storage import append_bytes, replacing
from jaxanatomy.train.points import DIVERGED, Evaluation, StepMetrics

METRICS = "metrics.jsonl"
BOARD = "tensorboard"
NO_PEAK = "mfu: the peak of this device is not known, set train.peak_flops"
_CHARTS = ("loss", "gradient_norm", "update_norm", "learning_rate", "tokens_per_second", "mfu")

Line = dict[str, Any]


class Metrics:
    """Writes the steps of one arm and its seeds; use it as a context."""

    def __init__(self, folder: Path, arm: str, seeds: Sequence[int], tensorboard: bool = False):
        """Nothing is written yet.

        Args:
          folder: Of the run.
          arm: Name of the arm.
          seeds: Those that train side by side.
          tensorboard: Whether to write for TensorBoard, too, below `folder`/tensorboard.

        Raises:
          InputError: For TensorBoard a package is missing.
        """
        if tensorboard:
            require_tensorboard()
        self._path = folder / METRICS
        self._board = folder / BOARD / arm if tensorboard else None
        self._arm, self._seeds = arm, list(seeds)
        self._begun = False
        self._writers: list[Any] = []

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *exception) -> None:
        for writer in self._writers:
            writer.close()

    def log(self, state: Any) -> None:
        """A callback: writes the steps of the call that has ended; see `callbacks.RunState`."""
        self.write(state.steps, state.log, state.reasons)

    def write(
        self,
        steps: StepMetrics,
        more: Mapping[str, Any] | None = None,
        stopped: Sequence[str] = (),
    ) -> None:
        """Appends a line for each step and seed, in one system call, and syncs.

        Args:
          steps: Of a call.
          more: Fields of the last step's lines, each a value or one for each seed.
          stopped: Of each seed why it has stopped, empty while it goes on; without, a seed whose
            figures are not finite is said to have diverged.
        """
        self._begin(steps.first)
        lines = []
        for at in range(len(self._seeds)):
            lines += self._lines(steps, at, stopped[at] if stopped else "")
            for name, value in (more or {}).items():
                lines[-1][name] = value if np.ndim(value) == 0 else value[at]
        append_bytes(self._path, "".join(to_json(line) + "\n" for line in lines).encode())
        for writer, seed in zip(self._writers, self._seeds, strict=False):
            for line in lines:
                for name in _CHARTS:
                    if line["seed"] == seed and line[name] is not None:
                        writer.add_scalar(f"train/{name}", line[name], line["step"])
            writer.flush()

    def write_point(self, point: Evaluation) -> None:
        """Adds an evaluation to TensorBoard; the rows of the run have it anyway."""
        self._begin(point.step)
        for at, writer in enumerate(self._writers):
            found = {"nll": point.eval_nll[at]}
            found |= {name: values[at] for name, values in point.by_source.items()}
            for name, value in found.items():
                if np.isfinite(value):
                    writer.add_scalar(f"held_out/{name}", value, point.step)
            writer.flush()

    def _begin(self, step: int) -> None:
        """Before the first line: what an earlier start wrote beyond this step goes."""
        if self._begun:
            return
        self._begun = True
        _drop(self._path, self._arm, self._seeds, step)
        if self._board is not None:
            from tensorboardX import SummaryWriter

            self._writers = [
                SummaryWriter(str(self._board / f"seed_{seed}"), purge_step=step + 1)
                for seed in self._seeds
            ]

    def _lines(self, steps: StepMetrics, at: int, stopped: str) -> Iterator[Line]:
        """The lines of one seed."""
        back = np.arange(len(steps.rate_EM))[::-1]
        for index, before in enumerate(back.tolist()):
            found = [each[index, at] for each in (steps.loss_EM, steps.norm_EM, steps.update_EM)]
            loss, norm, update = map(finite, found)
            reasons = [stopped or DIVERGED] if None in (loss, norm, update) else []
            reasons += [] if steps.mfu is not None else [NO_PEAK]
            yield {
                "arm": self._arm,
                "seed": self._seeds[at],
                "stage": steps.stage,
                "step": steps.first + index + 1,
                "learning_rate": float(steps.rate_EM[index, at]),
                "loss": loss,
                "gradient_norm": norm,
                "update_norm": update,
                "tokens": steps.account.tokens - before * steps.step_tokens,
                "flops": steps.account.flops - before * steps.step_flops,
                "seconds": steps.account.seconds - before * steps.step_seconds,
                "tokens_per_second": steps.step_tokens / steps.step_seconds,
                "mfu": steps.mfu,
                "reason": "; ".join(reasons),
            }


def read_metrics(folder: Path) -> list[Line]:
    """The lines of a run, in the order in which they were written; none without the file.

    A last line without its newline was torn by a kill and is left out.

    Raises:
      InputError: Another line is no JSON object of metrics.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    return [_parse(line, path, at) for at, line in enumerate(_whole_lines(path), start=1)]


def require_tensorboard() -> None:
    """Refuses TensorBoard where its package is missing.

    Raises:
      InputError: It is; the message has the command that installs it.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise InputError(
            "tensorboard=true needs the package tensorboardX, which is not installed; run "
            "pip install 'jaxanatomy[tensorboard]', or leave tensorboard off: metrics.jsonl "
            "has the same numbers"
        ) from error


def _drop(path: Path, arm: str, seeds: Sequence[int], step: int) -> None:
    """Takes away the lines of an arm and its seeds beyond a step, and a torn last line."""
    if not path.exists():
        return

    def stays(line: Line) -> bool:
        return line["arm"] != arm or line["seed"] not in seeds or line["step"] <= step

    lines = _whole_lines(path)
    kept = [line for at, line in enumerate(lines, start=1) if stays(_parse(line, path, at))]
    content = b"".join(line + b"\n" for line in kept)
    if len(content) != path.stat().st_size:
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def _whole_lines(path: Path) -> list[bytes]:
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    return whole.split(b"\n") if newline else []


def _parse(text: bytes, path: Path, number: int) -> Line:
    try:
        line = parse_json(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not line.keys() >= {"arm", "seed", "step"}:
        raise InputError(
            f"expected a JSON object with arm, seed and step in line {number} of {path}; got "
            f"{text[:40].decode(errors='replace')!r}; delete the line"
        )
    return line
