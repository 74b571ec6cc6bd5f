"""What an operator's factory gives beside its model: settings, each held to what the command line's flag is held to."""

from __future__ import annotations

import difflib
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from hookscope.dashboard.asking.texts import SENTENCE_LENGTH, TITLE_LENGTH, one_line
from hookscope.dashboard.settings import values
from hookscope.dashboard.settings.values import BadValue
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.classes import as_names
from hookscope.dashboard.sources.preprocessing import MOST_CHANNELS
from hookscope.hooks.methods import READINGS

REPR_LENGTH = 80


def checked(spec: str, settings: Mapping[Any, Any]) -> dict[str, Any]:
    """The settings with every value as the application uses it; one that is None is left out.

    Returns:
        Those that were given of "input_size" (height, width), "resize" (pixels, (height, width) or "squash", "crop",
        "pad", "none"), "mean" and "std" (red, green, blue), "interpolation", "channel_order", "range", "frames",
        "channels", "inputs" {name: value}, "classes" (class,), "title", "licence", "weights", "output", "reads".

    Raises:
        FactoryError: one has no such name or cannot be what it is; a sentence.
    """
    found = {}
    for name, value in settings.items():
        if name not in READERS:
            near = difflib.get_close_matches(str(name), READERS, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(READERS)}."
            raise FactoryError(f"{spec} gave a setting {_shown(name)}, which there is not. {hint}")
        if value is not None:
            found[name] = check(spec, name, value)
    return found


def check(spec: str, name: str, value: Any) -> Any:
    """One setting, as the application uses it."""
    try:
        return READERS[name](value)
    except BadValue as error:
        raise FactoryError(f"{spec} gave {_shown(value)} as {name!r}: {error}") from None


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value), REPR_LENGTH)
    except Exception:  # of a class of the operator's own
        return f"a {one_line(type(value).__name__, REPR_LENGTH)}"


def _whole(value: Any) -> str:
    """A whole number as a flag has it; "" for anything else, which no flag takes."""
    if isinstance(value, str):
        return value.strip()
    try:
        return "" if isinstance(value, bool) else str(operator.index(value))
    except TypeError:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else ""


def _several(value: Any) -> list[Any]:
    """The items of a tuple, list, array or tensor; anything else is the only one."""
    if isinstance(value, str | bytes | Mapping):
        return [value]
    try:
        return list(value)
    except (TypeError, ValueError, RuntimeError):
        return [value]


def _size(value: Any) -> tuple[int, int]:
    parts = _several(value)
    channels, parts = (parts[0], parts[1:]) if len(parts) == 3 else (3, parts)  # as timm has it: (3, height, width)
    return values.size("x".join(map(_whole, parts)) if _whole(channels) == "3" else "")


def _numbers(read: Callable[[str], tuple[float, ...]]) -> Callable[[Any], tuple[float, ...]]:
    def take(value: Any) -> tuple[float, ...]:
        if isinstance(value, str):
            return read(value)
        parts = _several(value)
        try:
            texts = ["" if isinstance(part, bool | str | bytes) else repr(float(part)) for part in parts]
        except (TypeError, ValueError, OverflowError, RuntimeError):
            texts = [""]
        return read(",".join(texts))

    return take


def _interpolation(value: Any) -> str:
    value = getattr(value, "value", value)  # torchvision's own InterpolationMode
    return INTERPOLATION(value if isinstance(value, str) else "")


def _text(length: int) -> Callable[[Any], str]:
    def take(value: Any) -> str:
        if not isinstance(value, str):
            raise BadValue("a text is needed.")
        return one_line(value, length)

    return take


def _classes(value: Any) -> tuple[str, ...]:
    names = _several(value)
    if any(name is value for name in names) or not all(isinstance(name, str | int) for name in names):
        raise BadValue("a list of names is needed, one per output.")
    return as_names(map(str, names), BadValue)


def _resize(value: Any) -> str | tuple[int, int]:
    parts = _several(value)
    return _size(value) if len(parts) == 2 else values.resize(_whole(value))


def _inputs(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise BadValue("a dictionary is needed, from the names of forward's parameters to what they get.")
    return {name: _input(given) for name, given in value.items()}


def _input(value: Any) -> Any:
    """A constant as a model takes it: a row of numbers, also as JSON, becomes a tensor (image = 1, number)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list | tuple | np.ndarray) and len(value):
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            return value
        tensor = tensor.float() if tensor.dtype == torch.float64 else tensor
        return tensor[None] if tensor.ndim == 1 else tensor
    return value


CHANNELS = values.whole_number(1, MOST_CHANNELS)
INTERPOLATION = values.one_of("nearest", "bilinear", "bicubic", "lanczos")
READERS: dict[str, Callable[[Any], Any]] = {
    "input_size": _size,
    "resize": _resize,
    "mean": _numbers(values.per_channel),
    "std": _numbers(values.positive_per_channel),
    "interpolation": _interpolation,
    "channel_order": lambda value: values.one_of("rgb", "bgr")(value if isinstance(value, str) else ""),
    "range": lambda value: values.pixel_range(_whole(value)),
    "frames": lambda value: values.frames(_whole(value)),
    "channels": lambda value: CHANNELS(_whole(value)),
    "inputs": _inputs,
    "classes": _classes,
    "title": _text(TITLE_LENGTH),
    "licence": _text(TITLE_LENGTH),
    "weights": _text(SENTENCE_LENGTH),
    "output": lambda value: values.output_path(_whole(value)),
    "reads": lambda value: values.one_of(*READINGS)(value if isinstance(value, str) else ""),
}
