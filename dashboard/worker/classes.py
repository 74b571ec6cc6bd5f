"""Names for a model's classes: from a file, from its weights, from the list for ImageNet, or made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hooks.errors import HooksError

IMAGENET = 1000


class LabelsError(HooksError):
    """The file with the class names does not fit."""


def imagenet() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, as torchvision brings them along."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def class_names(count: int, own: Sequence[str] = (), file: str = "") -> tuple[str, ...]:
    """Names for `count` classes.

    Arguments:
        own: what the weights bring along; not used if it is of another length.
        file: the operator's file: one name per line, or JSON: a list of names, or an object from index to name.

    Raises:
        LabelsError: the file cannot be read or holds another number of names.
    """
    if file:
        names = _read(Path(file))
        if len(names) != count:
            raise LabelsError(
                f"{file} holds {len(names)} class names and the model has {count} outputs. Give one name per output."
            )
        return names
    if len(own) == count:
        return tuple(own)
    if count == IMAGENET:
        return imagenet()
    return tuple(f"class {index}" for index in range(count))


def timm_names(module: object) -> tuple[str, ...]:
    """The class names of a timm model that was trained on a larger part of ImageNet; empty if there are none."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(module)
    if not subset:
        return ()
    try:
        info = ImageNetInfo(subset)
        return tuple(info.index_to_description(index).split(",")[0] for index in range(info.num_classes()))
    except (AssertionError, KeyError, OSError, ValueError):
        return ()


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"The class names in {path} cannot be read ({error}). Give a text file in UTF-8.") from error
    if text.lstrip().startswith(("[", "{")):
        return _read_json(path, text)
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


def _read_json(path: Path, text: str) -> tuple[str, ...]:
    """`["cat", "dog"]`, `{"0": "cat", "1": "dog"}`, or ImageNet's `{"0": ["n02123045", "tabby"]}`."""
    try:
        data = json.loads(text)
        if isinstance(data, dict):
            data = [data[str(index)] for index in range(len(data))]
        return tuple(str(item[-1] if isinstance(item, list) else item) for item in data)
    except (ValueError, KeyError, IndexError) as error:
        raise LabelsError(
            f"The class names in {path} are JSON of an unknown form ({type(error).__name__}: {error}). "
            "Give a list of names, or one name per line."
        ) from error
