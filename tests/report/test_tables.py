from jaxanatomy.report import summary_table


def cells(line):
    return line.split()


def test_every_layer_has_its_figures(rows):
    lines = summary_table(rows).splitlines()
    assert lines[0] == "sentences: neighbour mean; baseline perplexity 20.0000, 50 predicted tokens"
    assert cells(lines[1])[0] == "layer"
    assert "zero %" in lines[1]
    assert "others %" in lines[1]
    expected = "3 6,820.00 +34,000 +33,994 .. +51,004 critical +51,000 +30,600 +12.0"
    assert cells(lines[5]) == expected.split()
    assert cells(lines[3])[:6] == ["1", "19.60", "-2.0", "-6.0", "..", "+7.0"]
    assert [line.split()[0] for line in lines[2:7]] == ["0*", "1", "2", "3", "4*"]
    assert lines[7] == "* boundary: its one neighbour copied"


def test_lines_fit_a_terminal_and_are_ascii(rows, change):
    fields = {"ppl": 1.2e300, "degradation_percent": 6e300, "ci95": [5e300, 7e300]}
    text = summary_table(change(rows, "neighbour_mean/layer/3", **fields))
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    assert "+6.0e+300" in text


def test_columns_line_up(rows):
    lines = summary_table(rows).splitlines()[1:7]
    ends = {line.index(" critical") for line in lines if " critical" in line}
    assert ends == {lines[0].index(" category")}


def test_missing_readings_have_no_column(two_texts):
    text = summary_table(two_texts).split("\n\n")[1]
    assert text.startswith("paragraphs: ")
    assert "zero" not in text
    assert "first" not in text


def test_null_and_anti_layers_are_marked(rows, change, improve):
    improve(rows)
    change(rows, "neighbour_mean/layer/3", ppl=None, degradation_percent=None, ci95=None)
    lines = summary_table(rows).splitlines()
    assert lines[3].split()[0] == "1!"
    assert lines[5].split()[1:4] == ["not", "finite", "n/f"]
    assert lines[-1] == "! anti-layer: below 0 in the band of all layers"


def test_another_intervention_alone_is_the_main_one(rows):
    zero = [row for row in rows if row["variant"].startswith("zero/layer/")]
    lines = summary_table(zero).splitlines()
    assert lines[0] == "sentences: no finite baseline"
    assert "zero %" not in lines[1]
    assert cells(lines[5])[:3] == ["3", "10,220.00", "+51,000"]
