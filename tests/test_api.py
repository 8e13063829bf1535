"""From Python: five lines, interventions and measures of one's own, finished runs."""

import dataclasses
import itertools
import math
import pathlib
import shutil

import jax
import matplotlib.axes
import numpy as np
import pytest
import tokenizers
from naive import CONFIG, naive_nll, naive_stream, random_params, replaced

import jaxanatomy as ja
from jaxanatomy import model as llama
from jaxanatomy import runs, tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Edit, Step, baseline_steps
from jaxanatomy.study import Study, StudyPart, StudySettings, tokenise
from jaxanatomy.weights import Source
from jaxanatomy.words import percent

GOLDEN = pathlib.Path(__file__).parent / "golden" / "gqa_tied"
BASE = baseline_steps(CONFIG.num_layers)
TEXT = ja.Text("letters", ("abcde", "hello there", "xyz", "some more words", "and the last", "six"))


class Letters:
    """One token for each character."""

    vocab_size, bos_id, eos_id, adds_bos = CONFIG.vocab_size, None, None, False

    def encode(self, text):
        return [ord(character) % CONFIG.vocab_size for character in text]

    def decode(self, ids):
        return " ".join(map(str, ids))


MODEL = ja.Checkpoint(CONFIG, random_params(CONFIG), Letters(), "test", "sha256 of the weights")
(BATCH,) = tokenise(MODEL, TEXT)
OPTIONS = ja.SweepOptions(widths=(3, 1))


def fade(own, previous):
    """A third of the layer, two thirds of the previous one."""
    return tree.replace(
        own,
        {n: tree.get(own, n) / 3 + 2 * tree.get(previous, n) / 3 for n in tree.components(own)},
    )


def naive_perplexity(steps):
    return math.exp(naive_nll(CONFIG, MODEL.params, steps, BATCH).mean(dtype=np.float64))


def predicted(steps):
    """The residual stream at predicted positions, [P, D]."""
    x_RTD = np.asarray(naive_stream(CONFIG, MODEL.params, steps, BATCH), np.float64)
    return x_RTD.reshape(-1, CONFIG.hidden_size)[BATCH.predict_P]


def stream_norm(streams, context):
    """Norm of the stream at each predicted position, [C, P]."""
    (x_CRTD,) = streams
    x_CXD = x_CRTD.reshape(x_CRTD.shape[0], -1, x_CRTD.shape[-1])
    return jax.numpy.linalg.norm(x_CXD[:, context.text.predict_P], axis=-1)


