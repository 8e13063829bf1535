"""Loading config files and changing their fields by text."""

import pytest
from ml_collections import config_dict

from jaxanatomy import config_files
from jaxanatomy.errors import InputError

VALUES = {
    "count": 3,
    "rate": 1e-4,
    "flag": False,
    "name": "zero",
    "layers": (1, 2),
    "names": ("zero", "clone"),
    "scales": [0.5, 1.0],
    "mixed": (),
    "optional": None,
    "inner": {"count": 1},
}


@pytest.fixture
def config():
    config = config_dict.ConfigDict(VALUES)
    config.limit = config_dict.placeholder(int)
    config.double = config.get_ref("count") * 2
    return config.lock()


def changed(config, name, text):
    config_files.apply_overrides(config, [(name, text)])
    return config_files.fields(config)[name]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "-7", -7),
        ("rate", "3", 3.0),
        ("rate", "2e-3", 0.002),
        ("flag", "true", True),
        ("flag", "No", False),
        ("flag", None, True),
        ("name", "3", "3"),
        ("name", "none", "none"),
        ("name", "a=b,c", "a=b,c"),
        ("layers", "4", (4,)),
        ("layers", "4,5", (4, 5)),
        ("layers", "[4, 5]", (4, 5)),
        ("layers", "()", ()),
        ("layers", "0-3", (0, 1, 2, 3)),
        ("layers", "0,3,5-8", (0, 3, 5, 6, 7, 8)),
        ("layers", "(7, '1-2')", (7, 1, 2)),
        ("mixed", "0,3,5-8", (0, 3, 5, 6, 7, 8)),
        ("names", "1-2", ("1-2",)),
        ("names", "own", ("own",)),
        ("names", "(a, b)", ("a", "b")),
        ("names", "'a','b'", ("a", "b")),
        ("scales", "1,0.25", [1, 0.25]),
        ("names", "clone/set/3,5,zero/layer/0-2", ("clone/set/3", "5", "zero/layer/0-2")),
        ("names", "1,5-8", ("1", "5-8")),
        ("mixed", "1,a", (1, "a")),
        ("optional", "12", 12),
        ("optional", "word", "word"),
        ("optional", "none", None),
        ("limit", "5", 5),
        ("limit", "None", None),
        ("inner.count", "9", 9),
    ],
)
def test_text_becomes_the_type_of_the_field(config, name, text, value):
    result = changed(config, name, text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("count", "2.5", "'count' expects an integer; got '2.5'"),
        ("count", "none", "'count' expects an integer"),
        ("rate", "fast", "'rate' expects a number"),
        ("rate", "nan", "'rate' expects a finite number"),
        ("flag", "maybe", "'flag' expects true or false"),
        (
            "layers",
            "1,x",
            "'layers' expects items of type int and ranges of them, as in 0,3,5-8; g",
        ),
        (
            "layers",
            "1,5-",
            "'layers' expects items of type int and ranges of them, as in 0,3,5-8; g",
        ),
        (
            "layers",
            "8-5",
            "'layers': a range goes from the lower to the higher number; got '8-5'; w",
        ),
        ("layers", "0-99999999999", "'layers': a range holds at most 4096 numbers; got '0-9999999"),
        ("layers", "1.5", "'layers' expects items of type int"),
        ("names", "(1,)", "'names' expects items of type str"),
        ("scales", "a", "'scales' expects items of type float or int"),
        ("scales", "0.5,nan", "'scales' expects finite numbers; got '0.5,nan'"),
        ("scales", "-inf", "'scales' expects finite numbers; got '-inf'"),
        ("scales", "1e999", "'scales' expects finite numbers; got '1e999'"),
        ("limit", "x", "'limit' expects an integer"),
        ("name", None, "'name' needs a value; type --config.name=VALUE"),
        ("inner", "3", "'inner' is a group; set one of: inner.count"),
        ("inner.cont", "3", "unknown config field 'inner.cont'; close: inner.count"),
        ("inner.count.more", "3", "unknown config field 'inner.count.more'; close: inner.count"),
        ("zzzz", "3", "unknown config field 'zzzz'; fields: count, double, flag"),
    ],
)
def test_text_of_another_type_is_refused_and_changes_nothing(config, name, text, expected):
    before = config_files.fields(config)
    with pytest.raises(InputError, match=r"config field") as caught:
        changed(config, name, text)
    assert expected in str(caught.value)
    assert config_files.fields(config) == before


def test_fields_that_refer_to_a_changed_one_follow_it(config):
    assert config.double == 6
    changed(config, "count", "5")
    assert config.double == 10


def load(tmp_path, text, variant=""):
    path = tmp_path / "own.py"
    path.write_text(text)
    return config_files.load(path, variant)


HEAD = "from ml_collections import ConfigDict\n"
BODY = "def get_config(variant=''):\n    return ConfigDict({'variant': variant})\n"


def test_variants_reach_get_config_and_the_config_is_locked(tmp_path):
    assert load(tmp_path, HEAD + BODY).variant == ""
    assert load(tmp_path, HEAD + BODY, "any").variant == "any"
    declared = HEAD + "VARIANTS = ('', 'quick')\n" + BODY
    assert load(tmp_path, declared, "quick").variant == "quick"
    with pytest.raises(
        InputError, match=r"unknown variant of .*own.py 'quik'; did you mean 'quick'"
    ):
        load(tmp_path, declared, "quik")
    with pytest.raises(AttributeError):
        load(tmp_path, HEAD + BODY).new = 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"expected a function get_config in .*own.py"),
        ("x = = 1\n", r"line 1 of .*own.py failed: SyntaxError"),
        ("\nx = 1 / 0\n", r"line 2 of .*own.py failed: ZeroDivisionError: division by zero"),
        ("import absent_module\n", r"line 1 of .*own.py failed: ModuleNotFoundError"),
        ("def get_config():\n    return absent\n", r"line 2 of .*own.py failed: NameError"),
        ("def get_config():\n    return {}\n", r"get_config returned a dict, no ConfigDict"),
        ("def get_config(variant):\n    return {}\n", r"own.py failed: TypeError"),
    ],
)
def test_a_config_file_that_fails_is_bad_input_with_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize("name", ["absent.py", "folder", "folder.py", "notes.txt"])
def test_what_is_no_python_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("x = 1")
    with pytest.raises(InputError, match="expected a Python config file"):
        config_files.load(tmp_path / name)


def test_a_user_config_is_compared_both_ways():
    reference = config_dict.ConfigDict({"a": 1, "b": {"c": 2}})
    config_files.require_same_fields(config_dict.ConfigDict({"b": {"c": 0}, "a": 0}), reference)
    with pytest.raises(InputError, match=r"missing config field 'b.c'"):
        config_files.require_same_fields(config_dict.ConfigDict({"a": 1}), reference)
    more = config_dict.ConfigDict({"a": 1, "b": {"c": 2, "cc": 3}})
    with pytest.raises(InputError, match=r"unknown config field 'b.cc'; close: b.c"):
        config_files.require_same_fields(more, reference)


def test_a_config_starts_from_a_shipped_one():
    config = config_files.shipped("depth_growth")
    config.model.num_layers = 7
    assert config_files.shipped("depth_growth").model.num_layers != 7
    with pytest.raises(AttributeError):
        config.model.layers = 7
    assert config_files.shipped("importance", "quick").cells == "map"
    with pytest.raises(InputError, match="shipped config 'depth_groth'; did you mean 'depth_gro"):
        config_files.shipped("depth_groth")
