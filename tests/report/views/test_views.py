"""The five views: what is drawn is what the rows say, whatever they hold."""

import base64
import dataclasses
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report import html, views
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import (
    Axis,
    Bars,
    Column,
    Curves,
    Heatmap,
    Level,
    Mark,
    Palette,
    Span,
    Strip,
    Table,
)

SMALL, LARGE = Estimate(5.0, 1.0, 9.0), Estimate(500.0, 90.0, 900.0)
ROWS = [
    {"panel": "a", "layer": 0, "change": SMALL, "kind": "small", "paper": 4.0},
    {"panel": "a", "layer": 1, "change": LARGE, "kind": "large"},
    {"panel": "a", "layer": 2, "change": None, "kind": "large", "reason": "too large"},
    {"panel": "b", "layer": 0, "change": Estimate(-3.0, -4.0, -2.0), "kind": "small"},
]


def bars(**more):
    return Bars(
        "map",
        lambda record: record.rows,
        "change",
        place=Axis("layer", "layer", "layer"),
        measure=Axis("change", "change (%)", "percent"),
        spans=(Span("change", "95 % interval"),),
        marks=(Mark("paper", "paper", "D", "#1F5FA8", hollow=True),),
        palette=Palette("kind", {"small": "#BCC4CC", "large": "#AE2320"}),
        **more,
    )


def heights(ax):
    return {
        round(bar.get_x() + bar.get_width() / 2): bar.get_height()
        for bar in ax.patches
        if isinstance(bar, Rectangle)
    }


def test_bars_are_the_rows_and_each_text_has_its_panel():
    panels = views.draw(bars(), ROWS)
    assert [ax.get_title(loc="left") for ax in panels] == ["a, change", "b, change"]
    assert heights(panels[0]) == {0: 5.0, 1: 500.0}
    assert heights(panels[1]) == {0: -3.0}
    colours = [matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in panels[0].patches]
    assert colours == ["#BCC4CC", "#AE2320"]


def test_panels_share_a_scale_that_holds_every_end():
    panels = views.draw(bars(), ROWS)
    assert panels[0].get_ylim() == panels[1].get_ylim()
    low, high = panels[0].get_ylim()
    assert low < -4.0
    assert high > 900.0