def largest_feature(streams, context):
    """The largest entry of the stream where there is text, [C]."""
    (x_CRTD,) = streams
    real_RT = context.text.segment_RT >= 0
    return abs(x_CRTD * real_RT[None, :, :, None]).max(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def rows():
    return ja.sweep(MODEL, ja.ablations(MODEL), TEXT, options=OPTIONS)


def test_five_lines(rows):
    assert [row["variant"] for row in rows] == [
        "baseline",
        *(f"neighbour_mean/layer/{layer}" for layer in range(CONFIG.num_layers)),
    ]
    for row, variant in zip(rows, ja.ablations(MODEL), strict=True):
        assert row["ppl"] == pytest.approx(naive_perplexity(variant.steps), rel=1e-5)
        assert row["tokens"] == sum(len(document) - 1 for document in TEXT.documents)
        assert row["text"] == "letters"
    assert [row["boundary"] for row in rows] == [False, True, False, False, False, True]


def test_rows_of_two_models_name_them_and_have_a_panel_each(rows):
    other = dataclasses.replace(MODEL, id="other")
    more = ja.sweep(other, ja.ablations(other), TEXT, options=OPTIONS)
    assert {(row["model"], row["text"]) for row in rows} == {("test", "letters")}
    assert {(row["model"], row["text"]) for row in more} == {("other", "letters")}
    panels = ja.plot.importance(rows + more)
    assert [axes.get_title(loc="left")[:14] for axes in panels] == [
        "test, letters,",
        "other, letters",
    ]


def test_an_intervention_of_ones_own():
    mine = ja.custom("fade", fade, sources=(-1,))
    variants = ja.ablations(MODEL, [mine], scopes=["layer", "mlp"])
    rows = ja.sweep(MODEL, variants, TEXT, options=OPTIONS)
    cells = [("layer", tree.MATRICES), ("mlp", tree.MLP)]
    expected = {
        f"fade/{scope}/{layer}": replaced(
            BASE, Step(layer, Edit("fade", fade, (layer - 1,), components))
        )
        for scope, components in cells
        for layer in range(1, CONFIG.num_layers)  # the first layer has no previous one
    }
    assert [row["variant"] for row in rows] == ["baseline", *expected]
    for row in rows[1:]:
        assert row["ppl"] == pytest.approx(naive_perplexity(expected[row["variant"]]), rel=1e-5)


def test_steps_of_ones_own():
    variants = [ja.Variant("backwards", BASE[::-1]), ja.Variant("exit", BASE[:2])]
    first, *others = ja.sweep(MODEL, variants, TEXT, options=OPTIONS)
    assert first["variant"] == "baseline"  # it came without asking
    for row, variant in zip(others, variants, strict=True):
        assert row["variant"] == variant.name
        assert row["ppl"] == pytest.approx(naive_perplexity(variant.steps), rel=1e-5)


def test_measures_of_ones_own():
    measures = {"stream_norm": stream_norm, "largest_feature": largest_feature}
    variants = ja.ablations(MODEL, ["zero"], layers=[1, 3])
    rows = ja.sweep(MODEL, variants, TEXT, measures, OPTIONS)
    for row, variant in zip(rows, variants, strict=True):
        norm = np.linalg.norm(predicted(variant.steps), axis=-1).mean()
        assert row["stream_norm"] == pytest.approx(norm, rel=1e-5)
        x_RTD = naive_stream(CONFIG, MODEL.params, variant.steps, BATCH)
        largest = np.abs(x_RTD)[BATCH.segment_RT >= 0].max()
        assert row["largest_feature"] == pytest.approx(largest, rel=1e-5)
    assert len({row["stream_norm"] for row in rows}) == len(rows)


def test_a_measure_may_use_the_head():
    def entropy(streams, context):
        (x_CRTD,) = streams
        x_CXD = x_CRTD.reshape(x_CRTD.shape[0], -1, x_CRTD.shape[-1])
        x_CPD = x_CXD[:, context.text.predict_P]
        log_CPV = jax.nn.log_softmax(llama.logits(context.config, context.head, x_CPD))
        return -(jax.numpy.exp(log_CPV) * log_CPV).sum(axis=-1)

    (row,) = ja.sweep(MODEL, [], TEXT, {"entropy": entropy}, OPTIONS)
    x_PD = predicted(BASE)
    h_PD = x_PD / np.sqrt((x_PD**2).mean(-1, keepdims=True) + CONFIG.norm_epsilon)
    h_PD = h_PD * MODEL.params["final_norm"]["scale"]
    score_PV = h_PD @ MODEL.params["embed"]["embedding"].T
    probability_PV = np.exp(score_PV - score_PV.max(-1, keepdims=True))
    probability_PV /= probability_PV.sum(-1, keepdims=True)
    expected = -(probability_PV * np.log(probability_PV)).sum(-1).mean()
    assert row["entropy"] == pytest.approx(expected, rel=1e-5)


def test_a_measure_of_another_shape_is_refused():
    def whole(streams, context):
        return streams[0]

    message = r"row holds one number of each reading; 'whole' gives one for each .*feature; reduce"
    with pytest.raises(InputError, match=message):
        ja.sweep(MODEL, [], TEXT, {"whole": whole}, OPTIONS)
    P, R = len(BATCH.predict_P), len(BATCH.token_RT)
    message = rf"'rows' must return \[C\], \[C, {P}, ...\] .* got \[C, {R}\]"
    with pytest.raises(InputError, match=message):
        ja.sweep(MODEL, [], TEXT, {"rows": lambda s, c: s[0].sum(axis=(2, 3))}, OPTIONS)


@pytest.mark.parametrize("name", ["nll", "ppl", "text"])
def test_a_measure_may_not_take_the_name_of_a_field(name):
    with pytest.raises(InputError, match=f"'{name}'"):
        ja.sweep(MODEL, [ja.baseline(CONFIG.num_layers)], TEXT, {name: stream_norm}, OPTIONS)


def test_positions_may_not_take_a_built_in_name():
    mine = ja.Positions("all", lambda text: text.position_RT == 0)
    with pytest.raises(InputError, match="'all' belongs to built-in positions"):
        ja.ablations(MODEL, positions=[mine])


def test_a_measure_is_averaged_over_the_predictions_of_all_batches():
    text = ja.Text("many", tuple(f"{number} bottles" for number in range(1000, 1151)))
    batches = tokenise(MODEL, text)
    predictions = [int((batch.document_P >= 0).sum()) for batch in batches]
    assert len(set(predictions)) == 2  # two batches, one with less in it

    def count(streams, context):
        return jax.numpy.full(len(streams[0]), (context.text.segment_RT >= 0).sum(), float)

    (row,) = ja.sweep(MODEL, [], text, {"norm": stream_norm, "count": count}, OPTIONS)
    counts = [int((batch.segment_RT >= 0).sum()) for batch in batches]
    assert row["count"] == pytest.approx(np.average(counts, weights=predictions))
    hidden, norms = jax.jit(llama.hidden, static_argnums=0), []
    for batch in batches:
        texts = (batch.token_RT, batch.position_RT, batch.segment_RT)
        x_XD = np.asarray(hidden(CONFIG, MODEL.params, *texts)).reshape(-1, CONFIG.hidden_size)
        norms += list(np.linalg.norm(x_XD[batch.predict_P[batch.document_P >= 0]], axis=-1))
    assert row["norm"] == pytest.approx(np.mean(norms), rel=1e-5)


def characters() -> tokenizers.Tokenizer:
    """One token for each printable ASCII character."""
    vocabulary = {chr(32 + index): index for index in range(95)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="~"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    return backend


def test_the_five_lines_of_the_docstring(tmp_path):
    folder = shutil.copytree(GOLDEN, tmp_path / "model")
    characters().save(str(folder / "tokenizer.json"))

    model = ja.load(f"file:{folder}")
    rows = ja.sweep(model, ja.ablations(model), ja.text("sentences"))
    axes = ja.plot.importance(rows)

    tokens = [model.tokenizer.encode(document) for document in ja.text("sentences").documents]
    token_BT = np.zeros((len(tokens), max(map(len, tokens))), np.int32)
    for row_T, ids in zip(token_BT, tokens, strict=True):
        row_T[: len(ids)] = ids
    log_BTV = jax.nn.log_softmax(llama.forward(model.config, model.params, token_BT))
    log_BTV = np.asarray(log_BTV, np.float64)
    nll_P = [-log_BTV[b, t - 1, ids[t]] for b, ids in enumerate(tokens) for t in range(1, len(ids))]
    assert len(nll_P) == sum(len(text) - 1 for text in ja.text("sentences").documents)
    assert rows[0]["tokens"] == len(nll_P)
    assert rows[0]["ppl"] == pytest.approx(math.exp(np.mean(nll_P)), rel=1e-5)
    assert len(rows) == 1 + model.config.num_layers
    assert isinstance(axes, matplotlib.axes.Axes)


def test_read_run_gives_the_rows_of_a_finished_run(rows, tmp_path):
    source = Source("test", CONFIG, Letters, lambda dtype: MODEL.params, lambda: "sha256")
    settings = StudySettings("importance", options=OPTIONS)
    study = Study(source, [StudyPart(TEXT, ja.ablations(MODEL))], settings)
    with runs.Run.open(tmp_path, {"seed": 0}, study.provenance()) as run:
        study.measure(run)
    finished = ja.read_run(tmp_path)
    assert len(finished) == len(rows)
    for row, expected in zip(finished, rows, strict=True):
        assert row.pop("hash")
        assert row.keys() == expected.keys()
        assert row["ppl"] == pytest.approx(expected["ppl"], rel=1e-6)
        assert (row["variant"], row["category"]) == (expected["variant"], expected["category"])
    assert ja.summary_table(finished).startswith("letters, each layer: neighbour mean")
    assert isinstance(ja.plot.importance(finished), matplotlib.axes.Axes)


def test_importing_the_package_imports_nothing_slow(run_python):
    loaded = run_python("import sys, jaxanatomy; print(*sys.modules)").split()
    assert "jaxanatomy" in loaded
    assert {"jax", "numpy", "matplotlib", "flax"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    "lines",
    [
        "ja.sweep; from jaxanatomy.sweep import engine",
        "from jaxanatomy.sweep import engine; ja.load",
        "from jaxanatomy import api; ja.load",
        "from jaxanatomy.sweep import engine",
        "import jaxanatomy.sweep.engine",
    ],
)
def test_sweep_is_the_function_though_a_package_has_its_name(lines, run_python):
    check = "assert ja.sweep is sys.modules['jaxanatomy.api'].sweep"
    run_python(f"import sys, jaxanatomy as ja\n{lines}\n{check}")


def test_public_names_are_listed_and_others_refused():
    assert {"load", "ablations", "sweep", "text", "plot", "custom", "read_run"} <= set(dir(ja))
    assert all(getattr(ja, name) is not None for name in dir(ja))
    with pytest.raises(AttributeError, match="has no attribute 'ablate'"):
        ja.ablate  # noqa: B018


def test_a_name_alone_is_a_list_of_one():
    assert {row["component"] for row in ja.structure(MODEL, "v_proj", samples=2)} == {"v_proj"}


def test_every_kind_of_rows_has_a_table():
    variants = ja.variants(MODEL, "clone/set/1,3", "scale_0.5/set/1,3", "zero/mlp/0-1")
    rows = ja.sweep(MODEL, variants, TEXT, options=OPTIONS)
    text, header, *lines = ja.summary_table(rows).splitlines()
    assert text == "letters"
    assert header.split() == ["variant", "perplexity", "change", "(95", "%)"]
    assert [line.split()[0] for line in lines] == [row["variant"] for row in rows]
    for row, line in zip(rows[1:], lines[1:], strict=True):
        low, high = map(percent, row["ci95"])
        change = f"{percent(row['degradation_percent'])} [{low}, {high}]".replace("−", "-")
        assert line.split(maxsplit=2)[1:] == [f"{row['ppl']:,.2f}", change]
    own = ja.sweep(MODEL, [ja.Variant("backwards", BASE[::-1])], TEXT, options=OPTIONS)
    assert ja.summary_table(own).splitlines()[3].startswith("backwards")
    weights = ja.structure(MODEL, "q_proj", samples=2)
    assert ja.summary_table(weights, "structure").startswith("Mean delta")
    with pytest.raises(InputError, match="name it: summary_table"):
        ja.summary_table(weights)
    with pytest.raises(InputError, match="structur"):
        ja.summary_table(weights, "structur")
    for nothing in ([], [{"loss": 1.0}]):
        with pytest.raises(InputError, match="a table needs a run, rows of variants"):
            ja.summary_table(nothing)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": ["q_prj"]}, "unknown component 'q_prj'; did you mean 'q_proj'"),
        ({"components": ["q_proj"] * 2}, "got q_proj twice"),
        ({"components": []}, "components must name at least one; got an empty list"),
        ({"samples": 1}, "samples must be a whole number, 2 or above; got 1"),
        ({"seed": -1}, "seed must be a whole number, 0 or above; got -1"),
    ],
)
def test_structure_refuses_what_it_cannot_read(settings, message):
    with pytest.raises(InputError, match=message):
        ja.structure(MODEL, **settings)


