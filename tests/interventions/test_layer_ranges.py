"""Layers as people list them: numbers, ranges, and what is refused."""

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.cells import ablations
from jaxanatomy.interventions.changes import combined_steps
from jaxanatomy.interventions.sets import parse_set, parse_sets
from jaxanatomy.ranges import parse_layers, parse_ranges, write_ranges


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("0,3,5-8", [0, 3, 5, 6, 7, 8]),
        (" 3 , 1 - 2 ", [3, 1, 2]),
        ("007", [7]),
        (7, [7]),
        ([4, "1-2", "0"], [4, 1, 2, 0]),
        (range(2), [0, 1]),
        ("4-4", [4]),
        ([], []),
    ],
)
def test_numbers_and_ranges_in_their_order(given, numbers):
    assert parse_ranges(given) == numbers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("5-", r"layers must be whole numbers or ranges of them, as in 0-12 or 0,3,5-8; got '5-'"),
        ("-5", r"got '-5'"),
        ("a", r"got 'a'"),
        ("", r"got ''"),
        ("1,,2", r"got ''"),
        ("1-2-3", r"got '1-2-3'"),
        ("8-5", r"from the lower to the higher number; got '8-5'; write 5-8"),
        ("0-5000", r"at most 4096 numbers; got '0-5000'"),
        ("0-" + "9" * 5000, r"at most 4096 numbers"),
        ("9" * 5000, r"layers of this model are 0 to 9; got 9{18}$"),
        ("3-12", r"layers of this model are 0 to 9; got 10"),
        ([-1], r"layers of this model are 0 to 9; got -1"),
        ([1.5], r"a list of whole numbers or ranges of them.*got 1.5"),
        ([True], r"got True"),
        ([None], r"got None"),
        ([], r"layers must name at least one of 0 to 9; got none"),
        ("0-3,2", r"each of layers may come once; repeated: 2"),
    ],
)
def test_what_is_refused_is_one_line(given, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_layers(given, 10)
    assert "\n" not in str(refused.value)


def test_all_layers_by_default_and_repetitions_where_they_mean_something():
    assert parse_layers(None, 3) == [0, 1, 2]
    assert parse_layers("0-1,1", 3, once=False) == [0, 1, 1]


def test_every_function_that_is_given_layers_takes_ranges(naive):
    config = naive.config
    by_hand = [variant.name for variant in ablations(config, ["zero"], layers=[0, 2, 3])]
    assert [variant.name for variant in ablations(config, ["zero"], layers="0,2-3")] == by_hand
    assert combined_steps(config, (), "0-1,3") == combined_steps(config, (), [0, 1, 3])
    assert parse_set(5, "0-2,4").layers == (0, 1, 2, 4)
    assert parse_sets(5, [["0-2", 4]])[0].layers == (0, 1, 2, 4)
    with pytest.raises(InputError, match="a set: a range goes from the lower"):
        parse_set(5, "3-1")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([3], "3"), ([3, 4], "3,4"), ([3, 4, 5], "3-5"), ([0, 2, 3, 4, 9], "0,2-4,9")],
)
def test_lists_are_written_as_people_write_them(numbers, text):
    assert write_ranges(numbers) == text
    assert not numbers or parse_ranges(text) == numbers
