import pytest

from jaxanatomy.report.cells import by_text
from jaxanatomy.report.importance.glance import first_token_layers, glance


@pytest.fixture
def lines():
    def lines(rows, summary=None):
        table = glance(by_text(rows), summary or {})
        return {row[0].text.split(" (")[0]: row[1:] for row in table.rows}

    return lines


def chips(cell):
    return [(chip.text, chip.kind, chip.certain) for chip in cell.chips]


def test_layers_stand_in_their_categories(rows, change, lines):
    change(rows, "neighbour_mean/layer/2", ci95=[11.0, 29.0])
    found = lines(rows)
    assert chips(found["critical"][0]) == [("3", "critical", True)]
    assert chips(found["minor"][0]) == [("2", "minor", True)]
    # Layer 1 changes by -2 %, its interval reaches from -6 to +7.
    assert chips(found["redundant"][0]) == [("1", "redundant", True)]
    assert found["important"][0].text == "none"
    assert [chip.text for chip in found["boundary layers, one neighbour copied"][0].chips] == [
        "0",
        "4",
    ]


def test_a_category_that_the_interval_leaves_is_not_certain(rows, change, lines):
    change(rows, "neighbour_mean/layer/2", ci95=[9.0, 29.0])
    assert chips(lines(rows)["minor"][0]) == [("2", "minor", False)]


def test_anti_layers_need_the_whole_band(rows, change, improve, lines):
    name, undecided = "better without it", "cannot be told from no effect"
    found = lines(rows)
    assert found[name][0].text == "none"
    assert [chip.text for chip in found[undecided][0].chips] == ["1"]
    change(rows, "neighbour_mean/layer/1", ci95=[-3.0, -1.0], anti_layer=True)
    # Pointwise it is one; the band that holds for all layers says otherwise.
    assert lines(rows)[name][0].text == "none"
    found = lines(improve(rows))
    assert chips(found[name][0]) == [("1", "better", True)]
    assert found[undecided][0].text == "none"


def test_controls_are_counted_over_inner_layers(rows, lines):
    # Factor 1.5 of the neighbour mean: worse where that is above 0, milder at layer 1.
    assert "zero 1 of 3;" in lines(rows)["milder than the neighbour mean"][0].text


def test_the_first_token_names_the_sink(rows, lines):
    assert [first_token_layers(cells) for cells in by_text(rows)] == [[3]]
    expected = "layer 3: +30,600 % there alone, +12.0 % elsewhere"
    assert lines(rows)["act through the first token"][0].text == expected


def test_texts_stand_side_by_side(two_texts, lines):
    found = lines(two_texts)
    assert [cell.text for cell in found["act through the first token"]][1] == "not measured"
    assert [chips(cell)[0][0] for cell in found["minor"][:1]] == ["2"]
    assert [chip.text for chip in found["redundant"][1].chips] == ["1", "2"]
    assert "rank correlation with AH Table 1" not in found
