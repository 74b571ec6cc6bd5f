"""A GIF, or another file of several frames, as a clip behind its first frame. Runs in the decoding child."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.child.pixels import PLUGINS, Picture

MOST_FRAMES = 64  # that are kept, evenly spread
MOST_BYTES = 50_000_000  # of all of them
MOST_DECODED = 40_000_000  # pixels, of those between them too: a second or two, of the ten that a picture may take


class Clip:
    """A picture, which is what a person sees, with the frames that follow it.

    Attributes:
        width, height: in pixels. notes: what was done to the first frame. spread: as that frame's. channels: 0, for a
            person chooses none of them.
    """

    channels, either = 0, False

    def __init__(self, first: Picture, frames: np.ndarray) -> None:
        self._first, self._frames = first, frames
        self.width, self.height, self.spread = first.width, first.height, first.spread
        self.notes = first.notes

    def bands(self, multiple_of: int) -> Iterator[tuple[int, Image.Image]]:
        """The first frame's."""
        return self._first.bands(multiple_of)

    def exact(self) -> Iterator[bytes]:
        """All frames, as `rows` has them."""
        height, width, frames, _ = self._frames.shape
        yield rows.exact_head(3 * frames, "|u1", 0.0, 255.0, rows.CLIP)
        step = max(1, 2**20 // width)
        for top in range(0, height, step):
            yield self._frames[top : top + step].reshape(-1, width, 3 * frames).tobytes()


def clip(source: Path, kind: str, first: Picture) -> Picture | Clip:
    """A picture with its frames, where it has several of its size; of many large ones the first; else it alone.

    One that its orientation turns stays alone: this is of the first frame, and nothing says what of the others.
    """
    area = first.width * first.height
    leading = min(first.frames, MOST_DECODED // area)
    most = min(leading, MOST_FRAMES, MOST_BYTES // (3 * area))
    if most < 2 or first.turned:
        return first
    wanted = {round(index * (leading - 1) / (most - 1)) for index in range(most)}
    found: list[np.ndarray] = []
    importlib.import_module(f"PIL.{PLUGINS[kind]}ImagePlugin")
    # what cannot be decoded ends the clip, and what came before it stays
    with source.open("rb") as file, contextlib.suppress(EOFError, OSError, SyntaxError, ValueError):
        image = Image.open(file, formats=(kind,))
        for index in range(leading):
            image.seek(index)
            if image.size != (first.width, first.height):
                break
            if index in wanted:
                found.append(_over_white(image))
    if len(found) < 2:
        return first
    if leading < first.frames:
        first.notes.append(f"as a clip the first {leading}")
    return Clip(first, np.stack(found, 2))


def _over_white(image: Image.Image) -> np.ndarray:
    """uint8 (row, column, 3)."""
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, seen).convert("RGB"))
    return np.asarray(image.convert("RGB"))
