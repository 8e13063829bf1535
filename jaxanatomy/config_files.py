"""Config files, and changes to them on the command line.

A config is a Python file with `get_config(variant="")` that returns an
`ml_collections.ConfigDict`; the variants that it knows stand in its constant
`VARIANTS`. It is executed, changed field by field, and locked.
"""

import ast
import difflib
import importlib.util
import math
import os
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import config_dict

from jaxanatomy.errors import InputError, choose
from jaxanatomy.ranges import expand_range, is_range

PACKAGE = Path(__file__).resolve().parent

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def load(path: str | os.PathLike, variant: str = "") -> config_dict.ConfigDict:
    """Executes a config file.

    Args:
      path: The Python file.
      variant: What stands after the colon in `--config=FILE:variant`.

    Returns:
      The config, locked: its fields can be changed, and no others added.

    Raises:
      InputError: The file is absent or fails, or has no such variant.
    """
    path = Path(path)
    module = _execute(path)
    if not callable(getattr(module, "get_config", None)):
        raise InputError(f"expected a function get_config in {path}; it has none")
    if hasattr(module, "VARIANTS"):
        choose(f"variant of {path}", variant, module.VARIANTS)
    try:
        config = module.get_config(variant) if variant else module.get_config()
        if not isinstance(config, config_dict.ConfigDict):
            raise TypeError(f"get_config returned a {type(config).__name__}, no ConfigDict")
        return config.lock()
    except Exception as error:
        raise _failure(path, error) from error


def shipped(name: str, variant: str = "") -> config_dict.ConfigDict:
    """A config of the project's own, to start from in another one.

    config = config_files.shipped("depth_growth")
    config.model.num_layers = 24

    Args:
      name: Of the file, `configs/NAME.py`.
      variant: As `load`.

    Returns:
      The config, locked: a field that it does not have is an error.

    Raises:
      InputError: There is none of that name, or as `load`.
    """
    known = {path.stem: path for path in folder("configs").glob("[a-z]*.py")}
    return load(known[choose("shipped config", name, known)], variant)


def folder(name: str) -> Path:
    """The shipped `experiments` or `configs`: inside an installed package, beside a clone's."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """All fields, nested ones under names with dots."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, config_dict.ConfigDict) and value:
            flat |= {f"{name}.{inner}": item for inner, item in fields(value).items()}
        else:
            flat[name] = value
    return flat


def apply_overrides(
    config: config_dict.ConfigDict, overrides: Iterable[tuple[str, str | None]]
) -> None:
    """Changes fields of a config in place.

    Text becomes a value of the type that the field has: `3` for an integer, `1e-4` for a
    float, `true` for a truth value, `1,2` or `(1, 2)` or `0,3,5-8` or `zero,clone` for a list;
    `none` for a field whose value is None. Fields that refer to a changed one follow it.

    Args:
      config: A config from `load`.
      overrides: Names with dots, and texts; None stands for a bare flag, which is true.

    Raises:
      InputError: No such field (the message has the closest), or text of another type.
    """
    for name, text in overrides:
        known = fields(config)
        if name not in known:
            raise InputError(_unknown(name, known))
        *outer, last = name.split(".")
        holder = config
        for part in outer:
            holder = holder[part]
        value = _value(name, text, known[name], holder.get_type(last))
        try:
            holder[last] = value
        except TypeError as error:
            raise _wrong_type(name, holder.get_type(last).__name__, text) from error


def require_same_fields(config: Mapping[str, Any], reference: Mapping[str, Any]) -> None:
    """Checks a user's config against the shipped one, both ways.

    Raises:
      InputError: A field is missing, or one is unknown.
    """
    known, reference = fields(config), fields(reference)
    for name in known:
        if name not in reference:
            raise InputError(_unknown(name, reference))
    for name in reference:
        if name not in known:
            raise InputError(f"missing config field {name!r}; the shipped config has it: add it")


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    if spec is None or not path.is_file():
        raise InputError(
            f"expected a Python config file; got {str(path)!r}; there is none; check the path"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _failure(path, error) from error
    return module


def _failure(path: Path, error: Exception) -> InputError:
    """One line that says what went wrong in a config file, and in which line of it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is(frame, path)]
    line = frames[-1].lineno if frames else getattr(error, "lineno", None)
    where = f"line {line} of {path}" if line else str(path)
    return InputError(f"expected a config; {where} failed: {type(error).__name__}: {error}")


def _is(frame: traceback.FrameSummary, path: Path) -> bool:
    return Path(frame.filename).absolute() == path.absolute()


def _unknown(name: str, known: Iterable[str]) -> str:
    known = list(known)
    inside = [other for other in known if other.startswith(f"{name}.")]
    if inside:
        return f"config field {name!r} is a group; set one of: {', '.join(inside)}"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"close: {close[0]}" if close else f"fields: {', '.join(known)}"
    return f"unknown config field {name!r}; {hint}"


def _value(name: str, text: str | None, old: Any, kind: type) -> Any:
    """Text as a value of the type `kind`, which the field `name` has."""
    if text is None:
        if kind is not bool:
            raise InputError(f"config field {name!r} needs a value; type --config.{name}=VALUE")
        return True
    if old is None and text.lower() == "none":
        return None
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in _WORDS:
            raise _wrong_type(name, "true or false", text)
        return _WORDS[text.lower()]
    if kind in (int, float):
        return _number(name, text, kind)
    if issubclass(kind, list | tuple):
        return kind(_items(name, text, old))
    return _literal(text)


def _number(name: str, text: str, kind: type) -> int | float:
    try:
        number = kind(text)
    except ValueError:
        raise _wrong_type(name, "an integer" if kind is int else "a number", text) from None
    if not math.isfinite(number):
        raise _wrong_type(name, "a finite number", text)
    return number


def _items(name: str, text: str, old: Any) -> list[Any]:
    """`1,2`, `(1, 2)`, `0,3,5-8`, `zero,clone`, `zero` or nothing, as a list like `old`."""
    value = _literal(text)
    if isinstance(value, str) and value == text:  # bare words
        value = [_literal(word.strip()) for word in text.strip("()[] ").split(",") if word.strip()]
    items = list(value) if isinstance(value, list | tuple) else [value]
    kinds = {type(item) for item in old or ()}
    if kinds == {str} and not text.lstrip().startswith(("(", "[", "'", '"')):
        return [word.strip() for word in text.split(",") if word.strip()]  # 5 is a word as well
    if kinds <= {int}:
        items = [number for item in items for number in _expanded(name, item)]
    if kinds <= {int, float} and float in kinds:
        kinds |= {int, float}
    for item in items:
        if kinds == {int, float} and _is_infinite_or_nan(item):
            raise _wrong_type(name, "finite numbers", text)
        if kinds and type(item) not in kinds:
            wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
            ranges = " and ranges of them, as in 0,3,5-8" if kinds == {int} else ""
            raise _wrong_type(name, f"items of type {wanted}{ranges}", text)
    return items


def _expanded(name: str, item: Any) -> Iterable[Any]:
    """The numbers of an item that is a range; of another the item itself."""
    return expand_range(item, f"config field {name!r}") if is_range(item) else [item]


def _is_infinite_or_nan(item: Any) -> bool:
    """Whether an item of a list of numbers is one that is not finite, or a word for one."""
    try:
        return not math.isfinite(float(item))
    except (TypeError, ValueError):
        return False


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def _wrong_type(name: str, expected: str, text: str | None) -> InputError:
    return InputError(f"config field {name!r} expects {expected}; got {text!r}")
