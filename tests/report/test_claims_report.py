"""The page of the claims audit, the section for other reports, and the terminal's lines."""

import dataclasses

import pytest
from report.claim_rows import cell

from jaxanatomy.records import RunRecord
from jaxanatomy.report import page
from jaxanatomy.report.claims import CLAIMS, Evidence, audit
from jaxanatomy.report.claims.report import claims_report, claims_section, summary_table
from jaxanatomy.report.document import Table


@pytest.fixture
def importance():
    ends = [cell(layer, 5e3, 6e3, 7e3, boundary=True) for layer in (0, 3)]
    rows = [*ends, cell(1, 1.0, 2.0, 3.0), cell(2, 500.0, 600.0, 700.0)]
    return RunRecord("run", rows, {}, {"model": "file:x"}, {"done": 1})


@pytest.fixture
def record(importance):
    rows = audit(Evidence({"importance": importance}))
    return RunRecord("claims", rows, {}, {"model": "file:x"}, {"done": 1})


def test_every_claim_is_in_an_overview_and_has_its_evidence(record):
    report = claims_report(record)
    assert (report.kind, report.title) == ("Claims audit", "file:x")
    titles = [section.title for section in report.sections]
    assert titles == [
        *(
            "At a glance",
            "Importance",
            "Structure",
            "Predictability",
            "Manipulation",
            "Recovery",
            "Developmental",
            "Depth growth",
            "Flops",
            "Grow checkpoint",
        ),
        "The papers' own figures",
    ]
    overviews = [section.content[0] for section in report.sections[1:]]
    details = [table for section in report.sections for table in section.content[1:]]
    assert sum(len(table.rows) for table in overviews) == len(details) == len(CLAIMS)
    assert all(len(table.header) == 2 for table in overviews)
    assert all(table.folded and len(table.header) == 2 for table in details)


def test_runs_of_several_versions_of_the_code_are_named(record):
    def run(version):
        return {"folder": "f", "rows": 1350, "finished": True, "code_version": version}

    def glance(**versions):
        runs = {name: run(version) for name, version in versions.items()}
        return claims_report(dataclasses.replace(record, summary={"runs": runs})).sections[0]

    section = glance(importance="0.1.0+a", structure="0.1.0+b", manipulation="0.1.0+a")
    assert section.text[1].startswith(
        "The runs were measured by 2 versions of the code (importance, manipulation: 0.1.0+a; "
        "structure: 0.1.0+b)."
    )
    table = section.content[1]
    cells = [cell.text for cell in table.rows[0]]
    assert cells == ["Importance", "f", "1,350", "yes", "0.1.0+a"]
    assert len(glance(importance="0.1.0+a", structure="0.1.0+a").text) == 1
    assert "unknown" in glance(importance="0.1.0+a", structure=None).text[1]


def test_the_counts_are_those_of_the_rows(record):
    table = claims_report(record).sections[0].content[0]
    assert table.header == ("about", "holds", "does not hold", "cannot tell")
    lines = {row[0].text: [int(cell.text) for cell in row[1:]] for row in table.rows}
    assert lines["Importance"] == [1, 3, 10]
    assert lines["Structure"] == [0, 0, 3]
    assert lines["The papers' own figures"] == [3, 18, 1]
    lead = claims_report(record).lead
    assert lead.startswith("Of 73 claims about the model 1 holds, 3 do not hold, 69 cannot be told")


def test_a_verdict_is_a_word_on_a_colour(record):
    kinds = {
        chip.text: (chip.kind, chip.certain)
        for section in claims_report(record).sections[1:]
        for row in section.content[0].rows
        for chip in row[1].chips
    }
    assert kinds == {
        "holds": ("better", True),
        "does not hold": ("critical", True),
        "cannot tell": ("redundant", False),
    }


def test_the_evidence_has_paper_measurement_control_rule_and_source(record):
    importance = claims_report(record).sections[1]
    table = next(each for each in importance.content[1:] if "interchangeable" in each.caption)
    lines = {row[0].text: row[1].text for row in table.rows}
    assert lines["paper"] == "−0.6 % to +63,419 %"
    assert lines["measured"].startswith("L1 +2.0 % [+1.0, +3.0] to L2 +600.0 %")
    assert "at least 10 times" in lines["rule: it holds if"]
    assert lines["source"] == "AH hypothesis H1, section 4.1"
    assert lines["texts"] == "sentences"


def test_the_page_is_rendered(record):
    html = page.render(claims_report(record), {})
    assert html.count("<details>") == len(CLAIMS)
    assert "chip critical" in html


def test_a_run_of_another_experiment_has_no_claims_page(importance):
    assert claims_report(importance) is None


def test_another_report_can_embed_its_own_claims(importance):
    section = claims_section(importance)
    overview, *details = section.content
    assert len(overview.rows) == len(details) == 14
    assert all(isinstance(table, Table) for table in section.content)
    assert claims_section(dataclasses.replace(importance, rows=[{"claim": "c"}])) is None


def test_the_terminal_has_a_line_for_each_claim_about_the_model(record):
    lines = summary_table(record.rows).splitlines()
    assert len(lines) == 73 + 2
    assert lines[0].startswith("holds          Layers are not interchangeable")
    assert lines[-2] == "claims about the model: 1 holds, 3 do not hold, 69 cannot be told"
    assert lines[-1] == (
        "claims about the papers' own figures: 3 hold, 18 do not hold, 1 cannot be told"
    )
