"""A scene's pictures as files that `OpenModel.prepare` reads to the same pixels: PNG, NPY, or a TIFF of a clip."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

import numpy as np
from PIL import Image

from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.rows import Exact
from hookscope.dashboard.inputs.store import InputMissing, InputRefused
from hookscope.dashboard.page.scene import Gone, Scene

MOST_CHANNELS = 16  # up to which a .npy's first axis may be taken for its channels
USUAL = {"|u1": (0.0, 255.0), "<u2": (0.0, 65535.0), "<f4": (0.0, 1.0)}  # by type, the values that become 0 and 1


@dataclass(frozen=True)
class Picture:
    """A picture of a view.

    Attributes:
        file_name: under which it is saved. draw: makes the file. axes: how its axes have to be told; "" where they are
            plain.
    """

    file_name: str
    draw: Callable[[], bytes]
    axes: str = ""


def picture_of(scene: Scene, side: str, *, second: bool = False) -> Picture:
    """A side's picture, or the one beside it.

    Raises:
        Gone: it is no longer kept.
    """
    given = scene.second(side) if second else scene.inputs[side]
    assert given is not None
    try:
        data = scene.service.inputs.pixels(given.digest)
    except (InputMissing, InputRefused) as gone:
        raise Gone(str(gone)) from gone
    stem = f"{'second-' if second else ''}{side}-{file_name(PurePath(given.name).stem)}"
    exact = rows.exact(data)
    if exact is None:
        return Picture(f"{stem}.png", partial(_png, data))
    if exact.frames:
        return Picture(f"{stem}.tif", partial(_clip, exact))
    first = exact.values.shape[0] <= MOST_CHANNELS
    return Picture(f"{stem}.npy", partial(_npy, exact), "channels-last" if first and not exact.either else "")


def _png(data: bytes) -> bytes:
    file = io.BytesIO()
    rows.picture(data).save(file, "PNG")
    return file.getvalue()


def _npy(exact: Exact) -> bytes:
    """Its values as they are; where 0 and 1 stand for others than their type says, scaled, as a preparation would."""
    values = exact.values
    if USUAL[values.dtype.str] != (exact.low, exact.high):
        values = (values.astype(np.float32) - np.float32(exact.low)) / np.float32(exact.high - exact.low)
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _clip(exact: Exact) -> bytes:
    """Every frame as a page: a PNG of several frames has those that are the same only once."""
    height, width, _ = exact.values.shape
    frames = exact.values.reshape(height, width, exact.frames, 3)
    first, *others = (Image.fromarray(np.ascontiguousarray(frames[:, :, index])) for index in range(exact.frames))
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=others, compression="raw")
    return file.getvalue()
