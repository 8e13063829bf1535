"""The page of the structure experiment: what it says, and that its tidy rows are the run's."""

import numpy as np
import pytest

from jaxanatomy.checksums import CHECKSUM, arrays_checksum
from jaxanatomy.forensics import structure
from jaxanatomy.forensics.blocks import FFN_PARTS
from jaxanatomy.forensics.gram import gram
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.measures.structure import ffn_blocks, structure_arrays, structure_rows
from jaxanatomy.records import RunRecord
from jaxanatomy.report import html, terminal, views
from jaxanatomy.report import structure as page
from jaxanatomy.tree import MATRICES

LAYERS = 8
PAPER_MODEL = {
    "layers": [{"ffn_width": 1536}] * 30,
    "hidden_size": 576,
    "vocab_size": 49152,
    "rope_theta": 100000.0,
}


def make_record(folder, data, initial=True, architecture=None, model="file:made"):
    """A run over layers [L, N] by component."""
    rows, arrays = [], {}
    for name, x_LN in data.items():
        moments = gram([row.reshape(20, -1) for row in x_LN])
        beside = gram(list(np.random.default_rng(9).normal(size=(LAYERS, 20, 5))))
        found = structure.analyse(moments, beside if initial else None, 100, 0)
        rows += [{"hash": "0", **row} for row in structure_rows(name, found)]
        arrays |= structure_arrays(name, found)
    np.savez(folder / "arrays.npz", **arrays, **{CHECKSUM: arrays_checksum(arrays)})
    provenance = {"model": model, "architecture": architecture or {}, "experiment": "structure"}
    return RunRecord(folder, rows, {"model": model}, provenance, {"done": True})


def noise(seed=0, number=2_000):
    return np.random.default_rng(seed).normal(size=(LAYERS, number))


@pytest.fixture(scope="module")
def data():
    sign = (-1.0) ** np.arange(LAYERS)[:, None]
    data = {name: noise(seed) for seed, name in enumerate(MATRICES)}
    data["v_proj"] = data["v_proj"] + 2 * sign * noise(20)[:1]
    data["o_proj"] = data["o_proj"].cumsum(0)
    return data


@pytest.fixture(scope="module")
def record(data, tmp_path_factory):
    return make_record(tmp_path_factory.mktemp("run"), data)


def words_of(record):
    return " ".join(text for each in html.fill(page.PAGE, record) for text in each.text)


def measured(record, name, **wanted):
    """The rows of one component and metric by their null."""
    wanted = {"component": name, "metric": page.DELTA, "layer": None} | wanted
    rows = [row for row in record.rows if all(row[key] == value for key, value in wanted.items())]
    return {row["null"]: row for row in rows}


def test_sections_and_pictures(record):
    filled = html.fill(page.PAGE, record)
    assert [each.section.title for each in filled] == [
        "Delta correlation",
        "Layer by layer",
        "Resemblance of layers",
        "Principal components over layers",
        "All metrics",
    ]
    pictures = [p for each in filled for p in each.content if isinstance(p, html.Picture)]
    names = ["delta_correlation", "delta_correlation_residuals", "cosine", "pca"]
    assert [picture.name for picture in pictures] == names
    assert all(picture.svg.startswith("<svg") for picture in pictures)


def test_it_says_that_minus_one_half_is_no_finding(record):
    assert "A delta correlation of −0.5 alone is no finding." in words_of(record)


def test_planted_structure_is_outside_and_independent_layers_are_not(record, tmp_path):
    (column,) = (column for column in page.NULLS if column.field == "side")
    found = {row["component"]: column.text(row) for row in page.means(record)}
    assert (found["v_proj"], found["o_proj"], found["q_proj"]) == ("below", "above", "no")
    noise_alone = make_record(tmp_path, {"q_proj": noise(4)})
    rows = [*page.means(noise_alone), *page.others(noise_alone)]
    assert {column.text(row) for row in rows if row["metric"] != "pca_effective_rank"} == {"no"}


def test_the_tidy_rows_hold_every_null_beside_its_value(record):
    (row,) = (row for row in page.means(record) if row["component"] == "v_proj")
    nulls = measured(record, "v_proj")
    assert row["value"] == nulls["gaussian"]["value"]
    for null in ("closed_form", "random_init", "standardised"):
        assert row[null] == nulls[null]["null_value"]
    for null in ("gaussian", "shuffled_layers"):
        own = nulls[null]
        assert row[null] == Estimate(own["null_value"], own["null_low"], own["null_high"])
    assert row["z"] == nulls["gaussian"]["z"]
    assert [row["component"] for row in page.means(record)] == list(MATRICES)
    assert len(page.others(record)) == 5 * 7


