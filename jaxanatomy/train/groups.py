"""Where an arm keeps its checkpoints: a folder for each group of seeds that train together."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from jaxanatomy.errors import InputError


def group_folder(folder: Path, seeds: Sequence[int]) -> Path:
    """The folder of a group in that of its arm."""
    return folder / "_".join(map(str, seeds))


def check_groups(folder: Path, groups: Sequence[Sequence[int]]) -> None:
    """Refuses to begin seeds anew that were begun in other groups.

    Args:
      folder: Of the arm.
      groups: The seeds that are to be trained, together with which others.

    Raises:
      InputError: One of them has checkpoints of another group.
    """
    for path, seeds in _groups(folder):
        others = [group for group in groups if set(group) & seeds and set(group) != seeds]
        if others:
            raise InputError(
                f"{folder.name} was begun with the seeds {_words(seeds)} together; now it is to "
                f"train {_words(others[0])} together; set seeds and devices as they were, or "
                f"remove {path} to begin these seeds anew"
            )


def clear_groups(folder: Path, diverged: Collection[int]) -> None:
    """Removes the checkpoints of an arm that is trained; those with a seed that diverged stay."""
    for path, seeds in list(_groups(folder)):
        if not seeds & set(diverged):
            shutil.rmtree(path, ignore_errors=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _groups(folder: Path) -> Iterator[tuple[Path, set[int]]]:
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        numbers = path.name.split("_")
        if all(number.isdigit() for number in numbers):
            yield path, set(map(int, numbers))


def _words(seeds: Collection[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
