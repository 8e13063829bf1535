"""Messages that say what to type next."""

import pytest

from jaxanatomy.errors import InputError, choose

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
