"""Folders of checkpoints of seeds that train together."""

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.train.groups import check_groups, clear_groups, group_folder


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


@pytest.mark.parametrize("groups", [[], [[0, 1]], [[12], [1, 0]], [[2], [3]]])
def test_the_same_groups_and_new_seeds_go_on(folder, groups):
    check_groups(folder, groups)
    check_groups(folder / "nothing", groups)


@pytest.mark.parametrize("groups", [[[0], [1]], [[0, 1, 2]], [[0, 1], [2, 12]]])
def test_seeds_that_were_begun_in_other_groups_are_refused(folder, groups):
    with pytest.raises(InputError, match=r"midas was begun .* set seeds and devices as they were"):
        check_groups(folder, groups)


def test_what_is_trained_goes_and_what_diverged_stays(folder):
    clear_groups(folder, {1})
    assert names(folder) == {"0_1"}
    clear_groups(folder, ())
    assert not folder.exists()
    clear_groups(folder, ())
