"""What is explained, as an address and a control of the page write it."""

from __future__ import annotations

import re
from typing import cast

from hookscope.hooks.results.targets import OWN, RIVAL, SIDES, Against, Box, BoxPart, Class, Like, Own, Rival

Target = Own | Class | Box | Like | Against
Other = Rival | Class | Box | None  # what a target is held against, None for nothing

MOST_CLASSES = 10**6
MOST_BOXES = 10_000
OLD_BOX = -3  # addresses of earlier versions call box 0 "-3", box 1 "-4", and so on
NEXT = "next"  # the runner-up
_PART = rf"(?P<part>{'|'.join(SIDES)}|mask)|(?P<point>keypoint):(?P<keypoint>[0-9]{{1,4}})"


def read_target(text: object) -> Target:
    """The target that a text means; the model's own first one if it means none.

    >>> read_target("285"), read_target("box:2:left"), read_target("")
    (Class(index=285), Box(index=2, part='left', keypoint=0), Own())
    """
    if found := re.fullmatch(rf"(?:box:|(?P<old>-))(?P<number>[0-9]{{1,7}})(?::(?:{_PART}))?", str(text)):
        number = int(found["number"]) + (OLD_BOX if found["old"] else 0)
        part = cast(BoxPart, found["part"] or found["point"] or "score")
        return Box(number, part, int(found["keypoint"] or 0)) if 0 <= number < MOST_BOXES else OWN
    plain = re.fullmatch(r"[0-9]{1,7}", str(text))
    return Class(int(plain[0])) if plain and int(plain[0]) < MOST_CLASSES else OWN


def write_target(target: Target) -> str:
    """The text that `read_target` reads.

    >>> write_target(Class(285)), write_target(Box(2, "left")), write_target(Box(2, "keypoint", 5)), write_target(OWN)
    ('285', 'box:2:left', 'box:2:keypoint:5', '')
    """
    if isinstance(target, Box):
        part = "" if target.part == "score" else f":{target.part}"
        return f"box:{target.index}{part}{f':{target.keypoint}' if target.part == 'keypoint' else ''}"
    return str(target.index) if isinstance(target, Class) else ""


def read_other(text: object) -> Other:
    """What a target is held against, of a text; None if that means nothing.

    >>> read_other("968"), read_other("next"), read_other("box:2"), read_other("")
    (Class(index=968), Rival(), Box(index=2, part='score', keypoint=0), None)
    """
    if text == NEXT:
        return RIVAL
    found = read_target(text)
    return found if isinstance(found, Class | Box) else None


def write_other(other: Other) -> str:
    """The text that `read_other` reads; "" for nothing.

    >>> write_other(RIVAL), write_other(Class(968)), write_other(None)
    ('next', '968', '')
    """
    if other is None:
        return ""
    return NEXT if isinstance(other, Rival) else write_target(other)


def part_of(target: Box) -> str:
    """What of a box is explained, in words.

    >>> part_of(Box(2)), part_of(Box(2, "left")), part_of(Box(2, "mask")), part_of(Box(2, "keypoint", 5))
    ('score', 'left side', 'mask', 'keypoint 5')
    """
    if target.part == "keypoint":
        return f"keypoint {target.keypoint}"
    return f"{target.part} side" if target.part in SIDES else target.part
