"""The page of the claims audit, the claims of one run, and the terminal's lines."""

import dataclasses

import numpy as np
import pytest
from claims.worlds import BY_ID, Maker, record

from jaxanatomy.claims.audit import CLAIMS, audit, summarise
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.records import RunRecord
from jaxanatomy.report import claims, html, terminal


@pytest.fixture
def importance():
    maker = Maker(np.random.default_rng(0))
    rows = [maker.baseline()]
    for layer in range(1, 29):
        fields = {"intervention": "neighbour_mean", "scope": "layer", "positions": "all"}
        rows.append(maker.row(3.0 if layer == 11 else 0.1, layer=layer, **fields))
    run = record([{**row, "hash": str(at)} for at, row in enumerate(rows)])
    return dataclasses.replace(run, provenance={**run.provenance, "experiment": "importance"})


@pytest.fixture
def audited(importance):
    evidence = [Evidence({"importance": importance}, [importance])]
    rows = audit(evidence)
    return RunRecord("claims", rows, {}, {"model": "file:x"}, summarise(evidence, rows))


def grids(run):
    return {
        (each.section.title, part.caption): part
        for each in html.fill(claims.PAGE, run)
        for part in each.content
    }


def test_every_claim_is_on_the_page_once_with_its_verdict(audited):
    found = grids(audited)
    measured = [
        row[0].text
        for (section, caption), grid in found.items()
        if section in ("Claims about models", "Arithmetic") and caption.endswith("verdicts")
        for row in grid.rows
    ]
    hidden = found["Not measured", "What was not measured, and what it lacks"]
    assert hidden.view.folded
    assert sorted([*measured, *(row[0].text for row in hidden.rows)]) == sorted(
        claim.statement for claim in CLAIMS
    )


def test_the_evidence_is_folded_and_has_figure_control_rule_and_source(audited):
    grid = grids(audited)["Claims about models", "Importance: evidence"]
    assert grid.view.folded
    (row,) = (row for row in grid.rows if row[0].text == BY_ID["critical_core"].statement)
    cells = dict(zip(grid.header, (cell.text for cell in row), strict=True))
    assert cells["printed"].startswith("L8 +2,396 %")
    assert cells["ours"].startswith("L8 +")
    assert cells["what decided"].startswith("settled so: L11; settled otherwise: L8, L9, L10;")
    assert "lies above 100 % in each" in cells["rule"]
    assert (cells["texts"], cells["source"]) == ("a", "AH abstract, section 4.1")


def test_every_claim_can_be_chosen_by_its_paper_and_its_verdict(audited):
    shown = [grid for (section, _), grid in grids(audited).items() if section != "At a glance"]
    assert {tuple(c.head for c in grid.columns if c.filters) for grid in shown} == {
        ("verdict", "paper")
    }
    rows = [
        dict(zip(grid.header, (cell.text for cell in row), strict=True))
        for grid in shown
        for row in grid.rows
    ]
    chosen = [
        row["claim"] for row in rows if (row["verdict"], row["paper"]) == ("not measured", "DG")
    ]
    assert sorted(chosen) == sorted(
        claim.statement
        for claim in CLAIMS
        if claim.source.startswith("DG") and claim.needs and claim.needs != ("importance",)
    )
    page = html.render(claims.PAGE, html.fill(claims.PAGE, audited), audited)
    assert page.count('data-filter="paper"') == len(shown)
    assert 'class="filters"' not in page  # made by the script: without it all is shown


def test_of_two_models_each_has_its_own_tables(importance):
    provenance = importance.provenance | {"model": "file:y", "weights_sha256": "2"}
    other = dataclasses.replace(importance, rows=importance.rows[:1], provenance=provenance)
    evidence = [Evidence({"importance": run}) for run in (importance, other)]
    run = RunRecord("claims", audit(evidence), {}, {}, {})
    about = [row["about"] for row in claims.counts(run)]
    assert about[:2] == ["Importance, file:x", "Importance, file:y"]
    assert "Recovery" in about
    assert ("Claims about models", "Importance, file:x: verdicts") in grids(run)
    names = [row["claim"] for row in run.rows if row["about"] == "model"]
    assert len(names) > len({*names})
    assert claims.lead(run).startswith(
        f"{len({*names})} claims about models, on several of them {len(names)} verdicts: "
    )


def test_counts_and_lead_are_those_of_the_rows(audited):
    counts = {row["about"]: row for row in claims.counts(audited)}
    said = [row["verdict"] for row in audited.rows if row["needs"] == ["importance"]]
    assert counts["Importance"]["not measured"] == said.count("not measured") > 0
    assert counts["The papers' own figures"]["does not hold"] == 22
    models = [row["verdict"] for row in audited.rows if row["about"] == "model"]
    assert claims.lead(audited).startswith(
        f"Of {len(models)} claims about models {models.count('holds')} hold"
    )


def test_a_verdict_is_a_word_on_a_colour(audited):
    grid = grids(audited)["Claims about models", "Importance: verdicts"]
    assert {(row[1].text, row[1].kind) for row in grid.rows} >= {
        ("holds", "better"),
        ("does not hold", "critical"),
    }


def test_runs_of_several_versions_of_the_code_are_named(audited):
    def said(**versions):
        runs = [{"experiment": name, "code_version": version} for name, version in versions.items()]
        return claims.versions(dataclasses.replace(audited, summary={"runs": runs}))

    assert said(importance="0.1.0+a", structure="0.1.0+a") == ""
    assert "importance: 0.1.0+a; structure: unknown" in said(importance="0.1.0+a", structure=None)


def test_the_terminal_has_counts_and_a_line_for_each_measured_claim(audited):
    text = terminal.printed(claims.PAGE, audited)
    line = next(line for line in text.splitlines() if "Layers are not interchangeable" in line)
    assert line.split()[-2:] == ["holds", "AH"]
    assert "Number of claims by verdict" in text


def test_a_run_shows_the_claims_that_it_decides_alone(importance):
    rows = claims.of_run(importance)
    assert [row["claim"] for row in rows] == [
        claim.id for claim in CLAIMS if claim.needs == ("importance",)
    ]
    assert claims.of_run(dataclasses.replace(importance, provenance={})) == []
