"""JSON that is taken at its word, and JSON that is refused."""

import json

import fuzz
import numpy as np
import pytest
from hypothesis import given

from jaxanatomy.errors import InputError
from jaxanatomy.plain_json import MAX_DEPTH, parse_json, to_json
from jaxanatomy.storage import read_json_object


def nested(levels, opening="[", closing="]"):
    return opening * levels + closing * levels


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ("[1e999]", "the number 1e999 is too large"),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "the key 'b' stands twice in one object"),
        ("9" * 301, "an integer of 301 digits; at most 300 are read"),
        ("9" * 5000, "an integer of 5000 digits"),
        ('{"\\ud800": 1}', "half a surrogate pair"),
        ('["a\\uDFFF"]', "half a surrogate pair"),
        (nested(MAX_DEPTH + 1), "nested more than 100 levels deep"),
        (nested(100_000), "nested more than 100 levels deep"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested more than 100 levels deep"),
        (b"\xff\xfe{}", "can't decode byte 0xff"),
        ('{"a": 1}'.encode("utf-16-le"), "Expecting property name"),
        (b'{"a": "\xed\xa0\x80"}', "can't decode byte 0xed"),
    ],
)
def test_what_readers_take_differently_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        parse_json(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (
            '{"a": [1, 2.5, true, null, "\\u00fc\\ud83d\\ude00"]}',
            {"a": [1, 2.5, True, None, "ü😀"]},
        ),
        ("1" + "0" * 30, 10**30),
        ('{"a": {"a": 1}}', {"a": {"a": 1}}),
        ('"\\\\ud800"', "\\ud800"),
    ],
)
def test_what_is_plain_is_read(text, value):
    assert parse_json(text) == value
    assert parse_json(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))


def test_what_is_written_is_read_back():
    value = {"a": np.float32(0.1), "b": [np.int64(3), (1, 2)], "c": np.eye(2)}
    plain = {"a": float(np.float32(0.1)), "b": [3, [1, 2]], "c": [[1.0, 0.0], [0.0, 1.0]]}
    assert parse_json(to_json(value)) == plain


def test_a_file_is_refused_with_its_path_the_reason_and_the_remedy(tmp_path):
    def refuse(path, reason):
        with pytest.raises(InputError) as refused:
            read_json_object(path, "fetch the model anew")
        message = f"expected a JSON object in {path}; {reason}; fetch the model anew"
        assert str(refused.value) == message

    refuse(tmp_path / "absent", "cannot read it: No such file or directory")
    refuse(tmp_path, "cannot read it: it is no regular file")
    refuse("/dev/zero", "cannot read it: it is no regular file")
    (tmp_path / "list").write_text("[1]")
    refuse(tmp_path / "list", "it holds a list")
    (tmp_path / "null").write_text("null")
    refuse(tmp_path / "null", "it holds null")
    (tmp_path / "empty").write_text("")
    refuse(tmp_path / "empty", "cannot read it: Expecting value: line 1 column 1 (char 0)")


@pytest.mark.slow
@fuzz.bounded(1000)
@given(content=fuzz.damaged_json({"a": [1, {"b": "c"}, 2.5], "d": {"e": None, "f": "ü"}}))
def test_any_file_is_read_or_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "object.json"
    path.write_bytes(content)
    value = fuzz.reads_or_refuses(read_json_object, path)
    assert value is None or parse_json(to_json(value)) == value
