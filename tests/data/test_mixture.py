import collections

import numpy as np
import pytest

from jaxanatomy.data.corpora import GENERATED
from jaxanatomy.data.library_text import KINDS
from jaxanatomy.data.mixture import MIXTURES, Dealer, Mixture, MixtureSchedule, dealt, parse_mixture
from jaxanatomy.errors import InputError

WEIGHTS = (0.7, 0.15, 0.09, 0.06)
FOUR = Mixture(("a", "b", "c", "d"), WEIGHTS)


def rows_of(dealer, count):
    return [dealer[row] for row in range(count)]


@pytest.mark.parametrize("rows", [1, 10, 997, 20_000])
def test_after_any_number_of_rows_each_source_has_its_share(rows):
    counts = collections.Counter(
        source for source, _ in rows_of(Dealer(MixtureSchedule(((0, FOUR),)), 1, rows), rows)
    )
    for source, weight in enumerate(WEIGHTS):
        assert abs(counts[source] - weight * rows) < len(WEIGHTS) - 1
    # Far below what drawing would give: chi-square of three degrees, at 95 %, is 7.8.
    chi = sum((counts[i] - w * rows) ** 2 / (w * rows) for i, w in enumerate(WEIGHTS))
    assert rows < 100 or chi < 0.5


def test_each_source_is_read_row_by_row():
    found = collections.defaultdict(list)
    for source, row in rows_of(Dealer(MixtureSchedule(((0, FOUR),)), 4, 1000), 4000):
        found[source].append(row)
    assert {source: rows == list(range(len(rows))) for source, rows in found.items()} == (
        dict.fromkeys(range(4), True)
    )


def test_a_source_goes_on_where_it_was_when_the_mixture_switches():
    later = Mixture(("d", "new", "a"), (0.5, 0.3, 0.2))
    last = Mixture(("b",), (1.0,))
    schedule = MixtureSchedule(((0, FOUR), (30, later), (45, last)))
    assert schedule.sources == ("a", "b", "c", "d", "new")
    dealer = Dealer(schedule, batch_size=4, steps=60)
    assert len(dealer) == 240
    found = collections.defaultdict(list)
    for source, row in rows_of(dealer, 240):
        found[source].append(row)
    for rows in found.values():
        assert rows == list(range(len(rows)))
    stages = [
        rows_of(dealer, 240)[start:stop] for start, stop in ((0, 120), (120, 180), (180, 240))
    ]
    names = [{schedule.sources[source] for source, _ in stage} for stage in stages]
    assert names == [{"a", "b", "c", "d"}, {"d", "new", "a"}, {"b"}]
    counts = collections.Counter(source for source, _ in stages[1])
    assert counts == {3: 30, 4: 18, 0: 12}


def test_one_row_more_adds_to_one_count():
    units = FOUR.units
    before = np.zeros(4, int)
    for rows in range(1, 500):
        after = np.array(dealt(rows, units))
        assert after.sum() == rows
        assert sorted(after - before) == [0, 0, 0, 1]
        before = after


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((0.7, 0.2), "the weights of a mixture must sum to 1; 0.7 + 0.2 = 0.9; mend them"),
        ((0.500001, 0.500001), "must sum to 1; 0.500001 + 0.500001 = 1.000002; mend them"),
        ((0.4999984, 0.5), "must sum to 1; 0.4999984 + 0.5 = 0.9999984; mend them"),
        ((0.8, -0.2), "the weight of 'b' must be above 0 (at least 1e-06) and at most 1; got -0.2"),
        ((1.2, 0.2), "the weight of 'a' must be above 0 (at least 1e-06) and at most 1; got 1.2;"),
        ((float("inf"), 1.0), "at most 1; got inf; mend it, or leave the source out"),
        ((1.0, 0.0), "the weight of 'b' must be above 0"),
        ((float("nan"), 1.0), "the weight of 'a' must be above 0"),
    ],
)
def test_weights_that_make_no_mixture_are_refused(weights, message):
    with pytest.raises(InputError) as error:
        Mixture(("a", "b"), weights)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "weights",
    [
        (0.333333,) * 3,
        (0.3333333,) * 3,
        (0.142857,) * 7,
        (1 / 7,) * 7,
        (0.1234565, 0.8765435),  # both are rounded up
        (1.0000004,),
    ],
)
def test_weights_sum_to_one_but_for_the_rounding_of_each(weights):
    mixture = Mixture(tuple("abcdefg"[: len(weights)]), weights)
    assert mixture.units == tuple(round(weight * 10**6) for weight in weights)


