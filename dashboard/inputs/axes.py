"""What the axes of an array are that may be (height, width, channel) as well as (channel, height, width).

It is kept as (height, width, channel), and read by how many channels the model takes, which is known later; where both
readings have so many, or neither, a person is asked.
"""

from __future__ import annotations

from typing import Literal

Axes = Literal["channels-first", "channels-last"]
WAYS: tuple[Axes, Axes] = ("channels-first", "channels-last")
EITHER = "either"
NAMES: dict[str, str] = {"channels-first": "channel, height, width", "channels-last": "height, width, channel"}
GREY = "height, width"


def decide(shape: tuple[int, ...], wants: int, chosen: str = "") -> Axes | None:
    """How an array of three axes is read; None if nothing says it.

    Arguments:
        wants: how many channels the model takes. chosen: one of `NAMES` where a person has said it.

    >>> decide((4, 8, 3), 4), decide((4, 8, 3), 3), decide((4, 8, 4), 4), decide((4, 8, 3), 5)
    ('channels-first', 'channels-last', None, None)
    """
    counts: dict[Axes, int] = {"channels-first": shape[0], "channels-last": shape[2]}
    for name in counts:
        if name == chosen:
            return name
    grey = {1, 3} if wants in (1, 3) else set()  # a model of three channels takes one, and the other way round
    for fitting in ({wants}, grey):
        found = [name for name, count in counts.items() if count in fitting]
        if found:
            return found[0] if len(found) == 1 else None
    return None
