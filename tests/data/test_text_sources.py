import sys

import pytest

from jaxanatomy.data.sources import load_hf, load_tfds
from jaxanatomy.errors import InputError


class FakeBuilder:
    def __init__(self, name):
        self.name = name
        self.prepared = False

    def download_and_prepare(self):
        self.prepared = True

    def as_data_source(self, split):
        assert self.prepared
        if split == "nowhere":
            raise ValueError("Unknown split 'nowhere'.\nShould be one of ['test'].")
        return [{"text": f"{self.name} {split} é".encode(), "body": "as a string", "label": 3}]


@pytest.mark.parametrize(
    ("source", "document"),
    [
        ("tfds:books", "books test é"),
        ("tfds:books/plain:train", "books/plain train é"),
        ("tfds:books:train[:100]", "books train[:100] é"),
        ("tfds:books#body", "as a string"),
        ("tfds:books/plain:train[10%:]#text", "books/plain train[10%:] é"),
    ],
)
def test_tfds_takes_name_split_and_field(source, document):
    assert load_tfds(source, builder=FakeBuilder) == (document,)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tfds:books:nowhere", "cannot load split 'nowhere' of .*Unknown split 'nowhere'.; check"),
        ("tfds:books#title", "record 0 of .* no field 'title'; it has 'text', 'body', 'label'"),
        ("tfds:books#label", "field 'label' of record 0 of .* must be text; got int"),
        ("tfds::train", "is written tfds:NAME"),
    ],
)
def test_tfds_errors_are_one_line(source, message):
    with pytest.raises(InputError, match=message) as raised:
        load_tfds(source, builder=FakeBuilder)
    assert "\n" not in str(raised.value)


def test_tfds_reads_a_real_data_set_without_tensorflow(tmp_path, monkeypatch):
    pytest.importorskip("importlib_resources", reason="tfds needs it, yet does not install it")
    import tensorflow_datasets as tfds

    class Haiku(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            yield from ((index, {"text": f"pond {index} é"}) for index in range(5))

    def builder(name, file_format):
        assert name == "haiku"
        return Haiku(data_dir=tmp_path, file_format=file_format)

    monkeypatch.setattr(tfds, "builder", builder)
    documents = load_tfds("tfds:haiku")
    assert sorted(documents) == [f"pond {index} é" for index in range(5)]
    assert load_tfds("tfds:haiku:test[1:3]") == documents[1:3]
    assert "tensorflow" not in sys.modules


class FakeHub:
    """A data set on the hub, its files in a folder."""

    def __init__(self, folder, files):
        self.folder = folder
        self.files = files
        self.asked = []
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)

    def list_files(self, repo, *, repo_type, revision):
        assert repo_type == "dataset"
        self.asked.append(("list", repo, revision))
        return list(self.files)

    def download(self, repo, file, *, repo_type, revision):
        assert repo_type == "dataset"
        self.asked.append((file, repo, revision))
        if file not in self.files:
            raise FileNotFoundError(f"404 for {file}\nRequest ID: 1")
        return str(self.folder / file)


@pytest.fixture
def hub(tmp_path):
    files = {"README.md": "", "data/a.jsonl": '{"text": "x", "body": "y"}', "b.txt": "One.\nTwo."}
    return FakeHub(tmp_path, files)


@pytest.mark.parametrize(
    ("source", "documents", "asked"),
    [
        ("hf:me/set:data/a.jsonl", ("x",), ("data/a.jsonl", "me/set", None)),
        ("hf:me/set@v1:data/a.jsonl#body", ("y",), ("data/a.jsonl", "me/set", "v1")),
        ("hf:me/set@refs/pr/1:b.txt", ("One.\nTwo.",), ("b.txt", "me/set", "refs/pr/1")),
        ("hf:me/set:b.txt#lines", ("One.", "Two."), ("b.txt", "me/set", None)),
    ],
)
def test_hf_reads_one_file_of_a_data_set(source, documents, asked, hub):
    assert load_hf(source, hub.list_files, hub.download) == documents
    assert hub.asked == [asked]


def test_hf_asks_the_hub_by_default(hub, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "list_repo_files", hub.list_files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    assert load_hf("hf:me/set:b.txt") == ("One.\nTwo.",)


def test_hf_finds_the_only_file(tmp_path):
    hub = FakeHub(tmp_path, {"README.md": "", "only.jsonl": '"x"'})
    assert load_hf("hf:me/set@v1", hub.list_files, hub.download) == ("x",)
    assert hub.asked == [("list", "me/set", "v1"), ("only.jsonl", "me/set", "v1")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:me/set", r"must hold one file .* holds 2 \(b\.txt, data/a\.jsonl\); name one after"),
        ("hf:me/set:no.txt", r"cannot fetch 'hf:me/set:no\.txt': 404 for no\.txt; check the name"),
        ("hf:me/set:README.md", "a text file must end in"),
        ("hf:me/set:data/a.jsonl#title", "has no field 'title'"),
        ("hf:set", "is written hf:OWNER/DATASET"),
    ],
)
def test_hf_errors_are_one_line(source, message, hub):
    with pytest.raises(InputError, match=message) as raised:
        load_hf(source, hub.list_files, hub.download)
    assert "\n" not in str(raised.value)


def test_hf_without_a_readable_file(tmp_path):
    hub = FakeHub(tmp_path, {"README.md": "", "model.bin": ""})
    with pytest.raises(InputError, match=r"it holds 0$"):
        load_hf("hf:me/set", hub.list_files, hub.download)