@pytest.mark.parametrize("weights", [(0.333332,) * 3, (1.000002,), (0.999999,), (0.5, 0.500002)])
def test_weights_are_off_by_no_more_than_their_rounding(weights):
    with pytest.raises(InputError, match=r"must sum to 1; .* = |at most 1; got 1\.000002; "):
        Mixture(tuple("abc"[: len(weights)]), weights)


def test_a_source_that_comes_twice_is_refused():
    with pytest.raises(InputError, match="must name 'a' once; add its weights up"):
        Mixture(("a", "a"), (0.5, 0.5))
    with pytest.raises(InputError, match="at least one source"):
        Mixture((), ())


@pytest.mark.parametrize("steps", [(), (1,), (0, 5, 5), (0, 9, 3), (0, -1)])
def test_steps_of_a_schedule_that_do_not_rise_are_refused(steps):
    with pytest.raises(InputError, match="must begin at rising steps, the first at 0"):
        MixtureSchedule(tuple((step, FOUR) for step in steps))


@pytest.mark.parametrize("name", MIXTURES)
def test_every_named_mixture_is_one(name):
    mixture = parse_mixture(name)
    if name.startswith("offline"):
        assert set(mixture.sources) <= {*GENERATED, *KINDS}


def test_the_corpus_of_the_paper():
    assert parse_mixture("smollm_corpus").weights == (0.7, 0.15, 0.09, 0.06)


def test_a_mixture_as_a_config_writes_it():
    mixture = parse_mixture(("0.25 file with spaces.txt#lines", " 0.75 primitives "))
    assert mixture == Mixture(("file with spaces.txt#lines", "primitives"), (0.25, 0.75))
    assert parse_mixture("0.25 file with spaces.txt#lines, 0.75 primitives") == mixture
    assert parse_mixture(("library_code",)) == Mixture(("library_code",), (1.0,))
    assert parse_mixture("1 library_code") == Mixture(("library_code",), (1.0,))
    with pytest.raises(InputError, match="unknown mixture 'ofline'; did you mean 'offline'"):
        parse_mixture("ofline")
    with pytest.raises(InputError, match="unknown mixture 'library_cod'; did you mean 'library_c"):
        parse_mixture("library_cod")
    with pytest.raises(InputError, match=r"'WEIGHT SOURCE', like '0\.7 library_code'; got 'prim"):
        parse_mixture("primitives,arithmetic")
    with pytest.raises(InputError, match=r"'WEIGHT SOURCE', like '0\.7 library_code'; got 'b'"):
        parse_mixture(("0.5 a", "b"))


def test_a_named_mixture_is_part_of_another():
    mixture = parse_mixture("0.25 chains, 0.75 offline_math")
    assert mixture.sources == ("chains", "primitives", "arithmetic")
    assert mixture.weights == pytest.approx((0.25, 0.3, 0.45))
    assert parse_mixture("1 offline") == parse_mixture("offline")
    with pytest.raises(InputError, match="must name 'primitives' once"):
        parse_mixture("0.5 offline, 0.5 primitives")
    with pytest.raises(InputError, match=r"must sum to 1; .* = 0\.7"):
        parse_mixture("0.5 offline, 0.2 chains")


@pytest.mark.parametrize(
    "source",
    [
        "library_code",
        "primitives",
        "my/corpus.txt",
        "corpus.jsonl#body",
        "*.parquet",
        "tfds:lm1b:train",
        "hf:me/set",
    ],
)
def test_one_source_alone_is_a_mixture(source):
    assert parse_mixture(source) == Mixture((source,), (1.0,))
    assert parse_mixture(f" {source} ") == parse_mixture(f"1 {source}") == parse_mixture(source)
