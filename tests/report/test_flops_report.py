"""The page of FLOPs: its tidy rows, and what it says of models that the paper has and has not."""

import pytest

from jaxanatomy.records import RunRecord
from jaxanatomy.report import flops as page
from jaxanatomy.report import html, terminal

ROWS = [
    ("baseline", None, [[8, 100]], 20.0, 20.0),
    ("grown", "largest_remainder", [[4, 34], [8, 66]], 16.0, 16.5),
    ("grown", "floor", [[4, 33], [8, 67]], 16.1, 16.5),
    ("grown_equal_flops", "largest_remainder", [[4, 42], [8, 83]], 20.1, None),
]


def record(paper=True, reason="the paper has no such model"):
    rows = [
        {"model": "a" if paper else "b", "arm": arm, "rounding": rounding, "stages": stages}
        | {"steps": sum(steps for _, steps in stages), "petaflops": cost, "ratio": 20.0 / cost}
        | {"paper_petaflops": printed, "paper_ratio": printed and 1.25}
        | {"deviation": printed and cost / printed - 1, "reason": None if printed else reason}
        for arm, rounding, stages, cost, printed in (
            row if paper else (*row[:4], None) for row in ROWS
        )
    ]
    return RunRecord.of_rows(rows)


def cells(view, row):
    return {column.head: column.text(row) for column in view.cells}


def test_costs_stand_beside_the_papers_where_it_has_them():
    costs = page.PAGE.sections[0].views[0]
    rows = costs.rows(record())
    assert cells(costs, rows[1]) == {
        "arm": "grown",
        "rounding": "largest_remainder",
        "steps": "100",
        "PFLOP": "16.000",
        "off by": "−3.0e−02",
        "ratio": "1.2500",
        "paper": "1.250",
    }
    assert "paper_petaflops" not in rows[3]
    assert cells(costs, rows[3])["off by"] == "–"
    assert [column.head for column in costs.shown(costs.rows(record(paper=False)))] == [
        "arm",
        "rounding",
        "steps",
        "PFLOP",
        "ratio",
    ]


def test_stages_are_a_row_for_each_depth():
    assert page.stages(record()) == [
        {"panel": "a", "layers": 4}
        | {"grown/largest_remainder": 34, "grown/floor": 33}
        | {"grown_equal_flops/largest_remainder": 42},
        {"panel": "a", "layers": 8}
        | {"grown/largest_remainder": 66, "grown/floor": 67}
        | {"grown_equal_flops/largest_remainder": 83},
    ]


def test_the_headline_says_what_is_saved_and_what_has_no_figure_of_the_paper():
    assert page.saved(record()) == (
        "a: a run at full depth costs 1.250 times as much; growing saves 20.0 %, or for the same "
        "FLOPs takes 125 steps instead of 100."
    )
    assert page.unpublished(record()) == ""
    assert page.unpublished(record(paper=False)) == (
        "No figures of the paper: b (the paper has no such model)."
    )
    assert page.claims(record(paper=False)) == []


@pytest.mark.parametrize("paper", [True, False])
def test_the_page_and_the_terminal(paper):
    made = record(paper)
    text = html.render(page.PAGE, html.fill(page.PAGE, made), made)
    assert "16.000" in text
    lines = terminal.printed(page.PAGE, made).splitlines()
    assert lines[0].endswith("PFLOP of a run, and a run at full depth as a multiple of it")
    assert [line.split()[0] for line in lines[2:]] == [row[0] for row in ROWS]
