import base64
import html.parser
import os
import re

import pytest
import run_files

from jaxanatomy.errors import InputError
from jaxanatomy.report import views, write_report

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Reader(html.parser.HTMLParser):
    """Checks that tags nest, and keeps what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.ids = [], [], [], []
        self.tables = []  # of rows of cell texts
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


def read(path):
    return Reader(path.read_text(encoding="utf-8"))


def column(table, name):
    index = table[0].index(name)
    return [row[index].strip() for row in table[1:]]


@pytest.fixture
def no_pictures(monkeypatch):
    """Saving pictures takes most of the time and is tested once."""
    monkeypatch.setattr(views, "to_png", lambda figure: b"png")
    monkeypatch.setattr(views, "to_svg", lambda figure, name: "<svg></svg>")


def test_the_page_is_whole_and_stands_alone(two_texts, make_run):
    folder = make_run(two_texts)
    path = write_report(folder)
    assert path == folder / "report.html"
    found = read(path)
    drawings = [
        attributes for tag, attributes in found.tags if tag == "div" and "aria-label" in attributes
    ]
    drawings = [attributes for attributes in drawings if attributes["role"] == "img"]
    names = [
        "importance",
        "controls",
        "control_ratios",
        "first_token",
        "scopes_neighbour_mean",
        "scopes_zero",
        "heads",
    ]
    assert sorted(path.stem for path in (folder / "figures").iterdir()) == sorted(names)
    assert len(drawings) == len(names)
    assert all(drawing["aria-label"] for drawing in drawings)
    for drawing in drawings:  # small figures are not blown up to the width of the page
        least, most = (int(each) for each in re.findall(r"(\d+)px", drawing["style"]))
        assert most == 2 * least
    inside = [link[1:] for link in found.links if link.startswith("#")]
    assert all(link.startswith(("#", "data:text/csv")) for link in found.links)
    assert set(inside) <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert {tag for tag, _ in found.tags}.isdisjoint({"link", "iframe", "object"})
    assert "url(" not in path.read_text(encoding="utf-8").replace("url(#", "")
    assert (folder / "figures" / "importance.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_offers_the_numbers_that_it_draws(rows, make_run):
    found = read(write_report(make_run(rows)))
    links = {each["download"]: each["href"] for _, each in found.tags if "download" in each}
    content = base64.b64decode(links["importance.csv"].partition(",")[2]).decode()
    head, *lines = content.splitlines()
    assert {"layer", "change", "change_low", "change_high"} <= {*head.split(",")}
    assert not {"hash", "nll", "unit_nll"} & {*head.split(",")}
    assert len(lines) == 5


def test_the_same_rows_give_the_same_bytes(rows, make_run):
    rows = [row for row in rows if row["variant"].startswith("neighbour_mean/layer/")]
    pages = [write_report(make_run(rows)).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.fixture
def few(rows):
    """Neighbour mean and zero of whole layers."""
    return [
        row
        for row in rows
        if row["variant"] == "baseline"
        or (row["intervention"] in ("neighbour_mean", "zero") and row["scope"] == "layer")
    ]


@pytest.mark.usefixtures("no_pictures")
class TestContent:
    def test_each_layer_has_its_row(self, two_texts, make_run):
        found = read(write_report(make_run(two_texts)))
        tables = [table for table in found.tables if "perplexity" in table[0]]
        for table, text in zip(tables, ("sentences", "paragraphs"), strict=True):
            main = [
                row
                for row in two_texts
                if row["text"] == text and row["variant"].startswith("neighbour_mean/layer/")
            ]
            assert column(table, "layer") == [str(row["layer"]) for row in main]
            expected = [f"{row['ppl']:,.2f}" for row in main]
            assert column(table, "perplexity") == expected
            categories = [cell.split(",")[0] for cell in column(table, "category")]
            assert categories == [row["category"] for row in main]
        zero = column(tables[0], "zero (%)")
        assert zero == ["+375.0", "−3.0", "+27.0", "+51,000", "+67.5"]
        assert "zero (%)" not in tables[1][0]

    def test_values_sort_as_numbers(self, few, make_run, change):
        change(few, "zero/layer/2", degradation_percent=None, reason="too large")
        found = read(write_report(make_run(few)))
        values = [float(a["data-value"]) for _, a in found.tags if "data-value" in a]
        assert {34_000.0, -2.0, 18.0} < set(values)
        assert all(abs(value) < float("inf") for value in values)

    def test_what_is_not_finite_says_so(self, few, make_run, change):
        gone = {"ppl": None, "degradation_percent": None, "ci95": None, "reason": "it is <too> big"}
        change(few, "neighbour_mean/layer/3", **gone)
        found = read(write_report(make_run(few)))
        table = next(table for table in found.tables if "perplexity" in table[0])
        assert column(table, "perplexity")[3] == "not finite"
        table = next(table for table in found.tables if "reason" in table[0])
        assert "it is <too> big" in column(table, "reason")[3]

    def test_a_malicious_name_is_only_text(self, few, make_run):
        name = '<script>alert("x")</script>"><img src=http://evil onerror=alert(1)>'
        for row in few:
            row["text"] = name
        folder = make_run(few, model=name)
        path = write_report(folder)
        assert name not in path.read_text(encoding="utf-8")
        found = read(path)
        assert sum(tag == "script" for tag, _ in found.tags) == 1
        assert not any("onerror" in attributes for _, attributes in found.tags)
        assert all(link.startswith(("#", "data:")) for link in found.links)
        names = [path.name for path in (folder / "figures").iterdir()]
        assert names
        assert not any(set(name) & set('<>"/ :') for name in names)

    def test_provenance_and_summary_are_shown(self, few, make_run):
        correlation = {"layers": 28, "value": 0.891, "ci95": [0.7, 0.95]}
        summary = {"texts": {"sentences": {"rank_correlation": correlation}}, "note": [1, 1]}
        path = write_report(make_run(few, summary=summary))
        text = path.read_text(encoding="utf-8")
        assert "ab" * 32 in text
        assert "test device" in text
        assert "0.89 (95 % interval 0.70 to 0.95), 28 layers" in text
        assert "not finished" not in text

    def test_an_unfinished_run_says_so(self, rows, make_run):
        folder = make_run(rows[:3])
        with open(folder / "rows.jsonl", "a") as file:
            file.write('{"hash": "torn')
        text = write_report(folder).read_text(encoding="utf-8")
        assert "This run is not finished; it has 3 rows so far." in text

    def test_equal_rows_under_zero_are_explained(self, rows, make_run):
        text = write_report(make_run(rows)).read_text(encoding="utf-8")
        assert "so q_proj equals k_proj" in text

    def test_fewer_measurements_give_fewer_sections(self, rows, make_run):
        main = [row for row in rows if row["variant"].startswith("neighbour_mean/layer/")]
        found = read(write_report(make_run(main)))
        assert found.ids == ["which-layers-matter", "importance-map", "all-layers", "provenance"]

    def test_a_failure_leaves_the_old_page(self, few, make_run, monkeypatch):
        path = write_report(make_run(few))
        before = path.read_bytes()
        folder = make_run(few[:4])
        replace = os.replace

        def fail(source, target):
            if target.name == "report.html":
                raise OSError("disk full")
            replace(source, target)

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_report(folder)
        assert path.read_bytes() == before
        names = {path.name for path in folder.iterdir()}
        assert names == {"config.json", "rows.jsonl", "figures", "report.html"}


def test_no_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        write_report(tmp_path)
    run_files.write_config(tmp_path, {}, {})
    (tmp_path / "rows.jsonl").write_text("nonsense\n")
    with pytest.raises(InputError, match="line 1"):
        write_report(tmp_path)
