"""What `hs.open_model` refuses, in a sentence; how a picture's preparation is told in words."""

from __future__ import annotations

from hookscope.dashboard.asking.sides import OWN_WAY, Preparation
from hookscope.hooks.errors import HooksError


class NotOpened(HooksError):
    """What was asked for cannot be opened; the text says why."""


def read_preparation(text: str) -> Preparation:
    """The preparation that a text means, as the page's addresses have it.

    Raises:
        NotOpened: a word of it means nothing.

    >>> read_preparation("bgr, squeezed").write()
    'bgr,squeezed'
    """
    named = [word.strip() for word in text.split(",") if word.strip()]
    found = Preparation.read(",".join(named))
    if unknown := [word for word in named if word not in (*found.write().split(","), OWN_WAY)]:
        raise NotOpened(
            f"{unknown[0]!r} is no way in which a picture is prepared, or another word of {text!r} says otherwise. "
            "Write it as the page's address does: bgr,unit."
        )
    return found