def test_layers_and_their_residuals(record):
    rows = [row for row in page.layers(record) if row["component"] == "q_proj"]
    assert [row["layer"] for row in rows] == list(range(LAYERS - 2))
    null = measured(record, "q_proj", layer=3)["gaussian"]
    assert rows[3]["residual"] == null["value"] - null["null_value"]
    assert rows[3]["null"].low == null["null_low"] - null["null_value"]
    folded = next(v for v in page.PAGE.sections[1].views if v.name == "delta_correlation_layers")
    (closed,) = (column for column in folded.cells if column.field == "closed_form")
    assert closed.text(rows[3]) == f"{rows[3]['closed_form']:+.4f}".replace("-", "−")


def test_cosines_leave_the_diagonal_out_and_spectra_what_centring_takes(record):
    found = {(row["layer"], row["other"]): row["cosine"] for row in page.cosines(record)[:56]}
    cosine_LL = record.arrays["cosine_q_proj"]
    assert len(found) == LAYERS * (LAYERS - 1)
    assert found[2, 5] == cosine_LL[2, 5]
    shares = [row["share"] for row in page.spectra(record) if row["kind"] == "measured"]
    np.testing.assert_allclose(shares[: LAYERS - 1], 100 * record.arrays["pca_q_proj"][:-1])


def test_the_paper_stands_beside_its_own_model_only(data, tmp_path):
    few = {"k_proj": data["k_proj"]}
    (own,) = page.means(make_record(tmp_path, few, architecture=PAPER_MODEL))
    assert own["paper"] == -0.497
    for more in ({}, {"architecture": PAPER_MODEL, "model": "random:file:made"}):
        (other,) = page.means(make_record(tmp_path, few, **more))
        assert "paper" not in other


def test_an_unfinished_run_shows_what_there_is(record, tmp_path):
    first = [row for row in record.rows if row["component"] == "q_proj"]
    some = RunRecord(tmp_path, first, record.config, record.provenance, {})
    filled = html.fill(page.PAGE, some)
    titles = [each.section.title for each in filled]
    assert titles == ["Delta correlation", "Layer by layer", "All metrics"]
    assert "This run is not finished" in html.render(page.PAGE, filled, some)


def test_undefined_values_are_said_and_draw(tmp_path):
    equal = np.repeat(noise(1)[:1], LAYERS, axis=0)
    record = make_record(tmp_path, {"q_proj": equal}, initial=False)
    assert "No delta correlation is defined" in words_of(record)
    assert page.DELTAS.cells[1].text(page.means(record)[0]) == "not finite"
    assert html.render(page.PAGE, html.fill(page.PAGE, record), record)


def test_the_terminal_table_is_plain(record):
    text = terminal.printed(page.PAGE, record)
    lines = text.splitlines()
    assert text.isascii()
    assert [line.split()[0] for line in lines[2:9]] == list(MATRICES)
    value = measured(record, "q_proj")["gaussian"]["value"]
    assert lines[2].split()[1] == f"{value:+.4f}"


def test_a_view_of_it_is_drawn_from_the_rows(record):
    view = page.PAGE.sections[0].views[0]
    ax = views.draw(view, view.rows(record))
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_color() == page.MEASURED]
    assert dots == [measured(record, name)["gaussian"]["value"] for name in MATRICES]


def test_blocks_that_repeat_are_named_and_others_are_not(tmp_path):
    for seed, (layers, sentence) in enumerate(
        (
            (
                np.tile(noise(3)[:2], (4, 1)) + 0.5 * noise(4),
                "every 2, 4 layers, of 2, 4 that were",
            ),
            (noise(5), "at no distance of 2, 4 layers beyond chance"),
        )
    ):
        folder = tmp_path / str(seed)
        folder.mkdir()
        data = {name: layers for name in FFN_PARTS}
        made = make_record(folder, data, initial=False)
        moments = {name: gram([row.reshape(20, -1) for row in layers]) for name in data}
        rows, arrays = ffn_blocks(moments, None, (1, 2, 4), samples=200)
        arrays |= made.arrays
        np.savez(folder / "arrays.npz", **arrays, **{CHECKSUM: arrays_checksum(arrays)})
        record = RunRecord(folder, [*made.rows, *rows], made.config, made.provenance, made.summary)
        assert sentence in page.periods(record)
        (row,) = (
            row
            for row in page.block_scores(record)
            if (row["block"], row["label"]) == (2, "periodicity")
        )
        (own,) = (
            row
            for row in rows
            if (row["metric"], row["block"], row["null"])
            == ("block_periodicity", 2, "shuffled_layers")
        )
        assert (row["value"], row["p"]) == (own["value"], own["p"])
        assert row["shuffled_layers"].low == own["null_low"]
        cells = page.block_similarities(record)
        assert len(cells) == 8 * 7 + 6 * 5 + 2
        assert {cell["panel"] for cell in cells} == {"blocks of 1", "blocks of 2", "blocks of 4"}
        shown = {
            (c["layer"], c["other"]): c["cosine"] for c in cells if c["panel"] == "blocks of 2"
        }
        assert shown[0, 4] == arrays["block_similarity_2"][0, 4]
