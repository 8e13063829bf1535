"""Growth as index maps: literal lists, properties over depths and block sizes, refusals."""

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.growth import maps
from jaxanatomy.growth.maps import GrowthMap, growth_map

R = range

# (layers, block) -> the layers that are copied after themselves, written out.
MIDAS = {
    (4, 4): R(0, 4),
    (8, 4): R(0, 4),  # two blocks: the first
    (12, 4): R(4, 8),
    (16, 4): R(4, 8),
    (20, 4): R(8, 12),
    (28, 4): R(12, 16),
    (32, 4): R(12, 16),
    (4, 1): R(1, 2),
    (5, 1): R(2, 3),
    (6, 2): R(2, 4),
    (8, 2): R(2, 4),
    (9, 3): R(3, 6),
    (12, 3): R(3, 6),
    (10, 5): R(0, 5),
    (15, 5): R(5, 10),
    (18, 6): R(6, 12),
    (28, 7): R(7, 14),
    (8, 8): R(0, 8),
    (24, 8): R(8, 16),
    (32, 8): R(8, 16),
}
LIDAS = {
    (4, 4): R(0, 4),
    (8, 4): R(2, 6),  # Figure 2: the last two of one block, the first two of the next
    (12, 4): R(4, 8),
    (16, 4): R(6, 10),
    (20, 4): R(8, 12),
    (28, 4): R(12, 16),
    (32, 4): R(14, 18),
    (4, 1): R(2, 3),
    (5, 1): R(2, 3),
    (6, 2): R(2, 4),
    (8, 2): R(3, 5),
    (9, 3): R(3, 6),
    (12, 3): R(5, 8),
    (10, 5): R(3, 8),
    (15, 5): R(5, 10),
    (28, 7): R(11, 18),
    (24, 8): R(8, 16),
    (32, 8): R(12, 20),
    (10, 4): R(3, 7),  # no whole number of blocks
    (11, 4): R(4, 8),
    (7, 2): R(3, 5),
}


def doubled(layers, copied):
    """The list itself: up to the last copied layer, the copies, the rest."""
    return [*range(copied.stop), *copied, *range(copied.stop, layers)]


@pytest.mark.parametrize(("size", "copied"), MIDAS.items(), ids=str)
def test_midas_copies_the_middle_block(size, copied):
    assert list(maps.midas(*size)) == doubled(size[0], copied)


@pytest.mark.parametrize(("size", "copied"), LIDAS.items(), ids=str)
def test_lidas_copies_the_middle_layers(size, copied):
    assert list(maps.lidas(*size)) == doubled(size[0], copied)


def test_whole_lists():
    assert maps.midas(8, 4) == (0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7)
    assert maps.midas(12, 4) == (0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11)
    assert maps.lidas(8, 4) == (0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7)
    assert maps.lidas(5, 2) == (0, 1, 2, 3, 2, 3, 4)
    assert maps.stack_top(8, 8) == (*range(8), *range(8))
    assert maps.stack_top(8, 4) == (*range(8), 0, 1, 2, 3)
    assert maps.stack_top(2, 5) == (0, 1, 0, 1, 0, 1, 0)
    assert maps.stack_last(8, 4) == (*range(8), 4, 5, 6, 7)
    assert maps.stack_last(8, 1) == (*range(8), 7)
    assert maps.insert_zero(8, 4) == maps.lidas(8, 4)


@pytest.mark.parametrize("block", range(1, 9))
def test_midas_is_lidas_for_an_odd_number_of_blocks_only(block):
    for blocks in range(1, 32 // block + 1):
        layers = blocks * block
        same = maps.midas(layers, block) == maps.lidas(layers, block)
        assert same == (blocks % 2 == 1)


@pytest.mark.parametrize("operator", maps.OPERATORS)
@pytest.mark.parametrize("block", range(1, 9))
def test_every_map_adds_a_block_and_keeps_the_order(operator, block):
    for layers in range(4, 33):
        if layers < block or (operator == "midas" and layers % block):
            continue
        found = growth_map(operator, layers, block)
        kept = [each for at, each in enumerate(found.sources) if at not in found.inserted]
        assert kept == list(range(layers))
        assert (found.num_layers, found.num_sources) == (layers + block, layers)
        first = found.inserted[0]
        assert found.inserted == tuple(range(first, first + block))
        copied = [found.sources[at] for at in found.inserted]
        assert copied == list(range(copied[0], copied[0] + block))
        assert found.zeroed == (found.inserted if operator == "insert_zero" else ())


@pytest.mark.parametrize("block", range(1, 9))
def test_lidas_copies_from_the_centre(block):
    for layers in range(max(4, block), 33):
        found = growth_map("lidas", layers, block)
        copied = [found.sources[at] for at in found.inserted]
        below, above = copied[0], layers - 1 - copied[-1]
        assert below - above == (layers - block) % 2


def test_several_steps_are_one_after_the_other():
    assert growth_map("midas", 4, 4, 12).sources == (0, 1, 2, 3) * 3
    assert growth_map("lidas", 4, 2, 8).sources == (0, 1, 2, 1, 2, 1, 2, 3)
    assert growth_map("lidas", 4, 2, 8).inserted == (3, 4, 5, 6)
    assert growth_map("stack_top", 4, 2, 8).sources == (0, 1, 2, 3, 0, 1, 0, 1)
    assert growth_map("stack_last", 3, 1, 6).sources == (0, 1, 2, 2, 2, 2)
    twice = growth_map("insert_zero", 4, 2, 8)
    assert twice.zeroed == (3, 4, 5, 6)  # a copy of a copy writes nothing either
    assert growth_map("lidas", 8, 4) == growth_map("lidas", 8, 4, 12)


def test_depths_on_the_way():
    assert maps.depths(4, 32, 4) == (4, 8, 12, 16, 20, 24, 28, 32)
    assert maps.depths(3, 5, 1) == (3, 4, 5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: maps.midas(10, 4), "divides its layers; got 4 and 10 layers; take 5, or lidas"),
        (lambda: maps.midas(4, 8), "midas copies 8 layers and needs as many; got a model of 4"),
        (lambda: maps.lidas(4, 5), "lidas copies 5 layers and needs as many; got a model of 4"),
        (lambda: maps.insert_zero(4, 5), "insert_zero copies 5 layers"),
        (lambda: maps.stack_last(4, 5), "stack_last copies 5 layers"),
        (lambda: maps.stack_top(4, 0), "block size of at least 1; got 4 layers and a block size"),
        (lambda: maps.lidas(0, 1), "at least one layer"),
        (lambda: growth_map("midsa", 8, 4), "unknown growth operator 'midsa'; did you mean"),
        (
            lambda: growth_map("lidas", 8, 4, 14),
            "grows to 12, 16, ...; got a target of 14; take 12 or another block size",
        ),
        (lambda: growth_map("lidas", 8, 4, 8), "got a target of 8; take 12"),
        (lambda: growth_map("lidas", 8, 4, 4), "got a target of 4; take 12"),
        (lambda: growth_map("lidas", 8, 0, 12), "block size of at least 1"),
        (lambda: GrowthMap((0, 2)), "each layer of the old model, 0 to the last"),
        (lambda: GrowthMap(()), "each layer of the old model"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, said):
    with pytest.raises(InputError) as error:
        call()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
