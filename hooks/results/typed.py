"""Dataclasses as what JSON can say, and back: a reader that builds exactly the declared types, or refuses.

A dataclass is `{"$type": "Call", "fields": {...}}`, an array `{"$array": index, "dtype": "<f4", "shape": [...]}`, a
number that JSON does not have `{"$float": "nan"}`, bytes `{"$bytes": length}`; arrays and bytes are attached. What is
read comes from another process or from a file: no value is made whose type its field does not declare, and no type
that nobody names.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Protocol, Union

import numpy as np


class Attached(Protocol):
    """What was attached, in the order in which `plain` met it."""

    def array(self, dtype: str, shape: list[int]) -> np.ndarray:
        """The next, an array."""

    def data(self, length: int) -> bytes:
        """The next, bytes."""


_KNOWN: dict[type[Any], dict[str, Any]] = {}


class NotTyped(ValueError):
    """What was read is not of the declared type."""


def plain(value: Any, attached: list[np.ndarray | bytes] | None = None) -> Any:
    """A value as JSON can say it.

    Arguments:
        attached: takes the arrays and bytes that stand in the value; without it there may be none.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: plain(getattr(value, name), attached) for name in _fields(type(value))}
        return {"$type": type(value).__name__, "fields": fields}
    if isinstance(value, np.ndarray) and attached is not None:
        attached.append(value)
        return {"$array": len(attached) - 1, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, bytes) and attached is not None:
        attached.append(value)
        return {"$bytes": len(value)}
    if isinstance(value, Mapping):
        return {key: plain(item, attached) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, attached) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    return int(value) if isinstance(value, np.integer) else value


def read(hint: Any, value: Any, attached: Attached | None = None, where: str = "it") -> Any:
    """A value of a declared type, from what `plain` made of one.

    Arguments:
        hint: a dataclass, a plain type, a tuple, a mapping by text, a `Literal`, a union of these; or
            `Annotated[Any, KINDS]`, where KINDS is a mapping of dataclasses by name: one of those.
        attached: without it there may be no arrays and bytes. where: for an error.

    Raises:
        NotTyped: it is of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build({hint.__name__: hint}, value, attached, where)
    if origin is Annotated:
        return _build(hint.__metadata__[0], value, attached, where)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, attached, where)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
    elif origin is tuple and isinstance(value, list):
        if arguments[1:] == (...,):
            return tuple([read(arguments[0], item, attached, where) for item in value])
        if len(arguments) == len(value):
            return tuple([read(each, item, attached, where) for each, item in zip(arguments, value, strict=True)])
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return {key: read(arguments[1], item, attached, where) for key, item in value.items()}
    elif hint is np.ndarray:
        if attached is not None and isinstance(value, dict) and value.keys() == {"$array", "dtype", "shape"}:
            return attached.array(value["dtype"], value["shape"])
    elif hint is bytes:
        if attached is not None and isinstance(value, dict) and value.keys() == {"$bytes"}:
            return attached.data(value["$bytes"])
    elif hint is float:
        if isinstance(value, dict) and value.keys() == {"$float"} and value["$float"] in ("nan", "inf", "-inf"):
            return float(value["$float"])
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif hint is type(None):
        if value is None:
            return None
    elif type(value) is hint:  # not isinstance: True is an int
        return value
    raise NotTyped(f"{where} is not {hint}")


def _read_union(hints: Collection[Any], value: Any, attached: Attached | None, where: str) -> Any:
    kinds = {each.__name__: each for each in hints if isinstance(each, type) and dataclasses.is_dataclass(each)}
    if kinds and isinstance(value, dict) and "$type" in value:
        return _build(kinds, value, attached, where)
    for each in hints:
        if getattr(each, "__name__", "") not in kinds:
            try:
                return read(each, value, attached, where)
            except NotTyped:
                continue
    raise NotTyped(f"{where} is none of {hints}")


def _build(kinds: Mapping[str, type[Any]], value: Any, attached: Attached | None, where: str) -> Any:
    if not isinstance(value, dict) or value.keys() != {"$type", "fields"}:
        raise NotTyped(f"{where} is not a type with fields")
    name, found = value["$type"], value["fields"]
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(found, dict):
        raise NotTyped(f"{where} is none of {', '.join(kinds)}")
    hints = _fields(kind)
    if found.keys() != hints.keys():
        raise NotTyped(f"{name} has other fields than {', '.join(hints)}")
    made = {each: read(hints[each], item, attached, f"{name}.{each}") for each, item in found.items()}
    try:
        return kind(**made)
    except (TypeError, ValueError) as error:  # a type may refuse values by itself
        raise NotTyped(f"{name}: {error}") from error


def _fields(kind: type[Any]) -> dict[str, Any]:
    """The declared types of what a dataclass is made from, by name."""
    if kind not in _KNOWN:
        hints = typing.get_type_hints(kind, include_extras=True)
        _KNOWN[kind] = {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}
    return _KNOWN[kind]
