"""`ja.summary_table`: the tables of an experiment, or a line for each variant."""

import numpy as np
from manipulation_run import make_row, make_rows

from jaxanatomy.forensics.gram import gram
from jaxanatomy.measures.predictability import weight_rows
from jaxanatomy.measures.structure import component_structure, structure_rows
from jaxanatomy.records import RunRecord
from jaxanatomy.report import manipulation, summary_table, terminal


def test_the_grid_has_its_own_table():
    rows = make_rows()
    assert "measured" in summary_table(rows, "manipulation")
    assert summary_table(rows, "manipulation") == terminal.printed(
        manipulation.PAGE, RunRecord.of_rows(rows)
    )


def test_rows_of_weights_have_theirs():
    layers = np.random.default_rng(0).normal(size=(5, 6, 4))
    found = component_structure("q_proj", gram(list(layers)), samples=5)
    rows = structure_rows("q_proj", found)
    text = summary_table(rows, "structure")
    assert text.startswith("Mean delta correlation of each matrix")
    assert "q_proj" in text
    rows = weight_rows("q_proj", layers.reshape(5, -1), null_draws=2, seed=0)
    assert summary_table(rows, "predictability").startswith("R2 of each reading and matrix")


def test_sets_of_ones_own_have_a_line_each():
    rows = [make_row("zero", "1,3", [1, 3], 12.5), make_row("zero", "1", [1], None)]
    lines = summary_table(rows).splitlines()
    assert [line.split()[:3] for line in lines[-2:]] == [
        ["zero/set/1,3", "22.50", "+12.5"],
        ["zero/set/1", "not", "finite"],
    ]
