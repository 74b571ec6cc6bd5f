"""Names for a model's classes: from a file, from its weights, from the list for ImageNet, or made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hookscope.dashboard.asking.texts import CLASS_LENGTH, shorten, unshowable
from hookscope.hooks.errors import HooksError

FILE_BYTES = 16 << 20


class LabelsError(HooksError):
    """The file with the class names does not fit."""


def imagenet() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, as torchvision brings them along."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


@dataclass(frozen=True)
class Named:
    """Names for the classes of an answer.

    Attributes:
        names: one per class, each cut to `CLASS_LENGTH` characters; made up where there is none.
        note: what is to be said if there were more or fewer of them than classes, as a sentence.
    """

    names: tuple[str, ...]
    note: str = ""


def given_names(own: Sequence[str], file: str) -> tuple[tuple[str, ...], str]:
    """The names that there are, and whose they are.

    Arguments:
        own: what the weights or the factory bring along. file: the operator's: one name per line, or JSON: a list of
            names, or an object from index to name.

    Raises:
        LabelsError: the file cannot be read.
    """
    if file:
        return _read(Path(file)), Path(file).name
    return tuple(shorten(name, CLASS_LENGTH) for name in own), "The model's own list"


def class_names(made_up: Sequence[str], given: Sequence[str], whose: str) -> Named:
    """As many of the given names as there are classes, and made up ones for the rest.

    Arguments:
        made_up: one for every class. whose: the given ones are.
    """
    if not given:
        return Named(tuple(made_up))
    names = (*given[: len(made_up)], *made_up[len(given) :])
    counts = f"{whose} has {len(given):,} class name{'s' if len(given) > 1 else ''}"
    if not made_up:
        return Named((), f"{counts}, and the answer is no list of classes.")
    if len(given) == len(made_up):
        return Named(names)
    used = "They are used as far as they go." if len(given) < len(made_up) else "The rest is left out."
    numbers = f"{len(made_up):,} number{'s' if len(made_up) > 1 else ''}"
    return Named(names, f"{counts} for an answer of {numbers}. {used}")


def as_names(texts: Iterable[str], refusal: Callable[[str], Exception]) -> tuple[str, ...]:
    """Class names as they are, but for their length.

    What no page, file or picture can hold is refused and not left out, because two names may differ in it alone.

    Raises:
        refusal: a name holds half a character or a control character.
    """
    names = tuple(texts)
    for index, name in enumerate(names):
        if found := unshowable(name):
            raise refusal(f"the name of class {index} holds the character {found}, which cannot be shown. Take it out.")
    return tuple(shorten(name, CLASS_LENGTH) for name in names)


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
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"The class names in {path} cannot be read ({error}). Give a text file in UTF-8.") from error
    if len(data) > FILE_BYTES:
        raise LabelsError(f"{path} is larger than {FILE_BYTES >> 20} MB, and no list of class names is.")
    names = _from_json(path, text) if text.lstrip().startswith(("[", "{")) else _from_lines(text)

    def refuse(problem: str) -> LabelsError:
        return LabelsError(f"In {path} {problem}")

    return as_names(names, refuse)


def _from_lines(text: str) -> list[str]:
    # Not `splitlines`, which also ends a line at a form feed, U+0085 and U+2028: they may stand inside a name.
    lines = [line.strip(" \t") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _from_json(path: Path, text: str) -> list[str]:
    """`["cat", "dog"]`, `{"0": "cat", "1": "dog"}`, or ImageNet's `{"0": ["n02123045", "tabby"]}`."""
    try:
        data = json.loads(text)
        if isinstance(data, dict):
            data = [data[str(index)] for index in range(len(data))]
        names = [item[-1] if isinstance(item, list) else item for item in data]
        if any(isinstance(name, dict | list | None) for name in names):
            raise ValueError("a name is no text")
        return list(map(str, names))
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise LabelsError(
            f"The class names in {path} are JSON of an unknown form ({type(error).__name__}: {error}). "
            "Give a list of names, or one name per line."
        ) from error
