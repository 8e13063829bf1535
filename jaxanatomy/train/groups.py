"""Where an arm keeps its checkpoints: a folder for each group of seeds that train together."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from jaxanatomy.errors import InputError


def group_folder(folder: Path, seeds: Sequence[int]) -> Path:
    """The folder of a group in that of its arm."""
    return folder / "_".join(map(str, seeds))


def plan_groups(folder: Path, seeds: Sequence[int], vmap_seeds: bool) -> list[list[int]]:
    """Which seeds train together: those that were begun so go on so.

    Args:
      folder: Of the arm.
      seeds: That are to be trained.
      vmap_seeds: Whether those that were not begun train side by side; else each alone.

    Returns:
      Groups, in the order of their first seeds.

    Raises:
      InputError: A seed was begun together with one that is not to be trained.
    """
    groups, left = [], list(seeds)
    for path, begun in _groups(folder):
        wanted = [seed for seed in begun if seed in seeds]
        if not wanted:
            continue
        if wanted != begun:
            raise InputError(
                f"{folder.name} was begun with the seeds {_words(begun)} together; now it is to "
                f"train {_words(wanted)} without the others; set seeds as they were, "
                f"or remove {path} to begin these seeds anew"
            )
        groups.append(begun)  # in the order that its folder and its checkpoints have
        left = [seed for seed in left if seed not in begun]
    groups += [left] if vmap_seeds and left else [[seed] for seed in left]
    return sorted(groups, key=lambda group: seeds.index(group[0]))


def clear_groups(folder: Path, diverged: Collection[int]) -> None:
    """Removes the checkpoints of an arm that is trained; those with a seed that diverged stay."""
    for path, seeds in list(_groups(folder)):
        if not set(seeds) & set(diverged):
            shutil.rmtree(path, ignore_errors=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _groups(folder: Path) -> Iterator[tuple[Path, list[int]]]:
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        numbers = path.name.split("_")
        if all(number.isdecimal() for number in numbers):
            yield path, [*map(int, numbers)]


def _words(seeds: Collection[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
