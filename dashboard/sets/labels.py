"""What the pictures of a set are said to show, as classes of a model: by name, by index, or by WordNet's number."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

NOT_KNOWN = -1
LIKE = 0.8  # of a name, how much has to be the same for it to be meant; 1 is all of it
_WORDNET = re.compile(r"n\d{8}")


def match(groups: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Which class each group names, -1 for none.

    Names first, capitals, underscores and hyphens aside; where no group is a name, WordNet's numbers as ImageNet's
    folders have them, for a model of its 1,000 classes; where every group is a whole number from 0 on, indices.

    >>> match(["tabby_cat", "Dog", "bird"], ["dog", "tabby cat"])
    {'tabby_cat': 1, 'Dog': 0, 'bird': -1}
    >>> match(["1", "0"], ["dog", "cat"])
    {'1': 1, '0': 0}
    """
    if not groups:
        return {}
    by_name = _by_name(tuple(classes))
    found = {group: by_name.get(_plain(group), NOT_KNOWN) for group in groups}
    if any(index != NOT_KNOWN for index in found.values()):
        return found
    if len(classes) == len(_wordnet()) and any(_WORDNET.fullmatch(group) for group in groups):
        return {group: _wordnet().get(group, NOT_KNOWN) for group in groups}
    if groups and all(group.isascii() and group.isdigit() and int(group) < len(classes) for group in groups):
        return {group: int(group) for group in groups}
    return found


def suggest(groups: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Which class's name may be meant by each group that is none; those that are like no name are left out.

    >>> suggest(["tabby cat", "zebra", "hour glas"], ["Tabby", "hourglass"])
    {'tabby cat': 'Tabby', 'hour glas': 'hourglass'}
    """
    found = {group: _suggested(group, tuple(classes)) for group in groups}
    return {group: name for group, name in found.items() if name}


@functools.lru_cache(64)
def _suggested(group: str, classes: tuple[str, ...]) -> str:
    """The nearest name, or one that the group's own name holds; "" if there is none. Of 1,000 names it takes 10 ms."""
    names, plain = _shown_names(classes), _plain(group)
    inside = [name for name in names if name and set(name.split()) < set(plain.split())]
    near = difflib.get_close_matches(plain, names, 1, LIKE) or sorted(inside, key=len)[-1:]
    return names[near[0]] if near else ""


@functools.lru_cache(8)
def _shown_names(classes: tuple[str, ...]) -> dict[str, str]:
    """By every name of a class, as it is compared, the one that is told."""
    return {_plain(each): each.strip() for name in classes for each in (name, *name.split(","))}


@functools.lru_cache(8)
def _by_name(classes: tuple[str, ...]) -> dict[str, int]:
    """The index of each class by every name that it has; a page asks at each click, and 1,000 names take 20 ms."""
    found: dict[str, int] = {}
    for index, name in enumerate(classes):
        for each in (name, *name.split(",")):
            found.setdefault(_plain(each), index)
    return found


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[_\-\s]+", " ", unicodedata.normalize("NFKC", name)).casefold().split())


@functools.cache
def _wordnet() -> dict[str, int]:
    """The index of each of ImageNet's classes by its number in WordNet, from timm's table, without importing timm."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return {}
    table = Path(spec.origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    return {line: index for index, line in enumerate(table.read_text().split())} if table.exists() else {}
