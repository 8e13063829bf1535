"""Which matrices can be compared over layers, and which models with each other."""

import pytest

from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.components import of_one_shape, require_beside, require_comparable
from jaxanatomy.tree import MATRICES


def config(widths=(48,) * 6):
    shapes = tuple(LayerShape(4, 2, width) for width in widths)
    return ModelConfig(vocab_size=7, hidden_size=16, head_dim=4, layers=shapes)


def test_none_named_is_all_seven():
    assert require_comparable(config(), ()) == MATRICES
    assert require_comparable(config(), ("v_proj",)) == ("v_proj",)


def test_unknown_and_repeated_ones_are_refused():
    with pytest.raises(InputError, match="unknown component 'gate'; did you mean 'gate_proj'"):
        require_comparable(config(), ("gate",))
    with pytest.raises(InputError, match="each matrix once; got q_proj twice"):
        require_comparable(config(), ("q_proj", "k_proj", "q_proj"))


def test_three_layers_are_too_few():
    with pytest.raises(InputError, match="at least 4 layers; this model has 3"):
        require_comparable(config((48,) * 3), ())
    require_comparable(config((48,) * 4), ())


def test_shapes_that_differ_are_named_with_what_leaves_them_out():
    mixed = config((48, 48, 32, 48, 48, 32, 48, 48, 48, 48))
    with pytest.raises(InputError) as caught:
        require_comparable(mixed, ())
    assert str(caught.value) == (
        "expected one shape of gate_proj in all layers; got (16, 48) in layers "
        "0, 1, 3, 4, 6, 7 and 2 more; (16, 32) in layers 2, 5; leave it out with "
        "--config.components=q_proj,k_proj,v_proj,o_proj"
    )
    require_comparable(mixed, ("q_proj", "o_proj"))
    with pytest.raises(InputError, match=r"one shape of up_proj.*leave it out$"):
        require_comparable(mixed, ("up_proj",))


def test_what_they_are_read_for_stands_in_the_message():
    with pytest.raises(InputError, match=r"^predictability needs at least 4 layers"):
        require_comparable(config((48,)), (), "predictability")


def test_those_of_one_shape_are_found():
    assert of_one_shape(config()) == MATRICES
    mixed = config((48, 32, 48, 48))
    assert of_one_shape(mixed) == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert of_one_shape(mixed, ("up_proj", "o_proj")) == ("o_proj",)


def test_an_untrained_model_of_other_layers_is_refused():
    require_beside(config(), config())
    require_beside(config(), config((32,) * 6), ["q_proj"])
    for widths, found in (
        ((48,) * 5, r"6 with q_proj of \(16, 16\); got 5 with q_proj of \(16, 16\); load it as"),
        ((48,) * 5 + (32,), r"gate_proj of \(16, 48\); got 6 with gate_proj of .*, \(16, 32\)"),
    ):
        with pytest.raises(InputError, match=found):
            require_beside(config(), config(widths))
