"""Messages that say what to type next."""

import numpy as np
import pytest

from jaxanatomy.errors import (
    InputError,
    choose,
    require_each_once,
    require_positive,
    require_unique,
    require_whole,
)

OPTIONS = {"neighbour_mean": 1, "zero": 2, "matched_noise": 3}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_known_name_comes_back(name):
    assert choose("intervention", name, OPTIONS) == name


@pytest.mark.parametrize(
    ("name", "close"),
    [("neighbor_mean", "neighbour_mean"), ("zeros", "zero"), ("noise_matched", "matched_noise")],
)
def test_a_misspelt_name_gets_the_closest(name, close):
    with pytest.raises(InputError) as caught:
        choose("intervention", name, OPTIONS)
    assert str(caught.value) == f"unknown intervention {name!r}; did you mean {close!r}?"


@pytest.mark.parametrize("name", ["xyz", "", None, 7])
def test_a_name_like_none_of_them_gets_the_list(name):
    with pytest.raises(InputError) as caught:
        choose("scope", name, iter(OPTIONS))
    message = f"unknown scope {name!r}; known: neighbour_mean, zero, matched_noise"
    assert str(caught.value) == message


def test_input_errors_are_value_errors_of_one_line():
    with pytest.raises(ValueError, match="unknown") as caught:
        choose("text", "paragraf", ["sentences", "paragraphs"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1, 2.0, np.int64(7)])
def test_whole_numbers_pass(value):
    require_whole("steps", value)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "2", float("nan"), float("inf")])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(InputError) as caught:
        require_whole("steps", value, remedy="100 is usual")
    rule = "steps must be a whole number, 1 or above"
    assert str(caught.value) == f"{rule}; got {value!r}; 100 is usual"


def test_the_least_whole_number_may_be_another():
    require_whole("seed", 0, least=0)
    with pytest.raises(InputError, match=r"draws must be a whole number, 2 or above; got 1$"):
        require_whole("draws", 1, least=2)


def test_positive_numbers_are_finite():
    require_positive("sigma", 1e-9)
    require_positive("sigma", 0.0, or_zero=True)
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="sigma must be finite and above 0; got"):
            require_positive("sigma", value)
    for value in (-1e-9, float("nan"), float("inf")):
        with pytest.raises(InputError, match="sigma must be finite and 0 or above; got"):
            require_positive("sigma", value, or_zero=True)


@pytest.mark.parametrize("values", [(), ("a", "b", "a"), ([1], [1])])
def test_lists_name_something_and_nothing_twice(values):
    require_each_once("arms", ("a", "b"))
    with pytest.raises(InputError, match="arms must name at least one, each once; got"):
        require_each_once("arms", values)


def test_a_list_where_a_word_is_expected_is_no_traceback():
    require_each_once("arms", ([1], {"a": 2}))
    require_unique("arms", [[1], {"a": 2}])
    with pytest.raises(InputError, match=r"each of arms may come once; repeated: \[1\]"):
        require_unique("arms", [[1], [1]])
