"""Strips by themselves: the marks and intervals that they have without being told."""

from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.report import views
from jaxanatomy.report.views import Axis, Mark, Span, Strip


def test_a_strip_has_a_mark_of_its_measure_and_each_mark_its_interval():
    rows = [{"arm": "a", "less": Estimate(0.2, 0.1, 0.3)}, {"arm": "b", "less": 0.5}]
    measure, place = Axis("less", "less"), Axis("arm", scale="names")
    ax = views.draw(Strip("strip", list, place=place, measure=measure), rows)
    (interval,) = (line.get_segments()[0][:, 0].tolist() for line in ax.collections)
    assert interval == [0.1, 0.3]
    assert [line.get_xdata()[0] for line in ax.lines] == [0.2, 0.5]
    marks, spans = (Mark("less", shift=0.2),), (Span("less", "given"),)
    given = Strip("strip", list, place=place, measure=measure, marks=marks, spans=spans)
    assert given.spans == spans
