"""Folders of checkpoints of seeds that train together."""

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.train.groups import clear_groups, group_folder, plan_groups


@pytest.fixture
def folder(tmp_path):
    for seeds in ((0, 1), (12,)):
        path = group_folder(tmp_path / "midas", seeds)
        (path / "4").mkdir(parents=True)
    return tmp_path / "midas"


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_named_by_its_seeds(folder):
    assert names(folder) == {"0_1", "12"}


def test_seeds_go_on_with_those_that_they_were_begun_with(folder):
    assert plan_groups(folder, [], True) == []
    assert plan_groups(folder, [2, 1, 0, 12, 3], True) == [[2, 3], [0, 1], [12]]
    assert plan_groups(folder, [2, 1, 0, 12, 3], False) == [[2], [0, 1], [12], [3]]
    assert plan_groups(folder, [3, 2], True) == [[3, 2]]
    # In the order that they were begun in, which names their folder.
    group_folder(folder, (5, 4)).mkdir()
    assert plan_groups(folder, [4, 5], True) == [[5, 4]]


def test_nothing_was_begun(tmp_path):
    assert plan_groups(tmp_path / "nothing", [3, 4], True) == [[3, 4]]
    assert plan_groups(tmp_path / "nothing", [3, 4], False) == [[3], [4]]


@pytest.mark.parametrize("seeds", [[0], [12, 1], [0, 2]])
def test_seeds_that_were_begun_with_others_are_refused_without_them(folder, seeds):
    with pytest.raises(
        InputError,
        match=r"midas was begun with the seeds 0, 1 together; now it is to train [01] wi",
    ):
        plan_groups(folder, seeds, True)


def test_what_is_trained_goes_and_what_diverged_stays(folder):
    clear_groups(folder, {1})
    assert names(folder) == {"0_1"}
    clear_groups(folder, ())
    assert not folder.exists()
    clear_groups(folder, ())
