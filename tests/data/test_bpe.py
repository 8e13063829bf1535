import pytest
import tokenizers

from jaxanatomy.data import bpe
from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.data.questions import document
from jaxanatomy.data.vocabulary import tokenizer_sha256
from jaxanatomy.errors import InputError
from jaxanatomy.weights.folder_tokenizer import from_folder

TEXT = ["the cat and the dog and the 23 hats of the cat 2323\n"] * 20
ODD = "Ünïcode, tabs\t, 漢字 and \x00 bytes 1234\n  the"


@pytest.fixture(scope="module")
def trained():
    return bpe.train(TEXT, 265)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An empty cache, and a short text to train on in the place of the library."""
    trainings = []
    monkeypatch.setenv("JAXANATOMY_CACHE", str(tmp_path))
    monkeypatch.setattr(bpe, "_training_text", lambda: trainings.append(1) or TEXT)
    return trainings


def test_any_text_comes_back(trained):
    for text in (*TEXT, ODD):
        assert trained.decode(trained.encode(text)) == text


def test_entries_are_the_end_token_the_bytes_and_frequent_pairs(trained):
    assert trained.eos_id == 0
    assert trained.token(0) == bpe.END
    assert trained.vocab_size == 265
    assert [trained.token(one) for one in trained.encode("cat the")] == ["cat", "Ġthe"]
    assert len(trained.encode("2323")) == 4  # digits stand alone


def test_training_is_a_function_of_the_text(trained):
    assert tokenizer_sha256(bpe.train(TEXT, 265)) == tokenizer_sha256(trained)
    assert tokenizer_sha256(bpe.train(TEXT, 262)) != tokenizer_sha256(trained)


def test_the_saved_tokenizer_opens_with_other_tools(trained, tmp_path):
    bpe.save(trained, tmp_path)
    other = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert other.encode(ODD).ids == trained.encode(ODD)
    ours = from_folder(tmp_path)
    assert (ours.eos_id, ours.bos_id, tokenizer_sha256(ours)) == (
        0,
        None,
        tokenizer_sha256(trained),
    )
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.encode(ODD) == trained.encode(ODD)
    assert theirs.eos_token_id == 0


def test_the_offline_tokenizer_is_trained_once_for_each_size(small):
    assert bpe.offline_tokenizer(280).vocab_size <= 280
    bpe.offline_tokenizer(280)
    assert len(small) == 1
    bpe.offline_tokenizer(270)
    assert len(small) == 2


def test_another_library_makes_another_tokenizer(small, monkeypatch):
    one = bpe.tokenizer_folder(280)
    monkeypatch.setattr(bpe.library_text, "sha256", lambda: "other")
    assert bpe.tokenizer_folder(280) != one


def test_other_questions_make_another_tokenizer(small, monkeypatch, tmp_path):
    monkeypatch.setattr(bpe, "_QUESTIONS", 2)
    changed = tmp_path / "primitives.py"
    changed.write_bytes(bpe._MADE_BY[0].read_bytes() + b"# another rule")
    found = set()
    for count, sources in ((2, bpe._MADE_BY), (3, bpe._MADE_BY), (2, (changed, *bpe._MADE_BY[1:]))):
        monkeypatch.setattr(bpe, "_QUESTIONS", count)
        monkeypatch.setattr(bpe, "_MADE_BY", sources)
        bpe._questions_sha256.cache_clear()
        found.add(bpe.tokenizer_folder(280))
    bpe._questions_sha256.cache_clear()
    assert len(found) == 3


@pytest.mark.parametrize(
    ("size", "remedy"), [(256, "raise"), (2**20 + 1, "lower"), (10**20, "lower")]
)
def test_a_vocabulary_too_small_or_too_large_is_refused(small, size, remedy):
    with pytest.raises(InputError) as error:
        bpe.offline_tokenizer(size)
    assert str(error.value) == (
        f"a byte-level vocabulary must have 257 to 1048576 entries; got {size}; {remedy} it"
    )


def test_it_is_trained_on_what_is_not_held_out(monkeypatch):
    pairs = [(f"{index}.py", f"text {index}") for index in range(100)]
    monkeypatch.setattr(bpe.library_text, "documents", lambda kind: iter(pairs))
    monkeypatch.setattr(bpe, "_QUESTIONS", 20)
    texts = list(bpe._training_text())
    own = [text for name, text in pairs if not bpe.library_text.held_out(name)]
    assert 80 < len(own) < 100
    assert texts[:-40] == own * 2  # English and code
    questions = [document(tasks, 0, n) for tasks in (PRIMITIVES, ARITHMETIC) for n in range(20)]
    assert texts[-40:] == questions