def test_the_null_model_must_have_the_same_layers():
    for shapes, found in (
        (CONFIG.layers[:4], r"5 with q_proj of \(16, 16\); got 4 with"),
        (
            [dataclasses.replace(CONFIG.layers[0], ffn_width=8), *CONFIG.layers[1:]],
            r"gate_proj of \(16, 24\); got 5 with gate_proj of \(16, 8\), \(16, 24\)",
        ),
    ):
        config = CONFIG.with_layers(shapes)
        other = ja.Checkpoint(config, random_params(config), None, "other", "")
        with pytest.raises(InputError, match=found):
            ja.structure(MODEL, initial=other, samples=2)


def test_structure_of_a_model():
    rows = ja.structure(MODEL, ["q_proj"], initial=MODEL, samples=20)
    flat = [np.ravel(tree.get(block, "q_proj")) for block in MODEL.params["layers"]]
    change = np.diff(np.stack(flat), axis=0)
    expected = [np.corrcoef(*pair)[0, 1] for pair in itertools.pairwise(change)]
    found = {
        row["null"]: row
        for row in rows
        if row["metric"] == "delta_correlation" and row["layer"] is None
    }
    assert found["closed_form"]["value"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert found["random_init"]["null_value"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert {row["component"] for row in rows} == {"q_proj"}


def test_momentum_on_a_text_is_of_every_matrix():
    rows = ja.momentum(MODEL, TEXT, updates=2)
    assert {(row["layer"], row["component"], row["metric"]) for row in rows} == {
        (layer, component, metric)
        for layer in range(CONFIG.num_layers)
        for component in tree.MATRICES
        for metric in ("momentum_cosine", "stuck_share")
    }
    assert all(row["model"] == "test" and -1 <= row["value"] <= 1 for row in rows)
    with pytest.raises(InputError, match="updates"):
        ja.momentum(MODEL, TEXT, updates=0)
