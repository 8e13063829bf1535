"""What the pages share."""

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.report.common import in_panels


def row(model, text, nll=9.0, **more):
    return {"variant": "zero/layer/3", "nll": nll, "model": model, "text": text, **more}


def test_panels_name_the_model_only_where_there_are_several():
    one = in_panels([row("a", "letters"), row("a", "numbers")])
    assert [each["panel"] for each in one] == ["letters", "numbers"]
    two = in_panels([row("a", "letters"), row("b", "letters", 8.0), row(None, "letters")])
    expected = ["a, letters", "b, letters", "model without a name, letters"]
    assert [each["panel"] for each in two] == expected
    assert [each["panel"] for each in in_panels([{"variant": "zero", "nll": 1.0}])] == [""]


def test_the_same_figures_come_once_and_others_are_refused():
    assert len(in_panels([row("a", "letters"), row("a", "letters")])) == 1
    with pytest.raises(InputError, match="zero/layer/3 on letters came twice with different"):
        in_panels([row("a", "letters"), row("a", "letters", 8.0)])
    draws = [row("a", "letters", draw=0), row("a", "letters", 8.0, draw=1)]
    assert len(in_panels(draws)) == 2
