"""A study measures what is missing, in whole chunks, and gives the same rows however it is cut."""

import json

import numpy as np
import pytest
from naive import CONFIG, naive_nll, random_params

from jaxanatomy import runs
from jaxanatomy.data.text import Text
from jaxanatomy.errors import InputError
from jaxanatomy.interventions import cells
from jaxanatomy.study import Part, Study, StudySettings, tokenise
from jaxanatomy.sweep import SweepOptions
from jaxanatomy.weights import Checkpoint, Source

PARAMS = random_params(CONFIG)
TEXT = Text("letters", ("abcde", "hello there", "xyz", "some more words", "and the last", "six"))
OTHER = Text("other", ("quite another text", "of two documents"))


class Letters:
    """One token for each character."""

    vocab_size, bos_id, eos_id = 101, None, None

    def encode(self, text):
        return [ord(character) % 101 for character in text]


def source(on_load=lambda: None) -> Source:
    def read_params(dtype):
        on_load()
        return PARAMS

    return Source("test", CONFIG, Letters, read_params, lambda: "sha256 of the weights")


def study(on_load=lambda: None, variants=None, **settings) -> Study:
    variants = variants or cells.ablations(CONFIG, ["neighbour_mean", "zero"], ["layer", "mlp"])
    parts = [Part(TEXT, variants), Part(OTHER, cells.main_map(CONFIG))]
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


def test_variants_with_equal_steps_have_rows_of_their_own(tmp_path):
    variants = cells.ablations(CONFIG, ["zero"], ["up_proj", "down_proj"], layers=[1])
    rows = measure(tmp_path, study(variants=variants))
    by_name = {row["variant"]: row["nll"] for row in rows if row["text"] == TEXT.name}
    assert by_name["zero/up_proj/1"] == by_name["zero/down_proj/1"] != by_name["baseline"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"samples": 100},
        {"packing": {"window": 20}},
        {"packing": {"token_budget": 30}},
    ],
)
def test_hashes_follow_what_decides_a_row(change):
    assert not set(study().row_order()) & set(study(**change).row_order())


def test_a_model_without_tokenizer_is_refused():
    model = Checkpoint(CONFIG, PARAMS, None, "file:somewhere", "sha256")
    with pytest.raises(InputError, match=r"file:somewhere has no tokenizer.*tokenizer\.json"):
        tokenise(model, TEXT)