def test_what_is_not_finite_is_a_cross_and_what_is_absent_is_nothing():
    panels = views.draw(bars(), ROWS)
    crosses = [line for line in panels[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [2]
    assert not [line for line in panels[1].lines if line.get_marker() == "x"]
    diamonds = [line for line in panels[0].lines if line.get_marker() == "D"]
    assert [line.get_xydata().tolist() for line in diamonds] == [[[0, 4.0]]]


def test_the_legend_names_only_what_is_there():
    panels = views.draw(bars(), ROWS)
    words = {text.get_text() for text in panels[0].figure.legends[0].get_texts()}
    assert words == {"small", "large", "95 % interval", "paper", "not finite"}
    one = views.draw(bars(), ROWS[3:])
    words = {text.get_text() for text in one.figure.legends[0].get_texts()}
    assert words == {"small", "95 % interval"}


def test_a_strip_lies_and_holds_spans_marks_and_words():
    rows = [
        {"matrix": "q_proj", "value": Estimate(0.2, 0.1, 0.3), "beside": "z = 3"},
        {"matrix": "k_proj", "value": Estimate(0.5, 0.4, 0.7), "beside": "z = 1"},
    ]
    ax = views.draw(
        Strip(
            "strip",
            list,
            place=Axis("matrix", scale="names"),
            measure=Axis("value", "value"),
            spans=(Span("value", "null", "#7FA9D2", 0.4),),
            marks=(Mark("value", "measured", colour="#AE2320"),),
            levels=(Level(0.0, "no effect"),),
            beside="beside",
        ),
        rows,
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["q_proj", "k_proj"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top
    dots = [line.get_xydata().tolist()[0] for line in ax.lines if line.get_marker() == "o"]
    assert dots == [[0.2, 0.0], [0.5, 1.0]]
    assert [(p.get_x(), round(p.get_width(), 6)) for p in ax.patches] == [(0.1, 0.2), (0.4, 0.3)]
    assert [text.get_text() for text in ax.texts] == ["z = 3", "z = 1"]
    low, high = ax.get_xlim()
    assert low < 0.0 < 0.7 < high


def curves(**more):
    fields = {"x": Axis("step", "step"), "y": Axis("loss", "loss"), "series": Palette("arm")}
    return Curves("curves", list, **fields | more)


CURVE = [
    {"arm": arm, "step": step, "loss": Estimate(3.0 - 0.1 * step - shift, 1.0, 4.0)}
    for arm, shift in (("flat", 0.0), ("grown", 0.5))
    for step in (2, 0, 1)
]


def test_curves_have_a_line_for_each_series_in_the_order_of_x():
    ax = views.draw(curves(band="loss"), CURVE)
    lines = {
        line.get_color(): line.get_xydata().tolist() for line in ax.lines if len(line.get_xdata())
    }
    assert list(lines.values()) == [
        [[0, 3.0], [1, 2.9], [2, 2.8]],
        [[0, 2.5], [1, 2.4], [2, 2.3]],
    ]
    assert len(ax.collections) == 2
    assert ax.get_ylim()[0] < 1.0
    assert ax.get_ylim()[1] > 4.0


def test_the_highest_values_may_leave_the_frame():
    rows = [{"arm": "flat", "step": step, "loss": 1.0 + 8.0 * (step == 0)} for step in range(20)]
    y = Axis("loss", "loss", holds=0.9)
    ax = views.draw(curves(y=y), rows)
    assert ax.get_ylim()[1] == pytest.approx(1.05)
    assert ax.lines[0].get_ydata()[0] == 9.0


def test_several_axes_are_several_panels():
    rows = [row | {"flops": 2e12 * row["step"]} for row in CURVE]
    panels = views.draw(curves(x=(Axis("step", "steps"), Axis("flops", "TFLOP", unit=1e12))), rows)
    assert [ax.get_xlabel() for ax in panels] == ["steps", "TFLOP"]
    assert panels[1].lines[0].get_xdata().tolist() == [0, 2, 4]


def test_a_heatmap_has_each_value_in_its_cell():
    rows = [
        {"method": "zero", "layer": 0, "change": 10.0},
        {"method": "zero", "layer": 1, "change": None},
        {"method": "mean", "layer": 1, "change": -5.0},
    ]
    ax = views.draw(
        Heatmap(
            "heat",
            list,
            x=Axis("layer", "layer"),
            y=Axis("method", scale="names"),
            cell=Axis("change", scale="percent"),
        ),
        rows,
    )
    table = ax.collections[0].get_array().filled(math.nan)
    assert table[0, 0] == 10.0
    assert table[1, 1] == -5.0
    assert math.isnan(table[0, 1])
    assert math.isnan(table[1, 0])
    assert [text.get_text() for text in ax.texts] == ["10", "n/f", "−5.0"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["zero", "mean"]


def test_a_heatmap_without_numbers_has_dots_where_rows_say_so_and_a_log_scale():
    rows = [
        {"start": start, "size": size, "kl": 10.0**-start, "undecided": start == size}
        for start in range(3)
        for size in range(3)
    ] + [{"start": 3, "size": 0, "kl": 0.0, "undecided": False}]
    heat = Heatmap(
        "heat",
        list,
        x=Axis("start"),
        y=Axis("size"),
        cell=Axis("kl", "KL", "log"),
        numbers=False,
        dot="undecided",
        size=(4.0, 3.5),
    )
    ax = views.draw(heat, rows)
    (dots,) = ax.lines
    assert sorted(zip(*dots.get_data(), strict=True)) == [(0.5, 0.5), (1.5, 1.5), (2.5, 2.5)]
    norm = ax.collections[0].norm
    assert [norm.vmin, norm.vmax, float(norm(0.1))] == pytest.approx([0.01, 1.0, 0.5])
    assert ax.collections[0].get_rasterized()
    assert not ax.texts


@pytest.mark.parametrize(
    "name", ["$x$", r"\frac{a", "a_b^c", "100 % $", "日本語", "مرحبا", "<b>&amp;", "$", "{"]
)
def test_no_name_is_read_as_mathematics_or_markup(name):
    rows = [row | {"panel": name, "kind": name} for row in ROWS]
    ax = views.draw(bars(write="kind"), rows)
    assert views.to_png(ax.figure, 40).startswith(b"\x89PNG")
    svg = views.to_svg(ax.figure, "map")
    assert svg.startswith("<svg")
    assert "<b>" not in svg


def test_an_svg_takes_its_ink_from_the_page_and_has_no_ids_of_its_own():
    svg = views.to_svg(views.draw(bars(), ROWS)[0].figure, "map")
    assert "var(--ink, #1b2026)" in svg
    assert 'id="axes' not in svg
    assert svg == views.to_svg(views.draw(bars(), ROWS)[0].figure, "map")


def test_axes_of_ones_own_are_used_and_counted():
    figure = matplotlib.figure.Figure()
    ax = figure.subplots()
    assert views.draw(bars(), ROWS[3:], ax) is ax
    with pytest.raises(InputError, match="one axes for each panel was expected; got 1 for 2"):
        views.draw(bars(), ROWS, ax)


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="the figure 'map' needs rows; got none"):
        views.draw(bars(), [])


def test_what_the_frame_may_cut_does_not_widen_the_axis():
    rows = [row | {"seeds": Estimate(0.0, -9e3, 9e3)} for row in ROWS[3:]]
    view = bars()
    wide, cut = (
        dataclasses.replace(view, spans=(Span("seeds", "seeds", cut=cut),)) for cut in (False, True)
    )
    assert views.draw(wide, rows).get_ylim()[1] > 9e3
    ax = views.draw(cut, rows)
    assert ax.get_ylim()[1] < 9e3
    assert [line.get_segments()[0].tolist() for line in ax.collections] == [[[0, -9e3], [0, 9e3]]]


def test_a_point_that_is_not_finite_keeps_its_words_at_the_top():
    ax = views.draw(curves(write="arm"), [*CURVE[:2], CURVE[2] | {"loss": None, "arm": "lost"}])
    lost = next(text for text in ax.texts if text.get_text() == "lost")
    assert lost.xy == (1, 0.97)


class TestTable:
    table = Table(
        "t",
        list,
        cells=(
            Column("layer", "layer", "d"),
            Column("change", "change", "+.1f"),
            Column("paper", "paper", ".2f"),
            Column("nothing", "nothing"),
        ),
    )

    def test_columns_without_rows_are_left_out(self):
        assert [c.head for c in self.table.shown(ROWS)] == ["layer", "change", "paper"]
        assert [c.head for c in self.table.shown(ROWS[1:])] == ["layer", "change"]

    def test_cells(self):
        change, paper = self.table.cells[1:3]
        assert change.text(ROWS[3]) == "−3.0 [−4.0, −2.0]"
        assert change.text(ROWS[2]) == "not finite"
        assert change.text({"change": Estimate(math.inf, 1.0, math.inf)}) == "not finite"
        assert change.text({"change": Estimate(2.0)}) == "+2.0"
        assert paper.text(ROWS[1]) == "–"
        assert Column("x", "x").text({"x": [1, "b"]}) == "1, b"
        assert Column("x", "x", lambda each: f"<{each}>").text({"x": 2}) == "<2>"

    def test_a_column_for_each_field_that_begins_alike(self):
        rows = [{"arm": "a", "loss.0.1": 1.0}, {"arm": "b", "loss.0.1": 2.0, "loss.0.2": None}]
        cells = (Column("arm", "arm"), Column("rate {}", "loss.*", ".1f", null="diverged"))
        columns = dataclasses.replace(self.table, cells=cells).shown(rows)
        assert [column.head for column in columns] == ["arm", "rate 0.1", "rate 0.2"]
        assert [column.text(rows[1]) for column in columns] == ["b", "2.0", "diverged"]
        assert [column.text(rows[0]) for column in columns] == ["a", "1.0", "–"]

    def test_such_columns_have_their_own_intervals_and_colours(self):
        row = {"v.a": Estimate(1.0, 0.0, 2.0), "kind.a": "minor", "v.b": 3.0}
        columns = Column("{}", "v.*", ".0f", "kind.*").of([row])
        assert [column.text(row) for column in columns] == ["1 [0, 2]", "3"]
        assert [row.get(column.kind) for column in columns] == ["minor", None]

    def test_what_tells_such_columns_apart_may_stand_within(self):
        row = {"rank.gate.largest": 5, "rank.down.largest": 6, "rank.gate.layer": 1}
        columns = Column("{} at most", "rank.*.largest").of([row])
        assert [column.head for column in columns] == ["gate at most", "down at most"]


@pytest.mark.parametrize(("value", "form"), [(-0.0004, "+.3f"), (-0.0, "+.3f"), (-0.4, "+,.0f")])
def test_what_is_rounded_to_zero_has_no_minus_sign(value, form):
    words = Column("x", "x", form).text({"x": Estimate(value, -1.0, 1.0)})
    assert words.split(" [")[0] in ("+0.000", "+0")
    assert "[−1" in words


def test_a_saved_table_has_the_ends_of_intervals_as_fields_and_all_digits():
    table = dataclasses.replace(TestTable.table, rows=lambda record: record.rows)
    page = Page("kind", "lead", Section("title", table))
    ((grid,),) = (each.content for each in html.fill(page, RunRecord.of_rows(ROWS[:3])))
    saved = base64.b64decode(grid.csv.partition(",")[2]).decode().splitlines()
    rows = ["0,5.0,1.0,9.0,4.0", "1,500.0,90.0,900.0,", "2,,,,"]
    assert saved == ["layer,change,change_low,change_high,paper", *rows]


def test_words_over_a_bar_are_clear_of_marks_close_by():
    for mark, height in ((3.0, 900.0), (950.0, 950.0), (9_000.0, 900.0)):
        row = ROWS[1] | {"paper": mark, "words": "500 %"}
        ax = views.draw(bars(write="words"), [row])
        assert [text.xy for text in ax.texts if text.get_text() == "500 %"] == [(1, height)]


def test_a_title_may_be_made_of_the_rows_of_a_panel():
    view = dataclasses.replace(bars(), title=lambda rows: f"{len(rows)} layers")
    panels = views.draw(view, ROWS)
    assert [ax.get_title(loc="left") for ax in panels] == ["a, 3 layers", "b, 1 layers"]


def test_a_title_that_is_longer_than_its_panel_has_several_lines():
    long = "a map of layers, " * 8
    figure = matplotlib.figure.Figure()
    for title, lines in (("short", 1), (long.strip(), 2)):
        ax = views.draw(dataclasses.replace(bars(), title=title), ROWS[:1])
        shown = ax.get_title(loc="left").splitlines()
        assert len(shown) == lines
        assert " ".join(shown) == f"a, {title}"
        theirs = views.draw(dataclasses.replace(bars(), title=title), ROWS[:1], figure.subplots())
        assert theirs.get_title(loc="left") == f"a, {title}"


def test_a_long_model_and_a_long_text_are_cut_each():
    row = ROWS[0] | {"panel": f"{'m' * 50}, {'t' * 50}"}
    (title,) = {views.draw(bars(), [row]).get_title(loc="left")}
    assert " ".join(title.splitlines()) == f"...{'m' * 29}, ...{'t' * 29}, change"


def test_points_are_spread_and_rows_without_a_kind_have_no_legend():
    rows = [{"name": "zero", "value": 1.0, "kind": "small", "shift": at} for at in (0.0, 0.2)]
    view = Strip(
        "spread",
        lambda record: record.rows,
        place=Axis("name", scale="names"),
        measure=Axis("value"),
        marks=(Mark("value", ""), Mark("median", "median", "|")),
        palette=Palette("kind", {"small": "#BCC4CC"}),
        spread="shift",
    )
    ax = views.draw(view, [*rows, {"name": "zero", "median": 2.0}])
    assert sorted(line.get_ydata()[0] for line in ax.lines) == [0.0, 0.0, 0.2]
    labels = [handle.get_label() for handle in view.handles([*rows, {"name": "zero"}])]
    assert labels == ["small"]


def test_the_lines_of_spans_may_differ_in_width():
    spans = (Span("change", "thin", line=0.6), Span("change", "thick", line=2.0))
    ax = views.draw(dataclasses.replace(bars(), spans=spans), ROWS[:1])
    assert [found.get_linewidth()[0] for found in ax.collections] == [0.6, 2.0]


def test_a_logarithmic_axis_names_small_values_and_leaves_out_what_is_not_above_zero():
    view = Curves("c", list, x=Axis("n", scale="log"), y=Axis("v", scale="log"))
    rows = [{"n": n, "v": v} for n, v in ((1, 0.003), (2, -1.0), (4, 30.0))]
    ax = views.draw(view, rows)
    ax.figure.canvas.draw()
    words = [tick.get_text() for tick in ax.get_yticklabels() if tick.get_text()]
    assert {"0.01", "10"} <= set(words)
    assert len(set(words)) == len(words)
    assert "2" in [tick.get_text() for tick in ax.get_xticklabels(minor=True)]
    assert not np.isfinite(ax.transData.transform((2, -1.0))).all()
