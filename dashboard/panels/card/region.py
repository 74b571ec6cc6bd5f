"""What a region of a card is: its place in the frame, and how it is drawn for a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.page.scene import Scene


@dataclass(frozen=True)
class Region:
    """A region of every card.

    Attributes:
        name: unique among them. layout: its elements in the card at a position, empty.
        part: what is drawn in them for a layer, by its key.
    """

    name: str
    layout: Callable[[int], Any]
    part: Callable[[Scene, int, str], Part]
