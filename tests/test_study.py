"""A study measures what is missing, in whole chunks, and gives the same rows however it is cut."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from naive import CONFIG, naive_kl, naive_nll, random_params

from jaxanatomy import runs
from jaxanatomy.data.text import Text
from jaxanatomy.errors import InputError
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.variants import Step, Variant, baseline, baseline_steps, closed
from jaxanatomy.measures.losses import loss_rows
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.measures.statistics.estimates import sampling_units
from jaxanatomy.study import Study, StudyPart, StudySettings, sort_by_shared_prefix, tokenise
from jaxanatomy.sweep import Reading, SweepOptions
from jaxanatomy.weights import Checkpoint, Source

PARAMS = random_params(CONFIG)
TEXT = Text("letters", ("abcde", "hello there", "xyz", "some more words", "and the last", "six"))
OTHER = Text("other", ("quite another text", "of two documents"))


class Letters:
    """One token for each character."""

    vocab_size, bos_id, eos_id, adds_bos = 101, None, None, False

    def encode(self, text):
        return [ord(character) % 101 for character in text]


def source(on_load=lambda: None) -> Source:
    def read_params(dtype):
        on_load()
        return PARAMS

    return Source("test", CONFIG, Letters, read_params, lambda: "sha256 of the weights")


def study(on_load=lambda: None, variants=None, **settings) -> Study:
    variants = variants or cells.ablations(CONFIG, ["neighbour_mean", "zero"], ["layer", "mlp"])
    parts = [StudyPart(TEXT, variants), StudyPart(OTHER, cells.main_map(CONFIG))]
    options = SweepOptions(widths=(2, 1), chunk_size=6)
    return Study(source(on_load), parts, StudySettings(options=options, **settings))


def measure(workdir, study, **kwargs) -> list[dict]:
    with runs.Run.open(workdir, {"seed": 0}, study.provenance(), **kwargs) as run:
        study.measure(run)
        return run.rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, measure(workdir, study())


@pytest.mark.slow
def test_rows_are_those_of_a_naive_loop(finished):
    rows = {(row["text"], row["variant"]): row for row in finished[1]}
    for text, variants in (
        (TEXT, cells.ablations(CONFIG, ["neighbour_mean", "zero"], ["layer", "mlp"])),
        (OTHER, cells.main_map(CONFIG)),
    ):
        (batch,) = tokenise(source(), text)
        for variant in variants:
            expected = naive_nll(CONFIG, PARAMS, variant.steps, batch).sum(dtype=np.float64)
            row = rows.pop((text.name, variant.name))
            assert row["nll"] == pytest.approx(expected, rel=1e-5)
            kl_P = naive_kl(CONFIG, PARAMS, variant.steps, batch)
            # Losses of up to 6 nats are rounded at 5e-7.
            assert row["kl"] == pytest.approx(kl_P.mean(), rel=1e-5, abs=5e-7)
            unit_P = sampling_units(batch.document_P)
            expected_U = np.bincount(unit_P, kl_P)
            error_U = 5e-7 * np.bincount(unit_P) + 1e-5 * expected_U
            assert (np.abs(np.array(row["unit_kl"]) - expected_U) <= error_U).all()
            assert len(row["unit_kl"]) == len(row["unit_nll"])
            assert row["kl_ci95"][0] <= row["kl"] <= row["kl_ci95"][1]
            assert row["ppl"] == pytest.approx(np.exp(expected / len(batch.predict_P)), rel=1e-4)
    assert not rows


def test_a_finished_run_reads_no_weights(finished):
    def fail():
        raise AssertionError("weights were read")

    assert measure(finished[0], study(fail)) == finished[1]


@pytest.mark.parametrize("kept", [0, 1, 7, 11, 16, 20])
def test_a_stopped_run_goes_on_to_the_same_rows(finished, kept, tmp_path):
    lines = (finished[0] / "rows.jsonl").read_bytes().splitlines(keepends=True)
    torn = b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2]
    (tmp_path / "rows.jsonl").write_bytes(torn)
    (tmp_path / "config.json").write_bytes((finished[0] / "config.json").read_bytes())
    measure(tmp_path, study())
    assert (tmp_path / "rows.jsonl").read_bytes() == b"".join(lines)


def test_shares_of_several_processes_make_the_rows_of_one(finished, tmp_path):
    whole = study()
    for index in (1, 0):  # process 0 merges, so it comes last here
        measure(
            tmp_path,
            study(process=index, processes=2),
            process_index=index,
            process_count=2,
        )
    with runs.Run.open(tmp_path, {"seed": 0}, whole.provenance()) as run:
        run.merge_parts(whole.row_order())
        merged = {json.dumps(row, sort_keys=True) for row in run.rows}
    assert merged == {json.dumps(row, sort_keys=True) for row in finished[1]}


def test_parts_that_are_added_read_the_weights_once_and_go_on_after_a_stop(tmp_path):
    loads = []

    def run(workdir, lines=None):
        first = [StudyPart(TEXT, cells.main_map(CONFIG))]
        settings = StudySettings(options=SweepOptions(widths=(2, 1), chunk_size=6))
        two_steps = Study(source(lambda: loads.append(1)), first, settings)
        with runs.Run.open(workdir, {"seed": 0}, two_steps.provenance()) as results:
            two_steps.measure(results)
            worst = max(results.rows, key=lambda row: row["nll"])["layer"]
            chosen = cells.ablations(CONFIG, ["zero"], layers=[worst])
            make = functools.partial(rows_of_readings, make=loss_rows)
            labelled = dataclasses.replace(chosen[0], labels={"strategy": "none"})
            two_steps.add([StudyPart(OTHER, [labelled, *chosen[1:]], rows=make)])
            two_steps.measure(results)
            return results.rows

    rows = run(tmp_path / "whole")
    assert loads == [1]
    baseline_row, zero = [row for row in rows if row["text"] == OTHER.name]
    assert baseline_row["strategy"] == "none"
    assert "category" not in baseline_row
    (batch,) = tokenise(source(), OTHER)
    steps = cells.ablations(CONFIG, ["zero"], layers=[zero["layer"]])[1].steps
    expected = naive_nll(CONFIG, PARAMS, steps, batch).sum(dtype=np.float64)
    assert zero["nll"] == pytest.approx(expected, rel=1e-5)

    (tmp_path / "stopped").mkdir()
    lines = (tmp_path / "whole/rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "stopped/rows.jsonl").write_bytes(b"".join(lines[:-1]))
    (tmp_path / "stopped/config.json").write_bytes((tmp_path / "whole/config.json").read_bytes())
    assert run(tmp_path / "stopped") == rows


def test_a_part_that_later_ones_are_chosen_by_is_measured_by_every_process(tmp_path):
    for index in (0, 1):
        part = StudyPart(TEXT, cells.main_map(CONFIG), everywhere=True)
        settings = StudySettings(process=index, processes=2)
        share = Study(source(), [part], settings)
        rows = measure(tmp_path, share, process_index=index, process_count=2)
        assert [row["variant"] for row in rows] == [v.name for v in cells.main_map(CONFIG)]


def test_measures_make_rows_of_their_own(tmp_path):
    def rows(measured, variants, *, text):
        return [
            {
                "variant": variant.name,
                "text": text,
                "worst": float(measured["top"][variant.name][0]),
            }
            for variant in variants
        ]

    def top(streams, context):
        return nll(streams, context).max(axis=-1)

    plain = StudyPart(TEXT, cells.main_map(CONFIG))
    other = StudyPart(TEXT, cells.main_map(CONFIG), readings={"top": Reading(top)}, rows=rows)
    both = Study(source(), [plain, other], StudySettings())
    assert not set(both.hashes[0].values()) & set(both.hashes[1].values())
    set_otherwise = dataclasses.replace(other, settings={"temperature": 2.0})
    third = Study(source(), [set_otherwise], StudySettings())
    assert not set(both.hashes[1].values()) & set(third.hashes[0].values())
    (batch,) = tokenise(source(), TEXT)
    worst = naive_nll(CONFIG, PARAMS, baseline_steps(CONFIG.num_layers), batch).max()
    found = [row for row in measure(tmp_path, both) if "worst" in row]
    assert found[0]["worst"] == pytest.approx(worst, rel=1e-5)


def test_a_variant_may_have_several_rows_that_come_and_go_together(tmp_path):
    def rows(measured, variants, *, text):
        return [
            {"variant": variant.name, "document": document}
            for variant in variants
            for document in range(3)
        ]

    part = StudyPart(
        TEXT,
        cells.main_map(CONFIG),
        readings={"nll": Reading(nll)},
        rows=rows,
        units=lambda variant: [f"document {document}" for document in range(3)],
        baseline=False,
    )
    settings = StudySettings(options=SweepOptions(widths=(2, 1), chunk_size=2))
    whole = measure(tmp_path / "whole", Study(source(), [part], settings))
    names = [variant.name for variant in cells.main_map(CONFIG)[1:]]
    assert [(row["variant"], row["document"]) for row in whole] == [
        (name, document) for name in names for document in range(3)
    ]
    assert [row["hash"] for row in whole] == Study(source(), [part], settings).row_order()
    (tmp_path / "stopped").mkdir()
    lines = (tmp_path / "whole/rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "stopped/rows.jsonl").write_bytes(b"".join(lines[:4]))
    (tmp_path / "stopped/config.json").write_bytes((tmp_path / "whole/config.json").read_bytes())
    assert measure(tmp_path / "stopped", Study(source(), [part], settings)) == whole


def test_variants_with_a_long_common_beginning_are_neighbours():
    def edited(*layers):
        steps = list(baseline_steps(6))
        for layer in layers:
            steps[layer] = Step(layer, factors=closed("mlp"))
        return Variant("_".join(map(str, layers)), tuple(steps))

    given = [edited(*layers) for layers in [(4,), (1, 3), (1, 2), (1, 3, 5), (1, 2, 4), (0,)]]
    names = [variant.name for variant in sort_by_shared_prefix([baseline(6), *given])]
    assert names[0] == "0"
    assert names[-1] == "4"
    assert {frozenset(names[1:3]), frozenset(names[3:5])} == {
        frozenset({"1_3", "1_3_5"}),
        frozenset({"1_2", "1_2_4"}),
    }


def test_variants_with_equal_steps_have_rows_of_their_own(tmp_path):
    variants = cells.ablations(CONFIG, ["zero"], ["up_proj", "down_proj"], layers=[1])
    rows = measure(tmp_path, study(variants=variants))
    by_name = {row["variant"]: row["nll"] for row in rows if row["text"] == TEXT.name}
    assert by_name["zero/up_proj/1"] == by_name["zero/down_proj/1"] != by_name["baseline"]


@pytest.mark.parametrize(
    "change",
    [
        {"packing": {"window": 20}},
        {"packing": {"token_budget": 30}},
    ],
)
def test_hashes_follow_what_decides_a_row(change):
    assert not set(study().row_order()) & set(study(**change).row_order())


def test_another_tokenizer_gives_other_rows_and_is_refused_in_the_same_folder(finished):
    class Shifted(Letters):
        def encode(self, text):
            return [(ord(character) + 1) % 101 for character in text]

    part = StudyPart(TEXT, cells.main_map(CONFIG))
    other = dataclasses.replace(source(), read_tokenizer=Shifted)
    one, two = (Study(each, [part], StudySettings()) for each in (source(), other))
    assert not set(one.row_order()) & set(two.row_order())
    assert one.provenance()["data_sha256"] == two.provenance()["data_sha256"]
    with pytest.raises(InputError, match=r"provenance\.tokens_sha256"):
        measure(finished[0], Study(other, [part, StudyPart(OTHER, part.variants)], StudySettings()))


def test_a_model_without_tokenizer_is_refused():
    model = Checkpoint(CONFIG, PARAMS, None, "file:somewhere", "sha256")
    with pytest.raises(InputError, match=r"file:somewhere has no tokenizer.*tokenizer\.json"):
        tokenise(model, TEXT)


def test_what_is_left_out_is_said_once_and_stands_in_the_provenance(capsys):
    gaps = Text("gaps", ("abcde", " ", "x", None, "hello"))
    made = Study(
        source(), [StudyPart(gaps, []), StudyPart(gaps, []), StudyPart(TEXT, [])], StudySettings()
    )
    assert capsys.readouterr().err == (
        "text 'gaps': 3 of 5 documents left out: 1 blank, 1 null, 1 of one token\n"
    )
    left_out = made.provenance()["left_out"]
    assert left_out["gaps"] == {"documents": 5, "blank": 1, "null": 1, "one_token": 1}
    assert left_out["letters"] == {"documents": 6, "blank": 0, "null": 0, "one_token": 0}


def test_a_bos_that_the_tokenizer_asks_for_is_said_where_it_is_not_added(capsys):
    class Asking(Letters):
        bos_id, adds_bos = 3, True

    model = Source("test", CONFIG, Asking, lambda dtype: PARAMS, lambda: "sha256 of the weights")
    (without,) = tokenise(model, OTHER)
    said = capsys.readouterr().err
    assert said.startswith("text 'other': read without the BOS that the tokenizer of test puts")
    (batch,) = tokenise(model, OTHER, add_bos="window")
    assert capsys.readouterr().err == ""
    assert batch.predict_P.size == without.predict_P.size + 2


def test_a_text_is_a_text_and_settings_have_names():
    with pytest.raises(InputError, match=r"must be a Text; got list; .* ja\.Text\(NAME, STRINGS\)"):
        tokenise(source(), ["a", "b"])
    with pytest.raises(
        InputError, match="unknown packing setting 'windows'; did you mean 'window'"
    ):
        tokenise(source(), TEXT, windows=5)
