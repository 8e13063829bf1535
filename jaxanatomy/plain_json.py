"""JSON that means one thing everywhere: UTF-8, finite numbers, each key once, no deep nesting."""

import json
import math
import os
import re
from typing import Any

# Far beyond any config or tokenizer, and well below what recursive code can follow.
MAX_DEPTH = 100
# An integer of so many digits is still finite as a float.
MAX_DIGITS = 300

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
      ValueError: The text is not UTF-8 (a byte order mark is passed over) or not JSON, or
        holds what other readers take differently or cannot take at all: NaN and infinities,
        a key twice in one object, half a surrogate pair, an integer of more than
        `MAX_DIGITS` digits, more than `MAX_DEPTH` levels. The message is one line.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value)
    return value


def to_json(value: Any, **options: Any) -> str:
    """JSON text of plain values, NumPy and JAX arrays and paths.

    Raises:
      ValueError: A float is not finite; its place in `value` is named. Such values are
        written as null with a field "reason".
      TypeError: A type that has no JSON.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False, **options)
    except ValueError as error:
        place = _non_finite_place(value)
        if place is None:
            raise
        raise ValueError(
            f"expected finite numbers; {place} is not; write null and a field 'reason'"
        ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands twice in one object")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits; at most {MAX_DIGITS} are read")
    return int(text)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half a surrogate pair") from None


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and JAX, scalars and arrays
        return value.tolist()
    raise TypeError(f"no JSON for a {type(value).__name__}: {value!r}")


def _non_finite_place(value: Any, place: str = "") -> str | None:
    """Where the first infinite or undefined number stands, such as "ci95[0] = nan"."""
    if isinstance(value, dict):
        parts = ((f"{place}.{key}" if place else str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    elif hasattr(value, "tolist") and not isinstance(value, float):
        plain = value.tolist()
        return None if plain is value else _non_finite_place(plain, place)
    else:
        is_bad = isinstance(value, float) and not math.isfinite(value)
        return f"{place or 'the value'} = {value}" if is_bad else None
    return next(filter(None, (_non_finite_place(item, where) for where, item in parts)), None)
