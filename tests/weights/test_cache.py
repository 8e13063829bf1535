import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXANATOMY_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("JAXANATOMY_CACHE")
    assert cache.cache_dir() == tmp_path / "xdg" / "jaxanatomy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_dir() == tmp_path / "home" / ".cache" / "jaxanatomy"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_an_entry_is_made_once(cache_folder):
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "x").write_text("y")

    assert cache.entry("kind/one", make) == cache_folder / "kind" / "one"
    assert (cache.entry("kind/one", make) / "x").read_text() == "y"
    assert len(calls) == 1
    assert visible(cache_folder / "kind") == ["one"]


def test_a_failure_leaves_nothing(cache_folder):
    def make(folder):
        (folder / "half").write_text("")
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        cache.entry("kind/one", make)
    assert visible(cache_folder / "kind") == []


def test_threads_wait_for_the_one_that_makes_the_entry(cache_folder):
    calls, together = [], threading.Barrier(4)

    def make(folder):
        calls.append(folder)
        time.sleep(0.05)
        (folder / "x").write_text("whole")

    def ask():
        together.wait()
        found.append((cache.entry("kind/one", make) / "x").read_text())

    found = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == ["whole"] * 4
    assert len(calls) == 1


def test_a_killed_process_leaves_no_entry_and_its_rest_is_cleared(cache_folder):
    code = """
import time
from jaxanatomy.weights import cache
def make(folder):
    (folder / "half").write_text("")
    print("making", flush=True)
    time.sleep(60)
cache.entry("kind/one", make)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "making"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cache_folder / "kind" / "one").exists()
    assert len(visible(cache_folder / "kind")) == 1
    cache.entry("kind/one", lambda folder: (folder / "whole").write_text(""))
    assert visible(cache_folder / "kind") == ["one"]
    assert visible(cache_folder / "kind" / "one") == ["whole"]


def test_a_cache_that_cannot_be_written_is_an_input_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXANATOMY_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"must be writable; .*JAXANATOMY_CACHE"):
        cache.entry("kind/one", lambda folder: None)


def test_a_new_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "out"
    with cache.new_folder(target) as part:
        (part / "x").write_text("")
        assert not target.exists()
    assert visible(target) == ["x"]
    with (
        pytest.raises(InputError, match="must be new or an empty folder"),
        cache.new_folder(target),
    ):
        pass
    with pytest.raises(KeyError), cache.new_folder(tmp_path / "other"):
        raise KeyError
    assert visible(tmp_path) == ["out"]


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with cache.new_folder(tmp_path / "out") as part:
        (part / "x").write_text("")
    assert visible(tmp_path / "out") == ["x"]


def test_a_hash_is_computed_again_only_when_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert cache.file_sha256(path) == ABC
    with monkeypatch.context() as patch:
        patch.setattr(cache, "hash_file", lambda path: pytest.fail("hashed again"))
        assert cache.file_sha256(path) == ABC
    path.write_bytes(b"")
    assert cache.file_sha256(path) == EMPTY
    path.write_bytes(b"abd")
    os.utime(path, ns=(1, 1))
    assert cache.file_sha256(path) not in (ABC, EMPTY)


def test_a_damaged_stamp_is_ignored(tmp_path, cache_folder):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    cache.file_sha256(path)
    (stamp,) = (cache_folder / "stamps").iterdir()
    for text in ("", "[]", "{}", '{"sha256": "00"}'):
        stamp.write_text(text)
        assert cache.file_sha256(path) == ABC


def test_the_hash_of_several_files_is_that_of_their_list(tmp_path):
    paths = [tmp_path / "b", tmp_path / "a"]
    [path.write_bytes(b"abc") for path in paths]
    one = cache.files_sha256(paths)
    assert one == cache.files_sha256(paths[::-1]) != ABC
    assert cache.files_sha256(paths[:1]) == ABC
    paths[0].write_bytes(b"abcd")
    assert cache.files_sha256(paths) != one
