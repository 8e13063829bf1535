import json

import numpy as np
import pytest

from jaxanatomy.data import corpora
from jaxanatomy.data.bpe import END, train
from jaxanatomy.data.files import read_documents
from jaxanatomy.data.mixture import Mixture, MixtureSchedule
from jaxanatomy.data.pipeline import Pipeline, Repeated
from jaxanatomy.data.questions import document
from jaxanatomy.data.tfds_builder import prepare
from jaxanatomy.errors import InputError

ROWS, LENGTH, SWITCH = 4, 16, 5
NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def tokenizer():
    return train([f"{name} {name} " * 50 for name in NAMES], 300)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Three files, whose every word says which file it is of."""
    folder = tmp_path_factory.mktemp("sources")
    found = []
    for name in NAMES:
        path = folder / f"{name}.jsonl"
        documents = [f"{f'{name} ' * (index % 30 + 1)}{index}" for index in range(800)]
        path.write_text("".join(json.dumps(text) + "\n" for text in documents))
        found.append(str(path))
    return found


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXANATOMY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def make(tokenizer, sources):
    """Pipelines over a mixture that switches at step `SWITCH`."""

    def pipeline(**changes):
        first = Mixture(tuple(sources[:2]), changes.pop("weights", (0.75, 0.25)))
        second = Mixture(
            (sources[2], sources[0], "arithmetic"), changes.pop("later", (0.5, 0.25, 0.25))
        )
        schedule = MixtureSchedule(((0, first), (changes.pop("switch", SWITCH), second)))
        settings = {"batch_size": ROWS, "seq_len": LENGTH, **changes}
        return Pipeline(schedule, settings.pop("tokenizer", tokenizer), **settings)

    return pipeline


def take(batches, steps):
    return [next(batches) for _ in range(steps)]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for leaf, expected_leaf in zip(one, other, strict=True):
            np.testing.assert_array_equal(leaf, expected_leaf)


def test_batches_have_one_shape_and_the_fields_of_a_batch(make):
    for batch in take(make().batches(), 12):
        assert {name: (leaf.shape, leaf.dtype.name) for name, leaf in batch._asdict().items()} == {
            "token_BT": ((ROWS, LENGTH), "int32"),
            "target_BT": ((ROWS, LENGTH), "int32"),
            "weight_BT": ((ROWS, LENGTH), "float32"),
            "position_BT": ((ROWS, LENGTH), "int32"),
            "segment_BT": ((ROWS, LENGTH), "int32"),
        }


def test_trials_of_one_seed_read_each_batch_which_is_made_once(make):
    stream, expected = make().batches(), take(make().batches(), 6)
    shared = Repeated(stream, times=3)
    found = [[shared.next() for _ in range(3)] for _ in range(4)]
    assert stream.step == 4
    for own, batch in zip(found, expected, strict=False):
        assert own[0] is own[1] is own[2]
        assert_equal([own[0]], [batch])
    # As a run that goes on does, here from amid a batch.
    state = shared.state()
    assert state == stream.state()
    assert_equal([shared.next() for _ in range(4)], [expected[4]] * 3 + [expected[5]])
    shared.restore(state)
    assert_equal([shared.next() for _ in range(3)], [expected[4]] * 3)


def test_rows_come_from_the_mixture_of_their_step(make, tokenizer):
    steps = take(make().batches(), 2 * SWITCH)
    of = {name: set(tokenizer.encode(f" {name}")) for name in NAMES}
    seen = [
        [
            next((n for n in NAMES if of[n] & set(row.tolist())), "arithmetic")
            for row in batch.token_BT
        ]
        for batch in steps
    ]
    for names in seen[:SWITCH]:
        assert sorted(names) == ["one", "one", "one", "two"]
    for names in seen[SWITCH:]:
        assert sorted(names) == ["arithmetic", "one", "three", "three"]


def test_an_epoch_reads_every_row_once_and_the_next_in_another_order(sources, tokenizer):
    pipeline = Pipeline(
        MixtureSchedule(((0, Mixture((sources[0],), (1.0,))),)),
        tokenizer,
        batch_size=1,
        seq_len=LENGTH,
    )
    stream = prepare(corpora.open_corpus(sources[0]), tokenizer)["train"]
    count = (stream.num_tokens - 1) // LENGTH
    batches = pipeline.batches()
    epochs = [[batch.token_BT[0].tolist() for batch in take(batches, count)] for _ in range(2)]
    tokens, _ = stream.span(0, stream.num_tokens)
    expected = [
        tokens[start : start + LENGTH].tolist() for start in range(0, count * LENGTH, LENGTH)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(expected)
    assert epochs[0] != epochs[1]
    assert epochs[0] != expected


@pytest.mark.parametrize("stop", [0, 1, SWITCH - 1, SWITCH, SWITCH + 1, 9])
def test_a_run_goes_on_with_the_same_batches(make, stop):
    expected = take(make().batches(), 12)
    batches = make().batches()
    assert_equal(take(batches, stop), expected[:stop])
    state = json.loads(json.dumps(batches.state()))
    assert len(json.dumps(state)) < 2000
    assert_equal(take(make().batches(state), 12 - stop), expected[stop:])
    # Going on from what goes on, too.
    again = make().batches(state)
    next(again)
    assert again.state()["step"] == stop + 1
    assert_equal(take(make().batches(again.state()), 2), expected[stop + 1 : stop + 3])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_rows_of_the_same_batches(make, hosts):
    expected = take(make().batches(), 12)
    parts = [
        take(make(process_index=host, process_count=hosts).batches(), 12) for host in range(hosts)
    ]
    for step, batch in enumerate(expected):
        joined = map(np.concatenate, zip(*(part[step] for part in parts), strict=True))
        assert_equal([tuple(joined)], [batch])


def test_hosts_read_disjoint_rows(sources, tokenizer):
    schedule = MixtureSchedule(((0, Mixture((sources[0],), (1.0,))),))
    rows = []
    for host in range(2):
        pipeline = Pipeline(
            schedule, tokenizer, batch_size=ROWS, seq_len=64, process_index=host, process_count=2
        )
        for batch in take(pipeline.batches(), 15):
            rows += map(tuple, batch.token_BT.tolist())
    assert len(set(rows)) == len(rows) == 60


def test_a_run_goes_on_with_another_number_of_hosts(make):
    expected = take(make().batches(), 8)
    batches = make(process_index=1, process_count=2).batches()
    take(batches, 3)
    state = batches.state()
    assert_equal(take(make().batches(state), 5), expected[3:])
    (last,) = take(make(process_index=3, process_count=4).batches(state), 1)
    assert_equal([last], [[leaf[3:] for leaf in expected[3]]])


def test_later_mixtures_may_change_and_earlier_ones_may_not(make):
    batches = make().batches()
    take(batches, 3)
    expected = take(make(switch=9).batches(), 8)
    assert_equal(take(make(switch=9).batches(batches.state()), 5), expected[3:])
    with pytest.raises(
        InputError, match=r"must be the same; mixtures was \[\[0, .* and is \[\[0, "
    ):
        make(switch=2).batches(batches.state())
    take(batches, 4)
    with pytest.raises(InputError, match="the data of a run that goes on must be the same; mix"):
        make(switch=6).batches(batches.state())


def test_two_cooldowns_may_begin_at_one_checkpoint(make):
    batches = make().batches()
    take(batches, SWITCH)
    other = make(later=(0.25, 0.5, 0.25))
    expected = take(other.batches(), SWITCH + 3)[SWITCH:]
    assert_equal(take(other.batches(batches.state()), 3), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "batch_size was 4 and is 8; set it back or begin a new run"),
        ({"seq_len": 17}, "seq_len was 16 and is 17; "),
        ({"seed": 1}, "seed was 0 and is 1; "),
        ({"weights": (0.5, 0.5)}, "mixtures was "),
    ],
)
def test_a_state_of_other_data_is_refused(make, change, message):
    state = make().batches().state()
    with pytest.raises(InputError) as error:
        make(**change).batches(state)
    assert str(error.value).startswith(
        f"the data of a run that goes on must be the same; {message}"
    )
    assert "\n" not in str(error.value)


def test_a_mixture_in_another_order_is_another(tokenizer, sources):
    one, other = (
        Pipeline(
            MixtureSchedule(((0, Mixture(names, (0.5, 0.5))),)),
            tokenizer,
            batch_size=1,
            seq_len=LENGTH,
        )
        for names in (tuple(sources[:2]), tuple(sources[1::-1]))
    )
    assert (next(one.batches()).token_BT != next(other.batches()).token_BT).any()
    state = json.loads(json.dumps(one.batches().state(), sort_keys=True))
    with pytest.raises(InputError, match="must be the same; mixtures was "):
        other.batches(state)
    one.batches(state)


def test_a_state_of_another_commit_says_to_name_one(tokenizer, sources, monkeypatch):
    parts = [lambda: read_documents(sources[0])]
    monkeypatch.setattr(corpora, "hf_parts", lambda source: parts)
    pinned = f"hf:me/pinned@{'c' * 40}"
    mixture = Mixture(("hf:me/set@v1:*.jsonl#text", pinned, sources[1]), (0.5, 0.25, 0.25))

    def pipeline(commit):
        monkeypatch.setattr(corpora, "_commit_on_hub", lambda name, revision: commit)
        return Pipeline(
            MixtureSchedule(((0, mixture),)), tokenizer, batch_size=ROWS, seq_len=LENGTH
        )

    state = pipeline("a" * 40).batches().state()
    pipeline("a" * 40).batches(state)
    with pytest.raises(InputError) as error:
        pipeline("b" * 40).batches(state)
    assert "must be the same; sources was {" in str(error.value)
    assert str(error.value).endswith(
        "; the hub may have another commit now; begin a new run with the commit named in its "
        f"source, which then stays the same: hf:me/set@{'b' * 40}:*.jsonl#text"
    )
    assert "\n" not in str(error.value)
    state["sources"][pinned] = "0"  # as of another way of reading
    with pytest.raises(InputError, match=r"; set it back or begin a new run$"):
        pipeline("a" * 40).batches(state)


def test_a_state_of_another_tokenizer_or_text_is_refused(make, sources):
    state = make().batches().state()
    with pytest.raises(InputError, match="must be the same; tokenizer was "):
        make(tokenizer=train(["another"], 260)).batches(state)
    state["sources"][sources[0]] = "0"
    with pytest.raises(InputError, match="must be the same; sources was "):
        make().batches(state)


def test_the_order_follows_the_seed(make):
    one, other = next(make().batches()), next(make(seed=1).batches())
    assert (one.token_BT != other.token_BT).any()


def test_a_stream_can_be_taken_back(make):
    batches = make().batches()
    first = batches.state()
    expected = take(batches, 4)
    batches.restore(first)
    assert batches.step == 0
    assert_equal([batches.next() for _ in range(4)], expected)
    batches.close()
    assert_equal(take(batches, 1), take(make().batches(batches.state() | {"step": 4}), 1))


def documents_in(batch, tokenizer):
    """The documents that stand in the rows of a batch from their beginning to their end."""
    for row, segments in zip(batch.token_BT, batch.segment_BT, strict=True):
        for segment in range(1, segments[-1]):
            yield tokenizer.decode(row[segments == segment]).removesuffix(END)


def test_held_out_batches_hold_what_is_never_trained_on(make, tokenizer):
    pipeline = make(seq_len=64)
    held_out = pipeline.held_out(2)
    assert list(held_out) == list(pipeline.settings(0)["sources"])
    asked = [
        text for part in held_out.values() for one in part for text in documents_in(one, tokenizer)
    ]
    told = [
        text for one in take(pipeline.batches(), SWITCH) for text in documents_in(one, tokenizer)
    ]
    assert len(told) > len(asked) > 2
    assert {corpora.is_held_out(text) for text in asked} == {True}
    assert {corpora.is_held_out(text) for text in told} == {False}
    for source, batches in make(seq_len=64).held_out(2).items():
        assert_equal(batches, held_out[source])


@pytest.mark.parametrize("name", corpora.GENERATED)
def test_held_out_rows_of_what_is_made_by_rule_are_questions_never_trained_on(name, tokenizer):
    mixture = MixtureSchedule(((0, Mixture((name,), (1.0,))),))
    pipeline = Pipeline(mixture, tokenizer, batch_size=ROWS, seq_len=400, seed=3)
    (asked,) = pipeline.held_out(ROWS)[name]
    told = pipeline.batches().next()
    for batch, seed, split in ((asked, 0, "validation"), (told, 3, "train")):
        for at, row in enumerate(batch.token_BT):
            text = tokenizer.decode(row)
            numbers = range(at * 401, at * 401 + 20)
            made = [document(corpora.GENERATED[name], seed, n, split) for n in numbers]
            assert END.join(made).startswith(text)
            assert len(text) > 100


def test_runs_of_all_seeds_are_judged_by_the_same(tokenizer, sources):
    for source in ("arithmetic", sources[0]):
        mixture = MixtureSchedule(((0, Mixture((source,), (1.0,))),))
        one, other = (
            Pipeline(mixture, tokenizer, batch_size=ROWS, seq_len=64, seed=seed) for seed in (0, 9)
        )
        assert_equal(one.held_out(2)[source], other.held_out(2)[source])
        trained = [each.batches().next().token_BT for each in (one, other)]
        assert (trained[0] != trained[1]).any()


def test_few_held_out_rows_are_spread_over_all_that_a_source_has(make):
    pipeline = make(seq_len=8)
    (source, *_) = pipeline.settings(0)["sources"]

    def rows(count):
        batches = pipeline.held_out(count)[source]
        token_BT = np.concatenate([batch.token_BT for batch in batches])
        return token_BT[np.concatenate([batch.weight_BT for batch in batches]).any(axis=1)]

    every, few = rows(10**6), rows(5)
    step = len(every) // 5
    assert step > 1
    np.testing.assert_array_equal(few, every[: 5 * step : step])


def test_shares_are_those_of_the_first_mixture(make):
    pipeline = make(seq_len=8)
    (_, first), *_ = pipeline.settings(0)["mixtures"]
    assert pipeline.shares == dict(first)


def test_held_out_rows_that_are_wanting_weigh_nothing(make):
    pipeline = make(seq_len=8)
    (source, *_) = pipeline.settings(0)["sources"]
    whole = pipeline.held_out(6)[source]
    assert len(whole) == 2
    assert (whole[1].weight_BT[2:] == 0).all()
    assert (whole[1].weight_BT[:2].sum(axis=1) > 0).all()
    parts = [
        make(seq_len=8, process_index=host, process_count=2).held_out(6)[source]
        for host in range(2)
    ]
    for batch, *shared in zip(whole, *parts, strict=True):
        assert_equal([tuple(map(np.concatenate, zip(*shared, strict=True)))], [batch])


def test_rows_that_hosts_cannot_share_are_refused(make):
    with pytest.raises(
        InputError,
        match=r"batch_size must be a positive multiple of the 3 processes, .* got batch_size=4",
    ):
        make(process_count=3)


def test_a_source_too_short_for_a_row_is_refused(make, sources):
    with pytest.raises(InputError, match=r"one.jsonl' must have more than 1000000 tokens"):
        make(seq_len=10**6)


def test_too_little_held_out_text_for_a_row_is_refused(make):
    with pytest.raises(
        InputError, match=r"^the held-out part of source '.*one.jsonl' must have more"
    ):
        make(seq_len=500).held_out(1)
